"""Taking secrets out of what is stored, logged or shown."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import httpx

from onward.errors import CredentialsRefused, OnwardError
from onward.plain import without_control

MARK = "***"
BODY_BYTES = 20_000

# A secret shorter than this is blanked only where it is a whole value; anywhere
# else it would blank half of every text.
_SHORT = 4
_NAMES = (
    "authorization|password|passwd|pwd|token|secret|credential|cookie|signature"
    "|api-appid|session|key"
)
_WORDS = (
    "authorization",
    "password",
    "passwd",
    "pwd",
    "token",
    "secret",
    "credential",
    "cookie",
    "api-appid",
    "key",
)
# `key` alone is too common a word in bodies: {"key": "value"}.
_FIELD_NAMES = "|".join(_WORDS[:-1]) + "|(?:api|access|private)[-_]?key"
_HEADER_NAMES = (
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "api-password",
    "api-appid",
    "x-api-key",
    "x-auth-token",
)
_NAME = re.compile(_NAMES, re.IGNORECASE)
# In all that follow, repeats before the value are bounded and those of the value
# possessive, so that a long text costs linear time whatever is in it.
_FIELD = re.compile(
    rf"""((?:{_FIELD_NAMES})[\w-]{{0,32}}\\?["']\s{{0,4}}:\s{{0,4}})"""
    r"""(?:\\"(?:[^"\\]|\\(?!"))*+(?:\\")?"""  # JSON within JSON
    r"""|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|[0-9][\w.-]*+)""",
    re.IGNORECASE | re.DOTALL,
)
_FORM_FIELD = re.compile(
    rf"""((?:{_FIELD_NAMES})[\w-]{{0,32}}=)[^&\s"'<>#]++""", re.IGNORECASE
)
_USERINFO = re.compile(r"""(?<=://)[^/?#\s"'<>:@]{0,500}:[^/?#\s"'<>]{0,500}@""")
_ANY_USERINFO = re.compile(r"(?<=://)[^/?#\s]{0,500}@")
_QUERY = re.compile(
    rf"([?&;][\w.\[\]%-]{{0,64}}(?:{_NAMES})[\w.\[\]%-]{{0,64}}=)[^&;#\s]*",
    re.IGNORECASE,
)
_PLAIN_RUN = re.compile("[A-Za-z0-9]+")
# A run of fewer is in half of all texts.
_TELLING = 3
_STANDARD_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class Redactor:
    """Replaces the secrets of one or more connections by `***`.

    Args:
        secrets: their values; blank ones are ignored.
        headers: names of further headers that carry one.
    """

    def __init__(
        self, secrets: Iterable[str] = (), headers: Iterable[str] = ()
    ) -> None:
        values = {secret for secret in secrets if secret.strip()}
        long = {value for value in values if len(value) >= _SHORT}
        self._headers = frozenset(name.lower() for name in headers)
        names = "|".join(map(re.escape, {*_HEADER_NAMES, *self._headers}))
        self._header_line = re.compile(
            rf"^((?:{names}):[ \t]*)\S[^\r\n]*", re.IGNORECASE | re.MULTILINE
        )
        self._words = (*_WORDS, *self._headers)
        self._short = frozenset(values - long)
        self._whole = _whole_values(self._short)
        self._secrets = _any_form(long)
        self._hints = _hints(long)
        # A mark put in may complete a secret that has asterisks itself.
        self._repeat = any("*" in value for value in long)
        # No way of writing a secret is longer than that, not even as \uXXXX.
        self._longest = 6 * max((len(f) for v in long for f in _forms(v)), default=0)

    def headers(self, headers: httpx.Headers | Mapping[str, str]) -> dict[str, str]:
        """Return headers without the values that are or hold secrets."""
        return {
            name: MARK if self._hides(name, value) else self.text(value)
            for name, value in headers.items()
        }

    def _hides(self, name: str, value: str) -> bool:
        return (
            name.lower() in self._headers
            or value.strip() in self._short
            or _NAME.search(name) is not None
        )

    def text(self, text: str) -> str:
        """Return a text without secrets and control characters.

        Besides the known values (plain, percent-encoded, escaped for JSON or HTML,
        in base64 at any offset) it takes out what stands under a name like
        `password`, and the credentials of URLs.
        """
        if "://" in text:
            text = _USERINFO.sub(MARK + "@", text)
        # Most texts name no secret; looking for plain words first is much faster.
        lower = text.lower()
        if any(word in lower for word in self._words):
            text = self._header_line.sub(_keep_name, text)
            text = _FORM_FIELD.sub(_keep_name, text)
            text = _FIELD.sub(rf'\g<1>"{MARK}"', text)
        if self._whole:
            text = self._whole.sub(_keep_quotes, text)
        return without_control(self._without_secrets(text))

    def _without_secrets(self, text: str) -> str:
        if self._secrets is None:
            return text
        # Few texts hold one; looking for a few plain words first is much faster.
        if self._hints and not any(hint in text for hint in self._hints):
            return text
        text, count = self._secrets.subn(MARK, text)
        while count and self._repeat:  # ends: each mark is shorter than any secret
            text, count = self._secrets.subn(MARK, text)
        return text

    def error(self, error: OnwardError) -> OnwardError:
        """Take the secrets out of what an error says; return it."""
        error.args = (self.text(error.message),)
        if isinstance(error, CredentialsRefused):
            error.hint = self.text(error.hint)
            error.choices = {
                name: [(self.text(one), self.text(title)) for one, title in offered]
                for name, offered in error.choices.items()
            }
        return error

    def url(self, url: httpx.URL | str) -> str:
        """Return a URL without credentials and secret query values."""
        text = _ANY_USERINFO.sub(MARK + "@", str(url))
        return self.text(_QUERY.sub(_keep_name, text))

    def body(self, text: str, limit: int = BODY_BYTES) -> str:
        """Return a request's or answer's body without secrets, cut to a length.

        At most `limit` bytes of UTF-8 are kept; the remark on the cut comes on top.
        """
        # A huge body is cut before the search as well. What the search then cannot
        # know whole, at the very end, is dropped too.
        ahead = 2 * limit + self._longest
        kept = self.text(text[:ahead])
        if len(text) > ahead:
            kept = kept[: max(len(kept) - self._longest, 0)]
        raw = kept.encode("utf-8", "replace")
        if len(raw) <= limit and len(text) <= ahead:
            return kept
        cut = raw[:limit].decode("utf-8", "ignore")
        return f"{cut}… [cut; it was {len(text)} characters long]"

    def __repr__(self) -> str:
        return "Redactor()"


class RedactingFilter(logging.Filter):
    """Redacts whole log records; add it to handlers, not to loggers.

    (A logger's filter does not see what its children log.)

    Args:
        redactor: may be replaced at any time, as when a connection is added.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self.redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the secrets out of message, trace and extras; drop no record."""
        redact = self.redactor.text
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # The record's arguments do not fit its text; show what there is.
            message = f"{record.msg} {record.args}"
        record.msg, record.args = redact(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        # The trace goes on as text: the exception itself may hold secrets.
        record.exc_info = None
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in list(vars(record).items()):
            if name not in _STANDARD_RECORD and isinstance(value, str):
                setattr(record, name, redact(value))
        return True


def _keep_name(found: re.Match[str]) -> str:
    return found[1] + MARK


def _keep_quotes(found: re.Match[str]) -> str:
    return f'"{MARK}"' if found[0].startswith('"') else MARK


def _any_form(secrets: set[str]) -> re.Pattern[str] | None:
    patterns: set[tuple[int, str]] = set()
    for secret in secrets:
        patterns |= {(len(form), re.escape(form)) for form in _forms(secret)}
        for core in _base64_cores(secret):
            patterns.add((len(core), re.escape(core) + "[A-Za-z0-9+/_=-]*+"))
        raw = _bytes(secret).hex()
        patterns |= {(len(raw), raw), (len(raw), raw.upper())}
        if _odd(secret):
            patterns.add((len(secret), _encoded_form(secret)))
    # The longest first: of two secrets the one that holds the other.
    listed = [pattern for _, pattern in sorted(patterns, reverse=True)]
    return re.compile("|".join(listed)) if listed else None


def _hints(secrets: set[str]) -> list[str]:
    """Return texts of which one stands in every text that holds a secret.

    Returns:
        Nothing when there is no such text for one of them.
    """
    found: set[str] = set()
    for secret in secrets:
        longest = max(_PLAIN_RUN.findall(secret), key=len, default="")
        if len(longest) < _TELLING:
            return []
        raw = _bytes(secret).hex()
        # No form changes letters and digits, but hex and base64.
        found |= {longest, *_base64_cores(secret), raw, raw.upper()}
    return sorted(found)


def _whole_values(secrets: Iterable[str]) -> re.Pattern[str] | None:
    quoted = "|".join(re.escape(json.dumps(value)) for value in secrets)
    bare = "|".join(re.escape(quote(value, safe="")) for value in secrets)
    if not quoted:
        return None
    return re.compile(rf"(?:{quoted})(?!\s*:)|(?<==)(?:{bare})(?=[&\s]|$)")


def _odd(secret: str) -> bool:
    return not (secret.isascii() and secret.isalnum())


def _forms(secret: str) -> set[str]:
    """Return the ways a secret is written out in logs and bodies."""
    escaped = json.dumps(secret)[1:-1]
    unescaped = json.dumps(secret, ensure_ascii=False)[1:-1]
    forms = {
        secret,
        escaped,
        unescaped,
        escaped.replace("/", "\\/"),  # as PHP writes it
        unescaped.replace("/", "\\/"),
        html.escape(secret),
        html.escape(secret, quote=False),
        repr(secret)[1:-1],
        repr(_bytes(secret))[2:-1],
    }
    return {form for form in forms if len(form) >= _SHORT}


def _encoded_form(secret: str) -> str:
    """Return a pattern of the secret with any of its odd characters encoded.

    For a URL (once or twice), for JSON as four hex digits, for HTML as a number.
    """
    parts: list[str] = []
    for character in secret:
        if character.isascii() and character.isalnum():
            parts.append(character)
            continue
        url = "".join(f"%(?:25)?(?i:{byte:02x})" for byte in _bytes(character))
        units = character.encode("utf-16-be", "surrogatepass").hex()
        pairs = (units[i : i + 4] for i in range(0, len(units), 4))
        escaped = "".join(rf"\\u(?i:{pair})" for pair in pairs)
        named = rf"&\#0*(?:{ord(character)}|(?i:x0*{ord(character):x}));"
        plus = r"|\+" if character == " " else ""
        parts.append(f"(?:{url}|{escaped}|{named}{plus}|{re.escape(character)})")
    return "".join(parts)


def _base64_cores(secret: str) -> set[str]:
    """Return the letters that any base64 of a text with this secret must hold.

    Basic auth encodes `user:secret`, so the secret may begin at each of three places
    within a group of three bytes; only letters it determines alone are looked for.
    """
    cores: set[str] = set()
    encodings = [_bytes(secret)]
    if max(secret) <= "\xff":
        encodings.append(secret.encode("latin-1"))  # what older clients send
    for raw in encodings:
        for offset in range(3):
            first = (8 * offset + 5) // 6
            end = 8 * (offset + len(raw)) // 6
            text = base64.b64encode(b"\0" * offset + raw).decode()[first:end]
            cores |= {text, text.replace("+", "-").replace("/", "_")}
    return cores


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
