"""Unpacking a layer: what the archive says is there, exactly; nothing of it is anywhere else."""

import errno
import gzip
import io
import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import Corrupt, Exhausted, Internal, SampanError, Unsupported
from sampan.kernel import syscalls
from sampan.oci.digest import Digest
from sampan.storage.apply import Applied, apply
from sampan.storage.diff import TarWriter
from sampan.storage.tape import Bounds
from sampan.storage.unpacker import Rules

pytestmark = [pytest.mark.first, pytest.mark.root]

Fill = Callable[[TarWriter], object]
Meta = tuple[int, int, int]
Tree = dict[str, tuple[str, Meta, object]]
Member = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def _tar(*fills: Fill) -> bytes:
    file = io.BytesIO()
    tar = TarWriter(file)
    for fill in fills:
        fill(tar)
    tar.finish()
    return file.getvalue()


def _python_tar(*members: Member, format: int = tarfile.GNU_FORMAT) -> bytes:
    """Make an archive with Python's own writer, which writes what ours refuses to."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for member in members:
            if isinstance(member, tuple):
                member[0].size = len(member[1])
                tar.addfile(member[0], io.BytesIO(member[1]))
            else:
                tar.addfile(member)
    return file.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in fields.items():
        setattr(member, key, value)
    return member


def _apply(archive: bytes, target: Path, **options: object) -> Applied:
    target.mkdir(exist_ok=True)
    return apply(io.BytesIO(archive), str(target), **options)  # type: ignore[arg-type]  # the caller's own words


# --- the law ------------------------------------------------------------------------------------------------------

_NAME = st.text("abé.-~ \n", min_size=1, max_size=4).filter(lambda n: n not in {".", ".."})
_META = st.tuples(st.sampled_from([0o755, 0o4711, 0o1777, 0o000]), st.integers(0, 3), st.integers(0, 70000))
_NODES = st.one_of(
    st.tuples(st.just("file"), _META, st.binary(max_size=2000)),
    st.tuples(st.just("link"), _META, st.sampled_from(["a", "../../..", "/etc", "b/é", "é" * 200])),
    st.tuples(st.just("directory"), _META, st.none()),
)
_TREES = st.dictionaries(st.lists(_NAME, min_size=1, max_size=4).map("/".join), _NODES, max_size=12)


def _whole(tree: Tree) -> "Iterator[tuple[str, str, Meta, object]]":
    """Yield the nodes of a random tree, parents first, parents that are no directories made so."""
    parents = {path.rpartition("/")[0] for path in tree}
    while more := {path.rpartition("/")[0] for path in parents} - parents:
        parents |= more
    for path in sorted(parents | set(tree)):
        if not path:
            continue
        kind, meta, content = tree.get(path, ("directory", (0o755, 0, 0), None))
        yield path, "directory" if path in parents else kind, meta, content


@settings(max_examples=60, deadline=None)
@given(_TREES, st.sampled_from([bytes, gzip.compress]))
def test_what_is_written_is_unpacked(tree: Tree, pack: Callable[[bytes], bytes]) -> None:
    """apply(tar(tree)) == tree: kinds, contents, targets, modes with set-id bits, owners and times."""
    expected: dict[str, tuple[object, ...]] = {}
    file = io.BytesIO()
    tar = TarWriter(file)
    for number, (path, kind, (mode, uid, gid), content) in enumerate(_whole(tree)):
        if kind == "directory":
            tar.add_directory(path, mode=mode, uid=uid, gid=gid, mtime=number)
            expected[path] = (stat.S_IFDIR | mode, uid, gid, number, None)
        elif isinstance(content, bytes):
            tar.add_file(path, content, mode=mode, uid=uid, gid=gid, mtime=number)
            expected[path] = (stat.S_IFREG | mode, uid, gid, number, content)
        else:
            tar.add_symlink(path, str(content), uid=uid, gid=gid, mtime=number)
            expected[path] = (stat.S_IFLNK | 0o777, uid, gid, number, content)
    tar.finish()
    raw = file.getvalue()
    with tempfile.TemporaryDirectory() as target:
        source = io.BytesIO(pack(raw))
        applied = apply(source, target, diff_id=Digest.of(raw))
        assert {path: _seen(f"{target}/{path}") for path in _walk(target)} == expected
        assert applied.entries == len(expected)


def _walk(target: str) -> Iterator[str]:
    for directory, directories, files in os.walk(target):
        for name in directories + files:
            yield os.path.relpath(f"{directory}/{name}", target)


def _seen(path: str) -> tuple[object, ...]:
    found = os.lstat(path)
    content: object = None
    if stat.S_ISREG(found.st_mode):
        content = Path(path).read_bytes()
    elif stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    return found.st_mode, found.st_uid, found.st_gid, int(found.st_mtime), content


# --- nothing lands outside ----------------------------------------------------------------------------------------

_STEP = st.sampled_from(["..", ".", "", "a", "b", "etc", "/", "outside"])
_HOSTILE = st.lists(_STEP, min_size=1, max_size=6).map("/".join)
_ENTRIES = st.lists(
    st.tuples(st.sampled_from([b"0", b"1", b"2", b"5", b"6", b"3"]), _HOSTILE, _HOSTILE), min_size=1, max_size=8
)


@settings(max_examples=80, deadline=None)
@given(_ENTRIES, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_no_entry_lands_outside(entries: list[tuple[bytes, str, str]], format: int) -> None:
    """Whatever names, links and kinds come in whatever order, beside the target nothing changes."""
    archive = _python_tar(*(_hostile(*entry) for entry in entries), format=format)
    with tempfile.TemporaryDirectory() as place:
        target = Path(place, "a", "b", "target")
        target.mkdir(parents=True)
        Path(place, "outside").mkdir()
        before = _outside(place, target)
        try:
            apply(io.BytesIO(archive), str(target))
        except (SampanError, OSError):
            pass
        assert _outside(place, target) == before


def _hostile(kind: bytes, name: str, link: str) -> Member:
    member = _member(name, kind, linkname=link, mode=0o777)
    return (member, b"owned") if kind == tarfile.REGTYPE else member


def _outside(place: str, target: Path) -> dict[str, tuple[object, ...]]:
    return {path: _seen(f"{place}/{path}") for path in _walk(place) if not Path(place, path).is_relative_to(target)}


ESCAPES: dict[str, list[Member]] = {
    "a name with dots": [(_member("../../outside/owned"), b"x")],
    "an absolute name": [(_member("{place}/outside/owned"), b"x")],
    "through a link": [_member("d", tarfile.SYMTYPE, linkname="{place}/outside"), (_member("d/owned"), b"x")],
    "through a relative link": [_member("d", tarfile.SYMTYPE, linkname="../../outside"), (_member("d/owned"), b"x")],
    "over a link": [_member("owned", tarfile.SYMTYPE, linkname="{place}/outside/owned"), (_member("owned"), b"x")],
    "a hard link": [_member("d", tarfile.LNKTYPE, linkname="{place}/outside/secret"), (_member("d"), b"x")],
}


def _aimed(name: str, place: Path) -> bytes:
    members: list[Member] = []
    for one in ESCAPES[name]:
        member, content = one if isinstance(one, tuple) else (one, b"")
        fields = {"name": member.name.format(place=place), "linkname": member.linkname.format(place=place)}
        aimed = _member(fields["name"], member.type, linkname=fields["linkname"], mode=0o644)
        members.append((aimed, content) if content else aimed)
    return _python_tar(*members)


def _prepared(place: Path) -> Path:
    (place / "outside").mkdir()
    (place / "outside" / "secret").write_text("secret")
    (place / "r" / "target").mkdir(parents=True)
    return place / "r" / "target"


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_stays_inside(name: str, tmp_path: Path) -> None:
    """The classic ways out of an archive end inside the target or in an error."""
    target = _prepared(tmp_path)
    try:
        apply(io.BytesIO(_aimed(name, tmp_path)), str(target))
    except (SampanError, OSError):
        pass
    assert os.listdir(tmp_path / "outside") == ["secret"]
    assert (tmp_path / "outside" / "secret").read_text() == "secret"
    assert (tmp_path / "outside" / "secret").stat().st_nlink == 1


@pytest.mark.parametrize("name", ESCAPES)
def test_the_escape_works_without_our_care(name: str, tmp_path: Path) -> None:
    """The control: a naive unpacker is led outside by the same archive."""
    target = _prepared(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(_aimed(name, tmp_path))) as tar:
        for member in tar:
            path = os.path.join(target, member.name)
            if member.issym():
                os.symlink(member.linkname, path)
            elif member.islnk():
                os.link(os.path.join(target, member.linkname), path)
            else:
                Path(path).write_bytes(b"x")
    outside = tmp_path / "outside"
    assert os.listdir(outside) != ["secret"] or outside.joinpath("secret").read_text() != "secret"


def test_the_child_cannot_import_from_the_layer(tmp_path: Path) -> None:
    """The child that unpacks has no import system left: a module in the layer is never run."""
    import sys

    from sampan.storage import unpacker

    def trap(self: unpacker.Unpacker) -> None:
        self.warnings.append(repr((sys.path, sys.meta_path, sys.path_hooks, os.getcwd(), os.listdir("/"))))

    real = unpacker.Unpacker.run
    unpacker.Unpacker.run = trap  # type: ignore[method-assign]  # what the child would see
    try:
        applied = _apply(b"", tmp_path / "t")
    finally:
        unpacker.Unpacker.run = real  # type: ignore[method-assign]  # as it was
    assert applied.warnings == ("([], [], [], '/', [])",)


# --- hostile archives ---------------------------------------------------------------------------------------------

_GOOD = _python_tar((_member("a"), b"content"))


def _patched(offset: int, content: bytes) -> bytes:
    """Change a good archive's header and mend its checksum."""
    header = bytearray(_GOOD[:512])
    header[offset : offset + len(content)] = content
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + _GOOD[512:]


def test_the_control_is_unpacked(tmp_path: Path) -> None:
    """The archive that the attacks below are made of is a good one."""
    _apply(_patched(0, b"a"), tmp_path / "t")
    assert (tmp_path / "t" / "a").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("archive", "leaf"),
    [
        (b"x" * 512, Corrupt),
        (_GOOD[:700], Corrupt),
        (_GOOD[:512], Corrupt),
        (_GOOD[:300], Corrupt),
        (_GOOD[:100] + b"9" + _GOOD[101:], Corrupt),
        (_patched(124, b"99999999999\0"), Corrupt),
        (_patched(124, b"\xff" * 12), Exhausted),
        (_patched(124, b"\x80" + b"\x7f" * 11), Exhausted),
        (_patched(124, b"77777777777\0"), Corrupt),
        (_patched(108, b"\xff" * 8), Corrupt),
        (_patched(156, b"S"), Unsupported),
        (_patched(156, b"Z"), Corrupt),
        (_patched(0, b"./"), Corrupt),
        (_python_tar(_member("h", tarfile.LNKTYPE, linkname="absent")), Corrupt),
        (_python_tar((_member("f"), b""), (_member("f/g"), b"")), Corrupt),
        (_python_tar((_member(".wh."), b"")), Corrupt),
        (_python_tar((_member(".wh..."), b"")), Corrupt),
        (_python_tar((_member("a/" * 300 + "b"), b"")), Exhausted),
        (_python_tar((_member("n" * 5000), b"")), Exhausted),
        (_python_tar(_member("l", tarfile.SYMTYPE, linkname="n" * 5000)), Exhausted),
        (_python_tar(_member("x", tarfile.XHDTYPE), (_member("a"), b"")), None),
        (bytes(512) + _GOOD, Corrupt),
        (gzip.compress(_GOOD)[:-5], Corrupt),
    ],
)
def test_a_hostile_archive_is_one_error(archive: bytes, leaf: type[SampanError] | None, tmp_path: Path) -> None:
    """Damage, lies about sizes, and what nobody can mean end in a leaf that says so."""
    if leaf is None:
        _apply(archive, tmp_path / "t")
        return
    with pytest.raises(leaf):
        _apply(archive, tmp_path / "t")


def _pax(*records: bytes) -> bytes:
    """Make an archive whose one file has the given raw PAX content."""
    content = b"".join(records)
    header = _member("x", tarfile.XHDTYPE)
    return _python_tar((header, content))[: 1024 + (len(content) > 512) * 512] + _GOOD


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"5 a=b",
        b"99 a=b\n",
        b"0 a=b\n",
        b"-1 a=b\n",
        b"6 ab\n\n",
        b"10 size=x\n\n",
        b"999999999999999999999 a=b\n",
    ],
)
def test_bad_extended_headers_are_corrupt(content: bytes, tmp_path: Path) -> None:
    """Records that lie about their length are refused; the control is read."""
    _apply(_pax(b"7 a=bc\n"), tmp_path / "control")
    with pytest.raises(Corrupt):
        _apply(_pax(content), tmp_path / "t")


@pytest.mark.parametrize(
    "bounds", [Bounds(entries=3), Bounds(total_bytes=4096), Bounds(name_bytes=3), Bounds(depth=1), Bounds(xattrs=1)]
)
def test_every_bound_holds(bounds: Bounds, tmp_path: Path) -> None:
    """Entries, bytes, lengths, depth and attributes are counted; within the bounds the same archive is unpacked."""
    archive = _tar(
        lambda tar: tar.add_file("long", b"x" * 3000),
        lambda tar: tar.add_file("a/b", b"", xattrs={"user.a": b"1", "user.b": b"2"}),
        *(lambda tar, n=n: tar.add_file(f"f{n}", b"") for n in range(9)),
    )
    _apply(archive, tmp_path / "control")
    with pytest.raises(Exhausted):
        _apply(archive, tmp_path / "t", bounds=bounds)


def test_a_bomb_ends_at_the_bound(tmp_path: Path) -> None:
    """A small file that unpacks to zeros without end is stopped by the bound on the whole stream."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 1)
    with pytest.raises(Exhausted, match="longer than"):
        _apply(_GOOD[:1024] and gzip.compress(_GOOD) + bomb, tmp_path / "t", bounds=Bounds(total_bytes=1024 * 1024))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 1100))
def test_any_bytes_are_unpacked_or_one_error(noise: bytes, offset: int) -> None:
    """Noise anywhere in an archive never makes the child die without a word."""
    archive = bytearray(_tar(lambda tar: tar.add_file("é" * 99, b"x", xattrs={"user.a": b"1"})))
    archive[offset : offset + len(noise)] = noise
    with tempfile.TemporaryDirectory() as target:
        try:
            apply(io.BytesIO(bytes(archive)), target)
        except Internal:
            raise
        except (SampanError, OSError):
            pass


def test_another_diff_id_is_corrupt(tmp_path: Path) -> None:
    """A layer that is not what its config promises is refused after it is read."""
    with pytest.raises(Corrupt, match="is not what its digest says"):
        _apply(_GOOD, tmp_path / "t", diff_id=Digest.of(b"other"))


# --- layers -------------------------------------------------------------------------------------------------------


def _is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def test_whiteouts_become_overlayfs_marks(tmp_path: Path) -> None:
    """`.wh.x` is the device 0:0, `.wh..wh..opq` the opaque attribute; aufs's own files are passed over."""
    archive = _tar(
        lambda tar: tar.add_directory("d"),
        lambda tar: tar.add_file("d/.wh.gone", b""),
        lambda tar: tar.add_file("d/.wh..wh..opq", b""),
        lambda tar: tar.add_file(".wh..wh.plnk", b""),
        lambda tar: tar.add_file("new/.wh.gone", b""),
    )
    _apply(archive, tmp_path / "t")
    assert _is_whiteout(tmp_path / "t" / "d" / "gone")
    assert _is_whiteout(tmp_path / "t" / "new" / "gone")
    assert os.getxattr(tmp_path / "t" / "d", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(tmp_path / "t")) == ["d", "new"]


def test_an_unprivileged_layer_has_user_attributes(tmp_path: Path) -> None:
    """For a mount in a user namespace the opaque mark is `user.overlay.opaque`."""
    archive = _tar(lambda tar: tar.add_file("d/.wh..wh..opq", b""))
    _apply(archive, tmp_path / "t", rules=Rules(userxattr=True))
    assert os.listxattr(tmp_path / "t" / "d") == ["user.overlay.opaque"]


@pytest.mark.parametrize("first", ["whiteouts", "files"])
def test_a_whiteout_hides_what_is_below_only(first: str, tmp_path: Path) -> None:
    """A layer that removes a name and brings it anew has the new one, without the content of the old directory."""
    whiteouts: list[Fill] = [lambda tar: tar.add_file(".wh.d", b""), lambda tar: tar.add_file(".wh.f", b"")]
    files: list[Fill] = [lambda tar: tar.add_file("d/new", b"x"), lambda tar: tar.add_file("f", b"x")]
    _apply(_tar(*(whiteouts + files if first == "whiteouts" else files + whiteouts)), tmp_path / "t")
    assert (tmp_path / "t" / "d" / "new").read_bytes() == b"x"
    assert os.getxattr(tmp_path / "t" / "d", "trusted.overlay.opaque") == b"y"
    assert (tmp_path / "t" / "f").read_bytes() == b"x"


def test_a_later_entry_takes_the_place_of_an_earlier(tmp_path: Path) -> None:
    """A file over a tree, a tree over a file, a file over a link: the last one counts; nothing is written through."""
    archive = _tar(
        lambda tar: tar.add_file("a/b/c", b"1"),
        lambda tar: tar.add_file("a", b"2"),
        lambda tar: tar.add_file("f", b"3"),
        lambda tar: tar.add_directory("f"),
        lambda tar: tar.add_file("f/g", b"4"),
        lambda tar: tar.add_symlink("l", "a"),
        lambda tar: tar.add_file("l", b"5"),
    )
    _apply(archive, tmp_path / "t")
    found = {path: (tmp_path / "t" / path).read_bytes() for path in ("a", "f/g", "l")}
    assert found == {"a": b"2", "f/g": b"4", "l": b"5"}


def test_directories_without_an_entry_are_as_below(tmp_path: Path) -> None:
    """A layer that only names tmp/x does not close /tmp: mode, owner and time are those of the layer below."""
    below = tmp_path / "below"
    _apply(_tar(lambda tar: tar.add_directory("tmp", mode=0o1777, uid=5, gid=6, mtime=7)), below)
    _apply(_tar(lambda tar: tar.add_file("tmp/deep/x", b"")), tmp_path / "t", below=[str(below)])
    assert _seen(f"{tmp_path}/t/tmp")[:4] == (stat.S_IFDIR | 0o1777, 5, 6, 7)
    assert _seen(f"{tmp_path}/t/tmp/deep")[:4] == (stat.S_IFDIR | 0o755, 0, 0, 0)


def test_a_link_in_the_way_is_followed_inside(tmp_path: Path) -> None:
    """Bin -> usr/bin and then bin/x: the file is made behind the link, whose target may lie in a layer below."""
    archive = _tar(lambda tar: tar.add_symlink("bin", "/usr/bin"), lambda tar: tar.add_file("bin/x", b"x"))
    _apply(archive, tmp_path / "t")
    assert (tmp_path / "t" / "usr" / "bin" / "x").read_bytes() == b"x"


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    """Both names have one inode, and a link to a symbolic link is one as well."""
    archive = _tar(
        lambda tar: tar.add_file("a", b"x", mode=0o4755),
        lambda tar: tar.add_link("d/b", "./a"),
        lambda tar: tar.add_symlink("s", "nowhere"),
        lambda tar: tar.add_link("t", "s"),
    )
    _apply(archive, tmp_path / "t")
    assert (tmp_path / "t" / "a").samefile(tmp_path / "t" / "d" / "b")
    assert os.readlink(tmp_path / "t" / "t") == "nowhere"
    assert (tmp_path / "t" / "a").stat().st_mode & 0o7777 == 0o4755


def test_device_nodes_are_left_out_and_named(tmp_path: Path) -> None:
    """A node that an image brings could open the machine's disk; a FIFO opens nothing."""
    archive = _python_tar(_member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), _member("p", tarfile.FIFOTYPE))
    applied = _apply(archive, tmp_path / "t")
    assert applied.warnings == ("the device node `dev/null` was left out",)
    assert not (tmp_path / "t" / "dev" / "null").exists()
    assert stat.S_ISFIFO((tmp_path / "t" / "p").stat().st_mode)


def test_attributes_of_overlayfs_are_not_taken(tmp_path: Path) -> None:
    """A layer cannot forge a redirect; its own attributes are kept."""
    forged = {"trusted.overlay.redirect": b"/etc", "user.overlay.metacopy": b"", "trusted.x": b"1", "user.x": b"1"}
    applied = _apply(_tar(lambda tar: tar.add_file("f", b"", xattrs=forged)), tmp_path / "t")
    assert os.listxattr(tmp_path / "t" / "f") == ["user.x"]
    assert len(applied.warnings) == 3


# --- ids ----------------------------------------------------------------------------------------------------------

_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def test_a_shift_moves_every_owner(tmp_path: Path) -> None:
    """Owners, the root directory's too, and the root in a file capability lie in the range."""
    archive = _tar(
        lambda tar: tar.add_file("d/f", b"", uid=1, gid=2, mode=0o4755, xattrs={"security.capability": _CAPABILITY})
    )
    _apply(archive, tmp_path / "t", rules=Rules(shift=0x60000000))
    for path, uid, gid in (("", 0, 0), ("d", 0, 0), ("d/f", 1, 2)):
        found = (tmp_path / "t" / path).stat()
        assert (found.st_uid, found.st_gid) == (0x60000000 + uid, 0x60000000 + gid)
    capability = os.getxattr(tmp_path / "t" / "d" / "f", "security.capability")
    assert int.from_bytes(capability[20:24], "little") == 0x60000000


def test_an_id_beyond_the_range_is_an_error(tmp_path: Path) -> None:
    """It names the file and the id."""
    archive = _tar(lambda tar: tar.add_file("f", b"", uid=65536, gid=1))
    with pytest.raises(Unsupported, match="`f` in the layer belongs to 65536:1"):
        _apply(archive, tmp_path / "t", rules=Rules(shift=0x60000000))


def test_with_a_single_id_nothing_is_given_away(tmp_path: Path) -> None:
    """Every file belongs to whoever unpacks; the rest is as the archive says."""
    archive = _tar(lambda tar: tar.add_file("f", b"", uid=5, gid=6, mode=0o640))
    _apply(archive, tmp_path / "t", rules=Rules(single_id=True))
    found = (tmp_path / "t" / "f").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, 0o640)


@pytest.mark.userns
def test_a_normal_user_unpacks_in_a_user_namespace(place: str) -> None:
    """With one id, and no privilege outside: set-id bits, whiteouts and opaque directories are made all the same."""
    archive = _tar(
        lambda tar: tar.add_file("d/f", b"x", uid=5, gid=6, mode=0o4755),
        lambda tar: tar.add_file("d/.wh.gone", b""),
        lambda tar: tar.add_file("d/.wh..wh..opq", b""),
    )
    os.chown(place, 65534, 65534)
    pid = os.fork()
    if pid == 0:
        try:
            _enter_user_namespace(65534)
            os.mkdir(f"{place}/one")
            apply(io.BytesIO(archive), f"{place}/one", rules=Rules(single_id=True, userxattr=True))
            os.mkdir(f"{place}/two")
            with pytest.raises(Unsupported, match="belongs to 5:6, beyond the ids that are mapped here"):
                apply(io.BytesIO(archive), f"{place}/two", rules=Rules(userxattr=True))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert _seen(f"{place}/one/d/f")[:3] == (stat.S_IFREG | 0o4755, 65534, 65534)
    assert _is_whiteout(Path(place, "one", "d", "gone"))
    assert os.listxattr(f"{place}/one/d") == ["user.overlay.opaque"]


def _enter_user_namespace(id: int) -> None:
    os.setgroups([])
    os.setresgid(id, id, id)
    os.setresuid(id, id, id)
    # A change of ids took away the right to write to our own /proc files.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, content in (("setgroups", "deny"), ("uid_map", f"0 {id} 1"), ("gid_map", f"0 {id} 1")):
        # Not ascii: its codec may be a file that only root reads.
        Path(f"/proc/self/{name}").write_text(content, encoding="utf-8")


# --- the machine --------------------------------------------------------------------------------------------------


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """The error names the directory and how to free space, with the kernel's own as its cause."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:
        with pytest.raises(Exhausted, match="no space is left on the file system of") as caught:
            _apply(_tar(lambda tar: tar.add_file("big", bytes(2 * 1024 * 1024))), tmp_path / "t")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert caught.value.hints


def test_no_child_and_no_descriptor_is_left(tmp_path: Path) -> None:
    """After a failure as after a success."""
    before, children = os.listdir("/proc/self/fd"), _children()
    _apply(_GOOD, tmp_path / "t")
    with pytest.raises(Corrupt):
        _apply(_GOOD[:700], tmp_path / "u")

    class Broken:
        def read(self, size: int, /) -> bytes:  # noqa: ARG002  the protocol's
            raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        apply(Broken(), str(tmp_path / "t"))
    assert os.listdir("/proc/self/fd") == before
    assert _children() == children


def _children() -> str:
    """Return the pids of our children: a server that other tests talk to may be one."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
