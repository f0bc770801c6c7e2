"""Tests of `onward.fieldmap.grammar`: what a template may consist of."""

from __future__ import annotations

import pytest

from onward.fieldmap.grammar import Refused
from onward.fieldmap.template import Template


@pytest.mark.parametrize(
    "template",
    [
        # Doors into Python.
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ email.__class__.__mro__ }}",
        "{{ email | attr('__class__') }}",
        "{{ event.data.__class__ }}",
        "{{ event.data['_x'] }}",
        "{{ event.__init__ }}",
        "{{ _private }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ email.format }}",
        "{{ email.upper() }}",
        "{{ email[city] }}",
        "{{ email['x' ~ city] }}",
        "{{ email[-'x'] }}",
        "{{ tags[:2][:1].x }}",
        "{{ event[city] }}",
        "{{ tags[:2].x }}",
        "{{ event.data.x[:2]['y'] }}",
        # Work without end.
        "{% for x in tags %}{% endfor %}",
        "{{ range(10**9) | join }}",
        "{{ range(999999999) }}",
        "{{ lipsum(n=9999) }}",
        "{{ cycler(1) }}",
        "{{ namespace(a=1) }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 'x' * 999999999 }}",
        "{{ [1] * 999999 }}",
        "{{ '%999999999d' % 1 }}",
        # Growth.
        "{% set x = email ~ email %}{% set x = x ~ x %}{% set x = x ~ x %}",
        "{% set x %}{{ email }}{% endset %}",
        "{{ 'x' | center(999999999) }}",
        "{{ 'x' | indent(999999999) }}",
        "{{ 'x' | wordwrap(1, wrapstring=email) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ tags | batch(999999999, 'x') }}",
        "{{ tags | slice(999999999) }}",
        "{{ tags | map('upper') }}",
        "{{ email | pprint }}",
        "{{ email | urlize }}",
        "{{ email | tojson }}",
        # Other parts of the language.
        "{% macro m() %}{% endmacro %}",
        "{% call email() %}{% endcall %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block b %}{% endblock %}",
        "{% filter upper %}x{% endfilter %}",
        "{% with x = 1 %}{% endwith %}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ {'a': 1} }}",
        "{{ email | upper(*tags) }}",
        "{{ email | upper(**event.data) }}",
        "{{ email is callable }}",
        "{{ email is sameas(1, 2) }}",
        # Depth.
        "{{ " + "(" * 450 + "1" + ")" * 450 + " }}",
        "{{ " + "not " * 100 + "email }}",
        "{{ " + "-" * 100 + "1 }}",
        "{{ email" + "|upper" * 100 + " }}",
        "{{ " + "[" * 100 + "]" * 100 + " }}",
        "{% if a %}" * 50 + "{% endif %}" * 50,
        "{{ event.data" + ".a" * 400 + "['_b'] }}",
    ],
)
def test_an_attack_is_refused_when_the_map_is_read(template: str) -> None:
    """Nothing of this list reaches a worker."""
    with pytest.raises(Refused):
        Template.parse(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ email.upper() }}",
            "uses a call such as name(), which templates may not; allowed are fields,"
            " {% if %}, comparisons, +, -, /, ~ and filters, as in"
            " {{ first_name | title }}",
        ),
        (
            "{{ email.upper }}",
            'asks for the part "upper" of something that has no parts; only event has'
            " them, and a filter is written {{ first_name | upper }}",
        ),
        (
            "{{ event.form }}",
            "uses event without one of its parts; write event.action,"
            " event.occurred_at or event.data.NAME",
        ),
        (
            "{{ email | truncate(1, 2, 3, 4) }}",
            'uses the filter "truncate" wrongly: too many positional arguments',
        ),
        (
            "{{ born | date('%B') }}",
            'has a date format that does not know "%B"; it knows'
            " %Y %m %d %H %M %S %y %j %%",
        ),
    ],
)
def test_a_refusal_says_what_to_write(template: str, message: str) -> None:
    """The sentence names the part and the way it is allowed."""
    with pytest.raises(Refused) as refused:
        Template.parse(template)

    assert str(refused.value) == message


def test_a_misspelt_filter_is_recognised() -> None:
    """The near one is offered, the others are listed."""
    with pytest.raises(Refused, match=r'"uper".*did you mean "upper".*capitalize'):
        Template.parse("{{ email | uper }}")


def test_names_are_found_wherever_they_are() -> None:
    """Conditions, filter arguments, indexes and events count; constants do not."""
    template = Template.parse(
        "{% if points > 3 and 'vip' in tags %}{{ city | default(state) }}"
        "{% elif true %}{{ event.data.form ~ phone[:3] }}{% else %}{{ tags[0] }}"
        "{% endif %}"
    )

    assert template.names == {"points", "tags", "city", "state", "event", "phone"}
