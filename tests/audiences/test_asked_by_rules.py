"""Rules ask what services know, and which audiences somebody is in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, event

from onward.doctor import names_nobody_has
from onward.errors import ConfigError
from onward.models import Audience as AudienceRow
from onward.models import table
from onward.testing.app import START, TestApp

from .conftest import TOML, People

if TYPE_CHECKING:
    from tests.conftest import MakeApp

Make = Callable[..., People]

ANA = "ana@shop.example"


@pytest.fixture
def make(make_app: MakeApp, database_url: str) -> Make:
    """An app with more in its file."""
    return lambda more: People(make_app(TOML + more, database_url=database_url))


def rule(condition: str) -> str:
    """Return a rule that gives a point where a condition holds."""
    return f'[[rules]]\nkey = "r"\nwhen = "seen"\nif = [{condition}]\npoints = 1\n'


def looked(app: TestApp, email: str = ANA) -> tuple[bool, str]:
    """Fire, and return whether the rule ran and why not."""
    [(_, ran, why)] = app.record_action("seen", email=email).looked
    return ran, why


def test_a_rule_asks_who_has_the_contact(make: Make) -> None:
    """Connections, what they say of the contact, and opt-outs are facts of a rule."""
    people = make(
        rule('["connections", "has", "acme"], ["acme.created_at", "within", "7 days"]')
    )
    of = people.add(ANA)

    assert looked(people.app) == (
        False,
        'connections is blank, wanted "acme" among them',
    )
    people.known(of, created_at=START - timedelta(days=3))
    assert looked(people.app) == (True, "")
    people.app.clock.tick(timedelta(days=5))
    assert looked(people.app)[0] is False


AUDIENCES = """
[[audiences]]
key = "rich"
name = "The rich"
if = [["points", ">=", 100]]
[[audiences]]
key = "rich-and-known"
if = [["audience", "is", "rich"], ["connections", "has", "acme"]]
"""


def test_a_rule_asks_for_an_audience(make: Make) -> None:
    """An audience may ask for another; who is in it now counts."""
    people = make(AUDIENCES + rule('["audience", "is", "rich-and-known"]'))
    of = people.add(ANA, points=100)

    assert looked(people.app) == (
        False,
        'audience is "rich", wanted "rich-and-known"',
    )
    people.known(of)
    assert looked(people.app) == (True, "")
    people.app.add_points(-50, email=ANA)
    assert looked(people.app)[0] is False


@pytest.mark.parametrize("operator", ["is", "is not"])
def test_an_audience_that_is_gone_stops_the_rule_not_the_event(
    make: Make, make_app: MakeApp, database_url: str, operator: str
) -> None:
    """Whether it is wanted or not: nobody knows who is in it, and that is said."""
    people = make("")
    stored = {"conditions": [["points", "<", 100]], "created_at": START}
    people.write(AudienceRow, key="poor", name="Poor", **stored)
    people.add(ANA, points=100 if operator == "is not" else 0)
    toml = TOML + rule(f'["audience", "{operator}", "poor"]')
    app = make_app(toml, database_url=database_url)
    assert looked(app) == (True, "")

    with app.runtime.database.write() as transaction:
        transaction.execute(delete(table(AudienceRow)))

    assert looked(app) == (False, 'there is no audience "poor"')
    people.write(AudienceRow, key="poor", name="Poor", **stored)
    assert looked(app) == (True, "")


def test_what_no_condition_asks_for_is_not_read(make: Make) -> None:
    """A rule about tags reads no audiences, segments, opt-outs or remote contacts."""
    people = make(AUDIENCES + rule('["tags", "has", "vip"], ["points", ">=", 0]'))
    people.known(people.add(ANA, tags=["vip"]))
    people.suppress(ANA, "unsubscribed")
    said: list[str] = []
    engine = people.runtime.database.engine

    def hear(_a: object, _b: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(engine, "before_cursor_execute", hear)
    assert looked(people.app) == (True, "")
    event.remove(engine, "before_cursor_execute", hear)

    read = [one for one in said if one.startswith("SELECT")]
    assert any("contact_tag" in one for one in read)
    for other in ("audience", "remote_contact", "contact_segment", "suppression"):
        assert not any(other in one for one in read), other


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (
            '["connections", "lacks", "acmee"]',
            'there is no connection "acmee"; did you mean "acme"?',
        ),
        (
            '["acmee.status", "is", "normal"]',
            'there is no connection "acmee"; did you mean "acme"?',
        ),
        (
            '["audience", "is", "ritch"]',
            'there is no audience "ritch"; did you mean "rich"?',
        ),
    ],
)
def test_a_rule_that_names_what_is_not_there_is_an_error_at_start(
    make: Make, condition: str, problem: str
) -> None:
    """One sentence with the line, before anything happens."""
    text = TOML + AUDIENCES + rule(condition)
    with pytest.raises(ConfigError) as error:
        make(AUDIENCES + rule(condition))

    line = text[: text.rindex("\nif = [")].count("\n") + 2
    assert error.value.message == f"onward.toml: line {line}: rules.r.if: {problem}"


def test_the_file_s_audiences_are_checked_as_rules_are(make: Make) -> None:
    """A circle, a connection that is not there, and a field of an event are refused."""
    circle = (
        '[[audiences]]\nkey = "a"\nif = [["audience", "is", "b"]]\n'
        '[[audiences]]\nkey = "b"\nif = [["audience", "is", "a"]]\n'
    )
    with pytest.raises(
        ConfigError, match=r"audiences\.a\.if: the audience a, which names"
    ):
        make(circle)
    with pytest.raises(
        ConfigError, match=r'audiences\.x\.if: there is no connection "s"'
    ):
        make('[[audiences]]\nkey = "x"\nif = [["s.status", "is", "y"]]\n')
    with pytest.raises(ConfigError, match=r'"data\.form" is of an event'):
        make('[[audiences]]\nkey = "x"\nif = [["data.form", "is", "y"]]\n')
    with pytest.raises(ConfigError, match="audience: this name is taken"):
        make('audience = "text"\n')


def test_the_doctor_knows_what_is_stored(make: Make) -> None:
    """Audiences and connections of the database count, also without a look at them."""
    text = rule('["audience", "is", "stored"], ["connections", "has", "gone"]')
    people = make("")
    path = people.app.config.path
    assert path is not None
    path.write_text(TOML + text)
    env = people.runtime.env

    assert [one.message for one in names_nobody_has(path, env)] == [
        'there is no connection "gone"',
        'there is no audience "stored"',
    ]
    stored = {"conditions": [], "created_at": START}
    people.write(AudienceRow, key="stored", name="Stored", **stored)
    assert [one.message for one in names_nobody_has(path, env)] == [
        'there is no connection "gone"'
    ]
