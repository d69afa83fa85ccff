"""Debian version numbers, compared as dpkg compares them (Debian Policy 5.6.12). Pure."""

from functools import cmp_to_key


def compare(left: str, right: str) -> int:
    """Return a negative number, 0, or a positive number, as `left` is older than, equal to, or newer than `right`."""
    for one, other in zip(_parts(left), _parts(right), strict=True):
        order = _compare_part(one, other)
        if order:
            return order
    return 0


key = cmp_to_key(compare)


def _parts(version: str) -> tuple[str, str, str]:
    """Part epoch, upstream version and revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "0")


def _compare_part(left: str, right: str) -> int:
    """Compare by turns a run of other characters and a run of digits."""
    while left or right:
        one, left = _split(left, digits=False)
        other, right = _split(right, digits=False)
        order = _compare_text(one, other)
        if order:
            return order
        one, left = _split(left, digits=True)
        other, right = _split(right, digits=True)
        difference = int(one or 0) - int(other or 0)
        if difference:
            return difference
    return 0


def _split(text: str, *, digits: bool) -> tuple[str, str]:
    end = 0
    while end < len(text) and (text[end] in "0123456789") is digits:
        end += 1
    return text[:end], text[end:]


def _compare_text(left: str, right: str) -> int:
    """Compare without digits: `~` before the end, the end before letters, letters before the rest."""
    for index in range(max(len(left), len(right))):
        order = _weight(left, index) - _weight(right, index)
        if order:
            return order
    return 0


def _weight(text: str, index: int) -> int:
    if index >= len(text):
        return 0
    character = text[index]
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
