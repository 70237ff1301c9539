"""Compile the seccomp filter of a bubblewrap sandbox.

The rules follow Docker's default profile for a container without capabilities
(https://github.com/moby/profiles/blob/main/seccomp/default.json). They reject system calls that need a capability,
calls that enlarge the reachable part of the kernel (io_uring, userfaultfd, bpf, perf), and new namespaces. bubblewrap
loads the filter in its last step, so the filter does not restrict how bubblewrap itself makes the sandbox.

Filter language and `struct seccomp_data`: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import Final

LAST_KNOWN: Final = 466
"""The number of the last system call that this filter knows: removexattrat, Linux 6.13.

Later calls fail with ENOSYS, as on an older kernel, until they are reviewed for this filter.
"""

_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_GREATER: Final = 0x25
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_ARGUMENTS_AT: Final = 16
"""The offset of the arguments in `struct seccomp_data`.

Arguments are 64 bits wide and little-endian; the calls below use 32 bits of theirs.
"""

_NEW_NAMESPACES: Final = 0x7E020000
"""The flags CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of clone."""
_AF_VSOCK: Final = 40
_TERMINAL_INJECTION: Final = (0x5412, 0x541C)
"""The ioctl requests TIOCSTI and TIOCLINUX, which put input into the terminal that the process belongs to."""
_PERSONALITIES: Final = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""The allowed arguments of personality: PER_LINUX and PER_LINUX32, each also with UNAME26, and the query."""


@dataclass(frozen=True)
class Architecture:
    """A processor architecture, with its numbers of system calls.

    Attributes:
        audit: the number that the kernel gives this architecture, AUDIT_ARCH_* in linux/audit.h.
        column: the index of this architecture in the values of `DENIED`, which are tuples of system call numbers.
        clone, clone3, ioctl, personality, socket: the numbers of the calls for which the filter has special rules.
    """

    audit: int
    column: int
    clone: int
    clone3: int
    ioctl: int
    personality: int
    socket: int


ARCHITECTURES: Final = {
    "x86_64": Architecture(0xC000003E, 0, clone=56, clone3=435, ioctl=16, personality=135, socket=41),
    "aarch64": Architecture(0xC00000B7, 1, clone=220, clone3=435, ioctl=29, personality=92, socket=198),
}
"""The supported architectures, by the machine's name in uname(2)."""

DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "afs_syscall": (183, None),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "epoll_ctl_old": (214, None),
    "epoll_wait_old": (215, None),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "get_mempolicy": (239, 236),
    "getpmsg": (181, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "putpmsg": (182, None),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "security": (185, None),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "tuxcall": (184, None),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
    "vserver": (236, None),
}
"""The calls that fail with EPERM, by name: their numbers on x86_64 and on aarch64; None if there is no such call.

ptrace and process_vm_* stay allowed, as in Docker: the sandbox's PID namespace holds no foreign process.
"""


def compile_filter(machine: str) -> bytes:
    """Return the seccomp filter for a machine: an array of `struct sock_filter`, as bubblewrap's `--seccomp` reads it.

    Args:
        machine: the machine's name in uname(2).

    Raises:
        LookupError: this module does not know the system call numbers of this machine.
    """
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        raise LookupError(f"no seccomp filter for {machine!r}; there is one for {', '.join(ARCHITECTURES)}")
    program = _Program()
    program.load(_ARCHITECTURE_AT)
    # In another ABI, such as 32-bit x86, the same numbers mean other calls.
    program.jump(_JUMP_EQUAL, architecture.audit, otherwise=_KILL_PROCESS)
    program.load(_NUMBER_AT)
    # This also rejects the numbers of the x32 ABI, which begin at 0x40000000.
    program.jump(_JUMP_GREATER, LAST_KNOWN, then=_ERRNO | errno.ENOSYS)
    # After ENOSYS libc falls back to clone, whose flags a filter can read.
    program.jump(_JUMP_EQUAL, architecture.clone3, then=_ERRNO | errno.ENOSYS)
    refused = _ERRNO | errno.EPERM
    program.examine(architecture.clone, 0, [(_JUMP_ANY_BIT, _NEW_NAMESPACES)], matching=refused, other=_ALLOW)
    injections = [(_JUMP_EQUAL, request) for request in _TERMINAL_INJECTION]
    program.examine(architecture.ioctl, 1, injections, matching=refused, other=_ALLOW)
    personalities = [(_JUMP_EQUAL, value) for value in _PERSONALITIES]
    program.examine(architecture.personality, 0, personalities, matching=_ALLOW, other=refused)
    program.examine(architecture.socket, 0, [(_JUMP_EQUAL, _AF_VSOCK)], matching=refused, other=_ALLOW)
    for numbers in DENIED.values():
        number = numbers[architecture.column]
        if number is not None:
            program.jump(_JUMP_EQUAL, number, then=refused)
    return program.finish(_ALLOW)


class _Program:
    """Builds a seccomp filter from BPF instructions. A jump skips instructions, or goes to a return at the end."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int | None, int | None]] = []
        """Operation, operand, and the return values for a true and a false condition; None continues with the next line."""

    def load(self, offset: int) -> None:
        """Add an instruction that loads the 32-bit word at `offset` of `struct seccomp_data`, for the next `jump`."""
        self._lines.append((_LOAD, offset, None, None))

    def jump(self, operation: int, operand: int, *, then: int | None = None, otherwise: int | None = None) -> None:
        """Add an instruction that compares the last loaded word with `operand`.

        Args:
            operation: the kind of comparison, as the code of a BPF jump instruction.
            operand: the value to compare with.
            then: the filter's return value if the comparison is true; None to go on with the next instruction.
            otherwise: the filter's return value if it is false; None to go on with the next instruction.
        """
        self._lines.append((operation, operand, then, otherwise))

    def examine(
        self, number: int, argument: int, conditions: list[tuple[int, int]], *, matching: int, other: int
    ) -> None:
        """Add instructions that decide about one system call by the low 32 bits of one of its arguments.

        Args:
            number: the number of the system call; other calls skip these instructions.
            argument: the index of the argument, from 0.
            conditions: `(comparison, operand)` pairs.
            matching: the filter's return value if at least one condition is true.
            other: the filter's return value if all conditions are false.
        """
        self._lines.append((_JUMP_EQUAL, number, None, -(len(conditions) + 1)))
        self.load(_ARGUMENTS_AT + 8 * argument)
        for index, (operation, operand) in enumerate(conditions):
            is_last = index == len(conditions) - 1
            self.jump(operation, operand, then=matching, otherwise=other if is_last else None)

    def finish(self, otherwise: int) -> bytes:
        """Return the bytes of the filter. It returns `otherwise` if no instruction has decided about a system call."""
        values = sorted({value for line in self._lines for value in line[2:] if value is not None and value >= 0})
        # The default value comes first, because the program reaches it without a jump.
        values = [otherwise, *(value for value in values if value != otherwise)]
        returns = {value: len(self._lines) + index for index, value in enumerate(values)}
        packed = []
        for at, (operation, operand, then, unless) in enumerate(self._lines):
            distances = [self._distance(at, target, returns) for target in (then, unless)]
            packed.append(struct.pack("=HBBI", operation, *distances, operand))
        packed += [struct.pack("=HBBI", _RETURN, 0, 0, value) for value in values]
        return b"".join(packed)

    @staticmethod
    def _distance(at: int, target: int | None, returns: dict[int, int]) -> int:
        """Return how many instructions the jump at index `at` skips.

        Args:
            at: the index of the instruction.
            target: where the jump leads. None: to the next instruction. A negative number -n: over n instructions. Any
                other number: to the instruction that returns this number.
            returns: the index of the return instruction for each value.
        """
        if target is None:
            return 0
        return -target if target < 0 else returns[target] - at - 1
