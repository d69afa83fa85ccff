"""Debian versions compare as dpkg compares them."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.build.debian import version

pytestmark = [pytest.mark.first]

# Oldest first.
ORDER = (
    "0~~", "0~", "0", "0a", "1.0~beta1~svn1245", "1.0~beta1", "1.0~rc1-1", "1.0", "1.0-0.1", "1.0-1", "1.0-1+b1",
    "1.0-1+deb13u1",
    "1.0-1.1", "1.0-2", "1.0-10", "1.0+dfsg-1", "1.0.1", "1.2", "1.10", "9.9", "1:0.1", "1:0.1-1", "2:0",
)  # fmt: skip
versions = st.from_regex(r"([0-9]:)?[0-9][0-9a-z+.~]{0,8}(-[0-9a-z+.~]{1,5})?", fullmatch=True)


def test_order() -> None:
    """A list of awkward versions sorts as policy says."""
    assert sorted(sorted(ORDER), key=version.key) == list(ORDER)


@given(versions, versions, versions)
def test_is_an_order(one: str, two: str, three: str) -> None:
    """Comparing is antisymmetric and transitive."""
    assert (version.compare(one, two) > 0) == (version.compare(two, one) < 0)
    if version.compare(one, two) <= 0 and version.compare(two, three) <= 0:
        assert version.compare(one, three) <= 0


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="there is no dpkg to compare with")
@settings(max_examples=40, deadline=None)
@given(versions, versions)
def test_against_dpkg(one: str, two: str) -> None:
    """Dpkg is of the same opinion."""
    older = subprocess.run(["dpkg", "--compare-versions", one, "lt", two], check=False).returncode == 0
    assert (version.compare(one, two) < 0) == older
