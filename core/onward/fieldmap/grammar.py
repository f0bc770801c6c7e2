"""What a template may consist of: a list of what is allowed, not of dangers.

A template runs in a worker's thread, where nothing can stop it. So only parts
whose work and output grow with their own length are let in; everything else
is refused when the map is saved.
"""

from __future__ import annotations

import inspect
from typing import NoReturn

from jinja2 import nodes

from onward.fieldmap.filters import FILTERS, TESTS
from onward.fieldmap.hints import listed, meant
from onward.fieldmap.text import why_no_date_format

DEEPEST = 30
EVENT = "event"
EVENT_PARTS = ("action", "data", "occurred_at")

# Names Jinja2 gives a meaning of its own.
_RESERVED = frozenset({"self", "super", "caller", "varargs", "kwargs"})

_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Add,
    nodes.And,
    nodes.Compare,
    nodes.Concat,
    nodes.CondExpr,
    nodes.Const,
    nodes.Div,
    nodes.Filter,
    nodes.FloorDiv,
    nodes.Getattr,
    nodes.Getitem,
    nodes.If,
    nodes.Keyword,
    nodes.List,
    nodes.Name,
    nodes.Neg,
    nodes.Not,
    nodes.Operand,
    nodes.Or,
    nodes.Output,
    nodes.Pos,
    nodes.Slice,
    nodes.Sub,
    nodes.Template,
    nodes.TemplateData,
    nodes.Test,
    nodes.Tuple,
)

_NAMED: dict[type[nodes.Node], str] = {
    nodes.Assign: "{% set %}",
    nodes.AssignBlock: "{% set %}",
    nodes.Block: "{% block %}",
    nodes.Call: "a call such as name()",
    nodes.CallBlock: "{% call %}",
    nodes.Dict: "a dictionary",
    nodes.Extends: "{% extends %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.For: "a loop ({% for %})",
    nodes.FromImport: "{% import %}",
    nodes.Import: "{% import %}",
    nodes.Include: "{% include %}",
    nodes.Macro: "{% macro %}",
    nodes.Mod: "the operator %",
    nodes.Mul: "the operator *",
    nodes.Pow: "the operator **",
    nodes.With: "{% with %}",
}


class Refused(ValueError):
    """This template is not let in; the message says why and what to do."""


def names_in(template: nodes.Template) -> frozenset[str]:
    """Check every part of a parsed template and return the names it reads.

    Raises:
        Refused: a part is not on the list.
    """
    names: set[str] = set()
    _check(template, names, 0)
    return frozenset(names)


def _check(node: nodes.Node, names: set[str], depth: int) -> None:
    if depth > DEEPEST:
        raise Refused("is nested too deeply; make it simpler")
    if type(node) not in _ALLOWED:
        what = _NAMED.get(type(node), f"a {type(node).__name__.lower()}")
        raise Refused(
            f"uses {what}, which templates may not; allowed are fields, {{% if %}},"
            " comparisons, +, -, /, ~ and filters, as in {{ first_name | title }}"
        )
    if isinstance(node, nodes.Filter):
        _check_use(node, "filter")
    elif isinstance(node, nodes.Test):
        _check_use(node, "test")
    elif isinstance(node, nodes.Name):
        names.add(_checked_name(node.name))
    elif isinstance(node, nodes.Getattr | nodes.Getitem) and _is_path(node):
        names.add(EVENT)
        return
    for child in node.iter_child_nodes():
        _check(child, names, depth + 1)


def _checked_name(name: str) -> str:
    if name == EVENT:
        _refuse_event()
    if name.startswith("_") or name in _RESERVED:
        raise Refused(f'names "{name}", which is no field; remove it')
    return name


def _is_path(node: nodes.Getattr | nodes.Getitem) -> bool:
    """Say whether this is `event.data.form`; False for `tags[0]` and `city[:3]`."""
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return False
    parts: list[str | int] = []
    inner: nodes.Node = node
    while isinstance(inner, nodes.Getattr | nodes.Getitem):
        key = inner.attr if isinstance(inner, nodes.Getattr) else _index(inner.arg)
        if isinstance(key, str) and key.startswith("_"):
            raise Refused(f'asks for "{key}", and names starting with _ are closed')
        parts.append(key)
        inner = inner.node
    if isinstance(inner, nodes.Name) and inner.name == EVENT:
        if parts[-1] not in EVENT_PARTS:
            _refuse_event()
        return True
    if any(isinstance(key, str) for key in parts):
        raise Refused(
            f'asks for the part "{parts[-1]}" of something that has no parts; only'
            " event has them, and a filter is written {{ first_name | upper }}"
        )
    return False


def _index(argument: nodes.Node) -> str | int:
    negative = isinstance(argument, nodes.Neg)
    constant = argument.node if isinstance(argument, nodes.Neg) else argument
    if isinstance(constant, nodes.Const):
        key: object = constant.value
        if isinstance(key, int) or (isinstance(key, str) and not negative):
            return key
    raise Refused("uses a computed index; write the name or number, as in tags[0]")


def _check_use(node: nodes.Filter | nodes.Test, kind: str) -> None:
    known = FILTERS if kind == "filter" else TESTS
    if node.name not in known:
        raise Refused(
            f'uses the {kind} "{node.name}", which is not one of the allowed'
            f"{meant(node.name, known)}; allowed: {listed(known)}"
        )
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise Refused(f'spreads arguments into the {kind} "{node.name}"; list them')
    try:
        inspect.signature(known[node.name]).bind(
            None, *node.args, **{str(pair.key): pair.value for pair in node.kwargs}
        )
    except TypeError as error:
        raise Refused(f'uses the {kind} "{node.name}" wrongly: {error}') from None
    if node.name == "date" and node.args and isinstance(node.args[0], nodes.Const):
        problem = why_no_date_format(str(node.args[0].value))
        if problem:
            raise Refused(f"has a date format that {problem}")


def _refuse_event() -> NoReturn:
    raise Refused(
        "uses event without one of its parts; write event.action, event.occurred_at"
        " or event.data.NAME"
    )
