"""CA bundles and proxies, as the machine's other programs find them."""

import pytest

from sampan.settings import trust

pytestmark = [pytest.mark.first]


def test_ca_bundle(place: str) -> None:
    """The first variable that names a file wins; one that names none is passed over."""
    for name in ("one", "two"):
        with open(f"{place}/{name}", "w", encoding="utf-8") as file:
            file.write("x")
    environment = {"SSL_CERT_FILE": f"{place}/missing", "PIP_CERT": f"{place}/one", "CURL_CA_BUNDLE": f"{place}/two"}
    assert trust.ca_bundle(environment) == f"{place}/one"


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_direct"),
    [
        ("example.org", "example.org", True),
        ("example.org", "deb.example.org", True),
        (".example.org", "deb.example.org", True),
        ("example.org", "notexample.org", False),
        ("*", "anything", True),
        ("a.org, b.org:80", "b.org", True),
        ("", "example.org", False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, is_direct: bool) -> None:  # noqa: FBT001 -- a column of the table above
    """no_proxy is read as curl reads it."""
    environment = {"http_proxy": "http://proxy", "NO_PROXY": no_proxy}
    assert (trust.proxy_for(environment, "http", host) is None) == is_direct


def test_both_cases() -> None:
    """Upper and lower case names count, lower first; all_proxy is for what has none of its own."""
    environment = {"HTTP_PROXY": "upper", "http_proxy": "lower", "ALL_PROXY": "all"}
    assert trust.proxy_for(environment, "http", "h") == "lower"
    assert trust.proxy_for(environment, "https", "h") == "all"
