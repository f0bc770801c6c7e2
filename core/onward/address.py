"""Where requests may go."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import unquote

import httpx

from onward.errors import PluginError

_ABSOLUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def join(base: str, path: str) -> str:
    """Return the address of a path under a base address.

    Args:
        path: relative, with or without a leading slash, or a whole address.

    Raises:
        PluginError: the path climbs out of the base.
    """
    if _ABSOLUTE.match(path):
        return path
    place = re.split(r"[?#]", path, maxsplit=1)[0]
    if ".." in re.split(r"[/\\]", unquote(place)):
        raise PluginError(
            f'a request to the path "{place[:80]}" was refused: ".." leads out of the '
            "service's base address; quote what is put into a path"
        )
    return f"{base.rstrip('/')}/{path.lstrip('/')}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(url: httpx.URL, allowed: Sequence[str]) -> None:
    """Refuse what is not https (loopback apart) or not on an allowed host.

    Args:
        allowed: `host` for the usual port, else `host:port`; in any case.

    Raises:
        PluginError: naming the host.
    """
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.host)):
        raise PluginError(
            f"a request to {url.host} would go over {url.scheme or 'no scheme'}; "
            "only https is allowed (http on this machine only)"
        )
    if url.userinfo:
        raise PluginError(
            f"a request to {url.host} was refused: its address holds a user name or "
            "password; credentials belong into authenticate()"
        )
    place = f"{url.host}:{url.port}" if url.port else url.host
    if place not in {one.lower() for one in allowed}:
        raise PluginError(
            f"a request to {place} was refused: the integration declares only "
            f"{', '.join(allowed) or 'no host'}"
        )
