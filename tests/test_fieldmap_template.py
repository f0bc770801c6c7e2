"""Tests of `onward.fieldmap.template`: bounded whatever it is given."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.fieldmap.grammar import Refused
from onward.fieldmap.template import Template, is_template
from onward.fieldmap.text import LONGEST, Unfit

LONG = "é " * 4_999
VALUES: dict[str, object] = {
    "email": "ann@shop.example",
    "long": LONG,
    "blank": "",
    "points": 12,
    "huge": 10**300,
    "no": False,
    "tags": ["vip", "new"],
    "many": ["x" * 99] * 999,
    "event": {
        "action": "form.submitted",
        "data": {"items": 3, "none": None, "list": ["a", {"b": 1}], "deep": {"x": "y"}},
    },
}


def render(template: str) -> str:
    """Render with the values of this module."""
    return Template.parse(template).render(VALUES)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("  {{ email }}  ", "ann@shop.example"),
        ("{{ '<b>' }}&", "<b>&"),
        ("{{ blank }}{{ event.data.missing }}{{ event.data.none }}", ""),
        ("{{ event.data.missing.deeper[0].still }}", ""),
        ("{{ event.data.items }}", "3"),
        ("{{ event['data']['deep'].x }}", "y"),
        ("{{ event.data.list[0] }}{{ event.data.list[-9] }}", "a"),
        ("{{ tags[0] }}{{ tags[-1] }}{{ tags[7] }}", "vipnew"),
        ("{{ email[:3] }}", "ann"),
        ("{{ 'abc'[1:] }}{{ 'abc'[0] }}{{ 'abc'[9] }}{{ ['x', 'y'][:1] }}", "bcax"),
        ("{{ tags ~ blank ~ 1.0 ~ no }}", "vip, new10"),
        ("{{ event.data.missing + 'x' + blank }}", "x"),
        (
            "{{ points + 1 }} {{ points - 1 }} {{ points / 8 }} {{ points // 8 }}",
            "13 11 1.5 1",
        ),
        ("{{ 'yes' if points > 10 and 'vip' in tags else 'no' }}", "yes"),
        ("{{ 'yes' if no }}", ""),
        ("{% if blank %}a{% elif email %}b{% else %}c{% endif %}", "b"),
        ("{# only a comment #}", ""),
    ],
)
def test_a_template_renders_plain_data(template: str, expected: str) -> None:
    """Blank is empty text, never "None"; nothing is escaped; the result is stripped."""
    assert render(template) == expected


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{{ long }}{{ long }}", "longer than 10,000 characters (in its template)"),
        ("{{ long ~ long }}", "longer than 10,000 characters (in its template)"),
        ("{{ long + long }}", "longer than 10,000 characters (in its template)"),
        (
            "{{ long | replace('é', email) }}",
            "longer than 10,000 characters (in its template)",
        ),
        (
            "{{ tags | join(long) | join(long) }}" * 2,
            "longer than 10,000 characters (in its template)",
        ),
        ("{{ many | join }}", "longer than 10,000 characters (in its template)"),
        ("{{ event.data }}", "a group of values, not one value (in its template)"),
        ("{{ event.data.list }}", "a group of values, not one value (in its template)"),
        (
            "{{ blank + 1 }}",
            "its template combines values of different kinds"
            " (a blank field is empty text)",
        ),
        (
            "{{ email > 3 }}",
            "its template combines values of different kinds"
            " (a blank field is empty text)",
        ),
        (
            "{{ tags + tags }}",
            "its template combines values of different kinds"
            " (a blank field is empty text)",
        ),
        ("{{ 1 / 0 }}", "its template failed (ZeroDivisionError)"),
        (
            "{{ huge / 3 + huge | float }}{{ email[::0] }}",
            "its template failed (ValueError)",
        ),
        ("{{ event.data.missing > 3 }}", "its template failed (UndefinedError)"),
    ],
)
def test_what_cannot_be_rendered_is_unfit_with_its_cause(
    template: str, cause: str
) -> None:
    """Every failure becomes one sentence without the contact's data."""
    with pytest.raises(Unfit) as unfit:
        render(template)

    assert str(unfit.value) == cause


@pytest.mark.parametrize(
    "template",
    [
        "{{ a" + "~a" * 400 + " }}",
        "{{ a" + "|replace('é', a)" * 20 + " }}",
        "{{ many" + "|join(many|join)" * 20 + " }}",
        "{{ (a~a)" + "|upper" * 20 + " }}",
        "{{ a }}" * 140,
        "{{ " + "(a ~ " * 28 + "a" + ")" * 28 + " }}",
    ],
)
def test_growth_ends_at_the_bound(template: str) -> None:
    """Chains that would double with each step stop at the first step too far."""
    parsed = Template.parse(template)

    with pytest.raises(Unfit, match="longer than 10,000 characters"):
        parsed.render({"a": LONG, "many": VALUES["many"]})


def test_a_template_has_at_most_1000_characters() -> None:
    """One more is refused."""
    assert Template.parse("{{ email }}".ljust(1_000, "x")).names == {"email"}
    with pytest.raises(Refused, match="has 1,001 characters"):
        Template.parse("{{ email }}".ljust(1_001, "x"))


def test_an_unreadable_template_is_refused_with_the_reason() -> None:
    """Jinja2's own words say where it stopped."""
    with pytest.raises(Refused, match="cannot be read: unexpected end of template"):
        Template.parse("{{ email ")


def test_only_braces_make_a_template() -> None:
    """A bare name is never compiled."""
    values = ["first_name", "{{ a }}", "{% if a %}{% endif %}", "{# a #}", "a { b"]

    assert [is_template(value) for value in values] == [False, True, True, True, False]


names = st.sampled_from([name for name in VALUES if name != "event"])
leaves = st.one_of(
    names,
    st.sampled_from(["'x'", "''", "7", "2.5", "true", "none", "['a', 1]"]),
    st.sampled_from(
        ["event.data.items", "event.data.missing.x", "tags[0]", "long[1:]"]
    ),
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = ["~", "+", "-", "/", "//", "==", "<", "in", "and", "or"]
    filters = ["upper", "title", "int", "float", "round", "length", "first", "last"]
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner),
        st.builds("({}|{})".format, inner, st.sampled_from(filters)),
        st.builds("({}|replace({}, {}))".format, inner, inner, inner),
        st.builds("({}|join({}))".format, inner, inner),
        st.builds("({}|default({}))".format, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
    )


@settings(deadline=None, max_examples=2 * settings().max_examples)
@given(st.lists(st.recursive(leaves, _larger, max_leaves=20), min_size=1, max_size=5))
def test_no_allowed_template_leaves_its_bounds(expressions: list[str]) -> None:
    """Whatever the grammar lets in ends in a bounded text or one kind of error."""
    source = "".join(f"{{{{ {expression} }}}}" for expression in expressions)
    try:
        template = Template.parse(source)
    except Refused:
        return

    with contextlib.suppress(Unfit):
        assert len(template.render(VALUES)) <= LONGEST


TOKENS = [*"{}%#()[]|.~+-*/'=<,_ \n0", "{{", "}}", "{%", "%}", "if", "endif", "for"]
TOKENS += ["email", "event.data", "in", "is", "set", "not", "upper", "[-'a']", "[:2]"]


@settings(deadline=None, max_examples=3 * settings().max_examples)
@given(st.lists(st.sampled_from(TOKENS), max_size=60).map("".join))
def test_any_text_is_either_a_template_or_refused(source: str) -> None:
    """No text makes reading a map fail in another way."""
    try:
        template = Template.parse(source)
    except Refused:
        return

    with contextlib.suppress(Unfit):
        assert len(template.render(VALUES)) <= LONGEST
