"""A field map that fits an account: contacts in, texts to send out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from onward.fieldmap.convert import Convert
from onward.fieldmap.text import Unfit, is_blank

Read = Callable[[Mapping[str, object]], object]


@dataclass(frozen=True, slots=True)
class Mapped:
    """What is sent for one contact.

    Args:
        fields: remote name → text; "" empties the remote field, one that is
            left out keeps its value there.
        warnings: what was left out, and why; a sentence each, without values.
        skip: "" or why this contact must not be pushed; then `fields` is empty.
    """

    fields: dict[str, str] = field(default_factory=dict[str, str])
    warnings: tuple[str, ...] = ()
    skip: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One remote field, prepared.

    Args:
        key: contact field of a bare name; `read` is None then.
        plain: text to text: what is a text is sent as it is.
        fill: what is sent for a blank; None = nothing.
        skip: why a blank skips the contact, "" when it does not.
    """

    remote: str
    key: str
    read: Read | None
    plain: bool
    convert: Convert
    limit: int | None
    fill: str | None
    skip: str


class BoundMap:
    """A field map that fits an account.

    Args:
        version: of the field map.
        steps: the remote fields, in the map's order.
    """

    __slots__ = ("_steps", "version")

    def __init__(self, version: str, steps: Sequence[Step]) -> None:
        self.version = version
        # Tuples: attribute access would be half of the time a contact takes.
        self._steps = [
            (s.remote, s.key, s.read, s.plain, s.convert, s.limit, s.fill, s.skip)
            for s in steps
        ]

    def render(self, values: Mapping[str, object]) -> Mapped:
        """Return what is sent for one contact; never raises.

        Args:
            values: contact field → text, number, boolean, date, moment, list of
                texts or None; `event` → `{"action": "form.submitted", "data":
                {...}, "occurred_at": moment}`, the latest event that caused this.
        """
        fields: dict[str, str] = {}
        warnings: list[str] = []
        for remote, key, read, plain, convert, limit, fill, skip in self._steps:
            try:
                value = values.get(key) if read is None else read(values)
                if plain and value.__class__ is str:
                    text: str = value  # pyright: ignore[reportAssignmentType]
                elif value is None or is_blank(value):
                    text = ""
                else:
                    text = convert(value)
            except Unfit as error:
                warnings.append(f"{remote} left out: {error}")
                continue
            if not text or text.isspace():
                if skip:
                    return Mapped({}, tuple(warnings), skip)
                if fill is not None:
                    fields[remote] = fill
            elif limit is not None and len(text) > limit:
                warnings.append(
                    f"{remote} left out: {len(text)} characters,"
                    f" the service takes {limit}"
                )
            else:
                fields[remote] = text
        return Mapped(fields, tuple(warnings))
