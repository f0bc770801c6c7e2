"""What every cell of the matrix plays: people, an iContact, workers that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text

from onward.app import Onward
from onward.failpoints import VARIABLE
from onward.models import Lease, Push, table
from onward_icontact.simulator import Simulator

pushes = table(Push)
leases = table(Lease)

LEASE_S = 3
# Nobody waits longer for work of a few seconds: it is stuck, and the cell says so.
PATIENCE_S = 90.0
EACH = 30  # people of a kind
KEPT = "555-0199"
LIST = "Newsletter"
KINDS = ("new", "there", "known", "left", "refused")

TOML = """
[onward]
database_url = "{database_url}"
lease = "{lease}s"
{engine}
[connections.icontact]
integration = "icontact"
segment = "Newsletter"
limits = ["1000000/minute"]
[connections.icontact.settings]
app_id = "{sim.app_id}"
username = "{sim.username}"
password = "{sim.password}"
account_id = "{sim.account_id}"
client_folder_id = "{sim.client_folder_id}"
api_url = "{url}/icp"
[[rules]]
key = "forms"
when = "form.sent"
push_to = ["icontact"]
points = 10
[[point_triggers]]
key = "hot"
points = 100
push_to = ["icontact"]
"""

# What a process runs: the command, a worker inside a program, a program that fires.
WORKER = "from onward.cli import main; exit(main(['worker']))"
EMBEDDED = """
import sys
from onward.app import Onward
from onward.cli.stopping import stop_signals
wait = stop_signals()
with Onward.from_config("onward.toml"):
    wait()
"""


def harmful_simulator() -> Simulator:
    """An iContact that harms whoever sends a thing twice or leaves something out."""
    return Simulator(
        opt_out_subscribe="resubscribes",
        omitted_status="reset",
        collection_post="overwrite",
    )


def address(kind: str, number: int) -> str:
    """Return the address of somebody."""
    return f"{kind}-{number}@shop.example"


def everybody() -> list[str]:
    """Return all addresses."""
    return [address(kind, number) for kind in KINDS for number in range(EACH)]


def populate(sim: Simulator) -> None:
    """Put those into the folder who are there before Onward knows them."""
    folder = sim.folder()
    for number in range(EACH):
        for kind in ("there", "left", "refused"):
            status = "donotcontact" if kind == "refused" else "normal"
            folder.add_contact(address(kind, number), status, fax=KEPT, lists=[LIST])
        folder.unsubscribe(LIST, address("left", number))


def get_known(app: Onward, sim: Simulator) -> None:
    """Push those who are known already, and let the owner change them there."""
    known = [address("known", number) for number in range(EACH)]
    for email in known:
        app.upsert_contact({"email": email, "first_name": "Old"})
    app.push(to="icontact", emails=known)
    app.deliver()
    for email in known:
        contact = sim.folder().find(email)
        assert contact is not None, email
        contact.values["fax"] = KEPT


def tell_all(app: Onward) -> None:
    """Write down what is to be sent, and queue nothing."""
    for email in everybody():
        app.upsert_contact({"email": email, "first_name": "New", "city": "Durham"})


def effect_on(sim: Simulator) -> dict[str, tuple[Any, ...]]:
    """Return what iContact has: address → status, fields, where it is subscribed."""
    folder = sim.folder()
    found: dict[str, tuple[Any, ...]] = {}
    for contact in folder.contacts.values():
        assert contact.email not in found, f"{contact.email} is there twice"
        values = {name: value for name, value in contact.values.items() if value}
        on = folder.subscription(LIST, contact.email)
        found[contact.email] = (contact.status, values, on)
    return found


def truth_of(app: Onward) -> dict[str, str]:
    """Return what Onward says: address → state of its newest delivery.

    What was queued for somebody who was merged is cancelled, and nobody's any more.
    Unchanged is as good as delivered: they have it.
    """
    same = {"unchanged": "delivered"}
    return {
        row["email"]: same.get(row["state"], row["state"])
        for row in app.deliveries()
        if row["email"]
    }


@dataclass
class Cell:
    """What one cell of the matrix showed; what the page says of it.

    Args:
        lost: people whose push never ended.
        different: people who are otherwise in iContact, or said to be, than when
            nobody disturbs.
        taken_s: from the disturbance until everything was done.
    """

    row: str
    column: str
    people: int = 0
    lost: int = 0
    different: int = 0
    taken_s: float = 0.0
    words: list[str] = field(default_factory=list[str])

    @property
    def document(self) -> dict[str, Any]:
        """The cell as JSON."""
        return {
            "row": self.row,
            "column": self.column,
            "people": self.people,
            "lease_s": LEASE_S,
            "lost": self.lost,
            "different": self.different,
            "taken_s": round(self.taken_s, 1),
        }


class Processes:
    """Onward in processes of its own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        self._number = 0

    def start(
        self, code: str, *, failpoint: str = "", before: str = ""
    ) -> subprocess.Popen[str]:
        """Start some Python; its log is in the folder.

        Args:
            before: runs first, in the same process.
        """
        self._number += 1
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if failpoint:
            env[VARIABLE] = failpoint
        with (self.folder / f"{self._number}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", f"{before}\n{code}"],
                cwd=self.folder,
                env=env,
                text=True,
                stdout=log,
                stderr=log,
            )
        self.running.append(process)
        return process

    def log(self) -> str:
        """Return what all of them said."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(path.read_text() for path in logs)

    def killed(self) -> subprocess.Popen[str] | None:
        """Return one that was killed with -9."""
        return next((p for p in self.running if p.poll() == -signal.SIGKILL), None)

    def close(self) -> None:
        """End all of them."""
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


def wait_until(true: Callable[[], object], what: str, within_s: float = 0) -> float:
    """Wait for something; return the seconds it took.

    Raises:
        AssertionError: it did not happen.
    """
    begun, pause = time.monotonic(), threading.Event()
    while not true():
        passed = time.monotonic() - begun
        assert passed < (within_s or PATIENCE_S), f"waited {passed:.0f} s: {what}"
        pause.wait(0.05)
    return time.monotonic() - begun


def count_open(app: Onward) -> int:
    """Count the rows that have not ended."""
    wanted = select(func.count()).where(
        text("state IN ('waiting', 'sending', 'submitted')")
    )
    with app.runtime.database.read() as transaction:
        return int(transaction.execute(wanted.select_from(pushes)).scalar_one())


def differences(
    found: Mapping[str, object], expected: Mapping[str, object]
) -> dict[str, tuple[object, object]]:
    """Return who differs: address → (found, expected)."""
    return {
        email: (found.get(email), expected.get(email))
        for email in found.keys() | expected.keys()
        if found.get(email) != expected.get(email)
    }
