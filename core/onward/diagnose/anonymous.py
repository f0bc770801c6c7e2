"""Plain data without secrets and without e-mail addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

import orjson
from sqlalchemy import select

from onward.models import Identity, table
from onward.redact import MARK, Redactor
from onward.runtime import Runtime

identities = table(Identity)

# What stands around an address in texts, JSON, URLs and SQL.
_AROUND = r"\s\"'`<>()\[\]{},;:=&?/\\|"
_ADDRESS = re.compile(
    rf"[^{_AROUND}@]{{1,64}}(?:@|%40)[^{_AROUND}@%]{{1,250}}", re.IGNORECASE
)
_NAMED_UNICODE = re.compile(r"\\u[0-9a-fA-F]{4}")


class Anonymous:
    """Takes secrets and e-mail addresses out of plain data.

    An address becomes the id of its contact, or a number when it is nobody's, the
    same one wherever it stands.
    """

    def __init__(self, runtime: Runtime, redactor: Redactor) -> None:
        self._runtime = runtime
        self._redact = redactor.text
        self._names: dict[str, str] = {}

    def clean(self, value: object) -> object:
        """Return the same data without them; keys of mappings included."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            known = cast("Mapping[object, object]", value)
            return {self._text(str(k)): self.clean(v) for k, v in known.items()}
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
            return [self.clean(one) for one in cast("Sequence[object]", value)]
        return value

    def _text(self, text: str) -> str:
        text = self._redact(text)
        if "@" in text or "%40" in text or "\\u0040" in text:
            # Spelled out, a secret can be seen that could not be before.
            text = self._redact(_NAMED_UNICODE.sub(_spelled_out, text))
            text = _ADDRESS.sub(lambda found: self._name(found[0]), text)
        return text

    def _name(self, written: str) -> str:
        if written.startswith(MARK):
            return written  # credentials of a URL, taken out already
        # The full stop of a sentence is no part of it.
        bare = written.rstrip(".")
        address = bare.replace("%40", "@").lower()
        if address not in self._names:
            with self._runtime.database.read() as transaction:
                who = transaction.execute(
                    select(identities.c.contact_id).where(
                        identities.c.kind == "email", identities.c.value == address
                    )
                ).scalar()
            number = len(self._names) + 1
            self._names[address] = f"contact-{who}" if who else f"address-{number}"
        return self._names[address] + written[len(bare) :]


def _spelled_out(found: re.Match[str]) -> str:
    return str(orjson.loads(f'"{found[0]}"')) if found[0][2] not in "dD" else found[0]
