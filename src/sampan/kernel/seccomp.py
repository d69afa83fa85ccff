"""Seccomp filters: from a profile in docker's or runtime-spec's JSON form to a classic BPF program. seccomp(2).

Theory: `resolve` drops the rules that this machine and the container's capabilities exclude and yields runtime-spec's
form, which runc and crun read too; `compile` turns that into a program. For each architecture of the machine the rules
become intervals of system call numbers with one outcome each, found by a binary tree of jumps (8 comparisons for 450
calls); an outcome that depends on arguments is a run of 64-bit comparisons. A jump reaches 255 instructions, so a
longer one goes through `ja`. Outside the tree an unknown architecture kills. Numbers beyond the profile's last call
are ENOSYS unless its default action lets calls pass, as runc has it: they are newer than whoever wrote the profile, and
a C library falls back on that answer alone. An x32 number is ENOSYS always, since those would pass by rules that are
written for the 64-bit table.

Where rules with arguments overlap and their outcomes differ, the first that is written counts. (libseccomp's order is
not specified, and some overlaps of comparisons on one argument it lets pass although no rule does: tests/kernel.)

`program` is what a start calls: compiled programs are kept as files, named by what they depend on, so a warm start
reads 4 KB and parses no profile. INVARIANT: a file in the cache is whole: it is renamed into place.
"""

import os
import struct

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.document import Document

    # (index, operator, value, second value) of an argument; and one rule of a system call with its outcome.
    _Comparison = tuple[int, str, int, int]
    Rule = tuple[tuple[_Comparison, ...], int]

# linux/seccomp.h
_KILL_PROCESS, _KILL_THREAD, _TRAP, _ERRNO, _TRACE, _LOG, _ALLOW = (
    0x80000000,
    0x00000000,
    0x00030000,
    0x00050000,
    0x7FF00000,
    0x7FFC0000,
    0x7FFF0000,
)
_ACTIONS = {
    "SCMP_ACT_KILL": _KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": _TRAP,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_ALLOW": _ALLOW,
}
# linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, …
_LOAD, _JEQ, _JGT, _JGE, _JA, _AND, _RET = 0x20, 0x15, 0x25, 0x35, 0x05, 0x54, 0x06
# struct seccomp_data: nr, arch, instruction_pointer, args[6]; little-endian machines.
_NR, _ARCH, _ARGS = 0, 4, 16
_NARROW = ("x86",)  # tables whose arguments have 32 bits
# What a 32-bit x86 program may also ask by socketcall(2) or ipc(2), by the number that their first argument has:
# linux/net.h, linux/ipc.h. A rule on `connect` that did not know of the other door would leave it open.
_SOCKETCALL = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown "
    "setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
_IPC = (
    "semop:1 semget:2 semctl:3 semtimedop:4 msgsnd:11 msgrcv:12 msgget:13 msgctl:14 shmat:21 shmdt:22 shmget:23 "
    "shmctl:24"
)
_X32_BIT = 0x40000000
_SKIPPED = 0xFFFFFFFF
_ACTION = 0xFFFF0000  # SECCOMP_RET_ACTION_FULL
# What lets calls pass; who traces can answer for calls that nobody knew.
_PERMISSIVE = (_ALLOW, _LOG, _TRACE)
_ENOSYS, _EPERM = 38, 1
# uname(2) machine -> (name of the table, AUDIT_ARCH_* of linux/audit.h, libseccomp's word, docker's word)
_ARCHITECTURES = {
    "x86_64": (("x86_64", 0xC000003E, "SCMP_ARCH_X86_64", "amd64"), ("x86", 0x40000003, "SCMP_ARCH_X86", "x86")),
    "aarch64": (("aarch64", 0xC00000B7, "SCMP_ARCH_AARCH64", "arm64"),),
}
_LONGEST_JUMP = 255
_LONGEST_PROGRAM = 4096  # instructions, BPF_MAXINSNS


# What changes owners and ids: with a single id there is nothing to change them to.
_OWNING = (
    "chown chown32 fchown fchown32 fchownat lchown lchown32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 "
    "setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid "
    "setuid32"
)


def program(
    cache_directory: str,
    capabilities: tuple[str, ...],
    *,
    machine: str = "",
    profile: "Document | None" = None,
    pretends_owners: bool = False,
) -> bytes:
    """Return the compiled filter for a container with `capabilities`; `profile` None is the default one.

    Reads it from `cache_directory` where it is there, else compiles it (7 ms) and puts it there. With `pretends_owners`
    the default one answers every change of owner or id with success and does nothing, so that installers which run with
    a single id go on. Raises InvalidArgument for a profile that cannot be compiled.
    """
    machine = machine or os.uname().machine
    if profile is not None:
        return compile(resolve(profile, capabilities, machine=machine), machine=machine)
    from sampan.kernel.capability import bits

    # The default profile's version stands in the name through the module's own file, so no digest is needed.
    variant = "-pretending" if pretends_owners else ""
    path = f"{cache_directory}/default-{_DEFAULT_VERSION}-{machine}-{bits(capabilities):x}{variant}.bpf"
    try:
        with open(path, "rb") as file:
            found = file.read(_LONGEST_PROGRAM * 8 + 1)
        if found and len(found) % 8 == 0 and len(found) <= _LONGEST_PROGRAM * 8:
            return found
    except FileNotFoundError:
        pass
    from sampan.kernel import seccomp_default

    resolved = resolve(seccomp_default.DOCUMENT, capabilities, machine=machine)
    if pretends_owners:
        # The last rule without arguments counts; an error number of 0 is success. seccomp(2), SECCOMP_RET_ERRNO
        resolved["syscalls"].append({"names": _OWNING.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": 0})
    compiled = compile(resolved, machine=machine)
    _keep(path, compiled)
    return compiled


# Of seccomp_default: stands here too, so that a warm start need not import it; a test holds them equal.
_DEFAULT_VERSION = 2


def default(capabilities: tuple[str, ...], *, machine: str = "") -> "Document":
    """Return the default profile in runtime-spec's form, for a foreign runtime's config.json."""
    from sampan.kernel import seccomp_default

    return resolve(seccomp_default.DOCUMENT, capabilities, machine=machine)


def resolve(profile: "Document", capabilities: tuple[str, ...], *, machine: str = "") -> "Document":
    """Return `profile` (docker's form or runtime-spec's) in runtime-spec's form for these capabilities and machine."""
    native = _architectures(machine)[0]
    kept = []
    for rule in _list(profile, "syscalls"):
        if not isinstance(rule, dict):
            raise InvalidArgument("a rule of the seccomp profile is not an object")
        if not _applies(rule, capabilities, native[3]):
            continue
        if rule.get("name") and rule.get("names"):
            raise InvalidArgument(f"a rule of the seccomp profile has both a `name`, `{rule['name']}`, and `names`")
        entry = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key) is not None}
        names = [rule["name"]] if rule.get("name") else _list(rule, "names")
        kept.append({"names": [str(name) for name in names], **entry})
    document: Document = {
        "defaultAction": profile.get("defaultAction", ""),
        "architectures": _wanted(profile, native[2]),
        "syscalls": kept,
    }
    if profile.get("defaultErrnoRet") is not None:
        document["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return document


def compile(profile: "Document", *, machine: str = "") -> bytes:
    """Compile a resolved profile to a program of struct sock_filter, 8 bytes each; raises InvalidArgument."""
    from sampan.kernel import syscall_table

    default_outcome = _outcome(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    native, *others = _architectures(machine)
    named = _words(profile, "architectures")
    code = [_LD(_ARCH)]
    for table, audit, word, _ in (native, *others):
        if word not in named and word != native[2]:
            continue
        numbers = syscall_table.numbers(table)
        most = (1 << 32) - 1 if table in _NARROW else (1 << 64) - 1
        outcomes = _outcomes(profile, numbers, default_outcome, most)
        last = max({*outcomes, *_named(profile, numbers)}, default=-1)
        beyond = _beyond(table, last, default_outcome)
        body = [_LD(_NR), *_tree(_intervals(outcomes, default_outcome, beyond))]
        code += [_jump(_JEQ, audit, 1, 0), _instruction(_JA, len(body)), *body]
    code.append(_ret(_KILL_PROCESS))
    if len(code) > _LONGEST_PROGRAM:
        raise InvalidArgument(
            f"the seccomp profile needs {len(code)} instructions; the kernel takes {_LONGEST_PROGRAM}"
        )
    return b"".join(code)


def _architectures(machine: str) -> "tuple[tuple[str, int, str, str], ...]":
    found = _ARCHITECTURES.get(machine or os.uname().machine)
    if found is None:
        raise InvalidArgument(f"there are no system call numbers for the machine `{machine or os.uname().machine}`")
    return found


def _wanted(profile: "Document", native: str) -> list[str]:
    """Return the architectures whose calls pass through the rules: the machine's own, and those that are named.

    runtime-spec has a plain list, docker a list for each machine (`archMap`).
    """
    named, mapped = _list(profile, "architectures"), _list(profile, "archMap")
    if named and mapped:
        raise InvalidArgument("the seccomp profile has both `architectures` and `archMap`")
    for entry in mapped:
        if not isinstance(entry, dict):
            raise InvalidArgument("an entry of the seccomp profile's `archMap` is not an object")
        if entry.get("architecture") == native:
            named = _list(entry, "subArchitectures")
    return [native, *(str(word) for word in named if str(word) != native)]


def _applies(rule: "Document", capabilities: tuple[str, ...], architecture: str) -> bool:
    """Tell whether a rule's `includes` all hold and none of its `excludes` does (docker's profile format).

    `architecture` is the machine's own, docker's word: the rules of a 64-bit machine are for its 32-bit programs too.
    """
    includes, excludes = _object(rule, "includes"), _object(rule, "excludes")
    if any(name not in capabilities for name in _words(includes, "caps")):
        return False
    if any(name in capabilities for name in _words(excludes, "caps")):
        return False
    if includes.get("arches") and architecture not in _words(includes, "arches"):
        return False
    if architecture in _words(excludes, "arches"):
        return False
    running = _release(os.uname().release)
    if includes.get("minKernel") and running < _release(str(includes["minKernel"])):
        return False
    return not (excludes.get("minKernel") and running >= _release(str(excludes["minKernel"])))


def _release(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not (major.isdecimal() and minor):
        raise InvalidArgument(f"`{text}` in the seccomp profile is no kernel version", hints=("write it as `5.15`",))
    return int(major), int(minor)


def _outcome(action: object, errno: object = None) -> int:
    if action not in _ACTIONS:
        raise InvalidArgument(
            f"the seccomp action `{action}` does not exist", hints=(f"there are {', '.join(_ACTIONS)}",)
        )
    value = _ACTIONS[str(action)]
    if value in (_ERRNO, _TRACE):
        return value | (_EPERM if errno is None else _whole("errnoRet", errno, 0xFFFF))
    return value


def _outcomes(
    profile: "Document", numbers: dict[str, int], default_outcome: int, most: int
) -> "dict[int, tuple[tuple[Rule, ...], int]]":
    """Return, for each call that has rules: those on arguments, in order, and the outcome when none matches.

    An argument is `most` at most: of what a rule compares it with, only so many bits count, as with libseccomp.
    """
    doors = _doors() if most < 1 << 32 else {}
    conditional: dict[int, list[Rule]] = {}
    otherwise: dict[int, int] = {}
    for rule in _list(profile, "syscalls"):
        outcome = _outcome(rule.get("action"), rule.get("errnoRet"))
        alternatives = _alternatives(tuple(_argument(entry, most) for entry in _list(rule, "args")))
        if outcome == default_outcome:
            continue  # runc passes over such a rule, since it says nothing new
        for name in rule["names"]:
            if name in doors:
                door, comparison = doors[name]
                # What lies behind the other door's second argument no filter sees: the call as a whole, as libseccomp.
                conditional.setdefault(door, []).append(((comparison,), outcome))
            number = numbers.get(name)
            if number is None:
                continue  # of another architecture, or newer than our table
            if alternatives:
                conditional.setdefault(number, []).extend((arguments, outcome) for arguments in alternatives)
            else:
                otherwise[number] = outcome
    return {
        number: (
            # A rule without arguments is wider than any with: libseccomp drops those too.
            () if number in otherwise else tuple(conditional[number]),
            otherwise.get(number, default_outcome),
        )
        for number in {*conditional, *otherwise}
    }


def _doors() -> "dict[str, tuple[int, _Comparison]]":
    """Return the calls that have another door: its number, and what its first argument then is."""
    from sampan.kernel import syscall_table

    numbers = syscall_table.numbers("x86")
    calls = {name: at for at, name in enumerate(_SOCKETCALL.split(), 1)}
    doors = {name: (numbers["socketcall"], (0, "SCMP_CMP_EQ", at, 0)) for name, at in calls.items()}
    for name, _, at in (entry.partition(":") for entry in _IPC.split()):
        # The upper half is a version, which the kernel takes off first; libseccomp lets such a call slip by its rule.
        doors[name] = (numbers["ipc"], (0, "SCMP_CMP_MASKED_EQ", 0xFFFF, int(at)))
    return doors


def _alternatives(arguments: "tuple[_Comparison, ...]") -> "tuple[tuple[_Comparison, ...], ...]":
    """Return the sets of comparisons of which one has to hold in full.

    All of a rule's hold together; but where two are of the same argument each stands for itself. That is what runc
    does with them, and what docker's users have in their profiles.
    """
    if len({index for index, *_ in arguments}) < len(arguments):
        return tuple((comparison,) for comparison in arguments)
    return (arguments,) if arguments else ()


def _argument(entry: "Document", most: int) -> "_Comparison":
    if not isinstance(entry, dict):
        raise InvalidArgument("an argument in the seccomp profile is not an object")
    operator = str(entry.get("op"))
    if operator not in _COMPARE:
        raise InvalidArgument(
            f"the seccomp comparison `{operator}` does not exist", hints=(f"there are {', '.join(_COMPARE)}",)
        )
    index = entry.get("index") or 0
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise InvalidArgument(f"a system call has no argument {index}")
    value, second = (_whole(key, entry.get(key) or 0, (1 << 64) - 1) for key in ("value", "valueTwo"))
    return index, operator, value & most, second & most


def _whole(key: str, value: object, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidArgument(f"`{key}` in the seccomp profile is no whole number from 0 to {most}: `{value}`")
    return value


def _named(profile: "Document", numbers: dict[str, int]) -> "Iterable[int]":
    """Return the numbers that rules name, those too that say nothing new."""
    return (numbers[name] for rule in _list(profile, "syscalls") for name in rule["names"] if name in numbers)


def _beyond(table: str, last: int, default_outcome: int) -> "list[tuple[int, list[bytes]]]":
    """Return the intervals above the calls that a profile speaks of."""
    unknown = [_ret(_ERRNO | _ENOSYS)]
    if last >= 0 and default_outcome & _ACTION not in _PERMISSIVE:
        return [(last + 1, unknown)]
    # A tracer's skipped call is -1, which is no x32 number.
    return [(_X32_BIT, unknown), (_SKIPPED, [_ret(default_outcome)])] if table == "x86_64" else []


def _intervals(
    outcomes: "dict[int, tuple[tuple[Rule, ...], int]]", default_outcome: int, beyond: "list[tuple[int, list[bytes]]]"
) -> "list[tuple[int, list[bytes]]]":
    """Return (first number, code) of each interval, the first at 0; neighbours with the same code are one."""
    plain = [_ret(default_outcome)]
    wanted = [(0, plain)]
    for number in sorted(outcomes):
        wanted += [(number, _decide(*outcomes[number])), (number + 1, plain)]
    # Of two that begin at one number the later counts.
    begins = dict([*wanted, *beyond])
    intervals: list[tuple[int, list[bytes]]] = []
    for number, code in sorted(begins.items()):
        if not intervals or intervals[-1][1] != code:
            intervals.append((number, code))
    return intervals


def _tree(intervals: "list[tuple[int, list[bytes]]]") -> list[bytes]:
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    below, above = _tree(intervals[:middle]), _tree(intervals[middle:])
    at = intervals[middle][0]
    if len(below) <= _LONGEST_JUMP:
        return [_jump(_JGE, at, len(below), 0), *below, *above]
    return [_jump(_JGE, at, 0, 1), _instruction(_JA, len(below)), *below, *above]


def _decide(rules: "Iterable[Rule]", otherwise: int) -> list[bytes]:
    code: list[bytes] = []
    for arguments, outcome in rules:
        code += _match(arguments, outcome)
    return [*code, _ret(otherwise)]


def _match(arguments: "tuple[_Comparison, ...]", outcome: int) -> list[bytes]:
    """Return code that returns `outcome` where all comparisons hold, and runs on past its end where one does not."""
    code = [_ret(outcome)]
    for index, operator, value, second in reversed(arguments):
        code = [*_COMPARE[operator](_ARGS + 8 * index, value, second, len(code)), *code]
    return code


# Each comparison is code that runs on where it holds and jumps `away` instructions further where it does not. An
# argument is two words: the low one first, since the machine is little-endian.


def _equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [_LD(at + 4), _jump(_JEQ, high, 0, away + 2), _LD(at), _jump(_JEQ, low, 0, away)]


def _not_equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [_LD(at + 4), _jump(_JEQ, high, 0, 2), _LD(at), _jump(_JEQ, low, away, 0)]


def _masked_equal(at: int, mask: int, value: int, away: int) -> list[bytes]:
    value &= mask
    return [
        _LD(at + 4),
        _instruction(_AND, mask >> 32),
        _jump(_JEQ, value >> 32, 0, away + 3),
        _LD(at),
        _instruction(_AND, mask & 0xFFFFFFFF),
        _jump(_JEQ, value & 0xFFFFFFFF, 0, away),
    ]


def _greater(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _ordered(_JGT, at, value, away)


def _greater_equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _ordered(_JGE, at, value, away)


def _ordered(comparison: int, at: int, value: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [
        _LD(at + 4),
        _jump(_JGT, high, 3, 0),
        _jump(_JEQ, high, 0, away + 2),
        _LD(at),
        _jump(comparison, low, 0, away),
    ]


def _less(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _reversed(_JGE, at, value, away)


def _less_equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _reversed(_JGT, at, value, away)


def _reversed(comparison: int, at: int, value: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [
        _LD(at + 4),
        _jump(_JGT, high, away + 3, 0),
        _jump(_JEQ, high, 0, 2),
        _LD(at),
        _jump(comparison, low, away, 0),
    ]


_COMPARE = {
    "SCMP_CMP_NE": _not_equal,
    "SCMP_CMP_LT": _less,
    "SCMP_CMP_LE": _less_equal,
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_GE": _greater_equal,
    "SCMP_CMP_GT": _greater,
    "SCMP_CMP_MASKED_EQ": _masked_equal,
}


def _instruction(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    if max(if_true, if_false) > _LONGEST_JUMP:
        raise InvalidArgument("a rule of the seccomp profile compares too many arguments")
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _LD(offset: int) -> bytes:  # noqa: N802  # the instruction's own name
    return _instruction(_LOAD, offset)


def _ret(outcome: int) -> bytes:
    return _instruction(_RET, outcome)


def _list(document: "Document", key: str) -> list["Document"]:
    value = document.get(key) or []
    if not isinstance(value, list):
        raise InvalidArgument(f"`{key}` of the seccomp profile is not a list")
    return value


def _words(document: "Document", key: str) -> list[str]:
    return [str(word) for word in _list(document, key)]


def _object(document: "Document", key: str) -> "Document":
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidArgument(f"`{key}` of a rule in the seccomp profile is not an object")
    return value


def _keep(path: str, content: bytes) -> None:
    """Put `content` at `path` at once; a cache that cannot be written costs 7 ms each time and nothing else."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        return
