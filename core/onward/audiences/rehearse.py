"""Tell what a push of an audience would do; queues nothing."""

from __future__ import annotations

from collections.abc import Sequence

from onward.audiences.aim import Aim, What, read_aim, read_place, sort_out
from onward.audiences.members import Told, chunks
from onward.audiences.pushed import Pushed
from onward.delivery.refusing import Refused
from onward.errors import OnwardError
from onward.forecast import read_forecast
from onward.preview import Preview, preview
from onward.runtime import Runtime

# So many members are tried until one shows a request; the others need none.
TRIED = 3


def preview_push(
    runtime: Runtime,
    what: What,
    *,
    to: str,
    segment: str | None = None,
    on_progress: Told = lambda members: None,
) -> Pushed:
    """Count who would be pushed and who would not, and show one exact request.

    The service is asked what reads only; without it there is no request to show.

    Raises:
        ConfigError, InputError: see `push_members`.
    """
    with runtime.database.read() as transaction:
        aim = read_aim(runtime, transaction, what, to, segment)
        read_place(transaction, aim)
    refused = Refused()
    members = count = 0
    tried: list[str] = []
    for chunk in chunks(runtime, aim.question, on_progress=on_progress):
        with runtime.database.read() as transaction:
            state, segment_id = read_place(transaction, aim)
            may, why = sort_out(transaction, state, segment_id, chunk)
        refused.add(why)
        members += len(chunk)
        count += len(may)
        tried += [chunk[id_]["email"] for id_ in may[: TRIED - len(tried)]]
    sample, no_sample = _sample(runtime, aim, tried)
    with runtime.database.read() as transaction:
        state, _ = read_place(transaction, aim)
        forecast = read_forecast(runtime, transaction, state, backfill=count)
    return Pushed(
        aim.key,
        to,
        members,
        members,
        count,
        refused,
        sample,
        no_sample,
        forecast,
        dry_run=True,
    )


def _sample(
    runtime: Runtime, aim: Aim, emails: Sequence[str]
) -> tuple[Preview | None, str]:
    found: Preview | None = None
    for email in emails:
        try:
            found = preview(runtime, aim.to, email, segment=aim.segment)
        except OnwardError as error:
            return None, error.message
        if found.request is not None:
            break
    return found, ""
