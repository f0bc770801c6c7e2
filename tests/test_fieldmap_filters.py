"""Tests of `onward.fieldmap.filters`, as templates use them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from onward.fieldmap.template import Template
from onward.fieldmap.text import Unfit

VALUES = {
    "company": " acme COMPANY ",
    "blank": "",
    "tags": ["vip", "new"],
    "points": 12.5,
    "age": "41.9",
    "born": "1990-05-06",
    "seen": datetime(2026, 3, 4, 10, tzinfo=UTC),
}


def render(template: str) -> str:
    """Render with the values of this module."""
    return Template.parse(template).render(VALUES)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ company | trim | title }}", "Acme Company"),
        ("{{ company | upper }}", "ACME COMPANY"),
        ("{{ company | lower }}", "acme company"),
        ("{{ company | trim | capitalize }}", "Acme company"),
        ("{{ company | replace('COMPANY', 'Inc') }}", "acme Inc"),
        ("{{ 'North Carolina' | truncate(10) }}", "North..."),
        ("{{ 'North Carolina' | truncate(10, true, '') }}", "North Caro"),
        ("{{ 'ab' | truncate(1) }}", "."),
        ("{{ 'ab' | truncate(2) }}", "ab"),
        ("{{ blank | default('none') }}", "none"),
        ("{{ points | d('none') }}", "12.5"),
        ("{{ tags }}", "vip, new"),
        ("{{ tags | join('-') }}", "vip-new"),
        ("{{ company | join('-') }}", "acme COMPANY"),
        ("{{ tags | first }} {{ tags | last }}", "vip new"),
        ("{{ blank | first }}{{ blank | last }}", ""),
        ("{{ 'ab' | first }}", "a"),
        ("{{ tags | length }}{{ 'abc' | count }}{{ blank | length }}", "230"),
        ("{{ age | int + 1 }}", "42"),
        ("{{ age | float }}", "41.9"),
        ("{{ points | int }}", "12"),
        ("{{ 3 | float }}", "3"),
        ("{{ blank | int }}{{ blank | float }}{{ blank | round }}", ""),
        ("{{ blank | int(0) }}", "0"),
        ("{{ 'soon' | int(7) }}", "7"),
        ("{{ age | round }}", "42"),
        ("{{ 2.345 | round(1) }}", "2.3"),
        ("{{ born | date('%d.%m.%Y') }}", "06.05.1990"),
        ("{{ seen | date('%Y-%m-%d %H:%M') }}", "2026-03-04 10:00"),
        ("{{ seen }}", "2026-03-04"),
        ("{{ blank | date }}", ""),
        ("{{ points | string ~ '!' }}", "12.5!"),
        ("{{ 'yes' if company is defined }}", "yes"),
        ("{{ 'yes' if blank is defined }}", ""),
        ("{{ 'yes' if blank is blank and blank is none }}", "yes"),
        ("{{ 'yes' if 'vip' is in tags and points is gt 3 }}", "yes"),
    ],
)
def test_a_filter_does_what_it_says(template: str, expected: str) -> None:
    """Each listed filter and test, with blanks and with other types."""
    assert render(template) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ company | replace('', company) }}",
        "{{ 'soon' | int }}",
        "{{ points | round(400) }}",
        "{{ 'soon' | date }}",
        "{{ born | date(date_format='%9d') }}",
        "{{ born | date(company) }}",
    ],
)
def test_a_filter_that_cannot_says_so(template: str) -> None:
    """What cannot be computed is left out, never approximated."""
    with pytest.raises(Unfit):
        render(template)
