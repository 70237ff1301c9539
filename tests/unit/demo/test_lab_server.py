"""Starting and stopping `lab serve`, with small programs in its place."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from demo import lab_server
from demo.lab_server import LabServer, LabServerError, group_exists, is_ready, poll, server_environment

SERVES = """\
import http.server, os, pathlib, subprocess, sys
home = pathlib.Path(os.environ["RELAB_HOME"])
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
(home / "pids").write_text(f"{os.getpid()} {child.pid}")
(home / "arguments").write_text(" ".join(sys.argv[1:]))
print("serving", flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()
"""


def program(folder: Path, source: str) -> Path:
    """Write an executable Python program."""
    path = folder / "lab"
    path.write_text(f"#!{sys.executable}\n{source}")
    path.chmod(0o755)
    return path


def test_the_server_gets_its_home_and_leaves_no_process_behind(tmp_path, monkeypatch):
    # The child in SERVES outlives its parent, so the test shows that remaining processes are killed.
    monkeypatch.setattr(lab_server, "WORKER_STOP_TIMEOUT_S", 0.2)
    with LabServer(tmp_path, program(tmp_path, SERVES)) as server:
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        port = server.url.rpartition(":")[2]
        assert (tmp_path / "arguments").read_text() == f"serve --host 127.0.0.1 --port {port}"
        assert group_exists(pids[0])
    assert server.log.read_text().startswith("serving")
    assert poll(lambda: not any(is_running(pid) for pid in pids), within_s=30)


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie process does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_error_inside_the_block_stops_the_server_too(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_server, "WORKER_STOP_TIMEOUT_S", 0.2)
    with pytest.raises(KeyboardInterrupt), LabServer(tmp_path, program(tmp_path, SERVES)):
        raise KeyboardInterrupt
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert poll(lambda: not any(is_running(pid) for pid in pids), within_s=30)


def test_server_that_exits_at_once_is_reported_with_its_log(tmp_path):
    command = program(tmp_path, "import sys; sys.exit('the database is newer than this program')")
    with pytest.raises(LabServerError, match="code 1:\nthe database is newer"), LabServer(tmp_path, command):
        pytest.fail("a server that ended is not ready")


def test_a_server_that_never_gets_ready_is_given_up_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_server, "READY_TIMEOUT_S", 0.5)
    command = program(tmp_path, "import signal; signal.pause()")
    with pytest.raises(LabServerError, match=r"not ready within .* s:\n\(nothing in "), LabServer(tmp_path, command):
        pytest.fail("a server that never answers is not ready")


def test_missing_program_is_reported_with_the_remedy(tmp_path):
    with pytest.raises(LabServerError, match="make demo"), LabServer(tmp_path, tmp_path / "nothing"):
        pytest.fail("there is no program")


def test_the_shell_s_settings_of_relab_do_not_reach_the_server(tmp_path):
    shell = {
        "PATH": "/bin",
        "DATABASE_URL": "postgresql://prod",
        "OPENAI_API_KEY": "secret",
        "relab_home": "/elsewhere",
        "RELAB_PORT": "1",
    }
    assert server_environment(shell, tmp_path) == {"PATH": "/bin", "RELAB_HOME": str(tmp_path)}


def test_a_server_that_does_not_listen_is_not_ready():
    with lab_server.httpx.Client(trust_env=False) as client:
        assert not is_ready(client, f"http://127.0.0.1:{lab_server.free_port()}/readyz")


def test_signals_run_the_clean_up_and_their_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def work():
        with lab_server.signals_as_exit():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                cleaned.append(True)

    with pytest.raises(SystemExit) as left:
        work()
    assert left.value.code == 128 + signal.SIGTERM
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_second_interrupt_does_not_abort_the_clean_up():
    before = signal.getsignal(signal.SIGINT)
    with lab_server.impatience_ignored():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
