"""Subordinate ids: the ids that a normal user may map besides his own. subuid(5), newuidmap(1)."""

import os

from sampan.errors import SampanError

_FILE_BYTES = 1 << 20


def find(path: str, uid: int) -> tuple[int, int] | None:
    """Return (first id, count) of the first range that /etc/subuid or subgid gives to a user, by name or number."""
    names = {str(uid), _name_of(uid)}
    try:
        with open(path, "rb") as file:
            lines = file.read(_FILE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            return int(fields[1]), int(fields[2])
    return None


def lack(uid: int, search: str | None) -> str:
    """Return why a container of this user's would have a single id, with the command that mends it; "" where not."""
    return _plan(uid, os.getgid(), search)[1]


def write_maps(pid: int, search: str | None) -> str:
    """Map the user's own id to 0 and his subordinate ids to 1 and on, or his own alone; return why only that, or "".

    `pid` has just made its user namespace; `search` is a PATH. Raises OSError where not even one id can be mapped.
    """
    uid, gid = os.getuid(), os.getgid()
    lack = _write_ranges(pid, uid, gid, search)
    if lack:
        for name, text in (("uid_map", f"0 {uid} 1"), ("setgroups", "deny"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/{pid}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
    return lack


def _write_ranges(pid: int, uid: int, gid: int, search: str | None) -> str:
    """Have newuidmap and newgidmap write whole ranges; return what is in the way, before anything is written."""
    from sampan.kernel import program

    wanted, missing = _plan(uid, gid, search)
    if missing:
        return missing
    # The groups first: where that fails nothing is written yet, and one id can be.
    for place, own, (first, count) in reversed(wanted):
        try:
            done = program.run([place, str(pid), "0", str(own), "1", "1", str(first), str(count)], timeout=10)
        except SampanError:
            return f"a container has a single user id, since `{place}` cannot be run"
        if done.status != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            return f"a container has a single user id, since {said[0] if said else f'`{place}` failed'}"
    return ""


def _plan(uid: int, gid: int, search: str | None) -> tuple[list[tuple[str, int, tuple[int, int]]], str]:
    """Return (program, own id, range) for users and for groups, and what is missing, or ""."""
    from sampan.kernel import program

    wanted: list[tuple[str, int, tuple[int, int]]] = []
    for tool, path, own in (("newuidmap", "/etc/subuid", uid), ("newgidmap", "/etc/subgid", gid)):
        found, place = find(path, uid), program.find(tool, search)
        if place is None:
            return [], f"a container has a single user id, since `{tool}` is not installed: `apt install uidmap`"
        if found is None:
            name = _name_of(uid)
            mend = f"`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}`"
            return [], f"a container has a single user id, since {path} has no range for `{name}`: as root, {mend}"
        wanted.append((place, own, found))
    return wanted, ""


def _name_of(uid: int) -> str:
    import pwd  # NSS; before anything is joined

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
