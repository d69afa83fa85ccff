"""A container's log: what goes in comes out, and it never grows past its bound."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.document import render
from sampan.engine import logs
from sampan.engine.output import FILES, LINE_BYTES, STDERR, STDOUT, OutputLog
from sampan.engine.state import timestamp

pytestmark = [pytest.mark.first]


def _read(directory: str) -> list[logs.Line]:
    reader = logs.Reader(f"{directory}/json.log")
    try:
        return list(reader.more())
    finally:
        reader.close()


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_what_was_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    """Any bytes, in any pieces, UTF-8 or not, come back whole and in order."""
    directory = str(tmp_path_factory.mktemp("log"))
    log = OutputLog(directory)
    for piece in pieces:
        log.write(STDOUT, piece, 0)
    log.finish(0)
    log.close()
    assert b"".join(line.data for line in _read(directory)) == b"".join(pieces)


def test_a_line_is_one_entry_and_a_long_one_is_cut(tmp_path: object) -> None:
    """Docker's rule: one entry for a line, pieces of 16 KiB for one that has no end."""
    log = OutputLog(str(tmp_path))
    assert not log.write(STDOUT, b"half", 0)
    assert log.write(STDOUT, b" line\nnext\n", 1)
    log.write(STDERR, b"x" * (LINE_BYTES + 5), 2)
    log.finish(3)
    log.close()
    found = _read(str(tmp_path))
    assert [(line.stream, len(line.data)) for line in found] == [
        (STDOUT, 10), (STDOUT, 5), (STDERR, LINE_BYTES), (STDERR, 5),
    ]  # fmt: skip


def test_the_log_is_rotated_and_bounded(tmp_path: object) -> None:
    """No more than three files of the bound each; the newest output is in them, read in order."""
    log = OutputLog(str(tmp_path), file_bytes=2000)
    for number in range(200):
        log.write(STDOUT, b"line %d\n" % number, number)
    log.close()
    names = sorted(os.listdir(str(tmp_path)))
    assert names == ["json.log", "json.log.1", "json.log.2"]
    assert len(names) == FILES
    assert all(os.path.getsize(f"{tmp_path}/{name}") <= 2000 for name in names)
    numbers = [int(line.data.split()[1]) for line in _read(str(tmp_path))]
    assert numbers == list(range(numbers[0], 200))


@pytest.mark.parametrize("files", [1, 2, 5])
def test_as_many_files_as_were_asked_for(tmp_path: object, files: int) -> None:
    """One alone begins anew; all of any number are read."""
    log = OutputLog(str(tmp_path), file_bytes=1000, files=files, attributes={"a": "b"})
    for number in range(300):
        log.write(STDOUT, b"%d\n" % number, number)
    log.close()
    assert len(os.listdir(str(tmp_path))) == files
    found = _read(str(tmp_path))
    assert [int(line.data) for line in found] == list(range(int(found[0].data), 300))
    assert all(line.attributes == {"a": "b"} for line in found)


@pytest.mark.parametrize("files", [1, 3])
def test_a_reader_goes_on_through_rotation(tmp_path: object, files: int) -> None:
    """Who has read to the end and looks again sees exactly what came since, over a rotation too."""
    log = OutputLog(str(tmp_path), file_bytes=1000, files=files)
    log.write(STDOUT, b"0\n", 0)
    reader = logs.Reader(f"{tmp_path}/json.log")
    seen = [line.data for line in reader.more()]
    for number in range(1, 20):
        log.write(STDOUT, b"%d\n" % number, 0)
        seen += [line.data for line in reader.more()]
    reader.close()
    log.close()
    assert seen == [b"%d\n" % number for number in range(20)]


@given(st.lists(st.integers(0, 3000), max_size=40), st.integers(0, 60), st.sampled_from([1, 3, 40]))
def test_the_last_lines(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], count: int, files: int) -> None:
    """Who asks for the last lines gets those, whatever the files that they are in, and what comes after."""
    directory = str(tmp_path_factory.mktemp("log"))
    log = OutputLog(directory, file_bytes=5000, files=files)
    for number, length in enumerate(lengths):
        log.write(STDOUT, b"%d %s\n" % (number, b"x" * length), 0)
    reader = logs.Reader(f"{directory}/json.log")
    every = [line.data for line in _read(directory)]
    reader.skip_to_last(count)
    assert [line.data for line in reader.more()] == every[max(0, len(every) - count) :]
    log.write(STDOUT, b"more\n", 0)
    log.close()
    assert [line.data for line in reader.more()] == [b"more\n"]
    reader.close()


def test_half_a_line_that_a_power_cut_left_is_skipped(tmp_path: object) -> None:
    """A broken entry costs itself and nothing else."""
    log = OutputLog(str(tmp_path))
    log.write(STDOUT, b"one\n", 0)
    log.close()
    with open(f"{tmp_path}/json.log", "ab") as file:
        file.write(b'{"log":"tw\n')
    log = OutputLog(str(tmp_path))
    log.write(STDOUT, b"three\n", 0)
    log.close()
    assert [line.data for line in _read(str(tmp_path))] == [b"one\n", b"three\n"]


def test_an_entry_is_what_any_document_is(place: str) -> None:
    """Whatever is printed, its entry has the bytes that `document.render` gives it: escapes, and bytes of no text."""
    log = OutputLog(f"{place}/logs")
    printed = [b'"\\ \x00\x1f\x7f\n', "\u00e9\u6f22\U0001f6a2\n".encode(), b"\xff\xfe\xc3(\n", b"\\n\\ud800\n", b"\n"]
    log.write("stderr", b"".join(printed), 1_700_000_000_123_456_789)
    log.close()
    time = timestamp(1_700_000_000_123_456_789)
    wanted = [
        render({"log": line.decode("utf-8", "surrogateescape"), "stream": "stderr", "time": time}) for line in printed
    ]
    assert Path(f"{place}/logs/json.log").read_text(encoding="ascii").splitlines() == wanted
