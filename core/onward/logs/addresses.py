"""Taking e-mail addresses out of texts that are for logs."""

from __future__ import annotations

import re

ADDRESS = "<address>"

# As it is, in a URL (encoded once or twice), in JSON, in HTML.
_AT = r"(?:@|%40|%2540|\\+u0040|&\#0*64;|&\#[xX]0*40;|&commat;)"
_ESCAPED = r"\\+u[0-9a-fA-F]{4}|\\+x[0-9a-fA-F]{2}|&\#?\w{1,8};"
# Bounded, so that a long text costs linear time whatever is in it.
_LOCAL = rf"""(?:"[^"\n]{{0,64}}"|(?:{_ESCAPED}|[^\s"<>()\[\],;:=?/|\\@]){{1,128}})"""
_DOMAIN = (
    r"(?:\[[^\]\s]{1,64}\]"
    rf"|(?:[\w-]|\.(?=[\w%&\\-])|%[0-9a-fA-F]{{2}}|{_ESCAPED}){{1,255}})"
)
_ADDRESS = re.compile(_LOCAL + _AT + _DOMAIN)
_HINTS = ("@", "%40", "%2540", "u0040", "&#", "&commat;")


def without_addresses(text: str) -> str:
    """Return a text with `<address>` in place of all that looks like an address."""
    # Most texts have none; looking for plain words first is much faster.
    if not any(hint in text for hint in _HINTS):
        return text
    return _ADDRESS.sub(ADDRESS, text)
