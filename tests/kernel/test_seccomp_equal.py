"""The filters proved: for every system call number, and at the edges of every comparison, they answer as libseccomp's.

Both programs are run in an interpreter of classic BPF. It notes whether a program has looked at an argument: where
neither has, one run stands for all arguments, so that part is no sample but a proof. What runc lays around libseccomp's
program (patchbpf: ENOSYS beyond the profile's last call) is reckoned from the profile.
"""

import errno
import itertools
import json
import os
import random
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sampan.errors import InvalidArgument
from sampan.kernel import capability, seccomp, seccomp_default, syscall_table
from tests.plugin.libseccomp import AUDIT, WORDS, Libseccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sampan.document import Document

pytestmark = [pytest.mark.first]

PROFILE = Path(__file__).with_name("profile.json")
DOCKERS = tuple(
    "CAP_" + word
    for word in "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
    "SYS_CHROOT KILL AUDIT_WRITE".split()
)
CAPABILITIES = {
    "none": (),
    "docker's": DOCKERS,
    "SYS_ADMIN": (*DOCKERS, "CAP_SYS_ADMIN"),
    "SYS_PTRACE and BPF": ("CAP_SYS_PTRACE", "CAP_BPF", "CAP_SYSLOG"),
    "all": capability.NAMES,
}
# From here down libseccomp's numbers stand for calls that have another door, such as socketcall(2).
MANIFOLD = -100
X32_BIT, SKIPPED = 0x40000000, 0xFFFFFFFF
ENOSYS, ALLOW, KILL_PROCESS = 0x50000 | errno.ENOSYS, 0x7FFF0000, 0x80000000
TRUTHS: "dict[str, Callable[[int, int, int], bool]]" = {
    "NE": lambda x, value, _: x != value,
    "LT": lambda x, value, _: x < value,
    "LE": lambda x, value, _: x <= value,
    "EQ": lambda x, value, _: x == value,
    "GE": lambda x, value, _: x >= value,
    "GT": lambda x, value, _: x > value,
    "MASKED_EQ": lambda x, mask, value: x & mask == value & mask,
}


class Program:
    """A classic BPF program, and an interpreter that runs it as the kernel does."""

    def __init__(self, code: bytes) -> None:
        assert len(code) % 8 == 0
        self._code = list(struct.iter_unpack("<HBBI", code))

    def run(self, audit: int, number: int, arguments: tuple[int, ...] = ()) -> tuple[int, bool]:
        """Return the outcome of one call, and whether an argument was looked at."""
        words = [number, audit, 0, 0]
        for value in (*arguments, *(0,) * (6 - len(arguments))):
            words += (value & 0xFFFFFFFF, value >> 32)
        at, accumulator, has_looked = 0, 0, False
        while True:
            code, if_true, if_false, value = self._code[at]
            at += 1
            if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
                assert value % 4 == 0
                accumulator = words[value // 4]
                has_looked = has_looked or value >= 16
            elif code == 0x15:
                at += if_true if accumulator == value else if_false
            elif code == 0x35:
                at += if_true if accumulator >= value else if_false
            elif code == 0x25:
                at += if_true if accumulator > value else if_false
            elif code == 0x54:
                accumulator &= value
            elif code == 0x05:
                at += value
            else:
                assert code == 0x06, f"instruction {code:#x}"
                return value, has_looked


def _edges(profile: "Document") -> list[int]:
    """Return values on both sides of every edge that a comparison of the profile has, in either half."""
    found = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 63, (1 << 64) - 1}
    for rule in profile["syscalls"]:
        for entry in rule.get("args") or ():
            for value in (entry["value"], entry.get("valueTwo", 0), entry["value"] | entry.get("valueTwo", 0)):
                near = {value, value - 1, value + 1, ~value, value ^ 1 << 32, value ^ 1 << 63, value & 0xFFFFFFFF}
                found |= {each & (1 << 64) - 1 for each in near}
                found |= {value ^ 1 << bit for bit in range(64)} if entry["op"] == "SCMP_CMP_MASKED_EQ" else set()
    return sorted(found)


def _numbers(last: int) -> "Iterator[int]":
    """Yield every number of a table, beyond it, and those that are special."""
    yield from range(last + 200)
    yield from (1 << 16, X32_BIT - 1, X32_BIT, 1 << 31, SKIPPED - 1, SKIPPED)
    yield from (X32_BIT | number for number in range(0, last + 200, 7))


def _last(profile: "Document", numbers: dict[str, int]) -> int:
    return max(numbers.get(name, -1) for rule in profile["syscalls"] for name in rule["names"])


def _compare(profile: "Document", library: Libseccomp, machine: str = "x86_64") -> tuple[int, int]:
    """Compare both programs of a resolved profile; return how many calls were proved, and how many samples agreed."""
    ours, theirs = Program(seccomp.compile(profile, machine=machine)), Program(library.compile(profile))
    draw = random.Random(7)  # noqa: S311  # samples, not secrets
    edges = _edges(profile)
    proved = sampled = 0
    is_permissive = profile["defaultAction"] in {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}
    for architecture in (WORDS[word] for word in profile["architectures"]):
        audit, last = AUDIT[architecture], _last(profile, syscall_table.numbers(architecture))
        for number in _numbers(max(last, 470)):
            outcome, has_looked = ours.run(audit, number)
            is_x32 = architecture == "x86_64" and X32_BIT <= number != SKIPPED
            if is_x32 or (number > last and not is_permissive):
                # x32: on purpose. Beyond: runc's own, before libseccomp's program is asked.
                assert (outcome, has_looked) == (ENOSYS, False), (architecture, number)
                proved += 1
                continue
            wanted, they_looked = theirs.run(audit, number)
            assert outcome == wanted, (architecture, number)
            if not has_looked and not they_looked:
                proved += 1
                continue
            most = (1 << 32) - 1 if architecture == "x86" else (1 << 64) - 1
            for wide in _samples(edges, draw):
                arguments = tuple(value & most for value in wide)
                found = ours.run(audit, number, arguments)[0]
                assert found == theirs.run(audit, number, arguments)[0], (architecture, number, arguments)
                sampled += 1
    for audit in set(range(16)) | {AUDIT["aarch64"] ^ 1, 0xC000003D, 0x4000003E, SKIPPED}:
        assert ours.run(audit, 0) == theirs.run(audit, 0) == (KILL_PROCESS, False), hex(audit)
    return proved, sampled


def _samples(edges: list[int], draw: random.Random) -> "Iterator[tuple[int, ...]]":
    """Yield arguments: each edge at each place, and edges at all places at once."""
    for at, value in itertools.product(range(3), edges):
        yield (*(draw.choice(edges) for _ in range(at)), value)
    for _ in range(100):
        yield tuple(draw.choice(edges) for _ in range(6))
        yield tuple(draw.getrandbits(64) for _ in range(6))


@pytest.mark.parametrize("architecture", ["x86_64", "x86", "aarch64"])
def test_the_tables_are_libseccomps(libseccomp: Libseccomp, architecture: str) -> None:
    """Every name has the number that libseccomp has for it; what it does not know is younger than it."""
    unknown = set()
    for name, number in syscall_table.numbers(architecture).items():
        theirs = libseccomp.number(name, architecture)
        if theirs == -1:
            unknown.add(name)
        elif theirs > MANIFOLD:
            assert theirs == number, name
    assert unknown == {"open_tree_attr"}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("capabilities", CAPABILITIES.values(), ids=CAPABILITIES.keys())
def test_the_default_profile(libseccomp: Libseccomp, capabilities: tuple[str, ...], machine: str) -> None:
    """With each set of capabilities every number of every table has the same outcome."""
    profile = seccomp.resolve(seccomp_default.DOCUMENT, capabilities, machine=machine)
    proved, sampled = _compare(profile, libseccomp, machine)
    assert proved > 600
    assert sampled > 300


@pytest.mark.parametrize("capabilities", CAPABILITIES.values(), ids=CAPABILITIES.keys())
def test_a_profile_in_dockers_format(libseccomp: Libseccomp, capabilities: tuple[str, ...]) -> None:
    """A file with includes, excludes, kernels, every comparison and every action; unknown calls are passed over."""
    profile = seccomp.resolve(json.loads(PROFILE.read_text(encoding="utf-8")), capabilities, machine="x86_64")
    proved, sampled = _compare(profile, libseccomp)
    assert proved > 600
    assert sampled > 5_000


@pytest.mark.parametrize("action", ["ALLOW", "LOG", "TRACE", "ERRNO", "TRAP", "KILL", "KILL_THREAD", "KILL_PROCESS"])
def test_every_default_action(libseccomp: Libseccomp, action: str) -> None:
    """A default that lets calls pass lets those pass that nobody knows; any other has them be ENOSYS."""
    rules = [
        {"names": ["read", "mseal"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "op": "SCMP_CMP_NE", "value": 0x5412}]},
    ]
    profile = {"defaultAction": f"SCMP_ACT_{action}", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}
    assert _compare(seccomp.resolve(profile, (), machine="x86_64"), libseccomp)[0] > 600


@pytest.mark.parametrize("operators", list(itertools.product(TRUTHS, repeat=2)), ids=" ".join)
def test_every_pair_of_comparisons(libseccomp: Libseccomp, operators: tuple[str, str]) -> None:
    """Two arguments of one rule, on 64 bits each: as libseccomp, and as whole numbers say."""
    draw = random.Random(" ".join(operators))  # noqa: S311  # samples, not secrets
    values = [0, 1, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 0x12345678_9ABCDEF0, (1 << 64) - 1]
    arguments: list[Document] = [
        {"index": at, "op": f"SCMP_CMP_{operator}", "value": draw.choice(values), "valueTwo": draw.choice(values)}
        for at, operator in enumerate(operators)
    ]
    profile: Document = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "args": arguments}],
    }
    ours, theirs = Program(seccomp.compile(profile, machine="x86_64")), Program(libseccomp.compile(profile))
    everything = list(itertools.product(_edges(profile), repeat=2))
    for found in draw.sample(everything, min(len(everything), 800)):
        holds = all(
            TRUTHS[operator](value, entry["value"], entry["valueTwo"])
            for operator, value, entry in zip(operators, found, arguments, strict=True)
        )
        assert ours.run(AUDIT["x86_64"], 39, found)[0] == (ALLOW if holds else KILL_PROCESS), found
        assert theirs.run(AUDIT["x86_64"], 39, found)[0] == (ALLOW if holds else KILL_PROCESS), found


def test_rules_that_overlap() -> None:
    """Any number of rules on one call: the first that holds counts. Libseccomp has no order, and errs: see below."""
    draw = random.Random(11)  # noqa: S311  # samples, not secrets
    values = [0, 1, 2, 5, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 64) - 1]
    for _ in range(150):
        rules = [
            (
                draw.choice((("SCMP_ACT_ALLOW", 0, ALLOW), ("SCMP_ACT_ERRNO", 7, 0x50007))),
                [(at, draw.choice(list(TRUTHS)), draw.choice(values), draw.choice(values))
                 for at in draw.sample(range(3), draw.randint(1, 3))],
            )
            for _ in range(draw.randint(1, 4))
        ]  # fmt: skip
        entries = [
            {"names": ["getpid"], "action": action, "errnoRet": number, "args": [
                {"index": at, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second}
                for at, operator, value, second in comparisons
            ]}
            for (action, number, _), comparisons in rules
        ]  # fmt: skip
        program = Program(
            seccomp.compile({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": entries}, machine="x86_64")
        )
        for _ in range(60):
            found = tuple(draw.choice(values) for _ in range(3))
            holding = [
                outcome
                for (_, _, outcome), comparisons in rules
                if all(TRUTHS[operator](found[at], value, second) for at, operator, value, second in comparisons)
            ]
            wanted = [*holding, KILL_PROCESS][0]
            assert program.run(AUDIT["x86_64"], 39, found)[0] == wanted, (rules, found)


def test_where_libseccomp_errs(libseccomp: Libseccomp) -> None:
    """Why overlaps are not compared: 1 is not below 1, not 2**32 at least, and has no 4, and yet libseccomp lets it."""
    comparisons = (("LT", 1, 0), ("GE", 1 << 32, 0), ("MASKED_EQ", 5, 5))
    rules = [
        {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second}]}
        for operator, value, second in comparisons
    ]  # fmt: skip
    profile: Document = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules,
    }  # fmt: skip
    assert Program(libseccomp.compile(profile)).run(AUDIT["x86_64"], 39, (1,))[0] == ALLOW
    assert Program(seccomp.compile(profile, machine="x86_64")).run(AUDIT["x86_64"], 39, (1,))[0] == KILL_PROCESS


def test_one_argument_twice_is_an_alternative(libseccomp: Libseccomp) -> None:
    """Two comparisons of one argument in one rule: either is enough, as runc has it."""
    arguments = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (3, 1 << 33)]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["getpid", "mseal"], "action": "SCMP_ACT_ALLOW", "args": arguments}],
    }
    resolved = seccomp.resolve(profile, (), machine="x86_64")
    _compare(resolved, libseccomp)
    program = Program(seccomp.compile(resolved, machine="x86_64"))
    outcomes = [program.run(AUDIT["x86_64"], 39, (value,))[0] for value in (3, 1 << 33, 4)]
    assert outcomes == [ALLOW, ALLOW, 0x50001]


@pytest.mark.parametrize("default", ["ALLOW", "ERRNO"])
def test_calls_with_another_door(libseccomp: Libseccomp, default: str) -> None:
    """What a 32-bit program asks by socketcall and ipc falls under the rules of what it asks for."""
    rules = [
        {"names": ["socket", "sendmmsg", "recv", "shmat", "semop"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
        {"names": ["connect"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 3}]},
        {"names": ["mseal"], "action": "SCMP_ACT_LOG"},
    ]
    named = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    profile: Document = {"defaultAction": f"SCMP_ACT_{default}", "architectures": named, "syscalls": rules}
    _compare(profile, libseccomp)
    ours, theirs = Program(seccomp.compile(profile, machine="x86_64")), Program(libseccomp.compile(profile))
    for number, call in itertools.product((102, 117), range(30)):
        assert ours.run(AUDIT["x86"], number, (call,))[0] == theirs.run(AUDIT["x86"], number, (call,))[0]
    assert ours.run(AUDIT["x86"], 102, (1,))[0] == 0x50007
    # On purpose: ipc(2)'s version in the upper half opens no door.
    assert ours.run(AUDIT["x86"], 117, (1 << 16 | 21,))[0] == 0x50007
    assert theirs.run(AUDIT["x86"], 117, (1 << 16 | 21,))[0] != 0x50007


def test_architectures_that_a_profile_names() -> None:
    """Without any named, a 64-bit machine's 32-bit calls kill; named in either form they pass through the rules."""
    rules = [{"names": ["getpid"], "action": "SCMP_ACT_ALLOW"}]
    forms: list[tuple[Document, int]] = [
        ({}, KILL_PROCESS),
        ({"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}, ALLOW),
        ({"archMap": [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                      {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]}, ALLOW),
        ({"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}]}, KILL_PROCESS),
    ]  # fmt: skip
    for form, wanted in forms:
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules, **form}
        program = Program(seccomp.compile(seccomp.resolve(profile, (), machine="x86_64"), machine="x86_64"))
        assert program.run(AUDIT["x86"], 20)[0] == wanted, form
        assert program.run(AUDIT["x86_64"], 39)[0] == ALLOW, form


def test_what_includes_and_excludes_mean() -> None:
    """All capabilities of `includes`, none of `excludes`; the machine's own architecture; a kernel from, and before."""
    major, minor = os.uname().release.split(".")[:2]
    here, later = f"{major}.{minor.partition('-')[0]}", f"{int(major) + 1}.0"
    cases: list[tuple[Document, bool]] = [
        ({"includes": {"caps": ["CAP_KILL", "CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_KILL", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"excludes": {"caps": ["CAP_BPF", "CAP_KILL"]}}, False),
        ({"includes": {"arches": ["amd64", "s390x"]}}, True),
        ({"includes": {"arches": ["x86"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"excludes": {"arches": ["x86"]}}, True),
        ({"includes": {"minKernel": here}}, True),
        ({"includes": {"minKernel": later}}, False),
        ({"excludes": {"minKernel": here}}, False),
        ({"excludes": {"minKernel": later}}, True),
        ({"includes": {"caps": ["CAP_KILL"]}, "excludes": {"minKernel": here}}, False),
        ({"includes": {}, "excludes": {}}, True),
    ]
    for condition, wanted in cases:
        rule = {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", **condition}
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}
        resolved = seccomp.resolve(profile, ("CAP_KILL", "CAP_CHOWN"), machine="x86_64")
        assert bool(resolved["syscalls"]) is wanted, condition


_RULE = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"name": "read", "names": ["write"]}, "both a `name`"),
        ({"includes": []}, None),
        ({"includes": ["CAP_KILL"]}, "`includes`"),
        ({"includes": {"caps": "CAP_KILL"}}, "`caps`"),
        ({"includes": {"minKernel": "new"}}, "`new`"),
        ({"excludes": {"minKernel": "5"}}, "`5`"),
        ({"args": [7]}, "not an object"),
        ({"args": [{"op": "SCMP_CMP_EQ", "value": -1}]}, "`-1`"),
        ({"args": [{"op": "SCMP_CMP_EQ", "value": 1 << 64}]}, "`value`"),
        ({"args": [{"op": "SCMP_CMP_EQ", "value": "1"}]}, "`1`"),
        ({"args": [{"op": "EQ", "value": 1}]}, "`EQ`"),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": "EPERM"}, "`EPERM`"),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 1 << 16}, "`errnoRet`"),
        ({"names": [["read"]]}, None),
    ],
)
def test_a_mistake_is_one_clear_error(rule: "Document", what: str | None) -> None:
    """Whatever a file holds, it is compiled or refused with a word of its own, never with a traceback."""
    profile: Document = {"defaultAction": "SCMP_ACT_KILL", "syscalls": [_RULE | rule]}
    if what is None:
        assert seccomp.compile(seccomp.resolve(profile, (), machine="x86_64"), machine="x86_64")
        return
    with pytest.raises(InvalidArgument, match=what):
        seccomp.compile(seccomp.resolve(profile, (), machine="x86_64"), machine="x86_64")
