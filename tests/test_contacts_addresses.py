"""Addresses as keyed hashes: one pepper per database, made once."""

from __future__ import annotations

from onward.contacts.addresses import hash_address, look_for_pepper, read_pepper
from onward.contacts.suppress import find_suppressions
from onward.database import Database


def test_the_pepper_is_made_once_and_never_by_looking(database: Database) -> None:
    """Looking for suppressions writes nothing; the first one makes the pepper."""
    with database.read() as transaction:
        assert find_suppressions(transaction, {1: ["ana@shop.example"]}) == {}
        assert look_for_pepper(transaction) is None

    with database.write() as transaction:
        made = read_pepper(transaction)
    with database.write() as transaction:
        assert read_pepper(transaction) == made
    assert hash_address(made, "ana@shop.example") != hash_address(made, "a@b.example")
    assert hash_address(made, "") == ""
