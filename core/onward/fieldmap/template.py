"""A Jinja2 template that is bounded by what it may contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import jinja2
from jinja2 import ChainableUndefined, TemplateError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from onward.fieldmap.filters import FILTERS, TESTS, string
from onward.fieldmap.grammar import Refused, names_in
from onward.fieldmap.text import Unfit, bounded, is_list

LONGEST_TEMPLATE = 1_000

# What rendering can raise, given what `grammar` lets in.
_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    ValueError,
)


def is_template(value: str) -> bool:
    """Say whether this is more than a bare name."""
    return "{{" in value or "{%" in value or "{#" in value


@dataclass(frozen=True, slots=True)
class Template:
    """One compiled template.

    Args:
        names: contact fields it reads, and `event`.
    """

    names: frozenset[str]
    compiled: jinja2.Template

    @classmethod
    def parse(cls, source: str) -> Template:
        """Check and compile.

        Raises:
            Refused: it is too long, cannot be read, or contains what is not allowed.
        """
        if len(source) > LONGEST_TEMPLATE:
            raise Refused(
                f"has {len(source):,} characters; {LONGEST_TEMPLATE:,} are allowed"
            )
        try:
            tree = _ENVIRONMENT.parse(source)
        except jinja2.TemplateSyntaxError as error:
            raise Refused(f"cannot be read: {error.message}") from None
        except (RecursionError, ValueError):
            raise Refused("is nested too deeply; make it simpler") from None
        names = names_in(tree)
        for joined in tree.find_all(nodes.Concat):
            joined.nodes = [_as_text(node) for node in joined.nodes]
        return cls(names, _ENVIRONMENT.from_string(tree))

    def render(self, context: Mapping[str, object]) -> str:
        """Return the text, stripped.

        Args:
            context: every name of `names` → its value; None is not allowed.

        Raises:
            Unfit: it became too long, or cannot be computed from these values.
        """
        try:
            return bounded(self.compiled.render(context).strip())
        except Unfit as error:
            raise Unfit(f"{error} (in its template)") from None
        except TypeError:
            raise Unfit(
                "its template combines values of different kinds"
                " (a blank field is empty text)"
            ) from None
        except _FAILURES as error:
            raise Unfit(f"its template failed ({type(error).__name__})") from None


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with attribute access replaced by look-up in plain data."""

    # Go through `call_binop`, and are not folded when compiled.
    intercepted_binops = frozenset({"+", "-", "/", "//"})

    def __init__(self) -> None:
        super().__init__(
            autoescape=False, undefined=ChainableUndefined, finalize=string
        )
        self.globals.clear()
        self.filters = dict(FILTERS)
        self.tests = dict(TESTS)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a key of an event's data; attributes of objects do not exist."""
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return a key of a mapping or an entry of a list; missing is blank."""
        found: object = None
        if isinstance(obj, Mapping):
            found = cast("Mapping[object, object]", obj).get(argument)
        elif isinstance(obj, str) or is_list(obj):
            if isinstance(argument, slice):  # of a constant, when it is compiled
                return obj[argument]
            if isinstance(argument, int) and -len(obj) <= argument < len(obj):
                found = obj[argument]
        return self.undefined(name=str(argument)) if found is None else found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Add, subtract and divide numbers; `+` also joins texts, within bounds."""
        if isinstance(left, int | float) and isinstance(right, int | float):
            return self.binop_table[operator](left, right)
        if operator == "+" and _is_text(left) and _is_text(right):
            return bounded(string(left) + string(right))
        raise TypeError


def _is_text(value: object) -> bool:
    return isinstance(value, str | jinja2.Undefined)


def _as_text(node: nodes.Expr) -> nodes.Filter:
    # `~` alone would write a list or None in Python's way and unbounded.
    return nodes.Filter(
        node, "string", [], [], None, None, lineno=node.lineno, environment=_ENVIRONMENT
    )


_ENVIRONMENT = _Environment()
