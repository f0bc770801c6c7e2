"""What became of claimed rows: their next state, and the outcome as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    BindParameter,
    Boolean,
    Connection,
    String,
    and_,
    bindparam,
    case,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from onward.among import ForEach
from onward.contacts.release import HAS_ADDRESS
from onward.delivery.claiming import OURS
from onward.delivery.retry import Decision
from onward.errors import Fenced
from onward.models import OutcomeRow, Push, RemoteContactRow, table

pushes = table(Push)
outcomes = table(OutcomeRow)
remote_contacts = table(RemoteContactRow)

NO_EMAIL = "waits until the visitor has an e-mail address"

_MOMENT = pushes.c.due_at.type
_NEXT = bindparam("next", type_=String())
_WORD = bindparam("word", type_=String())
_WHY = bindparam("why", type_=String())
_DUE: BindParameter[datetime | None] = bindparam("due", type_=_MOMENT)
_FAILED: BindParameter[int] = bindparam("failed")
_IS_FINAL = _NEXT.not_in([literal("waiting"), literal("submitted")])
# A further cause came while it was being sent: the row waits once more.
_ONCE_MORE = and_(pushes.c.again, _IS_FINAL)
_REMOTE_ID = (
    select(remote_contacts.c.remote_id)
    .where(
        remote_contacts.c.connection_id == pushes.c.connection_id,
        remote_contacts.c.contact_id == pushes.c.contact_id,
        ~remote_contacts.c.alias,
    )
    .limit(1)
    .scalar_subquery()
)
_SETTLE = ForEach(
    lambda among: (
        update(pushes)
        .where(among(pushes.c.id, "rows"), OURS)
        .values(
            state=case((_ONCE_MORE, "waiting"), else_=_NEXT),
            due_at=case((_ONCE_MORE, bindparam("moment", type_=_MOMENT)), else_=_DUE),
            finished_at=case(
                (_ONCE_MORE, None), else_=bindparam("ended", type_=_MOMENT)
            ),
            tries=case((_ONCE_MORE, 0), else_=_FAILED),
            sent_at=bindparam("sent", type_=_MOMENT),
            # A wish to force that came during the send is not yet fulfilled.
            force=and_(pushes.c.force, or_(pushes.c.again, ~_IS_FINAL)),
            code=bindparam("word"),
            reason=bindparam("why"),
            remote_id=func.coalesce(_REMOTE_ID, pushes.c.remote_id),
            job=bindparam("handed"),
            again=and_(pushes.c.again, literal("submitted") == _NEXT),
        )
    )
)
_ADD_OUTCOMES = ForEach(
    lambda among: insert(outcomes).from_select(
        ["push_id", "attempt_id", "kind", "code", "reason", "at"],
        select(
            pushes.c.id,
            bindparam("attempt", type_=outcomes.c.attempt_id.type),
            bindparam("kind", type_=String()),
            bindparam("word", type_=String()),
            bindparam("why", type_=String()),
            bindparam("moment", type_=outcomes.c.at.type),
        ).where(among(pushes.c.id, "rows")),
    )
)
_PUT_BACK = ForEach(
    lambda among: (
        update(pushes)
        .where(among(pushes.c.id, "rows"), OURS)
        .values(
            state="waiting",
            sent_at=case(
                (bindparam("left", type_=Boolean()), None), else_=pushes.c.sent_at
            ),
            again=false(),
            code=case((literal("") == _WORD, pushes.c.code), else_=_WORD),
            reason=case((literal("") == _WORD, pushes.c.reason), else_=_WHY),
        )
    )
)
_LEAVE = ForEach(
    lambda among: (
        update(pushes)
        .where(among(pushes.c.id, "rows"), OURS)
        .values(
            state="waiting",
            # Identified at this very moment: then nobody would wake it again.
            due_at=case(
                (
                    or_(pushes.c.again, HAS_ADDRESS),
                    bindparam("moment", type_=_MOMENT),
                ),
                else_=None,
            ),
            again=false(),
            code="no_email",
            reason=NO_EMAIL,
        )
    )
)


def settle(
    connection: Connection,
    decisions: Mapping[int, Decision],
    fence: int,
    now: datetime,
    *,
    attempt_id: int | None = None,
    kinds: Mapping[int, str] | None = None,
) -> None:
    """Store the next state of claimed rows, and what led to it.

    Args:
        kinds: row → kind of the outcome; the next state where there is none.

    Raises:
        Fenced: another worker has them; roll back.
    """
    alike: dict[tuple[str, Decision], list[int]] = {}
    for row, decision in decisions.items():
        kind = decision.state.value if kinds is None else kinds[row]
        alike.setdefault((kind, decision), []).append(row)
    for (kind, decision), rows in alike.items():
        given = {
            "rows": rows,
            "mine": fence,
            "moment": now,
            "next": decision.state.value,
            "due": decision.due_at,
            "ended": now if decision.due_at is None else None,
            "failed": decision.tries,
            "sent": now if decision.unknown else None,
            "word": decision.code,
            "why": decision.reason,
            "handed": decision.job,
        }
        if connection.execute(_SETTLE(connection), given).rowcount != len(rows):
            raise Fenced
        add_outcomes(
            connection, rows, attempt_id, kind, decision.code, decision.reason, now
        )


def put_back(
    connection: Connection,
    rows: Iterable[int],
    fence: int,
    *,
    code: str = "",
    reason: str = "",
    sent: bool = False,
) -> None:
    """Return rows to waiting as they were: no try used, in their old place.

    Args:
        code: why, when there is something new to say.
        sent: they left, and it is known that they did not arrive.

    Raises:
        Fenced: another worker has them; roll back.
    """
    ids = list(rows)
    if not ids:
        return
    given = {"rows": ids, "mine": fence, "word": code, "why": reason, "left": sent}
    if connection.execute(_PUT_BACK(connection), given).rowcount != len(ids):
        raise Fenced


def leave_waiting(
    connection: Connection, rows: Iterable[int], fence: int, now: datetime
) -> None:
    """Return rows of visitors to waiting, without due time.

    Raises:
        Fenced: another worker has them; roll back.
    """
    ids = list(rows)
    if not ids:
        return
    given = {"rows": ids, "mine": fence, "moment": now}
    if connection.execute(_LEAVE(connection), given).rowcount != len(ids):
        raise Fenced


def add_outcomes(
    connection: Connection,
    rows: Sequence[int],
    attempt_id: int | None,
    kind: str,
    code: str,
    reason: str,
    now: datetime,
) -> None:
    """Write down what one try of some rows led to, the same for all of them."""
    given = {
        "rows": rows,
        "attempt": attempt_id,
        "kind": kind,
        "word": code,
        "why": reason,
        "moment": now,
    }
    connection.execute(_ADD_OUTCOMES(connection), given)
