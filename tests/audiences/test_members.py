"""Who is in an audience: SQL narrows down, the filter decides."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from onward.audiences.members import chunks, count_members, preview_members
from onward.audiences.resolve import resolve
from onward.contacts.elsewhere import ask_facts
from onward.filters import Filter
from onward.filters.names import REMOTE_FACTS, audiences_of
from onward.models import Contact, table
from onward.testing.app import START

from .conftest import ACME, SHOP, People, a_crowd, conditions

contacts = table(Contact)

TEXTS = ("hot", "HOT", "Shop", "\u017fhop", "straße", "club", "News", "5", "12")
DATES = ("2026-03-01", "2026-03-03T12:00:00+00:00", START)
SPANS = ("7 days", "30h", "2w", "99999w")
NUMBERS = (0, 11, -19, 10.6, "30", 2**70, -(2**70), True)
EVERYTHING = frozenset(
    {
        "email",
        "points",
        "created_at",
        "tags",
        "segments",
        "tier",
        "do_not_contact",
        "suppressions",
        "connections",
        *(f"{name}.{fact}" for name in (ACME, SHOP, "gone") for fact in REMOTE_FACTS),
    }
)


def one_of(field: Any, operators: tuple[str, ...], values: Any) -> Any:
    """Return conditions of a field, an operator and a value."""
    return st.tuples(field, st.sampled_from(operators), values)


TEXT = st.sampled_from(TEXTS)
NAMED = st.sampled_from((ACME, SHOP, "gone", "ACME"))
FIELD = st.sampled_from(sorted(EVERYTHING))
CONDITION = st.one_of(
    one_of(st.just("connections"), ("is", "is not", "has", "lacks"), NAMED),
    one_of(st.just("connections"), ("in", "not in"), st.lists(NAMED, min_size=1)),
    one_of(st.just("points"), (">", ">=", "<", "<="), st.sampled_from(NUMBERS[:-1])),
    one_of(st.just("points"), ("is", "is not"), st.sampled_from(NUMBERS)),
    one_of(
        st.sampled_from(["tags", "segments"]),
        ("is", "is not", "has", "lacks", "contains", "starts with"),
        TEXT,
    ),
    one_of(
        st.sampled_from(["tags", "segments"]),
        ("in", "not in"),
        st.lists(st.sampled_from((*TEXTS, 5)), min_size=1, max_size=3),
    ),
    one_of(
        st.sampled_from([f for f in sorted(EVERYTHING) if f.endswith("_at")]),
        ("within", "not within"),
        st.sampled_from(SPANS),
    ),
    one_of(
        st.sampled_from([f for f in sorted(EVERYTHING) if f.endswith("_at")]),
        ("before", "after", "is", "<="),
        st.sampled_from(DATES),
    ),
    st.tuples(FIELD, st.sampled_from(["is blank", "is not blank"])),
    one_of(FIELD, ("is", "is not"), st.sampled_from((True, False, *TEXTS, 30))),
    one_of(FIELD, ("in",), st.just([True, "normal", "hot"])),
    one_of(
        st.just("audience"), ("is", "is not", "has", "lacks"), st.sampled_from("abc")
    ),
    one_of(st.just("audience"), ("in", "not in"), st.just(["a", "b"])),
)
FILTERS = st.lists(CONDITION, max_size=2).map(lambda rows: conditions(*rows))
# a names nobody, b may name a, c both: no circle.
NO_NAMES = FILTERS.filter(lambda one: not audiences_of(one))
NAMES_A = FILTERS.filter(lambda one: audiences_of(one) <= {"a"})
NAMES_AB = FILTERS.filter(lambda one: audiences_of(one) <= {"a", "b"})
NO_BOOK: dict[str, Filter] = dict.fromkeys("abc", Filter())
BOOKS = st.fixed_dictionaries({"a": NO_NAMES, "b": NAMES_A, "c": NAMES_AB})


def plainly(
    facts: Mapping[str, object],
    wanted: Filter,
    book: Mapping[str, Filter],
    now: datetime,
) -> bool:
    """Answer for one contact with the filter alone."""
    within = [
        key for key in audiences_of(wanted) if plainly(facts, book[key], book, now)
    ]
    return wanted.holds({**facts, "audience": within}, now)


def test_narrowed_by_sql_is_the_same_as_the_filter_alone(people: People) -> None:
    """For any filter, the members are the contacts for whom the filter holds."""
    a_crowd(people)
    runtime, now = people.runtime, people.app.clock.now
    with runtime.database.read() as transaction:
        ids = transaction.execute(
            select(contacts.c.id).where(contacts.c.merged_into.is_(None))
        ).scalars()
        everybody = ask_facts(transaction, list(ids), EVERYTHING)
    answers: list[bool] = []

    @settings(
        deadline=None,
        max_examples=150,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )
    @given(FILTERS, BOOKS)
    @example(conditions(("points", ">", 10.6)), NO_BOOK)
    @example(conditions(("points", "is", 2**70)), NO_BOOK)
    @example(conditions(("tags", "has", "\u0130X")), NO_BOOK)
    @example(conditions(("tags", "has", "SHOP")), NO_BOOK)
    @example(conditions(("tags", "is", "\u017fhop")), NO_BOOK)
    @example(conditions(("tags", "in", ["cold", "STRASSE"])), NO_BOOK)
    @example(conditions(("acme.differs", "is", False)), NO_BOOK)
    @example(conditions(("acme.differs", "is not blank")), NO_BOOK)
    @example(conditions(("acme.differs", "is not", True)), NO_BOOK)
    def check(wanted: Filter, book: dict[str, Filter]) -> None:
        members = [
            id_ for chunk in chunks(runtime, resolve(wanted, book)) for id_ in chunk
        ]
        alone = [
            id_
            for id_, facts in sorted(everybody.items())
            if plainly(facts, wanted, book, now)
        ]
        assert members == alone
        answers.append(0 < len(alone) < len(everybody))

    check()

    # Nothing is shown where everybody or nobody is one.
    assert sum(answers) > len(answers) / 10


def members(people: People, *rows: object) -> list[int]:
    """Return who is in the audience of these conditions."""
    question = resolve(conditions(*rows), {})
    return [id_ for chunk in chunks(people.runtime, question) for id_ in chunk]


def test_connections_are_those_that_have_the_contact(people: People) -> None:
    """There, opted out or not; neither deleted nor a second one of a merged contact."""
    alive, deleted, alias, both = (people.add(f"{n}@shop.example") for n in "abcd")
    nobody = people.add("e@shop.example")
    for of in (alive, both):
        people.known(of)
    people.known(both, SHOP, status="opted_out")
    people.known(deleted, status="deleted")
    people.known(alias, alias=True)

    assert members(people, ("connections", "has", ACME)) == [alive, both]
    assert members(people, ("connections", "has", SHOP)) == [both]
    assert members(people, ("connections", "lacks", SHOP)) == [
        alive,
        deleted,
        alias,
        nobody,
    ]
    assert members(people, ("connections", "is blank")) == [deleted, alias, nobody]
    assert members(people, (f"{SHOP}.status", "is", "opted_out")) == [both]


def test_what_a_service_knows_can_be_asked(people: People) -> None:
    """Status, dates, memberships by name, and whether it differs."""
    ana, ben = people.add("ana@shop.example"), people.add("ben@shop.example")
    people.add("cem@shop.example")
    people.known(
        ana,
        status="bounced",
        created_at=datetime.fromisoformat("2020-01-01T00:00:00Z"),
        segments={"1": "normal", "2": "pending", "3": "unsubscribed"},
        differs=3,
    )
    people.known(ben, first_seen_at=None)

    assert members(people, ("acme.status", "is", "bounced")) == [ana]
    assert members(people, ("acme.created_at", "before", "2020-01-02")) == [ana]
    assert members(people, ("acme.first_seen_at", "within", "1 day")) == [ana]
    assert members(people, ("acme.segments", "has", "news")) == [ana]
    assert members(people, ("acme.segments", "has", "2")) == [ana]
    assert members(people, ("acme.segments", "has", "3")) == []
    assert members(people, ("acme.differs", "is", True)) == [ana]
    assert members(people, ("acme.differs", "is", False)) == [ben]


def test_suppressions_are_codes_of_any_scope(people: People) -> None:
    """An opt-out counts whatever its scope; one that a consent lifted does not."""
    ana = people.add("ana@shop.example")
    people.add("ben@shop.example")
    people.suppress("ana@shop.example", "unsubscribed")

    assert members(people, ("suppressions", "has", "unsubscribed")) == [ana]
    assert members(people, ("do_not_contact", "is", True)) == []
    people.app.consent("ana@shop.example", how="phone", who="Sam")
    assert members(people, ("suppressions", "is not blank")) == []


def test_merged_and_erased_contacts_are_no_members(people: People) -> None:
    """A filter that takes everybody takes those who are still themselves."""
    visitor, ana = people.add(), people.add("ana@shop.example")
    people.app.record_action(
        "seen", email="ana@shop.example", identities={"visitor": "v1"}
    )
    gone = people.add("gone@shop.example")
    with people.runtime.database.write() as transaction:
        transaction.execute(
            contacts.update().where(contacts.c.id == gone).values(erased_at=START)
        )

    assert visitor != ana
    assert members(people) == [ana]


def test_counting_stops_when_it_is_told_to(people: People) -> None:
    """A count of at most so many says one more when there are more."""
    for number in range(5):
        people.add(f"p{number}@shop.example")
    question = resolve(conditions(), {})

    counts = [count_members(people.runtime, question, most=n) for n in (3, 5)]

    assert counts == [4, 5]
    assert count_members(people.runtime, question) == 5


def test_a_preview_shows_who_and_what_was_asked(people: People) -> None:
    """The first members, with the facts the conditions look at."""
    ana = people.add("ana@shop.example", first_name="Ana", points=20, tags=["vip"])
    people.add("ben@shop.example", points=30, tags=["vip"])
    question = resolve(conditions(("points", ">", 10), ("tags", "has", "vip")), {})

    assert preview_members(people.runtime, question, 1) == [
        {
            "id": ana,
            "email": "ana@shop.example",
            "first_name": "Ana",
            "last_name": None,
            "points": 20,
            "tags": ["vip"],
        }
    ]
    assert preview_members(people.runtime, question, 0) == []
