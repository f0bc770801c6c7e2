"""Where requests may go."""

from __future__ import annotations

import httpx
import pytest

from onward import PluginError
from onward.address import check_address, is_loopback, join

BASE = "https://api.acme.example/v1"


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("people", f"{BASE}/people"),
        ("/people", f"{BASE}/people"),
        ("//evil.example/people", f"{BASE}/evil.example/people"),
        ("people?next=..%2F..", f"{BASE}/people?next=..%2F.."),
        ("people?to=https://evil.example/", f"{BASE}/people?to=https://evil.example/"),
        ("a..b/c...d", f"{BASE}/a..b/c...d"),
        ("HTTPS://api.acme.example/x", "HTTPS://api.acme.example/x"),
    ],
)
def test_a_path_stays_under_its_base(path: str, whole: str) -> None:
    """Slashes in front mean nothing; only a scheme makes an address of it."""
    assert join(BASE, path) == whole
    check_address(httpx.URL(join(BASE, path)), ["api.acme.example"])


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../other",
        "people/../../other",
        "/people/..",
        "people/%2e%2e/other",
        "people/..%2fother",
        "people\\..\\other",
    ],
)
def test_a_path_that_climbs_is_refused(path: str) -> None:
    """A name of somebody called ".." must not lead to another part of the service."""
    with pytest.raises(PluginError, match="leads out of the service's base address"):
        join(BASE, path)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://API.Acme.Example/x", "api.acme.example"),
        ("https://api.acme.example/x", "API.ACME.EXAMPLE"),
        ("https://api.acme.example:443/x", "api.acme.example"),
        ("https://api.acme.example:8443/x", "api.acme.example:8443"),
        ("http://LOCALHOST:8025/", "localhost:8025"),
        ("http://127.0.0.2/", "127.0.0.2"),
        ("http://[::1]:8025/", "::1:8025"),
        ("https://bücher.example/", "bücher.example"),
    ],
)
def test_declared_hosts_may_be_asked(address: str, allowed: str) -> None:
    """In any case, with the usual port named or not."""
    url = httpx.URL(address)
    check_address(url, [allowed])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://evil.example/", "declares only api.acme.example"),
        ("https://api.acme.example:8443/", "declares only api.acme.example"),
        ("https://api.acme.example.evil.example/", "declares only"),
        ("http://api.acme.example/", "only https is allowed"),
        ("http://0.0.0.0/", "only https is allowed"),
        ("http://127.0.0.1.evil.example/", "only https is allowed"),
        ("ftp://api.acme.example/", "only https is allowed"),
        ("//api.acme.example/", "no scheme"),
        ("https://ana:s3cret@api.acme.example/", "holds a user name or password"),
        ("https://api.acme.example@evil.example/", "holds a user name or password"),
    ],
)
def test_everything_else_is_refused(address: str, words: str) -> None:
    """The sentence names the host, and never a password."""
    with pytest.raises(PluginError, match=words) as caught:
        check_address(httpx.URL(address), ["api.acme.example"])

    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("::1", True),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine(host: str, *, here: bool) -> None:
    """And nothing that only looks like it."""
    assert is_loopback(host) == here
