"""Sizes, durations and processor shares as docker reads and prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import units
from sampan.errors import InvalidArgument

pytestmark = [pytest.mark.first]


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("512k", 512 << 10),
        ("10b", 10),
        ("1073741824", 1 << 30),
        ("2GiB", 2 << 30),
        ("2GB", 2 << 30),
        (" 3 m ", 3 << 20),
    ],
)
def test_a_size_means_what_docker_reads(text: str, size_bytes: int) -> None:
    """Units are multiples of 1024 whatever the suffix's spelling."""
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "m", "1x", "1.2.3m", "-1m", "ib", "1bib", "inf", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """A wrong size is an InvalidArgument that names it."""
    with pytest.raises(InvalidArgument) as caught:
        units.parse_size(text)
    assert f"`{text}`" in caught.value.what


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90.0), ("300ms", 0.3), ("1.5h", 5400.0), ("0", 0.0), ("10s", 10.0), ("5us", 5e-6)]
)
def test_a_duration_is_go_s(text: str, seconds: float) -> None:
    """Durations are sums of numbers with units, as Go's time.ParseDuration has them."""
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "1m30", "m1"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit is no duration, but 0 is."""
    with pytest.raises(InvalidArgument):
        units.parse_duration(text)


@pytest.mark.parametrize(("text", "quota_us"), [("0.5", 50_000), ("2", 200_000), ("0.01", 1_000), ("1.5", 150_000)])
def test_cpus_are_a_quota_of_100_ms(text: str, quota_us: int) -> None:
    """`--cpus` gives microseconds in each period of 100 ms."""
    assert units.parse_cpus(text) == quota_us


@pytest.mark.parametrize("text", ["", "0", "0.001", "two", "1m"])
def test_what_is_no_number_of_cpus_is_refused(text: str) -> None:
    """Less than a hundredth of a processor cannot be scheduled."""
    with pytest.raises(InvalidArgument):
        units.parse_cpus(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (42_300_000, "42.3MB"), (1_230_000_000, "1.23GB")],
)
def test_sizes_are_printed_in_decimal_units(size_bytes: int, text: str) -> None:
    """As docker images prints them."""
    assert units.human_size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 21, "3 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_ages_are_printed_as_docker_ps_does(seconds: float, text: str) -> None:
    """Words of go-units' HumanDuration."""
    assert units.human_duration(seconds) == text


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_plain_number_of_bytes_is_itself(size_bytes: int) -> None:
    """parse_size(str(n)) == n wherever a float holds n."""
    assert abs(units.parse_size(str(size_bytes)) - size_bytes) <= size_bytes * 2**-52


@pytest.mark.parametrize(
    ("size", "binary", "decimal"),
    [
        (0, "0B", "0B"),
        (999, "999B", "999B"),
        (1536, "1.5KiB", "1.54kB"),
        (1_293_000, "1.233MiB", "1.29MB"),
        (8_200_000_000, "7.637GiB", "8.2GB"),
    ],
)
def test_sizes_of_stats(size: int, binary: str, decimal: str) -> None:
    """go-units' BytesSize (four digits) and HumanSizeWithPrecision(3)."""
    assert (units.binary_size(size), units.decimal_size(size)) == (binary, decimal)
