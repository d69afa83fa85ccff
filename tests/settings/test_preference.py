"""What docker's config.json says of the command line itself."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.settings import preference

pytestmark = [pytest.mark.first]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the file may be."""
    return tmp_path / "config.json"


@pytest.mark.parametrize("content", [None, "", " \n", "{}", '{"proxies": null}', '{"auths": {}, "proxies": {}}'])
def test_nothing_said(file: Path, content: str | None) -> None:
    """A file that is not there, is empty or speaks of other things says nothing."""
    if content is not None:
        file.write_text(content)
    assert preference.text(str(file), "psFormat") == ""
    assert preference.proxies(str(file)) == {}
    assert preference.detach_keys(str(file), str.encode) is None


def test_proxies(file: Path) -> None:
    """The default's, each in capitals and small letters; what docker does not know is passed over."""
    file.write_text(
        ' {"proxies": {"default": {"httpProxy": "http://p:3128", "noProxy": "a,b", "ftpProxy": "", "x": "y"},'
        ' "tcp://boat:2375": {"httpProxy": "http://other"}}}'
    )
    assert preference.proxies(str(file)) == {
        "HTTP_PROXY": "http://p:3128", "http_proxy": "http://p:3128", "NO_PROXY": "a,b", "no_proxy": "a,b",
    }  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "[]", "{", '{"proxies": [1]}', '{"proxies": {"default": "x"}}', '{"proxies": {"default": {"httpProxy": 1}}}',
        '{"detachKeys": "meta-x"}', '{"detachKeys": 1}', "\udcff", "{" + '"a":[' * 9999, " " * (1 << 20) + "{}",
    ],
)  # fmt: skip
def test_what_it_cannot_say(file: Path, content: str) -> None:
    """A mistake is an error that names the file, and never what stands in it."""
    file.write_bytes(content.encode("utf-8", "surrogateescape"))

    def refuse(text: str) -> bytes:
        raise InvalidArgument(f"`{text}` is not a key")

    def ask() -> None:
        assert not preference.proxies(str(file))
        preference.detach_keys(str(file), refuse)

    with pytest.raises(InvalidArgument) as raised:
        ask()
    assert raised.value.at is not None
    assert raised.value.at.path == str(file)
