"""Redaction of secrets in a trial's files: no encoding of a value remains, and files outside are unchanged."""

from __future__ import annotations

import base64
import errno
import html
import json
import os
import stat
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.trial import redaction
from relab.experiments.trial.redaction import MIN_CHARS, Redactor
from relab.experiments.workspace import untrusted_trees
from support.lab.unprivileged import permissions_hold

SECRET = "sk-\"ab/c+d é%<&\\>'=ü"
PLAIN = "sk-0123456789abcdef"


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: value,
    "json": json.dumps,
    "json unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "json in json": lambda value: json.dumps({"line": json.dumps({"key": value})}),
    "json of PHP": lambda value: json.dumps(value).replace("/", "\\/"),
    "json of Go": lambda value: (
        json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    ),
    "URL": lambda value: urllib.parse.quote(value, safe=""),
    "URL of Python": urllib.parse.quote,
    "URL of JavaScript": lambda value: urllib.parse.quote(value, safe="!*'()"),
    "form": urllib.parse.quote_plus,
    "query": lambda value: urllib.parse.urlencode({"key": value}),
    "HTML": html.escape,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 at 1": lambda value: base64.b64encode(b"x" + value.encode() + b"yz").decode(),
    "base64 at 2": lambda value: base64.b64encode(b"xy" + value.encode() + b"z").decode(),
    "base64 of basic auth": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(b"ab" + value.encode() + b"c").decode(),
}


def leaks(data: bytes, value: str) -> bool:
    """Return whether a value can be decoded from the data, independently of the redactor's own code."""
    raw = value.encode()
    readings = [data, urllib.parse.unquote_to_bytes(data.replace(b"+", b" ")), urllib.parse.unquote_to_bytes(data)]
    text = data.decode("utf-8", "replace")
    readings += [html.unescape(text).encode(), data.replace(b"\\/", b"/")]
    for line in text.split():
        for begin in range(4):
            part = line[begin:].replace("-", "+").replace("_", "/").rstrip("=")
            part += "=" * (-len(part) % 4)
            try:
                readings.append(base64.b64decode(part, validate=True))
            except ValueError:
                continue
    for _ in range(2):
        try:
            loaded = json.loads(text)
        except ValueError:
            break
        text = str(next(iter(loaded.values())) if isinstance(loaded, dict) else loaded)
        readings.append(text.encode())
    return any(raw in reading for reading in readings)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [SECRET, PLAIN, "päßwört", "a b c d e", "https://me:pw@host/?x=1&y=2"])
def test_every_encoding_of_a_value_is_redacted(form: str, value: str) -> None:
    text = FORMS[form](value)
    assert leaks(text.encode(), value)
    cleaned = Redactor({"KEY": value}).text(text)

    assert not leaks(cleaned.encode(), value)
    assert "[secret KEY]" in cleaned


@pytest.mark.parametrize("value", [SECRET, "a/b c+d&e=f"])
def test_lowercase_percent_encoding_is_redacted(value: str) -> None:
    quoted = urllib.parse.quote(value, safe="")
    small = "%".join(
        part if index == 0 else part[:2].lower() + part[2:] for index, part in enumerate(quoted.split("%"))
    )

    assert Redactor({"KEY": value}).text(small) == "[secret KEY]"


values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=6, max_size=24).filter(
    lambda value: len(set(value)) > 3
)
noise = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(values, noise, noise, st.sampled_from(["plain", "json", "URL", "base64", "base64 at 1", "base64 at 2"]))
def test_every_encoding_of_any_value_is_redacted_in_any_text(value: str, before: str, after: str, form: str) -> None:
    encoded = json.dumps(value)[1:-1] if form == "json" else FORMS[form](value)
    redactor = Redactor({"KEY": value})
    assume(encoded not in before + "[secret KEY]" + after)
    cleaned = redactor.text(before + encoded + after)

    stable = (
        encoded[3:-4] if form.startswith("base64 at") else encoded.rstrip("=")[:-1] if form == "base64" else encoded
    )
    assert len(stable) < MIN_CHARS or stable not in cleaned


@given(values, st.integers(1, 60), st.integers(0, 80), st.binary(max_size=40))
def test_value_across_a_chunk_boundary_is_redacted(
    tmp_path_factory: pytest.TempPathFactory, value: str, chunk: int, place: int, after: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "chunked.bin"
    path.write_bytes(b"." * place + value.encode() + after + b"." * 30 + value.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_CHUNK", chunk)
        changed = Redactor({"KEY": value}).files([path])

    assert changed == 1
    whole = Redactor({"KEY": value}).text((b"." * place + value.encode()).decode()).encode()
    assert path.read_bytes().startswith(whole)
    assert value.encode() not in path.read_bytes().replace(b"[secret KEY]", b"")


@pytest.mark.parametrize("chunk", range(1, 40))
def test_redaction_does_not_depend_on_the_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    redactor = Redactor({"SHORT": "abcdef", "LONG": "abcdefghijkl", "OTHER": "lmnopq"})
    text = "xx abcdefghijkl abcdefg lmnopq abcdef abcdefghij abcdefghijklmnopq\n"
    path = tmp_path / "file"
    path.write_text(text)
    monkeypatch.setattr(redaction, "_CHUNK", chunk)
    redactor.files([path])

    assert path.read_text() == redactor.text(text)
    assert redactor.text("abcdefghijkl") == "[secret LONG]"


def test_placeholder_does_not_contain_the_value() -> None:
    assert Redactor({"KEY": "secret"}).text("my secret!") == "my [redacted]!"
    assert Redactor({"KEY": "secret", "K": "redacted"}).text("secret redacted") == "*** ***"


def test_short_values_are_rejected_and_no_values_change_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalidError, match="KEY has fewer than 6 characters") as caught:
        Redactor({"KEY": "12345"})
    assert "12345" not in str(caught.value)
    path = tmp_path / "a"
    path.write_text("anything")

    assert Redactor({}).text("anything") == "anything"
    assert Redactor({}).files([path]) == 0


def test_value_that_is_not_utf8_is_redacted(tmp_path: Path) -> None:
    value = os.fsdecode(b"caf\xe9-secret")
    path = tmp_path / "a"
    path.write_bytes(b"x caf\xe9-secret y caf%E9-secret")
    Redactor({"KEY": value}).files([path])

    assert path.read_bytes() == b"x [secret KEY] y [secret KEY]"


def test_every_file_below_the_root_is_redacted_and_no_other(tmp_path: Path) -> None:
    root, outside = tmp_path / "trial", tmp_path / "outside"
    (root / "a" / "b").mkdir(parents=True)
    outside.write_text(PLAIN)
    for name in ("x.txt", "a/y.bin", "a/b/z"):
        (root / name).write_bytes(b"\xff\x00" + PLAIN.encode())
    (root / "clean").write_text("nothing")
    (root / "link").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    inode = (root / "clean").stat().st_ino

    assert Redactor({"KEY": PLAIN}).files([root]) == 3
    assert (root / "a" / "b" / "z").read_bytes() == b"\xff\x00[secret KEY]"
    assert outside.read_text() == PLAIN
    assert (root / "clean").stat().st_ino == inode
    assert sorted(path.name for path in root.iterdir()) == ["a", "clean", "folder", "link", "pipe", "x.txt"]
    assert Redactor({"KEY": PLAIN}).files([root / "folder", root / "link"]) == 0


def test_link_of_a_harness_does_not_redirect_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, outside = tmp_path / "trial", tmp_path / "host.conf"
    root.mkdir()
    outside.write_text("precious")
    (root / "x").write_text(PLAIN)
    for name in (".x.cleaned", "x.cleaned", ".x.tmp"):
        (root / name).symlink_to(outside)
    Redactor({"KEY": PLAIN}).files([root])

    assert outside.read_text() == "precious"
    assert (root / "x").read_text() == "[secret KEY]"


def test_file_with_a_name_of_maximum_length_is_redacted(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    path.write_text(PLAIN)

    assert Redactor({"KEY": PLAIN}).files([tmp_path]) == 1
    assert path.read_text() == "[secret KEY]"


def test_file_names_and_link_targets_are_redacted(tmp_path: Path) -> None:
    folder = tmp_path / "root" / f"dir-{PLAIN}"
    folder.mkdir(parents=True)
    (folder / f"{PLAIN}.txt").write_text("x")
    (folder / f"{PLAIN}.log").write_text(PLAIN)
    (folder / "link").symlink_to(f"/none/{PLAIN}")
    (tmp_path / "root" / "dir-[secret KEY]").mkdir()
    Redactor({"KEY": PLAIN}).files([tmp_path / "root"])

    found = sorted(str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*"))
    assert found == [
        "dir-[secret KEY]",
        "dir-[secret KEY] 2",
        "dir-[secret KEY] 2/[secret KEY].log",
        "dir-[secret KEY] 2/[secret KEY].txt",
        "dir-[secret KEY] 2/link",
    ]
    assert (tmp_path / "root" / found[1] / "link").readlink() == Path("/none/[secret KEY]")
    assert (tmp_path / "root" / found[2]).read_text() == "[secret KEY]"


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o555, 0o644, 0o700])
def test_file_without_permissions_is_redacted(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    path = folder / "x"
    path.write_text(PLAIN)
    path.chmod(mode)
    folder.chmod(0o000 if mode == 0 else 0o555)
    with permissions_hold():
        assert Redactor({"KEY": PLAIN}).files([tmp_path]) == 1

    assert path.read_text() == "[secret KEY]"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_mode_of_a_program_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(f"echo {PLAIN}\n")
    path.chmod(0o755)
    Redactor({"KEY": PLAIN}).files([path])

    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_file_that_cannot_be_redacted_is_deleted_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "z"):
        (tmp_path / name).write_text(PLAIN)
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(untrusted_trees.MAX_HOLES * 2)
        file.seek(untrusted_trees.MAX_HOLES)
        file.write(PLAIN.encode())

    with pytest.raises(OSError, match="holes") as caught:
        Redactor({"KEY": PLAIN}).files([tmp_path])
    assert caught.value.errno == errno.EFBIG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "z"]
    assert {(tmp_path / name).read_text() for name in ("a", "z")} == {"[secret KEY]"}


def test_secrets_in_very_deep_folders_do_not_remain(tmp_path: Path) -> None:
    root = tmp_path / "trial"
    (root / "out").mkdir(parents=True)
    (root / "out" / "log").write_text(PLAIN)
    folder = os.open(root, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=folder)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    with os.fdopen(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=folder), "w") as file:
        file.write(PLAIN)
    os.close(folder)

    with pytest.raises(OSError, match=rf"Errno {errno.ENAMETOOLONG}\b"):
        Redactor({"KEY": PLAIN}).files([root])
    assert [path.name for path in root.iterdir()] == ["out"]
    assert (root / "out" / "log").read_text() == "[secret KEY]"
