"""Real builds in each kind of sandbox: results and logs, resource limits, caches, workspaces and retries."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer
from typing import NoReturn

import pytest

from relab.bootstrap import Services
from relab.builds.errors import ProjectBusyError
from relab.builds.models import Build, BuildFailure, BuildStatus
from relab.builds.monitor.build_file import BuildProject, override
from relab.builds.monitor.runner import run_build, take_project
from relab.builds.monitor.workspace import locked_folder
from relab.builds.service import BuildService
from relab.experiments.sandbox.limit_watch import LimitWatch
from relab.experiments.sandbox.local import LocalSandbox
from relab.experiments.sandbox.protocol import Launch, SandboxError, SandboxLimits
from support.builds.projects import write_project

MakeProject = Callable[[str], BuildProject]


@pytest.fixture
def builds(make_services: Callable[..., Services]) -> BuildService:
    return make_services().builds


def run(builds: BuildService, project: BuildProject, **knobs: str) -> Build:
    """Run one build with these knobs, and return its last attempt."""
    return builds.run(project, override(project.file.defaults, knobs), stop=Event()).builds[-1]


def log_of(builds: BuildService, build: Build) -> str:
    log = builds.log(build.build_id)
    assert log is not None
    return log


def test_successful_build_is_recorded_with_its_log(builds: BuildService, make_project: MakeProject) -> None:
    project = make_project("echo to stdout; echo to stderr >&2; echo $JOBS jobs\n")

    build = run(builds, project, parallelism="3")

    assert build.result.status is BuildStatus.SUCCESS
    assert build.result.error is None
    assert log_of(builds, build) == "to stdout\nto stderr\n3 jobs\n"
    assert build.sandbox == project.file.sandbox
    assert builds.get(build.build_id) == build


def test_failed_build_names_the_exit_code_and_the_line_of_the_log(
    builds: BuildService, make_project: MakeProject
) -> None:
    build = run(builds, make_project("echo start; echo 'main.c:3: fatal error: no such header'; echo stop; exit 3\n"))

    assert build.result.status is BuildStatus.FAILED
    assert build.result.failure is BuildFailure.EXIT_CODE
    assert build.result.exit_code == 3
    assert build.result.error == "Exit code 3: main.c:3: fatal error: no such header"


def test_build_over_the_memory_limit_is_ended(builds: BuildService, make_project: MakeProject) -> None:
    # The memory grows in steps, so that a limit that is enforced by polling also detects it.
    script = (
        "exec /usr/bin/python3 -c 'import time\nx = []\nwhile True:\n x.append(bytearray(4 << 20)); time.sleep(0.02)'\n"
    )

    build = run(builds, make_project(script))

    assert build.result.failure is BuildFailure.OUT_OF_MEMORY
    assert build.result.error == "Out of memory during build: it needs more than 128 MB"
    assert 128 <= build.result.peak_memory_mb < 512


def test_peak_memory_of_a_successful_build_is_recorded(
    builds: BuildService, make_project: MakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = LimitWatch.memory_bytes

    def measure_and_let_end(watch: LimitWatch) -> int:
        """Measure the memory of the build, and let the build end once it uses enough."""
        found = measure(watch)
        if found > enough:
            next(tmp_path.glob("home/builds/*/workspace")).joinpath("measured").touch()
        return found

    monkeypatch.setattr(LimitWatch, "memory_bytes", measure_and_let_end)
    wait = "while [ ! -e measured ]; do sleep 0.02; done\n"
    held = (
        "exec /usr/bin/python3 -c '"
        'import os, time; x = bytearray(b"x" * (50 << 20))\nwhile not os.path.exists("measured"): time.sleep(0.02)\n\'\n'
    )

    enough = 0
    small = run(builds, make_project(wait))
    enough = 50 << 20
    large = run(builds, make_project(held), memory_mb="512")

    assert small.result.status is BuildStatus.SUCCESS
    assert 0 < small.result.peak_memory_mb < 20
    assert large.result.status is BuildStatus.SUCCESS
    assert 50 <= large.result.peak_memory_mb < 200


@pytest.mark.full
def test_build_that_forks_without_end_is_ended_with_its_descendants(
    builds: BuildService, make_project: MakeProject, tmp_path: Path
) -> None:
    # The script starts at most 3,000 processes, even if the limit does not work.
    script = "exec 9>held; flock 9; i=0; while [ $i -lt 3000 ]; do sleep 1000 & i=$((i+1)); done; sleep 1000\n"

    build = run(builds, make_project(script), memory_mb="512")

    assert build.result.failure is BuildFailure.PROCESS_LIMIT
    assert build.result.error == "The build ran more than 1,024 processes and threads at once"
    (held,) = tmp_path.glob("home/builds/*/workspace/held")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_daemon_that_a_successful_build_leaves_is_ended(
    builds: BuildService, make_project: MakeProject, tmp_path: Path
) -> None:
    script = (
        "setsid sh -c \"trap '' HUP TERM; exec 9>held; flock 9; touch ready; while :; do sleep 1; done\" &\n"
        "until [ -e ready ]; do sleep 0.02; done\n"
    )

    build = run(builds, make_project(script))

    assert build.result.status is BuildStatus.SUCCESS
    (held,) = tmp_path.glob("home/builds/*/workspace/held")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_build_that_never_ends_is_ended_with_its_descendants(
    builds: BuildService, make_project: MakeProject, tmp_path: Path
) -> None:
    # The lock is held as long as any process of the build is alive.
    script = (
        "trap '' TERM\nexec 9>held; flock 9; (trap '' TERM; while :; do sleep 1; done) &\nwhile :; do sleep 1; done\n"
    )
    project = make_project(script)
    # A busy machine may not have started the script at its time limit.
    (project.root / "held").touch()

    build = run(builds, project, time_limit_s="0.5")

    assert build.result.failure is BuildFailure.TIMED_OUT
    assert build.result.error == "The build took longer than its time limit of 0.5 s"
    (held,) = tmp_path.glob("home/builds/*/workspace/held")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(("code", "counts"), [(0, (0, 1)), (1, (1, 0))])
def test_repeated_test_is_flaky_if_the_build_succeeded(
    builds: BuildService, make_project: MakeProject, code: int, counts: tuple[int, int]
) -> None:
    script = (
        "echo '1/1 Test #1: net ....***Failed    0.02 sec'; echo '    Test #1: net ....   Passed    0.00 sec'; exit "
    )

    build = run(builds, make_project(f"{script}{code}\n"))

    assert build.tests is not None
    assert (build.tests.failed, build.tests.flaky) == counts


def test_time_out_names_the_memory_limit_that_the_build_nearly_reached(
    builds: BuildService, make_project: MakeProject
) -> None:
    # The interpreter itself needs about 10 MB.
    script = "exec /usr/bin/python3 -c 'import signal; x = b\"x\" * (112 << 20); signal.pause()'\n"

    build = run(builds, make_project(script), time_limit_s="4")

    assert build.result.failure is BuildFailure.TIMED_OUT
    assert build.result.error is not None
    assert "of 128 MB (memory_mb), so too little memory may have slowed it down" in build.result.error


def test_build_that_writes_without_end_is_ended(builds: BuildService, make_project: MakeProject) -> None:
    # The pauses let the check of the disk limit run before files in an in-memory folder reach the memory limit.
    script = "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > file$i; sleep 0.05; done\n"

    build = run(builds, make_project(script))

    assert build.result.failure is BuildFailure.DISK_LIMIT


def test_build_with_an_endless_log_is_ended_and_its_log_is_bounded(
    builds: BuildService, make_project: MakeProject
) -> None:
    build = run(builds, make_project("echo first; while :; do head -c 100000 /dev/zero | tr '\\0' x; echo; done\n"))

    log = log_of(builds, build)
    assert build.result.failure in {BuildFailure.LOG_LIMIT, BuildFailure.DISK_LIMIT}
    assert build.result.log_bytes > 2_000_000
    assert len(log) < 1_100_000
    assert log.startswith("first\n")
    assert "[relab left out " in log


def test_program_that_does_not_exist_is_a_failed_build(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "", sandbox="local")
    file = project.file.model_copy(update={"command": ["no-such-program-of-relab"]})

    build = run(builds, project.model_copy(update={"file": file}))

    assert build.result.status is BuildStatus.FAILED
    assert build.result.failure is BuildFailure.NOT_STARTED
    assert build.result.error is not None
    assert "no-such-program-of-relab" in build.result.error


def test_build_whose_sandbox_cannot_start_has_nothing_of_the_log_of_the_last_build(tmp_path: Path) -> None:
    class DeadSandbox(LocalSandbox):
        def start(self, launch: Launch) -> NoReturn:
            raise SandboxError(f"no control group can be made for {launch.command[0]}")

    project = write_project(tmp_path / "project", "echo 'FAILED tests/t.py::test_net - refused'; exit 1\n")
    working, dead = LocalSandbox(SandboxLimits(), "test-works"), DeadSandbox(SandboxLimits(), "test-dead")
    working.prepare()
    with locked_folder(tmp_path / "home", project) as folder:
        snapshot = take_project(project, folder)
        first, second = (
            run_build(project, project.file.defaults, snapshot, folder, sandbox, stop=Event())
            for sandbox in (working, dead)
        )
    working.close()

    assert [*first.tests.tests] == ["tests/t.py::test_net"]
    assert second.result.failure is BuildFailure.NOT_STARTED
    assert second.log == ""
    assert second.tests.tests == {}


def test_folder_whose_path_is_not_valid_text_can_be_built(builds: BuildService, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xdcbung"))

    build = run(builds, write_project(folder, "exit 0\n", sandbox="local"))

    assert build.result.status is BuildStatus.SUCCESS


def test_cache_keeps_its_content_only_if_it_is_on(builds: BuildService, make_project: MakeProject) -> None:
    project = make_project('if [ -n "$CACHE" ]; then ls "$CACHE"; touch "$CACHE/object"; else echo without; fi\n')

    logs = [log_of(builds, run(builds, project, cache=cache)) for cache in ("on", "off", "on")]

    assert logs == ["", "without\n", "object\n"]


def test_incremental_build_keeps_created_files_and_gets_the_current_ones(
    builds: BuildService, make_project: MakeProject
) -> None:
    project = make_project("ls; cat source; mkdir -p out; echo object > out/object; echo changed > source\n")
    source = project.root / "source"
    source.write_text("one\n")
    run(builds, project)
    source.write_text("two\n")

    again = log_of(builds, run(builds, project, incremental="on"))
    clean = log_of(builds, run(builds, project))

    assert again == "build.sh\nbuild.yaml\nout\nsource\ntwo\n"
    assert clean == "build.sh\nbuild.yaml\nsource\ntwo\n"
    assert source.read_text() == "two\n"


def test_incremental_build_has_no_file_that_was_deleted_from_the_project(
    builds: BuildService, make_project: MakeProject
) -> None:
    project = make_project("find . -mindepth 1 | sort; touch object\n")
    (project.root / "old").mkdir()
    (project.root / "old" / "source").write_text("one\n")
    (project.root / "gone").write_text("one\n")
    run(builds, project)
    (project.root / "gone").unlink()
    shutil.rmtree(project.root / "old")

    second = log_of(builds, run(builds, project, incremental="on"))
    third = log_of(builds, run(builds, project, incremental="on"))

    assert second == "./build.sh\n./build.yaml\n./object\n"
    assert third == second


def test_incremental_build_follows_files_that_became_folders_and_folders_that_became_files(
    builds: BuildService, make_project: MakeProject
) -> None:
    project = make_project(
        "find . -mindepth 1 | sort; mkdir -p one/sub made; touch one/sub/object made/object two/object\n"
    )
    one, two = project.root / "one", project.root / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "source").touch()
    run(builds, project)
    shutil.rmtree(one)
    one.write_text("a file now\n")

    second = run(builds, project, incremental="on")
    one.unlink()
    one.mkdir()
    (one / "source").touch()
    third = run(builds, project, incremental="on")

    created = "./made\n./made/object\n"
    assert log_of(builds, second).startswith(
        f"./build.sh\n./build.yaml\n{created}./one\n./two\n./two/object\n./two/source\n"
    )
    assert log_of(builds, third).startswith(
        f"./build.sh\n./build.yaml\n{created}./one\n./one/source\n./two\n./two/object\n./two/source\n"
    )


def test_kept_cache_and_workspace_do_not_count_against_the_write_limit(
    builds: BuildService, make_project: MakeProject
) -> None:
    # Each build writes 3 MB to the cache and 2 MB to the workspace; the limit is 8 MB.
    project = make_project(
        'name=$(ls "$CACHE" | wc -l); head -c 3000000 /dev/zero > "$CACHE/$name"; head -c 2000000 /dev/zero > "$name"\n'
    )

    results = [run(builds, project, cache="on", incremental="on").result for _ in range(4)]

    assert [result.status for result in results] == [BuildStatus.SUCCESS] * 4


def test_incremental_build_does_not_write_through_a_symlink_of_the_project(
    builds: BuildService, make_project: MakeProject, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    project = make_project("rm -rf data; mkdir data; echo stolen > data/inside; true\n")
    (project.root / "data").symlink_to(outside)
    run(builds, project)

    run(builds, project, incremental="on")

    assert list(outside.iterdir()) == []


def test_failed_build_is_retried_and_each_attempt_is_stored(builds: BuildService, make_project: MakeProject) -> None:
    project = make_project('if [ -e "$CACHE/tried" ]; then exit 0; fi; touch "$CACHE/tried"; exit 1\n')

    configuration = override(project.file.defaults, {"cache": "on", "retries": "3"})
    attempts = builds.run(project, configuration, stop=Event(), policy="fixed").builds

    assert [build.result.status.value for build in attempts] == ["failed", "success"]
    assert attempts[1].retry_of == attempts[0].build_id
    assert attempts[0].input_digest == attempts[1].input_digest
    assert [build.build_id for build in builds.list_builds().items] == [
        attempts[1].build_id,
        attempts[0].build_id,
    ]


def test_stopped_build_is_interrupted_and_not_retried(builds: BuildService, make_project: MakeProject) -> None:
    stop = Event()
    project = make_project("echo begun; while :; do sleep 1; done\n")
    timer = Timer(0.5, stop.set)
    timer.start()

    attempts = builds.run(project, override(project.file.defaults, {"retries": "2"}), stop=stop).builds

    timer.join()
    assert [build.result.status for build in attempts] == [BuildStatus.INTERRUPTED]
    assert attempts[0].result.error == "The build was stopped."


def test_project_that_another_process_builds_is_busy(builds: BuildService, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "exit 0\n", sandbox="local")
    run(builds, project)
    (lock,) = tmp_path.glob("home/builds/*/lock")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ProjectBusyError, match="tiny"):
            run(builds, project)
