"""Whatever goes wrong in a delivery: no log line holds an address or a secret."""

from __future__ import annotations

import io
import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

import onward.testing
from onward.connections.secrets import known_secrets
from onward.connections.state import resume
from onward.logs import JsonFormatter, protect
from onward.logs.format import extras
from onward.models import Push, table
from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator
from onward_icontact.simulator.faults import KINDS

TOML = """
[connections.icontact]
integration = "icontact"
segment = "Newsletter"
limits = ["100000/minute"]
[connections.icontact.settings]
app_id = "{sim.app_id}"
username = "{sim.username}"
password = "${{PASSWORD}}"
account_id = "{sim.account_id}"
client_folder_id = "{sim.client_folder_id}"
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["icontact"]
"""
pushes = table(Push)

LOCALS = st.from_regex(r"[a-z]{7}[a-z0-9.+'%_-]{0,6}[a-z0-9]", fullmatch=True)
DOMAIN = "private.example"
ADDRESSES = st.lists(
    LOCALS.map(lambda local: f"{local}@{DOMAIN}"), min_size=3, max_size=4, unique=True
)
FAULTS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(sorted(KINDS)),
            "method": st.sampled_from(["GET", "POST", None]),
            "resource": st.sampled_from(["contacts", "subscriptions", "lists", None]),
            "after": st.integers(0, 2),
            "status": st.sampled_from([400, 401, 402, 403, 404, 422, 429, 500, 503]),
            "how": st.sampled_from(["error400", "warning"]),
        }
    ),
    min_size=1,
    max_size=3,
)


class Kept(logging.Handler):
    """Keeps our own records as they were made: no filter has seen them."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a formatter of somebody else would show, but no trace."""
        self.texts.append(f"{record.getMessage()} {extras(record)}")


@contextmanager
def listening(app: TestApp) -> Generator[tuple[io.StringIO, Kept]]:
    """Listen at DEBUG: to everybody through our filters, to us without any."""
    stream, kept = io.StringIO(), Kept()
    shown = logging.StreamHandler(stream)
    shown.setFormatter(JsonFormatter())
    protect(shown, known_secrets(app.runtime))
    root, ours = logging.getLogger(), logging.getLogger("onward")
    before = root.level
    root.addHandler(shown)
    ours.addHandler(kept)
    root.setLevel(logging.DEBUG)
    ours.setLevel(logging.DEBUG)
    try:
        yield stream, kept
    finally:
        root.removeHandler(shown)
        ours.removeHandler(kept)
        root.setLevel(before)
        ours.setLevel(logging.NOTSET)


def work(app: TestApp, sim: Simulator, emails: list[str], faults: Any) -> None:
    """Fire, deliver through the faults, and again until all is well."""
    for one in faults:
        sim.fail(emails=emails[:1], errors=[f"{emails[0]}: no {sim.password}"], **one)
    app.record_actions({"action": "form.sent", "email": email} for email in emails)
    for _ in range(6):
        app.deliver()
        app.clock.tick(timedelta(hours=4))
        resume(app.runtime, 1)
    sim.clear_faults()
    late = update(pushes).where(pushes.c.state == "waiting")
    with app.runtime.database.write() as transaction:
        transaction.execute(late.values(due_at=app.clock()))
    app.deliver()


@given(ADDRESSES, FAULTS)
@settings(
    max_examples=settings().max_examples // 6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_no_log_line_holds_an_address_or_a_secret(
    emails: list[str], faults: list[dict[str, Any]]
) -> None:
    """Any faults in any calls, with answers that quote both: no line has either."""
    clock = onward.testing.Clock()
    sim = Simulator(clock, sleep=clock.sleep)
    sim.password = "pa:ss wörd-Zq9xK"
    app = onward.testing.app(
        TOML.format(sim=sim), fake=sim, clock=clock, env={"PASSWORD": sim.password}
    )
    try:
        with listening(app) as (stream, kept):
            work(app, sim, emails, faults)
        said = stream.getvalue()
        ours = "\n".join(kept.texts)
        states = {row["state"] for row in app.deliveries()}
    finally:
        app.close()

    assert "is queued" in said
    assert "is queued" in ours
    assert states <= {"delivered", "failed", "skipped"}
    for text in (said, ours):
        for email in emails:
            assert email not in text
            assert quote(email) not in text
            assert email.partition("@")[0] not in text
        assert DOMAIN not in text
        assert "Zq9xK" not in text
