"""Write `reliability.md` from what the cells of `tests/reliability` showed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"

PLACES = {
    "before_claim": "before it claims",
    "after_claim": "after it claimed",
    "after_attempt": "after the attempt is committed",
    "before_request": "before a request leaves",
    "after_request": "after the service stored it, before the answer is read",
    "after_answer": "after the answer, before it is committed",
    "after_commit": "after the commit",
    "during_enqueue": "in the transaction that queues",
    "during_backfill": "in a trigger's back-fill",
    "during_merge": "in the merge of two contacts",
}
INTRODUCTION = """\
# What happens when something breaks

Onward promises that a push survives whatever is killed when,
and that a repeat has no further effect.
This page is not a claim: each cell is a run of real processes,
killed with a real signal (-9) at a named place,
against an iContact that harms whoever repeats a thing or leaves a field out.
`make nightly` plays all of them and writes this page, `make test` plays a few.

A cell is good when nobody is lost,
and when iContact afterwards has exactly what it has when nobody disturbs:
every contact, field, status and subscription,
with what its owner changed in the meantime and who left.
A cell shows the seconds from the kill to the end of all work, of {people} contacts,
with a lease of {lease} s (the default is 60 s) on the machine that ran it.
✗ marks a cell that is not good.

## Killed with -9

{matrix}
## Machines and networks

Workers are stopped, cut off or set wrong; times as above.

{disturbed}
{promises}"""
PROMISES = """\
## What Onward promises

- **Nothing is lost.** What `record_action()` and its like returned is committed.
  What was being sent when a process died is taken over when its lease ends:
  at most `lease` (60 s, settable) and one sweep (2 s) later.
- **At least once, made harmless.** Nobody knows whether a request arrived
  whose answer did not. Such a push is *unknown*:
  it is read back before anything is sent again, uses no try,
  and what is there as wished counts as delivered.
  An integration that cannot read says whether a second push does harm (`repeatable`);
  where it does, the push ends as failed with the code `unknown` rather than twice.
- **One worker per connection.** Each claim, mark and outcome carries a lease's fence.
  What a worker says that was stopped and woken is refused,
  and what is known of its contacts is doubted: the next push reads before it writes.
- **A repeat with a key returns the first result**, for as long as the event is kept.
- **A database that goes away costs time.** Nothing is held against contacts,
  plugins or connections, and workers go on by themselves when it is back.

## What Onward cannot promise

- **Exactly once.** Between a request that left and its stored answer there is a
  moment that only the service knows of. Natural keys (the address, the service's id)
  and reading back make the second time the same as the first;
  with a service that has neither,
  choose between `repeatable = True` (twice, rarely) and failed (not at all, rarely).
- **A request that is already on its way cannot be called back.** A worker that is
  stopped for longer than its lease between its last look and the request
  sends what it had ready; its answer is refused, but the service has it.
- **An opt-out made in the service is known after the next pull or push check**,
  not in the same second.
- **Signals are announced at most once**, in the process that committed.
  Who must not miss one reads rows.
- **`durability = "normal"` survives a kill, not always a power cut**:
  the last transactions of SQLite may be missing then. `"power"` waits for the disk.
- **A clock more than 5 s from the database server's** keeps a worker on PostgreSQL
  from working at all; it says so, and goes on when the clock is right.
"""


def page(cells: list[dict[str, object]]) -> str:
    """Return the whole page."""
    killed = [cell for cell in cells if cell["row"] in PLACES]
    other = [cell for cell in cells if cell["row"] not in PLACES]
    first = cells[0]
    return INTRODUCTION.format(
        people=first["people"],
        lease=first["lease_s"],
        matrix=_matrix(killed),
        disturbed=_list(other),
        promises=PROMISES,
    )


def _matrix(cells: list[dict[str, object]]) -> str:
    columns = sorted({str(cell["column"]) for cell in cells}, key=_order)
    found = {(cell["row"], cell["column"]): _shown(cell) for cell in cells}
    head = f"| killed | {' | '.join(columns)} |"
    lines = [head, "|---" * (len(columns) + 1) + "|"]
    for place, words in PLACES.items():
        shown = [found.get((place, column), "not run") for column in columns]
        lines.append(f"| {words} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _order(column: str) -> tuple[bool, bool, str]:
    return (not column.startswith("SQLite"), "cluster" in column, column)


def _list(cells: list[dict[str, object]]) -> str:
    lines = ["| what | lost | different | seconds |", "|---|---|---|---|"]
    for cell in sorted(cells, key=lambda cell: (str(cell["row"]), str(cell["column"]))):
        what = f"{cell['row']} ({cell['column']})"
        shown = (what, cell["lost"], cell["different"], cell["taken_s"])
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join(lines) + "\n"


def _shown(cell: dict[str, object]) -> str:
    if cell["lost"] or cell["different"]:
        return f"✗ {cell['lost']} lost, {cell['different']} different"
    return f"{cell['taken_s']} s"


def main() -> int:
    """Read the cells of a folder and write the page; tell whether all are good."""
    folder = Path(sys.argv[1])
    cells = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not cells:
        print(f"there are no cells in {folder}", file=sys.stderr)
        return 1
    PAGE.write_text(page(cells), encoding="utf-8")
    bad = [cell for cell in cells if cell["lost"] or cell["different"]]
    print(f"{PAGE.name}: {len(cells)} cells, {len(bad)} of them not good")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
