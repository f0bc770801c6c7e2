"""The same mixed batch, whatever iContact turns out to be like.

Each run sets some of the simulator's switches, pushes people of every sort end to
end and then looks at everything the simulator holds: the promises hold under all
readings of the open questions.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from onward.testing.app import TestApp
from onward_icontact.simulator import SWITCHES, Contact, Folder, Simulator

OnwardFor = Callable[..., TestApp]

MAPPED = {
    "firstName": "first_name",
    "city": "city",
    "business": "company",
    "loyaltytier": "tier",
}
# In iContact only; Onward must never touch it.
THEIRS: dict[str, Any] = {
    "fax": "555-0199",
    "phone": "555-0142",
    "street": "1 Mill Lane",
}

# What the push of each person must end with, whatever the switches.
EXPECTED = {
    "new-1": "delivered",
    "new-2": "delivered",
    "new-3": "delivered",
    "o'new": "delivered",
    "known-changed": "delivered",
    "known-moved-here": "delivered",
    "known-moved-there": "delivered",
    "known-off-list": "delivered",
    "known-left": "unsubscribed",
    "known-refused": "do_not_contact",
    "known-bounced": "bounced",
    "known-deleted": "deleted",
    "known-clash": "address_taken",
    "there": "delivered",
    "there-on-list": "delivered",
    "there-left": "unsubscribed",
    "there-refused": "do_not_contact",
    "there-bounced": "bounced",
    "there-unconfirmed": "awaiting_confirmation",
    "there-invited": "awaiting_confirmation",
    "there-deleted": "unsubscribed",
}
FIVE = (
    "commas",
    "population",
    "duplicate_subscription",
    "opt_out_subscribe",
    "collection_post",
)
# Without the switches that a push of valid contacts never meets.
VALUES: Mapping[str, Sequence[Any]] = {
    name: switch.values
    for name, switch in SWITCHES.items()
    if isinstance(switch.values, tuple)
    and name
    not in {
        "unpaid",
        "custom_field_case",
        "webhook_own_changes",
        "throttle_body",
        "omitted_status",
        "locked_status",
        "unwritable_status",
        "time_zone_of_queries",
        "state_too_long",
        "invalid_email",
        "custom_values",
        "subscriptions_by_contact",
    }
} | {
    "max_limit": (500, 100, 20),
    # A warning is no answer: until there is none, pushes wait. See below.
    "orderby": ("honoured", "ignored"),
    "population_size": (0, 3, 130),
}


def address(name: str) -> str:
    """Return the address of a person."""
    return f"{name}@shop.example"


def fill(folder: Folder, size: int) -> None:
    """Put the people there whom Onward has not heard of."""

    def add(name: str, status: str = "normal", *lists: str) -> Contact:
        return folder.add_contact(
            address(name).title(), status, lists, firstName="Old", **THEIRS
        )

    for number in range(size):
        add(f"other-{number}", "normal", *(["Newsletter"] if number % 2 else []))
    add("bystander", "normal", "Newsletter", "VIP")
    add("there", "normal", "VIP")
    add("there-on-list", "normal", "Newsletter")
    add("there-left", "normal", "Newsletter", "VIP")
    folder.unsubscribe("Newsletter", address("there-left"))
    add("there-refused", "donotcontact", "Newsletter")
    add("there-bounced", "bounced")
    add("there-invited", "invitable")
    unconfirmed = add("there-unconfirmed")
    newsletter = folder.list_named("Newsletter")
    folder.subscribe(newsletter.list_id, unconfirmed.contact_id, "pending")
    deleted = add("there-deleted", "normal", "Newsletter")
    folder.unsubscribe("Newsletter", deleted.email)
    folder.delete_contact(deleted)


def meddle(app: TestApp, folder: Folder) -> None:
    """Let things happen on both sides to those whom Onward has pushed already."""

    def there(name: str) -> Contact:
        contact = folder.find(address(name))
        assert contact is not None
        return contact

    for contact in folder.contacts.values():
        contact.values.update(THEIRS)
    folder.unsubscribe("Newsletter", address("known-left"))
    there("known-refused").status = "donotcontact"
    there("known-bounced").status = "bounced"
    folder.delete_contact(there("known-deleted"))
    folder.change_email(there("known-moved-there"), address("elsewhere"))
    off = folder.membership(
        folder.list_named("Newsletter").list_id, there("known-off-list").contact_id
    )
    assert off is not None
    folder.drop_subscription(off)
    folder.add_contact(address("known-clash"), firstName="Other", **THEIRS)
    for old, name in (("clash-before", "known-clash"), ("before", "known-moved-here")):
        rename(app, address(old), address(name))


def rename(app: TestApp, old: str, new: str) -> None:
    """Give a contact here another address."""
    app.upsert_contact({"email": old, "identities": {"user": old}})
    app.upsert_contact({"email": new, "identities": {"user": old}})


def run(sim: Simulator, app: TestApp, size: int) -> None:
    """Push the mixed batch and check everything that must be true then."""
    folder = sim.folder()
    fill(folder, size)
    first = [name for name in EXPECTED if name.startswith("known")]
    renamed = {"known-clash": "clash-before", "known-moved-here": "before"}
    emails = [address(renamed.get(name, name)) for name in first]
    for email in emails:
        app.upsert_contact({"email": email, "first_name": "First", "company": "Mill"})
    app.push(to="icontact", emails=emails)
    app.deliver()
    assert {row["code"] for row in app.deliveries()} == {"delivered"}
    meddle(app, folder)
    before = {one.contact_id: dict(one.values) for one in folder.contacts.values()}
    vip, on_list = folder.on_list("VIP"), members(folder)
    sim.requests.clear()
    for name in EXPECTED:
        app.upsert_contact(
            {
                "email": address(name),
                "first_name": f"New {name}",
                "city": "Durham",
                "company": "Bakery",
                "tier": "gold",
            }
        )
    app.push(to="icontact", emails=[address(name) for name in EXPECTED], force=True)

    app.deliver()

    check_outcomes(app, sim)
    check_state(app, folder, before, on_list)
    assert folder.on_list("VIP") == vip
    assert not [one for one in sim.requests if one.method in ("PUT", "DELETE")]
    assert max(len(one.path) + len(one.query) for one in sim.requests) < 4_000


def check_outcomes(app: TestApp, sim: Simulator) -> None:
    """Every row ended as it must, with a code and a sentence."""
    ended = {row["email"].split("@")[0]: row for row in app.deliveries()}
    expected = dict(EXPECTED)
    if sim.switches.total_includes_deleted == "yes":
        expected["there-deleted"] = "deleted"
    codes = {name: ended[name]["code"] for name in expected}
    why = {name: ended[name]["reason"] for name in expected}
    assert (codes, why) == (expected, why)
    for name, code in expected.items():
        state = {"delivered": "delivered", "awaiting_confirmation": "delivered"}.get(
            code, "failed" if code == "address_taken" else "skipped"
        )
        assert ended[name]["state"] == state
        assert state == "delivered" or len(why[name].split()) > 2


def check_state(
    app: TestApp,
    folder: Folder,
    before: Mapping[str, dict[str, str]],
    members_before: set[str],
) -> None:
    """Everything the service holds is as it must be."""
    last = {row["email"]: row for row in app.deliveries()}
    delivered = {
        contact.contact_id
        for contact in folder.contacts.values()
        if contact.email.lower() in last
        and last[contact.email.lower()]["code"] == "delivered"
    }
    assert members(folder) == members_before | delivered
    written = {email for email, row in last.items() if row["state"] == "delivered"}
    for contact in folder.contacts.values():
        old = before.get(contact.contact_id, {})
        theirs = {name: text for name, text in contact.values.items() if name in THEIRS}
        ours = {name: contact.get(name) for name in MAPPED}
        # Revived by an upsert: what becomes of the old values is the service's.
        is_revived = name_of(contact) == "there-deleted"
        assert is_revived or theirs == {
            name: text for name, text in old.items() if name in THEIRS
        }
        if contact.email.lower() in written:
            assert ours == {
                "firstName": f"New {name_of(contact)}",
                "city": "Durham",
                "business": "Bakery",
                "loyaltytier": "gold",
            }
            assert contact.status in ("normal", "invitable")
        elif not is_revived:
            assert contact.values == old
    statuses = {name_of(one): one.status for one in folder.contacts.values()}
    assert statuses["known-deleted"] == "deleted"
    assert statuses["there-refused"] == statuses["known-refused"] == "donotcontact"
    assert statuses["there-bounced"] == statuses["known-bounced"] == "bounced"
    assert statuses["there-invited"] == "invitable"
    for name, status in (
        ("there-left", "unsubscribed"),
        ("known-left", "unsubscribed"),
    ):
        assert folder.subscription("Newsletter", address(name)) == status
    assert folder.subscription("Newsletter", address("there-deleted")) in (
        "unsubscribed",
    )
    unconfirmed = folder.subscription("Newsletter", address("there-unconfirmed"))
    assert unconfirmed == "pending"


def members(folder: Folder) -> set[str]:
    """Return the ids of the contacts on the Newsletter."""
    rows = folder.rows_of_list(folder.list_named("Newsletter").list_id)
    return {id_ for id_, row in rows.items() if row.status == "normal"}


def name_of(contact: Contact) -> str:
    """Return the name of a person in the simulator."""
    return contact.email.lower().split("@")[0]


def pairwise(seed: int) -> Iterator[dict[str, Any]]:
    """Yield settings of all switches in which every pair of values occurs."""
    dice = random.Random(seed)  # noqa: S311  # chooses tests
    # A dict, for its order: sets of texts have another one in each process.
    missing = {
        ((a, x), (b, y)): None
        for a, b in itertools.combinations(VALUES, 2)
        for x in VALUES[a]
        for y in VALUES[b]
    }
    while missing:
        best: dict[str, Any] = {}
        most: set[Any] = set()
        for _ in range(8):
            drawn = {name: dice.choice(VALUES[name]) for name in VALUES}
            place = dice.randrange(len(missing))
            drawn.update(dict(next(itertools.islice(missing, place, None))))
            pairs = itertools.combinations(drawn.items(), 2)
            covers = {pair for pair in pairs if pair in missing}
            if len(covers) > len(most):
                best, most = drawn, covers
        for pair in most:
            del missing[pair]
        yield best


RUNS = list(pairwise(7))
PRODUCT = list(itertools.product(*(VALUES[name] for name in FIVE)))


def some(number: int) -> Any:
    """Return a run as a parameter; only the first few are quick."""
    return pytest.param(number, marks=[pytest.mark.slow] if number > 2 else [])


@pytest.mark.parametrize("number", [some(number) for number in range(len(RUNS))])
def test_every_pair_of_readings(number: int, onward_for: OnwardFor) -> None:
    """All promises hold for every pair of answers to the open questions."""
    switches = dict(RUNS[number])
    size = switches.pop("population_size")
    sim = Simulator(**switches)

    run(sim, onward_for(sim), size)


def test_service_that_warns_of_an_order(onward_for: OnwardFor) -> None:
    """Nothing is written on the strength of such an answer; without it, all is sent."""
    sim = Simulator(orderby="warning", commas="ignored")
    fill(sim.folder(), 3)
    app = onward_for(sim)
    app.upsert_contact({"email": address("new-1"), "first_name": "New"})
    app.push(to="icontact", emails=[address("new-1")])

    app.deliver()
    waiting = [row["state"] for row in app.deliveries()]
    sim.set(orderby="honoured", commas="honoured")
    app.clock.tick(3_600)
    app.deliver()

    assert waiting == ["waiting"]
    assert [row["state"] for row in app.deliveries()] == ["delivered"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a seventh of the product by day, all of it at night."""
    if "five" in metafunc.fixturenames:
        profile = metafunc.config.getoption("--hypothesis-profile", None)
        every = 1 if profile == "nightly" else 7
        metafunc.parametrize("five", PRODUCT[::every], ids="-".join)


@pytest.mark.slow
def test_combinations_of_the_five(five: tuple[str, ...], onward_for: OnwardFor) -> None:
    """All promises hold in the product of the five questions that matter most."""
    switches: dict[str, Any] = dict(zip(FIVE, five, strict=True))
    sim = Simulator(max_limit=100, **switches)

    run(sim, onward_for(sim), 130)
