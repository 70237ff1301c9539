"""The seccomp filter of the sandbox: which system calls it allows, denies or kills on both architectures."""

from __future__ import annotations

import ctypes
import errno
import functools
import struct

import pytest

from relab.experiments.sandbox.seccomp import ARCHITECTURES, DENIED, LAST_KNOWN, compile_filter

ALLOW, KILL = "allow", "kill"
MACHINES = sorted(ARCHITECTURES)


@functools.cache
def program(machine: str) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("=HBBI", compile_filter(machine)))


def decide(machine: str, number: int, arguments: tuple[int, ...] = (), audit: int | None = None) -> int | str:
    """Run the filter as the kernel does, and return `allow`, `kill` or the error number."""
    lines = program(machine)
    padded = (*arguments, *(0 for _ in range(6)))[:6]
    data = struct.pack("<IIQ6Q", number, ARCHITECTURES[machine].audit if audit is None else audit, 0, *padded)
    at = loaded = 0
    while True:
        operation, then, otherwise, operand = lines[at]
        at += 1
        if operation == 0x20:
            (loaded,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x06:
            if operand >> 16 == 5:
                return int(operand & 0xFFFF)
            return {0x7FFF0000: ALLOW, 0x80000000: KILL}[operand]
        else:
            holds = {0x15: loaded == operand, 0x25: loaded > operand, 0x45: bool(loaded & operand)}[operation]
            at += then if holds else otherwise


@pytest.mark.parametrize("machine", MACHINES)
def test_every_listed_call_is_denied_and_every_other_known_call_is_allowed(machine: str) -> None:
    architecture = ARCHITECTURES[machine]
    denied = {numbers[architecture.column] for numbers in DENIED.values()}
    found = {number: decide(machine, number) for number in range(LAST_KNOWN + 1)}
    assert {number for number, decision in found.items() if decision == errno.EPERM} == denied - {None}
    assert {number for number, decision in found.items() if decision == errno.ENOSYS} == {architecture.clone3}


@pytest.mark.parametrize("machine", MACHINES)
def test_unknown_call_does_not_exist_and_foreign_architecture_is_killed(machine: str) -> None:
    assert decide(machine, LAST_KNOWN + 1) == errno.ENOSYS
    # getpid of the x32 ABI
    assert decide(machine, 0x40000000 + 39) == errno.ENOSYS
    assert decide(machine, 1, audit=0x40000003) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("call", "arguments", "decision"),
    [
        # fork and pthread_create
        ("clone", (0x01200011,), ALLOW),
        ("clone", (0x003D0F00,), ALLOW),
        *[("clone", (1 << bit | 17,), errno.EPERM) for bit in (17, 25, 26, 27, 28, 29, 30)],
        ("ioctl", (0, 0x5413), ALLOW),
        ("ioctl", (0, 0x5412), errno.EPERM),
        # The kernel ignores the upper half of a request.
        ("ioctl", (0, 0x1_0000_5412), errno.EPERM),
        ("ioctl", (0, 0x541C), errno.EPERM),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0,), ALLOW),
        ("personality", (0x0040000,), errno.EPERM),
        ("socket", (1,), ALLOW),
        ("socket", (2,), ALLOW),
        ("socket", (40,), errno.EPERM),
    ],
)
def test_calls_are_decided_by_their_arguments(
    machine: str, call: str, arguments: tuple[int, ...], decision: int | str
) -> None:
    assert decide(machine, getattr(ARCHITECTURES[machine], call), arguments) == decision


def test_machine_without_a_system_call_table_is_rejected_by_name() -> None:
    with pytest.raises(LookupError, match="riscv64"):
        compile_filter("riscv64")


@pytest.mark.parametrize("machine", MACHINES)
def test_system_call_numbers_equal_those_of_libseccomp(machine: str) -> None:
    try:
        libseccomp = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("there is no libseccomp on this machine to compare with")
    architecture = ARCHITECTURES[machine]
    ours = {name: numbers[architecture.column] for name, numbers in DENIED.items()}
    ours |= {name: getattr(architecture, name) for name in ("clone", "clone3", "ioctl", "personality", "socket")}
    resolve = libseccomp.seccomp_syscall_resolve_name_arch
    theirs = {name: resolve(architecture.audit, name.encode()) for name in ours}
    # A negative number: the architecture lacks the call, or this libseccomp is older than it.
    assert {name: number for name, number in ours.items() if number is not None and theirs[name] >= 0} == {
        name: number for name, number in theirs.items() if number >= 0
    }
    assert sum(number >= 0 for number in theirs.values()) > 50
