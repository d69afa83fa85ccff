"""The seccomp compiler: equal to libseccomp on every system call, and what it forbids is forbidden by the kernel."""

import ctypes
import errno
import os
import random
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sampan.errors import InvalidArgument
from sampan.kernel import seccomp, seccomp_default, syscall_table, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document

pytestmark = [pytest.mark.first]

_AUDIT = {"x86_64": 0xC000003E, "x86": 0x40000003, "aarch64": 0xC00000B7}
_DOCKER_CAPABILITIES = ("CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_MKNOD")
_KILL_PROCESS, _ALLOW, _ENOSYS = 0x80000000, 0x7FFF0000, 0x50000 | errno.ENOSYS


def _run(program: bytes, number: int, audit: int, arguments: tuple[int, ...] = ()) -> int:
    """Interpret a classic BPF program as the kernel does, on one system call; return its outcome."""
    padded = arguments + (0,) * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number, audit, 0, *padded)
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            at += value
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[code]
            at += if_true if holds else if_false


class _Argument(ctypes.Structure):
    """Struct scmp_arg_cmp of seccomp.h."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def _by_libseccomp(profile: "Document") -> bytes:
    """Compile a resolved profile with libseccomp, for x86_64 and x86."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    actions = {"SCMP_ACT_ALLOW": _ALLOW, "SCMP_ACT_ERRNO": 0x50000}
    operators = ["", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x50000 | profile.get("defaultErrnoRet", 1))))
    assert library.seccomp_arch_add(context, ctypes.c_uint32(_AUDIT["x86"])) == 0
    for rule in profile["syscalls"]:
        action = actions[rule["action"]] | (rule.get("errnoRet") or 0)
        arguments = [
            _Argument(a["index"], operators.index(a["op"].removeprefix("SCMP_CMP_")), a["value"], a.get("valueTwo", 0))
            for a in rule.get("args", ())
        ]
        array = (_Argument * max(1, len(arguments)))(*arguments)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:  # __NR_SCMP_ERROR: newer than this libseccomp
                continue
            result = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(arguments), array)
            assert result in (0, -errno.EEXIST, -errno.EACCES), (name, result)
    fd = os.memfd_create("filter")
    assert library.seccomp_export_bpf(context, fd) == 0
    library.seccomp_release(context)
    program = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    return program


def _known_to_libseccomp(name: str, architecture: str) -> bool:
    library = ctypes.CDLL("libseccomp.so.2")
    return int(library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(_AUDIT[architecture]), name.encode())) >= 0


@pytest.mark.parametrize("capabilities", [(), _DOCKER_CAPABILITIES, ("CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE")])
def test_it_equals_libseccomp_on_every_call_and_on_sampled_arguments(capabilities: tuple[str, ...]) -> None:
    """For each number of both tables and for arguments at the edges of every comparison the outcome is the same."""
    profile = seccomp.resolve(seccomp_default.DOCUMENT, capabilities, machine="x86_64")
    ours, theirs = seccomp.compile(profile, machine="x86_64"), _by_libseccomp(profile)
    edges = [0, 1, 8, 37, 38, 39, 40, 41, 0x20000, 0x20008, 0x7E020000, 0x10000000, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1]
    draw = random.Random(7)  # noqa: S311  # samples, not secrets
    compared = 0
    for architecture in ("x86_64", "x86"):
        for name, number in syscall_table.numbers(architecture).items():
            if not _known_to_libseccomp(name, architecture):
                continue
            for value in edges + [draw.getrandbits(64) for _ in range(3)]:
                arguments = (value & 0xFFFFFFFF if architecture == "x86" else value, draw.getrandbits(32))
                found = _run(ours, number, _AUDIT[architecture], arguments)
                assert found == _run(theirs, number, _AUDIT[architecture], arguments), (architecture, name, arguments)
                compared += 1
    assert compared > 10_000


@pytest.mark.parametrize("operator", ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
def test_each_comparison_is_made_on_64_bits(operator: str) -> None:
    """Every operator agrees with Python's integers on values that differ in either half."""
    value, second = (0x1_0000_0002, 0) if operator != "MASKED_EQ" else (0xFF_0000_00F0, 0x12_0000_0030)
    rule = {
        "names": ["getpid"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 2, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second}],
    }
    program = seccomp.compile({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [rule]}, machine="x86_64")
    truths: dict[str, Callable[[int], bool]] = {
        "NE": lambda x: x != value,
        "LT": lambda x: x < value,
        "LE": lambda x: x <= value,
        "EQ": lambda x: x == value,
        "GE": lambda x: x >= value,
        "GT": lambda x: x > value,
        "MASKED_EQ": lambda x: x & value == second,
    }
    for high in (0, 1, 2, 0x12, 0xFFFFFFFF):
        for low in (0, 1, 2, 3, 0x30, 0x31, 0xFFFFFFFF):
            found = _run(program, 39, _AUDIT["x86_64"], (0, 0, high << 32 | low))
            assert (found == _ALLOW) is truths[operator](high << 32 | low), (high, low)


def test_other_tables_do_not_pass() -> None:
    """An x32 number is ENOSYS, another architecture kills; clone3 is ENOSYS so that libc falls back to clone."""
    program = seccomp.compile(seccomp.resolve(seccomp_default.DOCUMENT, (), machine="x86_64"), machine="x86_64")
    assert _run(program, 0x40000000 | 39, _AUDIT["x86_64"]) == _ENOSYS
    assert _run(program, 39, _AUDIT["aarch64"]) == _KILL_PROCESS
    assert _run(program, 435, _AUDIT["x86_64"]) == _ENOSYS
    assert _run(program, 39, _AUDIT["x86_64"]) == _ALLOW


def test_the_other_machine_compiles() -> None:
    """The default profile for aarch64: getpid passes, mount is EPERM."""
    program = seccomp.compile(seccomp.resolve(seccomp_default.DOCUMENT, (), machine="aarch64"), machine="aarch64")
    assert _run(program, 172, _AUDIT["aarch64"]) == _ALLOW
    assert _run(program, 40, _AUDIT["aarch64"]) == 0x50000 | errno.EPERM


def test_a_warm_start_reads_the_program_from_its_cache(tmp_path: Path) -> None:
    """The second call reads what the first has written; a broken file is made again."""
    cache = str(tmp_path / "seccomp")
    first = seccomp.program(cache, _DOCKER_CAPABILITIES)
    (file,) = Path(cache).iterdir()
    assert file.read_bytes() == first == seccomp.program(cache, _DOCKER_CAPABILITIES)
    file.write_bytes(first[:5])
    assert seccomp.program(cache, _DOCKER_CAPABILITIES) == first
    assert seccomp_default.VERSION == seccomp._DEFAULT_VERSION


@pytest.mark.root
def test_the_kernel_enforces_it(tmp_path: Path) -> None:
    """With the filter loaded unshare of a user namespace is EPERM although we are root; without it is not."""
    program = seccomp.program(str(tmp_path), _DOCKER_CAPABILITIES)
    assert _status_of_unshare(None) == 0
    assert _status_of_unshare(program) == errno.EPERM


def _status_of_unshare(program: bytes | None) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            if program is not None:
                syscalls.seccomp_load(program)
            syscalls.unshare(syscalls.CLONE_NEWUTS)
        except OSError as error:
            os._exit(error.errno or 99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    ("profile", "what"),
    [
        ({"defaultAction": "SCMP_ACT_NOPE"}, "SCMP_ACT_NOPE"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 3}, "not a list"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [3]}, "not an object"),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "op": "SCMP_CMP_EQ"}]}
                ],
            },
            "no argument 9",
        ),
    ],
)
def test_a_wrong_profile_is_one_clear_error(profile: "Document", what: str) -> None:
    """What a profile file has wrong is named."""
    with pytest.raises(InvalidArgument, match=what):
        seccomp.compile(seccomp.resolve(profile, (), machine="x86_64"), machine="x86_64")
