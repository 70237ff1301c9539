"""Archives of a harness's files: content and metadata are kept, and a hostile archive writes nothing outside."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.errors import ArchiveInvalidError
from relab.experiments.workspace.archives import pack, unpack

MB = 1_048_576
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."} and len(os.fsencode(name)) < 200
)
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=100), max_size=8)


def test_archive_keeps_files_folders_links_modes_and_names_of_any_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "program").write_bytes(b"run")
    (source / "program").chmod(0o4755)
    (source / "locked").write_bytes(b"kept")
    (source / "locked").chmod(0)
    Path(os.fsdecode(os.fsencode(source) + b"/not-utf-8-\xff")).write_bytes(b"bytes")
    (source / "outwards").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    (source / "left_out").touch()

    unpack(pack(source, tmp_path, left_out={"left_out"}), tmp_path / "copy", max_bytes=MB)

    copy = tmp_path / "copy"
    names = {os.fsencode(path.name) for path in copy.iterdir()}
    assert names == {b"empty", b"program", b"locked", b"not-utf-8-\xff", b"outwards"}
    assert (copy / "empty").is_dir()
    assert stat.S_IMODE((copy / "program").stat().st_mode) == 0o755
    assert (copy / "locked").read_bytes() == b"kept"
    assert (copy / "outwards").readlink() == Path("/etc/passwd")


@given(tree=TREES)
def test_any_tree_is_restored_with_the_same_content(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[tuple[str, ...], bytes]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    source, written = folder / "source", {}
    source.mkdir()
    for parts, content in tree.items():
        path = source.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            # The same name is used for a file and a folder.
            continue
        written[path.relative_to(source)] = content

    unpack(pack(source, folder), folder / "copy", max_bytes=MB)

    copy = folder / "copy"
    assert {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == written


@pytest.mark.parametrize("time_ns", [0, 1, 999_999_999, 1_764_000_000_123_456_789, 2**33 * 10**9 + 5, -1_500_000_001])
def test_file_keeps_its_modification_time_to_the_nanosecond(tmp_path: Path, time_ns: int) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file"
    file.touch()
    os.utime(file, ns=(time_ns, time_ns))

    unpack(pack(tmp_path / "source", tmp_path), tmp_path / "copy", max_bytes=MB)

    assert (tmp_path / "copy" / "file").stat().st_mtime_ns == file.stat().st_mtime_ns


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 1) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size if kind == tarfile.REGTYPE else 0
    return made


def with_headers(name: str, **headers: str) -> tarfile.TarInfo:
    made = member(name)
    made.pax_headers = headers
    return made


def archive_of(*members: tarfile.TarInfo) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for entry in members:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return raw.getvalue()


HOSTILE = {
    "absolute path": [member("/tmp/outside")],
    "path to the parent": [member("../outside")],
    "parent inside of the path": [member("inside/../../outside")],
    "file through its own link": [member("link", tarfile.SYMTYPE, ".."), member("link/outside")],
    "file through a link of the folder": [member("there/outside")],
    "hard link": [member("outside", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [member("device", tarfile.CHRTYPE)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
    "file that exists": [member("kept")],
    "one name twice": [member("same"), member("same")],
    "file as a folder": [member("file"), member("file/inside")],
    "file in a folder of many levels": [member("/".join(["a"] * 5_000))],
    "sparse file": [with_headers("sparse", **{"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"})],
    "time without end": [with_headers("late", mtime="inf")],
    "owner that is no number of a clock": [with_headers("late", uid="9" * 30)],
    "larger than allowed": [member("large", size=2 * MB)],
    "many that are larger together": [member(f"part_{number}", size=MB // 2) for number in range(3)],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archive_is_rejected_and_writes_nothing_outside(
    tmp_path: Path, members: Iterable[tarfile.TarInfo]
) -> None:
    root = tmp_path / "top" / "root"
    root.mkdir(parents=True)
    (root / "kept").write_bytes(b"kept")
    (root / "there").symlink_to("..")

    with pytest.raises(ArchiveInvalidError):
        unpack([archive_of(*members)], root, max_bytes=MB)

    assert [path.name for path in (tmp_path / "top").iterdir()] == ["root"]
    assert (root / "kept").read_bytes() == b"kept"


@pytest.mark.parametrize("raw", [b"", b"no archive", archive_of(member("file", size=3_000))[:1_500]])
def test_damaged_archive_is_rejected(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(ArchiveInvalidError):
        unpack([raw], tmp_path / "root", max_bytes=MB)


def test_size_limit_does_not_count_the_headers_of_empty_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(2_500):
        (source / str(number)).touch()

    unpack(pack(source, tmp_path), tmp_path / "copy", max_bytes=0)

    assert len(list((tmp_path / "copy").iterdir())) == 2_500
