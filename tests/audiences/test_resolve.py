"""Audiences by key, and a filter followed through those it names."""

from __future__ import annotations

import pytest

from onward.audiences.book import read_book
from onward.audiences.resolve import resolve
from onward.errors import ConfigError, InputError
from onward.filters import Filter
from onward.filters.names import audiences_of, connections_of, remote_fact
from onward.models import Audience as AudienceRow
from onward.testing.app import START

from .conftest import ACME, People, audience, conditions


def said(raw: object, known: tuple[str, ...] = ("country",)) -> str:
    """Return why a filter cannot be used."""
    with pytest.raises(ConfigError) as error:
        Filter.parse(raw, source="", known=known)
    return error.value.message


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("acme.status", ("acme", "status")),
        ("shop.eu-1.created_at", ("shop.eu-1", "created_at")),
        ("acme.status.status", ("acme.status", "status")),
        ("acme.city", None),
        ("status", None),
        (".status", None),
        ("data.status", None),
        ("data.order.status", None),
    ],
)
def test_a_fact_of_a_connection_follows_the_last_dot(
    field: str, found: tuple[str, str] | None
) -> None:
    """A connection's name may hold dots; what an event brought is never one."""
    assert remote_fact(field) == found


def test_a_filter_tells_whom_it_names() -> None:
    """Connections by fact and by name, audiences by key; patterns name nobody."""
    one = conditions(
        ("acme.status", "is", "normal"),
        ("connections", "in", ["Shop", "b"]),
        ("connections", "matches", "x*"),
        ("audience", "is not", "Hot"),
    )

    assert connections_of(one) == {"acme", "shop", "b"}
    assert audiences_of(one) == {"hot"}


def test_what_cannot_be_asked_is_refused() -> None:
    """An audience is asked for by its whole key; an unknown fact is said."""
    assert said([["audience", "contains", "hot"]]) == (
        'condition 1: "audience" takes only is, is not, in, not in, has, lacks'
    )
    assert said([["acme.adress", "is", "x"]]) == (
        'condition 1: there is no field "acme.adress"; of a connection there are: '
        "created_at, first_seen_at, status, segments, differs"
    )
    assert "did you mean" in said([["conections", "has", "acme"]])


def test_audiences_are_followed_in_the_order_they_need_each_other() -> None:
    """What is named by what is named is answered first; all facts are asked for."""
    book = {
        "rich": conditions(("points", ">", 10)),
        "dutch-rich": conditions(("audience", "is", "rich"), ("country", "is", "NL")),
        "poor": conditions(("audience", "is not", "rich")),
    }
    question = resolve(conditions(("audience", "in", ["dutch-rich", "poor"])), book)

    assert list(question.behind) == ["rich", "dutch-rich", "poor"]
    assert question.asks == {"audience", "points", "country"}
    assert question.holds({"points": 11, "country": "NL"}, START)
    assert not question.holds({"points": 11, "country": "BE"}, START)
    assert question.holds({"points": 10}, START)
    wrong = question.explain({"points": 11}, START)[1]
    assert wrong == 'audience is "rich", wanted one of "dutch-rich", "poor"'


def test_a_circle_and_a_wrong_key_are_said() -> None:
    """A circle has no answer; for a key that is nearly right the right one is said."""
    book = {
        "a": conditions(("audience", "is", "b")),
        "b": conditions(("audience", "is not", "c")),
        "c": conditions(("audience", "is", "b")),
        "hot-leads": Filter(),
    }

    with pytest.raises(InputError) as circle:
        resolve(book["a"], book, key="a")
    with pytest.raises(InputError) as itself:
        resolve(conditions(("audience", "is", "x")), {"x": Filter()}, key="x")
    with pytest.raises(InputError) as wrong:
        resolve(conditions(("audience", "is", "hot-leadz")), book)

    assert circle.value.message == (
        "the audience b, which names c, which names b: a circle has no answer; take "
        "one of them out of the conditions"
    )
    assert itself.value.message.startswith("the audience x, which names x: a circle")
    assert wrong.value.message == (
        'there is no audience "hot-leadz"; did you mean "hot-leads"?'
    )


def test_the_file_wins_over_what_is_stored(people: People) -> None:
    """A key in both is the file's, and it is known that one is hidden."""
    stored = {"conditions": [["points", ">", 5]], "created_at": START}
    people.write(AudienceRow, key="b", name="Stored b", **stored)
    people.write(AudienceRow, key="a", name="Stored a", connection_id=1, **stored)
    with people.runtime.database.read() as transaction:
        book = read_book(transaction, [audience("b", ("points", "<", 5))])

    assert [(a.key, a.name, a.source) for a in book.audiences.values()] == [
        ("a", "Stored a", ACME),
        ("b", "b", "onward.toml"),
    ]
    assert book.hidden == {"b"}
    assert book.filters["b"] == conditions(("points", "<", 5))


def test_what_a_later_onward_wrote_is_said_and_spoils_nothing_else(
    people: People,
) -> None:
    """Conditions that cannot be read cost that audience alone."""
    row = {"name": "x", "created_at": START}
    people.write(AudienceRow, key="new", conditions=[["points", "smells", 1]], **row)
    people.write(AudienceRow, key="old", conditions=[], **row)
    with people.runtime.database.read() as transaction:
        book = read_book(transaction, [])

    assert list(book.filters) == ["old"]
    with pytest.raises(
        InputError, match=r"audience new: condition 1: .* no.* operator"
    ):
        book.named("new")
    with pytest.raises(InputError, match=r'no audience "odl"; did you mean "old"\?'):
        book.named("odl")
