"""References: distribution's grammar, docker's defaults, and errors that say what to write."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference

pytestmark = [pytest.mark.first]

_HEX = "0" * 64
_PART = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
_PATH = st.lists(_PART, min_size=1, max_size=4).map("/".join)
_HOST = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,4}[a-zA-Z0-9])?(\.[a-z0-9]{1,5}){1,3}(:[0-9]{1,5})?", fullmatch=True)
_DOMAIN = st.sampled_from(["", "", "localhost/", "localhost:5000/", "[::1]:5000/", "docker.io/", "index.docker.io/"])
_TAG = st.from_regex(r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?", fullmatch=True)
_DIGEST = st.sampled_from(["", "", f"@sha256:{_HEX}", f"@sha512:{_HEX}{_HEX}"])


@settings(max_examples=60, deadline=None)
@given(_DOMAIN | _HOST.map(lambda host: host + "/"), _PATH, _TAG, _DIGEST)
def test_what_is_printed_is_read_back(domain: str, path: str, tag: str, digest: str) -> None:
    """parse(str(x)) == x and parse(x.familiar()) == x, for everything that the grammar allows."""
    # Alone, `a.b_c/d` begins with what looks like a registry and is none.
    domain = "docker.io/" if not domain and "." in path else domain
    reference = Reference.parse(domain + path + tag + digest)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference
    assert reference.tag or reference.digest


@given(st.text(alphabet="aA0./:@-_[]lochst", max_size=30) | st.text(max_size=80))
def test_any_text_is_a_reference_or_one_error(text: str) -> None:
    """No text makes parse fail in another way, and what passes is stable."""
    try:
        reference = Reference.parse(text)
    except InvalidArgument as error:
        if not error.hints:
            raise
    else:
        assert Reference.parse(str(reference)) == reference
        assert Reference.parse(reference.familiar()) == reference


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("python", "docker.io/library/python:latest", "python:latest"),
        ("python:3.13-slim", "docker.io/library/python:3.13-slim", "python:3.13-slim"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("docker.io/library/python", "docker.io/library/python:latest", "python:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest", "python:latest"),
        ("ghcr.io/me/app:1", "ghcr.io/me/app:1", "ghcr.io/me/app:1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("a.b", "docker.io/library/a.b:latest", "a.b:latest"),
        ("Host/app", "Host/app:latest", "Host/app:latest"),
        # Shortened, this would name a registry: it stays long.
        ("docker.io/foo.bar/app", "docker.io/foo.bar/app:latest", "docker.io/foo.bar/app:latest"),
        (f"app@sha256:{_HEX}", f"docker.io/library/app@sha256:{_HEX}", f"app@sha256:{_HEX}"),
        (f"app:1@sha256:{_HEX}", f"docker.io/library/app:1@sha256:{_HEX}", f"app:1@sha256:{_HEX}"),
    ],
)
def test_names_are_filled_in_as_docker_fills_them_in(text: str, canonical: str, familiar: str) -> None:
    """A short name means docker.io, library and latest, and is shown short again."""
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar()) == (canonical, familiar)


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("Python:3", "the image name in `Python:3` has upper-case letters", "write `python:3`"),
        ("ghcr.io/Me/app", "the image name in `ghcr.io/Me/app` has upper-case letters", "write `ghcr.io/me/app`"),
        ("app:", "`` in `app:` is not a tag", "a tag is at most 128 letters"),
        ("app:-x", "`-x` in `app:-x` is not a tag", "a tag is at most 128 letters"),
        (f"app:{'x' * 129}", "is not a tag", "a tag is at most 128 letters"),
        ("a___b", "`a___b` is not a name of an image", "a name is lower-case letters"),
        ("", "`` is empty", "a name is lower-case letters"),
        ("a" * 256, "has a name longer than 255 characters", "a name is lower-case letters"),
        ("a" * 1025, "is longer than 1024 characters", "a name is lower-case letters"),
        (_HEX, "is an image id, not a name", "a name is lower-case letters"),
        ("-.x/app", "`-.x` in `-.x/app` is not a registry", "a registry is a host"),
        ("x.y:port/app", "`x.y:port` in `x.y:port/app` is not a registry", "a registry is a host"),
        ("app@sha256:1", "`sha256:1` is not a digest", "write `sha256:`"),
    ],
)
def test_an_error_says_what_to_write(text: str, what: str, hint: str) -> None:
    """What is wrong is named, with the way out."""
    with pytest.raises(InvalidArgument) as caught:
        Reference.parse(text)
    assert what in caught.value.what
    assert caught.value.hints[0].startswith(hint)


def test_a_digest_takes_the_place_of_the_tag() -> None:
    """with_digest names the same repository."""
    digest = Digest.parse(f"sha256:{_HEX}")
    assert str(Reference.parse("app:1").with_digest(digest)) == f"docker.io/library/app@sha256:{_HEX}"
