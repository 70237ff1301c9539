"""`lab load` as a process: its output, its result files and its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from rig.load_servers import Behaviour, known_server
from rig.waiting import wait_until
from support.lab.cli import Lab
from support.lab.process import lab_environment


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {})


def test_the_result_is_one_json_object_and_files_that_other_tools_read(lab: Lab, tmp_path: Path) -> None:
    with known_server(Behaviour(delays_ms=(5,))) as server:
        printed = lab.json(
            "load", server.url, "--mix", "order", "--rate", "60", "--duration", "1", "--window", "0.25", "--arrivals",
            "poisson", "--seed", "4", "--header", "Authorization: Bearer hidden", "--hdr", "load.hdr", "--output", "load.json",
        )  # fmt: skip
        truth = server.truth()

    counts = printed["result"]["counts"]
    assert counts["good"] == counts["offered"] == len(truth.rows) > 30
    assert {row[1].split("/")[3] for row in truth.rows} == {"products", "orders"}
    assert json.loads((tmp_path / "load.json").read_text()) == {key: printed[key] for key in ("plan", "result")}
    assert printed["plan"]["headers"] == {"Authorization": "(hidden)"}
    assert "Bearer" not in (tmp_path / "load.json").read_text()

    reader = HistogramLogReader(str(tmp_path / "load.hdr"), HdrHistogram(1_000, 600_000_000_000, 3))
    read = []
    try:
        while (histogram := reader.get_next_interval_histogram()) is not None:
            read.append(histogram)
    finally:
        reader.close()
    assert [histogram.get_total_count() for histogram in read] == [
        window["latency"]["count"] for window in printed["result"]["windows"]
    ]
    assert min(histogram.get_min_value() for histogram in read) >= 5_000_000 * 0.998


def test_load_report_shows_the_counts_and_the_requests_by_name(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text("requests: [{name: fine, path: /ok}, {name: wrong, path: /status/500}]")
    with known_server() as server:
        told = lab.run("load", server.url, "--requests", "mix.yaml", "--stage", "50:0.5", "--stage", "50-150:0.5")

    assert "75 requests were due in 1 s (constant)" in told.out
    assert "75 sent (0 retries), 0 dropped, 75 completed, 0 failed, 0 timed out" in told.out
    assert "fine" in told.out
    assert "generator: " in told.out


def test_a_url_alone_is_fetched_with_its_query(lab: Lab) -> None:
    with known_server() as server:
        lab.run("load", f"{server.url}/ok?n=7&x={{y}}", "--rate", "20", "--duration", "0.5", "--quiet")
        truth = server.truth()

    assert [row[:2] for row in truth.rows] == [[7, "/ok"]] * 10


def test_load_on_an_unreachable_target_fails_with_the_reason(lab: Lab) -> None:
    with known_server() as server:
        told = lab.run("load", f"{server.url}/reset", "--rate", "20", "--duration", "0.5", code=1)

    assert "No request was answered: " in told.err


def test_ctrl_c_ends_the_load_with_the_result_so_far(lab: Lab, tmp_path: Path) -> None:
    with known_server() as server:
        command = [sys.executable, "-m", "relab", "load", server.url, "--rate", "50", "--duration", "600", "--json"]
        with subprocess.Popen(command, env=lab_environment(tmp_path), stdout=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda: len(server.truth().rows) >= 20, what="twenty requests")
                process.send_signal(signal.SIGINT)
                out, _ = process.communicate(timeout=30)
            finally:
                process.kill()

    assert process.returncode == 130
    printed = json.loads(out)
    assert printed["result"]["stopped"]
    assert printed["result"]["counts"]["good"] >= 19


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["http://127.0.0.1:9", "--rate", "1"], 69, "No server accepts connections"),
        (["http://192.0.2.7/", "--rate", "1"], 64, "--allow-remote"),
        (["ftp://127.0.0.1/"], 64, "is not a URL of a service"),
        (["http://me:secret@127.0.0.1/"], 64, "must not name a user"),
        (["http://127.0.0.1:9/?q=1", "--mix", "browse"], 64, "url must have no query"),
        (["http://127.0.0.1:9", "--mix", "nothing"], 64, "browse, order, search"),
        (["http://127.0.0.1:9", "--mix", "browse", "--requests", "x"], 64, "exclude each other"),
        (["http://127.0.0.1:9", "--requests", "absent.yaml"], 64, "There is no file absent.yaml"),
        (["http://127.0.0.1:9", "--rate", "0"], 64, "some stage must have a rate above 0"),
        (["http://127.0.0.1:9", "--rate", "nan"], 64, "stages.0.rate_per_s"),
        (["http://127.0.0.1:9", "--stage", "fast:10"], 64, "RATE:SECONDS"),
        (["http://127.0.0.1:9", "--stage", "1:1", "--rate", "2"], 64, "--stage replaces --rate and --duration"),
        (["http://127.0.0.1:9", "--arrivals", "bursts"], 64, "arrivals"),
        (["http://127.0.0.1:9", "--header", "no colon"], 64, "--header must be"),
        (["http://127.0.0.1:9", "--output", "no/such/folder/x.json"], 64, "cannot be written"),
        (["http://127.0.0.1:9", "--window", "0.05", "--timeout", "60"], 64, "timeout_s must not be longer"),
    ],
)
def test_invalid_plan_is_rejected_before_the_load(lab: Lab, arguments: list[str], code: int, said: str) -> None:
    assert said in lab.run("load", *arguments, code=code).err


@pytest.mark.parametrize("option", ["--hdr", "--output"])
def test_result_file_on_a_full_disk_is_named(lab: Lab, option: str) -> None:
    with known_server(Behaviour()) as server:
        done = lab.run("load", server.url, "--rate", "20", "--duration", "0.2", option, "/dev/full", code=69)

    assert "/dev/full cannot be written: No space left on device." in done.err
