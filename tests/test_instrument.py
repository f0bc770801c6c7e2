"""What the core says to those who listen, and that nobody pays who does not."""

from __future__ import annotations

import pytest

from onward.instrument import (
    Batch,
    Drain,
    Nobody,
    Several,
    joined,
    path_template,
    watching,
)
from onward.logs.context import facts


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/icp/a/510001/c/8801/contacts/77", "/icp/a/{id}/c/{id}/contacts/{id}"),
        ("/people/ana@shop.example", "/people/{id}"),
        ("/people/ana%40shop.example", "/people/{id}"),
        ("/v3/lists/9fe1c2/members", "/v3/lists/{id}/members"),
        ("/3.0/lists/", "/3.0/lists/"),
        ("/" + "x" * 40, "/{id}"),
        ("/", "/"),
    ],
)
def test_a_path_names_nobody(path: str, template: str) -> None:
    """Whatever may be an id of somebody is left out; the rest tells what was asked."""
    assert path_template(path) == template


def test_several_listen_as_one() -> None:
    """Each hears everything, whatever the first one does with it."""
    heard: list[list[tuple[str, str]]] = []

    class Ear(Nobody):
        """Listens to ends."""

        def settled(self, connection: str, ends: object) -> None:
            """Keep them."""
            heard.append(list(ends))  # type: ignore[call-overload]

    both = joined(joined(Nobody(), Ear()), Ear())
    both.settled("acme", (end for end in [("delivered", "delivered")]))

    assert heard == [[("delivered", "delivered")]] * 2
    assert isinstance(both, Several)
    assert len(both.listeners) == 3


def test_log_lines_name_the_work_that_is_watched() -> None:
    """Drain and batch are on every line within, and on none after."""
    drain, batch = Drain(4, 9), Batch("acme", "acme", "push", [1, 2])

    with watching(Nobody(), drain):
        drain.connection = "acme"
        with watching(Nobody(), batch):
            batch.attempt_id = 7
            inside = facts()

    assert inside == {
        "connection": "acme",
        "connection_id": 4,
        "fence": 9,
        "attempt_id": 7,
        "delivery_ids": [1, 2],
    }
    assert facts() == {}
