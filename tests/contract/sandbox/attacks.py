"""Attacks on the host from inside a sandbox, and a check of the files that they leave.

An attack does not change the host even if it succeeds: it writes to kernel settings the values that they have,
sends signal 0, and opens a trigger without writing to it.

Run as a program, `attacks.py KIND UID FOLDER` changes to the user UID, and attacks from a sandbox of this user.
"""

from __future__ import annotations

import json
import os
import platform
import resource as resource  # noqa: PLC0414 another user may not be able to load it later
import stat
import sys
from pathlib import Path
from typing import Any

from contract.sandbox.rooms import Rooms, make_rooms

REFUSED = "refused"
SECRET = "RELAB_SECRET_OF_THE_RUNNER"
_NUMBERS = {
    "x86_64": {
        "add_key": 248, "bpf": 321, "chroot": 161, "clone": 56, "clone3": 435, "io_uring_setup": 425, "ioctl": 16,
        "keyctl": 250, "kill": 62, "mknodat": 259, "mount": 165, "open_by_handle_at": 304, "perf_event_open": 298,
        "ptrace": 101, "setns": 308, "setuid": 105, "unshare": 272, "userfaultfd": 323,
    },
    "aarch64": {
        "add_key": 217, "bpf": 280, "chroot": 51, "clone": 220, "clone3": 435, "io_uring_setup": 425, "ioctl": 29,
        "keyctl": 219, "kill": 129, "mknodat": 33, "mount": 40, "open_by_handle_at": 265, "perf_event_open": 241,
        "ptrace": 117, "setns": 268, "setuid": 146, "unshare": 97, "userfaultfd": 282,
    },
}  # fmt: skip

SCRIPT = r"""
use strict; $| = 1;
my ($outside, $here) = @ARGV;
sub report { my ($name, $ok) = @_; printf "%s\t%s\n", $name, $ok ? "SUCCEEDED" : "refused " . ($! + 0) }
sub call { my ($name, $number, @rest) = @_; $! = 0; my $got = syscall($number, @rest); report($name, $got != -1); $got }
sub rewrite {
  my ($path) = @_; my $value;
  if (open(my $old, "<", $path)) { local $/; $value = <$old>; close $old }
  $! = 0; my $ok = defined $value && open(my $new, "+<", $path);
  $ok &&= defined syswrite($new, $value) if $ok;
  report("write $path", $ok);
}
sub touch_open { my ($path) = @_; $! = 0; report("open $path", sysopen(my $file, $path, 1)) }
rewrite("/proc/sys/kernel/core_pattern");
rewrite("/proc/sys/vm/swappiness");
rewrite("/proc/sys/kernel/hostname");
touch_open("/proc/sysrq-trigger");
touch_open("/proc/irq/default_smp_affinity");
sub read_some { my ($path) = @_; my $file; $! = 0; report("read $path", open($file, "<", $path) && defined(getc $file)) }
read_some($_) for ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/etc/shadow", "/workspace/secret");
my $debug; report("list /sys/kernel/debug", opendir($debug, "/sys/kernel/debug") && grep { !/^\./ } readdir $debug);
call("mount", MOUNT, "none", "/tmp", "tmpfs", 0, 0);
call("unshare user namespace", UNSHARE, 0x10000000);
call("mount afterwards", MOUNT, "none", "/tmp", "tmpfs", 0, 0);
my $child = call("clone user namespace", CLONE, 0x10000011, 0, 0, 0, 0);
syscall(EXIT, 0) if $child == 0;
my $arguments = pack("Q11", 0x10000000, (0) x 3, 17, (0) x 6);
$child = call("clone3 user namespace", CLONE3, $arguments, 88);
syscall(EXIT, 0) if $child == 0;
call("setns", SETNS, 0, 0x40000000);
call("ptrace an outside process", PTRACE, 16, $outside, 0, 0);
call("signal an outside process", KILL, $outside, 0);
report("see an outside process", -d "/proc/$outside/fd");
call("keyctl", KEYCTL, 0, -3, 1);
my ($type, $name, $load) = ("user\0", "relab-attack\0", "x");
call("add_key", ADD_KEY, $type, $name, $load, 1, -2);
my $map = pack("L5", 2, 4, 4, 1, 0) . "\0" x 100;
call("bpf", BPF, 0, $map, 120);
my $event = pack("LLQ", 1, 112, 0) . "\0" x 24 . pack("Q", 0x61) . "\0" x 64;
call("perf_event_open", PERF_EVENT_OPEN, $event, 0, -1, -1, 0);
my $ring = "\0" x 120;
call("io_uring_setup", IO_URING_SETUP, 1, $ring);
call("userfaultfd", USERFAULTFD, 1);
my $device = "/out/device\0";
call("mknod a device", MKNODAT, -100, $device, 020600, 0x103);
call("chroot", CHROOT, "/tmp");
my $handle = pack("LL", 8, 1) . "\0" x 8;
open(my $top, "<", "/out"); call("open_by_handle_at", OPEN_BY_HANDLE_AT, fileno($top), $handle, 0);
call("TIOCSTI", IOCTL, 0, 0x5412, "x");
call("setuid 0", SETUID, 0);
report("link a host program", link("/usr/bin/perl", "/out/perl"));
report("link a file of the harness", link("/harness/h", "/out/h"));
my $environ; report("read the runner's secret from process 1",
  open($environ, "<", "/proc/1/environ") && join("", <$environ>) =~ /\Q$here\E/);
system('cp /bin/sh /out/suidsh; ln /out/suidsh /out/second; cp /bin/sh /state/suidsh; mkdir /out/group /out/locked;
  cp /bin/sh "/out/group/odd
name"; chmod 4755 /out/suidsh; chmod 6755 /state/suidsh "/out/group/odd
name"; cp /bin/sh alone; chmod 2755 alone;
  chmod 2777 /out/group; cp /bin/sh /tmp/suidsh; cp /bin/sh /home/trial/suidsh; chmod 4755 /home/trial/suidsh;
  mkfifo /out/pipe; ln -s /etc/shadow /out/link; ln -s /etc /out/linked; cp /bin/sh /out/locked/suidsh;
  chmod 4111 /out/locked/suidsh; chmod 0 /out/locked');
use Socket; socket(my $socket, PF_UNIX, SOCK_STREAM, 0); bind($socket, pack_sockaddr_un("/out/socket"));
chmod 04755, *STDOUT;
"""


def script() -> str:
    """Return the attacks as a Perl program for this machine, which prints `name<TAB>result` lines."""
    numbers = _NUMBERS[platform.machine()] | {"exit": {"x86_64": 60, "aarch64": 93}[platform.machine()]}
    return "\n".join(f"use constant {name.upper()} => {number};" for name, number in numbers.items()) + SCRIPT


def attack(rooms: Rooms) -> dict[str, Any]:
    """Run the attacks in a sandbox; return their results by name, and the privileged or foreign files that are left."""
    os.environ[SECRET] = "value"
    sandbox = rooms.make()
    secret = rooms.folder / "secret"
    secret.write_text("of the runner")
    secret.chmod(0o600)
    launch = rooms.launch(
        ["/usr/bin/perl", "-e", script(), str(os.getpid()), SECRET], mounts={"/workspace/secret": secret}
    )
    (launch.folders.harness / "h").write_text("snapshot")
    ended = rooms.run(sandbox, launch)
    results = dict(line.split("\t", 1) for line in ended.stdout.splitlines())
    left = []
    root = launch.stdout.parent
    for folder, inner, files in os.walk(root):
        for name in (*inner, *files):
            path = Path(folder, name)
            status = path.lstat()
            if status.st_mode & (stat.S_ISUID | stat.S_ISGID) or status.st_uid != os.getuid():
                left.append(f"{path.relative_to(root)}: {stat.filemode(status.st_mode)} {status.st_uid}")
            if stat.S_IFMT(status.st_mode) not in {stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK}:
                left.append(f"{path.relative_to(root)}: {stat.filemode(status.st_mode)}")
    kept = sorted(path.name for path in launch.folders.out.iterdir())
    return {"code": ended.code, "stderr": ended.stderr, "results": results, "left": left, "kept": kept}


def attack_as(kind: str, uid: int, folder: Path) -> dict[str, Any]:
    """Change this process to a user for good, and run the attacks in a sandbox of this user."""
    os.chown(folder, uid, uid)
    # A member of the socket's group may use the engine.
    os.setgroups([Path("/var/run/docker.sock").stat().st_gid] if kind == "container" else [])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    rooms = make_rooms(kind, folder)
    try:
        return attack(rooms)
    finally:
        rooms.close()


if __name__ == "__main__":
    print(json.dumps(attack_as(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
