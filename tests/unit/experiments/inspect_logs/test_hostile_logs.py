"""Import of invalid, damaged and hostile logs: each raises its own error and leaves no run."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from relab.core.clock import SystemClock
from relab.core.errors import RelabError
from relab.experiments.inspect_logs.errors import (
    InspectLogError,
    InspectLogImportedError,
    InspectLogsDifferError,
    InspectLogTooLargeError,
    InspectLogTruncatedError,
    InspectLogUnsafeError,
)
from relab.experiments.inspect_logs.importing import ImportOptions
from relab.experiments.inspect_logs.service import InspectLogService
from support.experiments.eval_logs import FIXTURES, header, sample, write_entries, write_log


def refusal(root: Path, *logs: Path, error: type[RelabError] = InspectLogError, **options: Any) -> str:
    """Import logs that must be rejected, check that no file is left, and return the error message."""
    with pytest.raises(error) as raised:
        InspectLogService(SystemClock()).import_logs(root, logs, ImportOptions(**options))
    assert raised.type is error
    assert not list(root.glob(".lab/**/*.json*"))
    return str(raised.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path, tmp_path / "none.eval")


def test_json_log_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text('{"version": 2}')

    assert "inspect log convert" in refusal(tmp_path, path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_log_of_a_killed_process_is_named(tmp_path: Path, share: float) -> None:
    whole = (FIXTURES / "right.eval").read_bytes()
    path = tmp_path / "cut.eval"
    path.write_bytes(whole[: int(len(whole) * share)])

    assert "directory" in refusal(tmp_path, path, error=InspectLogTruncatedError)


def test_log_without_its_first_bytes_is_refused(tmp_path: Path) -> None:
    path = write_log(tmp_path / "cut.eval", sample())
    path.write_bytes(path.read_bytes()[10:])

    assert "its header is missing" in refusal(tmp_path, path)


def test_every_flipped_byte_of_a_sample_is_found(tmp_path: Path) -> None:
    whole = bytearray((FIXTURES / "right.eval").read_bytes())
    with zipfile.ZipFile(FIXTURES / "right.eval") as archive:
        entry = archive.getinfo("samples/2_epoch_1.json")
    path = tmp_path / "flipped.eval"
    for offset in range(100, entry.compress_size, 1_500):
        place = entry.header_offset + 30 + len(entry.filename) + offset
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])

        refusal(tmp_path, path)


def test_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    bomb = write_entries(tmp_path / "bomb.eval", {"header.json": header(), "samples/a_epoch_1.json": b" " * 2_000_000})

    assert "--max-entry-mb" in refusal(tmp_path, bomb, error=InspectLogTooLargeError, max_entry_bytes=1_000_000)


def test_entry_larger_than_its_declared_size_is_refused(tmp_path: Path) -> None:
    path = write_entries(tmp_path / "bomb.eval", {"header.json": header(), "samples/a_epoch_1.json": b" " * 2_000_000})
    raw = path.read_bytes()
    # The size is in the entry's header and in the directory.
    path.write_bytes(raw.replace(struct.pack("<I", 2_000_000), struct.pack("<I", 10)))

    refusal(tmp_path, path, error=InspectLogTooLargeError, max_entry_bytes=1_000_000)


def test_many_entries_that_expand_a_thousandfold_are_refused(tmp_path: Path) -> None:
    entries = {f"samples/{number}_epoch_1.json": b"\0" * 5_000_000 for number in range(3)}
    path = write_entries(tmp_path / "bomb.eval", {"header.json": header(), **entries})

    assert "ratio" in refusal(tmp_path, path, error=InspectLogTooLargeError, max_entry_bytes=6_000_000)


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "samples/../../evil_epoch_1.json", "samples\\..\\evil"]
)
def test_name_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = write_entries(tmp_path / "evil.eval", {"header.json": header(), name: sample()})

    assert "leaves the archive" in refusal(tmp_path, path, error=InspectLogUnsafeError)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"other.json": {}}, "neither header.json nor"),
        ({"header.json": b"{"}, "not valid JSON"),
        ({"header.json": b"[" * 100_000}, "not valid JSON"),
        ({"header.json": []}, "not a JSON object"),
        ({"header.json": {"version": 3}}, "log version '3'"),
        ({"header.json": {"version": 2}}, "without the object 'eval'"),
        ({"header.json": header(model=7)}, "eval.model is '7'"),
        ({"header.json": header(task="")}, "eval.task is ''"),
        ({"header.json": header(shards={"x": 1})}, "shards"),
        ({"header.json": header()}, "no sample"),
        ({"header.json": header(), "samples/a.json": []}, "not a JSON object"),
        ({"header.json": header(), "samples/a.json": {"id": None, "epoch": 1}}, "whose id is 'None'"),
        ({"header.json": header(), "samples/a.json": {"id": "a", "epoch": 0}}, "whose epoch is '0'"),
        ({"header.json": header(), "samples/a.json": sample(), "samples/b.json": sample()}, "twice in epoch 1"),
        (
            {"header.json": header(), "samples/a.json": sample("a/b"), "samples/b.json": sample("a%2Fb")},
            "become 'a%2Fb'",
        ),
    ],
)
def test_wrong_shape_is_named(tmp_path: Path, entries: dict[str, Any], said: str) -> None:
    assert said in refusal(tmp_path, write_entries(tmp_path / "log.eval", entries))


def test_same_id_with_another_question_is_refused(tmp_path: Path) -> None:
    one = write_log(tmp_path / "one.eval", sample())
    other = write_log(tmp_path / "other.eval", sample(input="another question"), model="m/y")

    assert "sample 'one'" in refusal(tmp_path, one, other, error=InspectLogsDifferError)


def test_unknown_scorer_is_refused_with_the_names_of_the_known_ones(tmp_path: Path) -> None:
    assert "it has match" in refusal(
        tmp_path, write_log(tmp_path / "one.eval", sample()), error=InspectLogsDifferError, scorer="judge"
    )


def test_scorer_of_several_values_asks_for_one_of_them(tmp_path: Path) -> None:
    log = write_log(tmp_path / "one.eval", sample(scores={"match": {"value": {"a": 1, "b": 0}}}))

    assert "match.a, match.b" in refusal(tmp_path, log)


def test_unknown_baseline_is_refused_with_the_names_of_the_variants(tmp_path: Path) -> None:
    assert "the variants are m:x" in refusal(tmp_path, write_log(tmp_path / "one.eval", sample()), baseline="gpt")


@pytest.mark.parametrize("steps", [{"a": 1}, 5, [7]])
def test_plan_with_invalid_steps_names_no_solver(tmp_path: Path, steps: Any) -> None:
    entries = {"header.json": {**header(), "plan": {"steps": steps}}, "samples/one_epoch_1.json": sample()}
    [made] = InspectLogService(SystemClock()).import_logs(
        tmp_path, [write_entries(tmp_path / "log.eval", entries)], ImportOptions()
    )

    assert list(made.logs) == ["m:x"]


@pytest.mark.parametrize("error", [InspectLogImportedError, KeyboardInterrupt])
def test_import_leaves_the_folder_that_another_process_created(tmp_path: Path, error: type[BaseException]) -> None:
    log = write_log(tmp_path / "one.eval", sample())
    [made] = InspectLogService(SystemClock()).import_logs(tmp_path, [log], ImportOptions())
    shutil.rmtree(made.run_dir)

    class OtherProcess:
        """A clock at whose first reading another process creates the folder of the run, and Ctrl-C may be pressed."""

        def now_us(self) -> int:
            made.run_dir.mkdir()
            if error is KeyboardInterrupt:
                raise KeyboardInterrupt
            return 0

    with pytest.raises(error) as caught:
        InspectLogService(OtherProcess()).import_logs(tmp_path, [log], ImportOptions())

    assert made.run_dir.is_dir()
    assert error is KeyboardInterrupt or made.run_id in str(caught.value)


def test_second_import_is_refused_and_leaves_the_first(tmp_path: Path) -> None:
    log = write_log(tmp_path / "one.eval", sample())
    service = InspectLogService(SystemClock())
    [made] = service.import_logs(tmp_path, [log], ImportOptions())

    with pytest.raises(InspectLogImportedError, match=made.run_id):
        service.import_logs(tmp_path, [log], ImportOptions())

    assert (made.run_dir / "attestation.json").is_file()
