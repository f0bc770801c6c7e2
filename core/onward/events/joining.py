"""Join the transaction of a host: in a savepoint, told only after its commit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection as Transaction
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from onward.database import REPEATS, breathe
from onward.errors import Repeat

Made = TypeVar("Made")

HostSession = Session | scoped_session[Session]

_KEPT = "onward"


def join(
    session: HostSession,
    work: Callable[[Transaction], Made],
    after: Callable[[Made], None],
) -> Made:
    """Do `work` in a savepoint of the session's transaction.

    Args:
        after: called once the host's transaction has committed; never when it,
            or a savepoint around this call, is rolled back.
    """
    real = session() if isinstance(session, scoped_session) else session
    _begin(real.connection())
    for turn in range(REPEATS + 1):
        try:
            with real.begin_nested():
                made = work(real.connection())
        except Repeat:
            if turn == REPEATS:
                raise
            breathe(turn)
        else:
            _after_commit(real, partial(after, made))
            return made
    raise AssertionError("unreachable")  # the last turn returned or raised


def _begin(connection: Transaction) -> None:
    """Begin what SQLAlchemy believes has begun.

    Python's sqlite3 says BEGIN before the first change only. A savepoint that
    comes first would be the transaction itself, and its release a commit.
    """
    if connection.dialect.name == "sqlite":
        raw = connection.connection.driver_connection
        if not getattr(raw, "in_transaction", True):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


class _Waiting:
    """What is to be called when the transactions of one session commit.

    SQLAlchemy calls "after commit" for the release of a savepoint as well, and
    says nothing when a session is closed, so calls are kept by the transaction
    they belong to: a savepoint that is released hands them to the one around
    it, one that ends otherwise takes them with it.
    """

    def __init__(self) -> None:
        self.calls: dict[SessionTransaction, list[Callable[[], None]]] = {}

    def committed(self, session: Session) -> None:
        """Hand the calls on, or make them."""
        nested = session.get_nested_transaction()
        if nested is not None:
            around = _owner(nested.parent)
            self.calls.setdefault(around, []).extend(self.calls.pop(nested, []))
            return
        for call in self.calls.pop(_owner(session.get_transaction()), []):
            call()

    def ended(self, session: Session, transaction: SessionTransaction) -> None:
        """Forget what was not committed."""
        self.calls.pop(transaction, None)


def _owner(transaction: SessionTransaction | None) -> SessionTransaction:
    """Return the savepoint or transaction this is, or is part of."""
    while transaction is not None:
        if transaction.nested or transaction.parent is None:
            return transaction
        transaction = transaction.parent
    raise AssertionError("there is a transaction while we are asked")


def _after_commit(session: Session, call: Callable[[], None]) -> None:
    waiting = session.info.get(_KEPT)
    if not isinstance(waiting, _Waiting):
        waiting = session.info[_KEPT] = _Waiting()
        event.listen(session, "after_commit", waiting.committed)
        event.listen(session, "after_transaction_end", waiting.ended)
    owner = _owner(session.get_nested_transaction() or session.get_transaction())
    waiting.calls.setdefault(owner, []).append(call)
