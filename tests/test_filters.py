"""The filter language: what each operator means, what is refused, what is said."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.errors import ConfigError
from onward.filters import OPERATORS, Filter

# Generating is slow on a busy machine, and the first texts build a large table.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
FACTS: dict[str, object] = {
    "action": "form.submitted",
    "email": "sam@bakery.example",
    "country": "NL",
    "city": "",
    "fax": None,
    "points": 50,
    "plan_seats": "12",
    "vip": True,
    "tags": ["Reader", "baker"],
    "segments": [],
    "birthday": "1990-05-17",
    "created_at": datetime(2026, 3, 8, 23, 30, tzinfo=UTC),
    "data": {
        "form": "signup",
        "order": {"total": 19.5, "items": [{"sku": "a1"}, {"sku": "b2"}]},
        "utm.source": "mail",
    },
}


def holds(*condition: object) -> bool:
    """Tell whether one condition is true of the facts above."""
    return Filter.parse([list(condition)], source="test").holds(FACTS, NOW)


@pytest.mark.parametrize(
    "condition",
    [
        ("country", "is", "nl"),
        ("country", "IS  NOT", "DE"),
        ("country", "in", ["NL", "BE"]),
        ("country", "not in", ["DE", 3]),
        ("fax", "is not", "DE"),
        ("fax", "not in", ["DE"]),
        ("points", "is", 50),
        ("points", "is", "50"),
        ("points", "in", [40, 50]),
        ("plan_seats", "is", 12),
        ("plan_seats", "is", 12.0),
        ("plan_seats", ">", 9),
        ("plan_seats", "<=", "12"),
        ("vip", "is", True),
        ("vip", "is", "yes"),
        ("vip", "is", 1),
        ("email", "contains", "BAKERY"),
        ("email", "does not contain", "gmail"),
        ("fax", "does not contain", "1"),
        ("email", "starts with", "sam@"),
        ("email", "ends with", ".EXAMPLE"),
        ("email", "matches", "*@bakery.*"),
        ("action", "matches", "form.*"),
        ("city", "is blank"),
        ("fax", "is blank"),
        ("segments", "is blank"),
        ("no_such_field", "is blank"),
        ("country", "is not blank"),
        ("tags", "has", "reader"),
        ("tags", "is", "baker"),
        ("tags", "lacks", "vip"),
        ("tags", "in", ["vip", "BAKER"]),
        ("segments", "lacks", "vip"),
        ("points", ">=", 50),
        ("points", "<", 50.5),
        ("birthday", "before", "2000-01-01"),
        ("birthday", "after", date(1990, 5, 16)),
        ("birthday", ">=", "1990-05-17"),
        ("birthday", "is", date(1990, 5, 17)),
        ("created_at", "after", "2026-03-07"),
        ("created_at", "<=", "2026-03-08"),
        ("created_at", ">", datetime(2026, 3, 8, 23, 29, tzinfo=UTC)),
        ("created_at", "before", "2026-03-09T01:00:00+01:00"),
        ("created_at", "within", "7 days"),
        ("created_at", "not within", "24h"),
        ("birthday", "not within", "2w"),
        ("data.form", "is", "signup"),
        ("data.order.total", ">", 19),
        ("data.order.items.1.sku", "is", "b2"),
        ("data.utm.source", "is", "mail"),
    ],
)
def test_true_conditions(condition: tuple[object, ...]) -> None:
    """Each of these is true of the facts above."""
    assert holds(*condition)


@pytest.mark.parametrize(
    "condition",
    [
        ("country", "is", "N"),
        ("country", "is", " NL"),
        ("country", "is not", "nl"),
        ("country", "in", ["DE"]),
        ("fax", "is", "x"),
        ("fax", ">", 0),
        ("fax", "before", "2030-01-01"),
        ("email", "matches", "bakery"),
        ("email", ">", 3),
        ("points", ">", 50),
        ("points", "is", "fifty"),
        ("points", "before", "2030-01-01"),
        ("points", "is blank"),
        ("vip", "is", False),
        ("vip", "is", 2),
        ("tags", "has", "read"),
        ("tags", "lacks", "reader"),
        ("birthday", "within", "7 days"),
        ("created_at", "within", "36h"),
        ("created_at", "after", "2026-03-08"),
        ("data.order", "is", "x"),
        ("data.order", "is blank"),
        ("data.order.items.2.sku", "is", "b2"),
        ("data.form.name", "is", "signup"),
        ("data.order.items.one", "is", "b2"),
    ],
)
def test_false_conditions(condition: tuple[object, ...]) -> None:
    """Each of these is false of the facts above."""
    assert not holds(*condition)


def test_all_must_hold() -> None:
    """A filter is true if all its conditions are; an empty one always is."""
    both = Filter.parse([["country", "is", "NL"], ["points", ">", 100]], source="test")

    assert not both.holds(FACTS)
    assert both.holds({**FACTS, "points": 101})
    assert Filter().holds({})


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        (("country", "in", ["DE", "BE"]), 'country is "NL", wanted one of "DE", "BE"'),
        (("country", "is", "DE"), 'country is "NL", wanted "DE"'),
        (("country", "is not", "NL"), 'country is "NL", wanted anything but "NL"'),
        (("fax", "is", "1"), 'fax is blank, wanted "1"'),
        (("fax", "is not blank"), "fax is blank, wanted any value"),
        (("country", "is blank"), 'country is "NL", wanted it blank'),
        (("points", ">", 100), "points is 50, wanted more than 100"),
        (("points", ">=", 100), "points is 50, wanted at least 100"),
        (("vip", "is", False), "vip is true, wanted false"),
        (("tags", "has", "x"), 'tags is "Reader", "baker", wanted "x" among them'),
        (("email", "matches", "*.org"),
         'email is "sam@bakery.example", wanted text like "*.org"'),
        (("birthday", "after", date(2000, 1, 1)),
         'birthday is "1990-05-17", wanted a date after 2000-01-01'),
        (("data.order", "is", "x"), 'data.order is a table, wanted "x"'),
    ],
)  # fmt: skip
def test_explanations(condition: tuple[object, ...], sentence: str) -> None:
    """The first false condition is told: what is, and what was wanted."""
    rows = [["action", "is not blank"], list(condition), ["country", "is", "XX"]]
    found = Filter.parse(rows, source="test")

    assert found.explain(FACTS, NOW) == (False, sentence)


def test_nothing_to_explain() -> None:
    """A filter that holds has no sentence."""
    assert Filter.parse([["country", "is", "NL"]], source="").explain(FACTS) == (
        True,
        "",
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            "country is NL",
            'rule "x": a filter is a list of conditions, as [["country", "is", "NL"]]',
        ),
        (
            ["country", "is", "NL"],
            'rule "x": each condition of a filter has its own brackets, as'
            ' [["country", "is", "NL"]]',
        ),
        (
            [["country", "is", "NL"], 3],
            'rule "x": condition 2: must be [field, operator, value], as'
            ' ["country", "is", "NL"]',
        ),
        (
            [list[object]()],
            'rule "x": condition 1: must begin with the name of a field',
        ),
        (
            [["contry", "is", "NL"]],
            'rule "x": condition 1: there is no field "contry"; did you mean'
            ' "country"?',
        ),
        (
            [["form", "is", "x"]],
            'rule "x": condition 1: there is no field "form"; a custom field must be'
            ' declared; of an event, write "data.form"',
        ),
        (
            [["data", "is", "x"]],
            'rule "x": condition 1: "data" holds many values; name one, as "data.form"',
        ),
        (
            [["country", "start with", "x"]],
            'rule "x": condition 1: "start with" is not an operator; did you mean'
            ' "starts with"?',
        ),
        (
            [["country", "is"]],
            'rule "x": condition 1: "is" takes one value after it',
        ),
        (
            [["country", "is blank", True]],
            'rule "x": condition 1: "is blank" takes nothing after it',
        ),
        (
            [["country", "is", ""]],
            'rule "x": condition 1: needs a value; for blank use "is blank" or'
            ' "is not blank"',
        ),
        (
            [["country", "is", ["NL"]]],
            'rule "x": condition 1: needs one value: text, a number, a date, true or'
            " false",
        ),
        (
            [["country", "in", "NL"]],
            'rule "x": condition 1: needs a list of values, as ["NL", "BE"]',
        ),
        (
            [["points", ">", "many"]],
            'rule "x": condition 1: needs a number or a date, as 2026-01-31; got'
            ' "many"',
        ),
        (
            [["birthday", "before", 3]],
            'rule "x": condition 1: needs a date, as 2026-01-31; got 3',
        ),
        (
            [["created_at", "within", "long"]],
            'rule "x": condition 1: needs a length of time, as "7 days", "24h" or "2w"',
        ),
        (
            [["country", "matches", "[N"]],
            'rule "x": condition 1: the pattern "[n" has a "[" without its "]"',
        ),
    ],
)
def test_refused(raw: object, message: str) -> None:
    """What cannot be used is refused in one sentence that says what to write."""
    known = ["country", "points", "birthday", "created_at"]

    with pytest.raises(ConfigError) as caught:
        Filter.parse(raw, source='rule "x"', known=known)

    assert caught.value.message == message


def test_known_fields() -> None:
    """Known contact fields, the action and every path into the data may be named."""
    rows = [["country", "is", "x"], ["action", "is", "x"], ["data.a.b", "is", "x"]]
    found = Filter.parse(rows, source="", known=["country"])

    assert found.fields() == {"country", "action", "data.a.b"}
    assert Filter.parse([["anything", "is", "x"]], source="").fields() == {"anything"}


def test_plain_data_and_back() -> None:
    """A filter gives back what it was read from, and equals a second reading."""
    rows: list[list[object]] = [["country", "in", ["NL"]], ["fax", "is blank"]]
    found = Filter.parse(rows, source="")

    assert found.plain() == rows
    assert Filter.parse(found.plain(), source="") == found


def test_integers_beyond_writing_out() -> None:
    """An integer that Python refuses to write out is compared and shown."""
    found = Filter.parse([["points", "<", 5]], source="")

    assert found.explain({"points": 10**5000}) == (
        False,
        "points is a very large number, wanted less than 5",
    )


def test_glob_is_bounded() -> None:
    """A pattern of many stars is answered at once, however long the text."""
    greedy = Filter.parse([["city", "matches", "*a" * 50 + "b"]], source="")

    assert not greedy.holds({"city": "a" * 100_000})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.sampled_from([10**400, -(10**400), float("nan"), float("inf"), "1e5", "٣",
                       "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "²"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from("ab01"), inner, max_size=3)
    ),
    max_leaves=8,
)


@CALM
@given(
    facts=st.dictionaries(st.sampled_from(["a", "b", "data"]), VALUES),
    name=st.sampled_from(["a", "b", "data.a", "data.a.b", "data.0", "data.a.1.b"]),
    operator=st.sampled_from(sorted(OPERATORS)),
    wanted=VALUES | st.sampled_from(["7 days", "99999w", "2026-01-31", 5]),
)
def test_never_raises_on_facts(
    facts: dict[str, object], name: str, operator: str, wanted: object
) -> None:
    """Whatever the facts are, a filter that was accepted answers and explains."""
    row = [name, operator, wanted][: 2 + OPERATORS[operator].takes]
    try:
        found = Filter.parse([row], source="")
    except ConfigError:
        return

    answer, sentence = found.explain(facts, NOW)

    assert answer is found.holds(facts, NOW)
    assert answer is not bool(sentence)


@CALM
@given(raw=VALUES | st.lists(st.lists(VALUES, max_size=4), max_size=3))
def test_any_raw_filter_is_read_or_refused(raw: object) -> None:
    """Whatever stands in its place, parsing gives a filter or a ConfigError."""
    try:
        found = Filter.parse(raw, source="x", known=["a"])
    except ConfigError:
        return

    assert Filter.parse(found.plain(), source="x", known=["a"]) == found


OPPOSITES = [("is", "is not"), ("in", "not in"), ("has", "lacks"),
             ("contains", "does not contain"), ("within", "not within")]  # fmt: skip


@CALM
@given(fact=VALUES, pair=st.sampled_from(OPPOSITES), text=st.text(min_size=1))
def test_opposites(fact: object, pair: tuple[str, str], text: str) -> None:
    """An operator and its opposite never agree, on no fact."""
    wanted: object = {"in": [text], "within": "7 days"}.get(pair[0], text)
    try:
        plain, opposite = (
            Filter.parse([["a", word, wanted]], source="") for word in pair
        )
    except ConfigError:
        return

    assert plain.holds({"a": fact}, NOW) is not opposite.holds({"a": fact}, NOW)
