"""Choose this machine's files for a bubblewrap sandbox: system folders, a small /etc, and the harness's interpreter."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relab.experiments.sandbox.trial_user import TrialUser

_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC_FOLDERS: Final = ("alternatives", "crypto-policies", "fonts", "pki/ca-trust", "pki/tls/certs", "ssl/certs")
_ETC_FILES: Final = (
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "mime.types",
    "os-release",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
)
_MASKED_PROC: Final = (
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
)
_PROGRAM_FOLDERS: Final = ("bin", "sbin", "shims", "condabin")


def system_mounts() -> list[str]:
    """Return bubblewrap's options that mount the system's folders read-only."""
    options = ["--ro-bind", "/usr", "/usr"]
    for place in _SYSTEM:
        path = Path(place)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), place]
        elif path.is_dir():
            options += ["--ro-bind", place, place]
    return options


def kernel_interface_mounts(covers: Path) -> list[str]:
    """Return bubblewrap's options that make /proc read-only in a sandbox, and hide the parts that reveal this machine.

    Args:
        covers: the path of a folder that this call creates. It gets an empty folder and an empty file, which are
            mounted over the hidden parts.

    Raises:
        OSError: the folder cannot be created.
    """
    empty_folder, empty_file = covers / "folder", covers / "file"
    empty_folder.mkdir(parents=True)
    empty_file.touch()
    options = []
    # The parts are Docker's `MaskedPaths`. What only root can read needs no cover; a sandbox has no /sys.
    for name in _MASKED_PROC:
        with contextlib.suppress(FileNotFoundError):
            mode = Path("/proc", name).stat().st_mode
            if mode & stat.S_IROTH:
                options += ["--ro-bind", str(empty_folder if stat.S_ISDIR(mode) else empty_file), f"/proc/{name}"]
    return [*options, "--remount-ro", "/proc"]


def make_etc(folder: Path, *, is_networked: bool, user: TrialUser) -> list[str]:
    """Write the /etc of a sandbox, without the user accounts, the `hostname` and the `hosts` of this machine.

    This machine's `hosts` may name internal machines; `sandbox.read_only_paths` can mount it for trials that need it.

    Args:
        folder: the folder to create.
        is_networked: whether to copy this machine's `resolv.conf`, so that its DNS servers resolve host names. If
            False, only `localhost` and the sandbox's own name `trial` are resolved.
        user: the user that trials run as; it gets the account `harness`.

    Returns:
        Bubblewrap's options that mount the folder as /etc.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    folder.mkdir()
    options = ["--ro-bind", str(folder), "/etc"]
    for name in _ETC_FOLDERS:
        if Path("/etc", name).is_dir():
            (folder / name).mkdir(parents=True)
            options += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    for name in _ETC_FILES:
        # Files that only root may read are left out.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path("/etc", name), folder / name)
    # The first entry of an id is used, so the trial's account comes first: its id may be that of `nobody`.
    account = f"harness:x:{user.uid}:{user.gid}:harness:/home/trial:/bin/sh\n"
    written = {
        "passwd": f"{account}root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
        "group": f"harness:x:{user.gid}:\nroot:x:0:\nnogroup:x:65534:\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "hostname": "trial\n",
        "hosts": "127.0.0.1 localhost trial\n::1 localhost\n",
        "resolv.conf": "",
    }
    if is_networked:
        with contextlib.suppress(OSError):
            written["resolv.conf"] = Path("/etc/resolv.conf").read_text()
    for name, text in written.items():
        (folder / name).write_text(text)
    for entry in (folder, *folder.rglob("*")):
        # The process's umask may keep the trial's user out.
        if not entry.is_symlink():
            entry.chmod(0o755 if entry.is_dir() else 0o644)
    return options


def interpreter_folders(program: str, environment: Mapping[str, str], project: Path) -> list[Path]:
    """Return the folders that a sandbox must mount for the harness's program, besides the system's folders.

    They are the program's installation and, for a virtual environment, the installation of the base interpreter.
    Folders in the project are left out, because the project is mounted in any case.

    Args:
        program: the first word of the command: a name that is searched on the PATH, an absolute path, or a path below
            the project.
        environment: the harness's environment, for its PATH.
        project: the folder of the project's snapshot.
    """
    if "/" in program:
        path: Path | None = project / program
    else:
        found = shutil.which(program, path=environment.get("PATH", os.defpath))
        path = Path(found) if found else None
    folders: dict[Path, None] = {}
    for _ in range(16):
        if path is None or not path.exists():
            break
        installation = _installation(path)
        base = _base_of_venv(installation)
        for folder in (installation, base):
            if folder is not None and not _is_visible(folder, project):
                folders[folder] = None
        if base is not None:
            # The base may consist of links as well, as version managers make them.
            folders |= dict.fromkeys(interpreter_folders(str(base / "bin" / path.name), environment, project))
        path = path.parent / path.readlink() if path.is_symlink() else None
        path = Path(os.path.normpath(path)) if path is not None else None
    return list(folders)


def _installation(program: Path) -> Path:
    """Return the path to mount for a program: the folder of its installation.

    If the program is directly in the home folder or in `/`, return the path of the program alone.
    """
    folder = program.parent
    if folder.name in _PROGRAM_FOLDERS and folder.parent not in {Path.home(), Path("/")}:
        return folder.parent
    return program if folder in {Path.home(), Path("/")} else folder


def _base_of_venv(installation: Path) -> Path | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (installation / "pyvenv.cfg").read_text().splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home" and value.strip():
                return _installation(Path(value.strip()) / "python")
    return None


def _is_visible(folder: Path, project: Path) -> bool:
    return any(folder == Path(place) or folder.is_relative_to(place) for place in ("/usr", *_SYSTEM, project))
