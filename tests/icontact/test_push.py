"""What a push leads to, contact by contact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

OnwardFor = Callable[..., TestApp]

ANA = "ana@shop.example"
BO = "bo@shop.example"
CEM = "cem@shop.example"
DELIVERED = ("delivered", "delivered")


def given(app: TestApp, *emails: str, **fields: object) -> None:
    """Create or change contacts here."""
    for email in emails:
        app.upsert_contact({"email": email, **fields})


def values(sim: Simulator, email: str = ANA) -> dict[str, str]:
    """Return what the service holds of somebody."""
    contact = sim.folder().find(email)
    assert contact is not None
    return contact.values


def writes(sim: Simulator) -> list[tuple[str, object]]:
    """Return the resource and body of each write."""
    return [
        (one.path.rpartition("/c/8801/")[2], one.body)
        for one in sim.requests
        if one.method != "GET"
    ]


# -- creating and changing


def test_new_contact_arrives_on_the_list(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A new contact is created with its mapped values and put on the list."""
    app = onward_for(sim)
    given(app, "Ana@shop.example", first_name="Ana", company="Mill", tier="gold")

    ended = tools.pushed(app, ANA)

    assert ended == {"ana": DELIVERED}
    assert values(sim) == {
        "firstName": "Ana",
        "business": "Mill",
        "loyaltytier": "gold",
    }
    assert sim.folder().on_list("Newsletter") == {ANA}


def test_changed_contact_sends_the_changes_only(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A known contact gets a member POST with what changed, and nothing else."""
    app = onward_for(sim)
    given(app, ANA, first_name="Ana", company="Mill", tier="gold")
    tools.pushed(app, ANA)
    values(sim)["fax"] = "555-0199"
    sim.requests.clear()
    given(app, ANA, company="Bakery")

    ended = tools.pushed(app, ANA)

    assert ended == {"ana": DELIVERED}
    assert writes(sim) == [("contacts/70012345", {"business": "Bakery"})]
    assert values(sim)["fax"] == "555-0199"


def test_existing_contact_keeps_what_is_not_mapped(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Somebody who exists there is updated field by field, never posted anew."""
    app = onward_for(sim)
    sim.folder().add_contact(
        "Ana@Shop.example", firstName="Ana", lastName="Ruiz", fax="555-0199"
    )
    given(app, ANA, first_name="Ana", city="Durham")

    ended = tools.pushed(app, ANA)

    assert ended == {"ana": DELIVERED}
    assert values(sim) == {
        "firstName": "Ana",
        "lastName": "Ruiz",
        "city": "Durham",
        "fax": "555-0199",
    }
    assert [path for path, _ in writes(sim)] == ["contacts/70012345", "subscriptions"]


def test_dates_and_boxes_arrive_and_stay_unchanged(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A ticked box is "1", a date YYYY-MM-DD; sent once, they are no change."""
    app = onward_for(sim)
    sim.set(custom_values="checked", search_rows="full")
    given(app, ANA, custom={"may_call": "yes", "birthday": "1980-01-02"})
    tools.pushed(app, ANA)
    values(sim)["birthday"] = "1980-01-02 00:00:00"
    given(app, ANA, BO, first_name="Jo", custom={"may_call": "no"})
    given(app, ANA, custom={"may_call": "yes"})

    ended = tools.pushed(app, ANA, BO)

    assert ended == {"ana": DELIVERED, "bo": DELIVERED}
    assert values(sim) == {
        "firstName": "Jo",
        "acceptsphone": "1",
        "birthday": "1980-01-02 00:00:00",
    }
    assert values(sim, BO) == {"firstName": "Jo", "acceptsphone": "0"}


def test_value_too_long_is_left_out_and_said(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A state of 14 letters stays at home; the contact goes, with a warning."""
    app = onward_for(sim)
    given(app, ANA, first_name="Ana", state="North Carolina")

    ended = tools.pushed(app, ANA)

    assert ended == {"ana": DELIVERED}
    assert "state" in tools.reason(app, ANA)
    assert values(sim) == {"firstName": "Ana"}


def test_value_that_came_back_otherwise_is_no_success(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A value that was cut fails the push by name; uncut, the next one succeeds."""
    app = onward_for(sim)
    sim.set(max_length=4)
    given(app, ANA, first_name="Ana", city="Durham")

    cut = tools.pushed(app, ANA)

    assert cut == {"ana": ("failed", "altered")}
    assert tools.reason(app, ANA) == "iContact stored city differently than sent"
    sim.set(max_length=0)
    assert tools.pushed(app, ANA) == {"ana": DELIVERED}
    assert values(sim)["city"] == "Durham"


def test_on_no_list(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """With `segment = false` contacts are created and put on no list."""
    app = onward_for(sim, "segment = false")
    given(app, ANA, BO, first_name="Ana")

    ended = tools.pushed(app, ANA, BO)

    assert ended == {"ana": DELIVERED, "bo": DELIVERED}
    assert sim.folder().counts()["subscriptions"] == 0


@pytest.mark.parametrize("atomic", ["no", "yes"])
@pytest.mark.parametrize("how", ["warning", "error400"])
def test_one_bad_contact_does_not_stop_the_others(
    how: str, atomic: str, sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """One address iContact refuses is named and refused; 19 others arrive."""
    app = onward_for(sim)
    sim.set(batch_atomic=atomic, invalid_email=how)
    emails = [f"p{number}@shop.example" for number in range(19)]
    given(app, *emails, CEM, first_name="Ana")
    sim.fail("reject_emails", email=CEM, how=how)

    ended = tools.pushed(app, *emails[:7], CEM, *emails[7:])

    assert ended.pop("cem")[0] == "failed"
    assert "was not valid (cem@shop.example)" in tools.reason(app, CEM)
    assert set(ended.values()) == {DELIVERED}
    assert sim.folder().on_list("Newsletter") == set(emails)
    sim.clear_faults()
    assert tools.pushed(app, CEM) == {"cem": DELIVERED}


# -- who opted out


def test_unsubscribed_is_left_alone_until_a_consent(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Who left the list is skipped, untouched; a consent allows it once, not twice."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    app = onward_for(sim)
    sim.folder().add_contact(ANA, lists=["Newsletter"], firstName="Old")
    sim.folder().unsubscribe("Newsletter", ANA)
    given(app, ANA, first_name="New")

    first = tools.pushed(app, ANA)

    assert first == {"ana": ("skipped", "unsubscribed")}
    assert tools.reason(app, ANA) == "unsubscribed from Newsletter in iContact"
    assert (values(sim), writes(sim)) == ({"firstName": "Old"}, [])
    sim.requests.clear()
    assert tools.pushed(app, ANA, force=True) == {"ana": ("skipped", "suppressed")}
    assert sim.requests == []
    app.consent(ANA, how="on the phone", who="sam")
    assert tools.pushed(app, ANA) == {"ana": DELIVERED}
    assert sim.folder().on_list("Newsletter") == {ANA}
    sim.folder().unsubscribe("Newsletter", ANA)
    assert tools.pushed(app, ANA, force=True) == {"ana": ("skipped", "unsubscribed")}
    assert sim.folder().on_list("Newsletter") == set()


@pytest.mark.parametrize("answer", ["warning", "empty", "error400", "echo_unchanged"])
def test_consent_that_icontact_does_not_honour(
    answer: str, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """When iContact keeps somebody off the list, the push says so, not success."""
    sim = Simulator(opt_out_subscribe=answer)
    app = onward_for(sim)
    sim.folder().add_contact(ANA, lists=["Newsletter"])
    sim.folder().unsubscribe("Newsletter", ANA)
    given(app, ANA, BO)
    tools.pushed(app, ANA)
    app.consent(ANA, how="on the phone", who="sam")

    ended = tools.pushed(app, ANA, BO)

    assert ended == {"ana": ("skipped", "unsubscribed"), "bo": DELIVERED}
    assert sim.folder().on_list("Newsletter") == {BO}


@pytest.mark.parametrize(
    ("status", "code"), [("donotcontact", "do_not_contact"), ("bounced", "bounced")]
)
def test_opt_out_of_the_address_holds_for_every_list(
    status: str,
    code: str,
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """Do not contact and bounced stop the address everywhere, also a known one."""
    app = onward_for(sim)
    given(app, ANA, first_name="Ana")
    tools.pushed(app, ANA)
    contact = sim.folder().find(ANA)
    assert contact is not None
    contact.status = status
    given(app, ANA, first_name="New")

    first = tools.pushed(app, ANA)
    elsewhere = tools.pushed(app, ANA, segment="VIP")

    assert first == {"ana": ("skipped", code)}
    assert elsewhere == {"ana": ("skipped", "suppressed")}
    assert (values(sim), sim.folder().on_list("VIP")) == ({"firstName": "Ana"}, set())


def test_status_nobody_knows_is_no_permission(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A contact whose status Onward does not know is not touched."""
    app = onward_for(sim)
    sim.folder().add_contact(ANA).status = "quarantined"
    given(app, ANA, first_name="Ana")

    ended = tools.pushed(app, ANA)

    assert ended == {"ana": ("failed", "unknown_status")}
    assert '"quarantined"' in tools.reason(app, ANA)
    assert writes(sim) == []


@pytest.mark.parametrize("rows", ["short", "full"])
def test_another_contact_with_the_address_gets_what_is_not_shown(
    rows: str, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """What the deleted contact was sent, the one that is now theirs has not got."""
    sim = Simulator(search_rows=rows)
    app = onward_for(sim)
    bo = sim.folder().add_contact(BO)
    app.record_action(
        "met",
        identities={"email": ANA, "user": "7"},
        contact={"first_name": "Ana", "custom": {"tier": "gold"}},
    )
    tools.pushed(app, ANA)
    ana = sim.folder().find(ANA)
    assert ana is not None
    sim.folder().delete_contact(ana)
    app.record_action("met", identities={"user": "7", "email": BO})

    ended = tools.pushed(app, BO)

    assert ended == {"bo": DELIVERED}
    assert bo.values == {"firstName": "Ana", "loyaltytier": "gold"}


@pytest.mark.parametrize("answer", ["revives", "error404", "stays_deleted"])
@pytest.mark.parametrize("commas", ["honoured", "literal"])
def test_deleted_there_is_not_made_again_without_consent(
    answer: str, commas: str, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Who was deleted in iContact stays so; a consent brings them back."""
    sim = Simulator(deleted_member_post=answer, commas=commas, max_limit=20)
    app = onward_for(sim)
    for number in range(50):
        sim.folder().add_contact(f"other-{number}@post.example")
    given(app, ANA, BO, first_name="Ana")
    tools.pushed(app, ANA, BO)
    gone = sim.folder().find(ANA)
    assert gone is not None
    sim.folder().delete_contact(gone)
    given(app, ANA, BO, first_name="New")

    first = tools.pushed(app, ANA, BO)

    assert first == {"ana": ("skipped", "deleted"), "bo": DELIVERED}
    assert gone.status == "deleted"
    assert tools.pushed(app, ANA, force=True) == {"ana": ("skipped", "suppressed")}
    app.consent(ANA, how="came back", who="sam")
    assert tools.pushed(app, ANA) == {"ana": DELIVERED}
    assert sim.folder().on_list("Newsletter") == {ANA, BO}
    given(app, ANA, BO, first_name="Newer")
    assert set(tools.pushed(app, ANA, BO).values()) == {DELIVERED}
    assert values(sim) == {"firstName": "Newer"}


@pytest.mark.parametrize("commas", ["honoured", "literal"])
@pytest.mark.parametrize("others", [0, 60])
@pytest.mark.parametrize("batch", [1, 5])
def test_revived_contact_keeps_its_opt_out(
    commas: str,
    others: int,
    batch: int,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """An address that left the list before it was deleted is not put back on it."""
    sim = Simulator(opt_out_subscribe="resubscribes", commas=commas, max_limit=50)
    app = onward_for(sim)
    contact = sim.folder().add_contact(ANA, lists=["Newsletter"])
    sim.folder().unsubscribe("Newsletter", ANA)
    sim.folder().delete_contact(contact)
    for number in range(others):
        sim.folder().add_contact(f"other-{number}@post.example")
    emails = [ANA, *(f"p{number}@shop.example" for number in range(batch - 1))]
    given(app, *emails, first_name="Ana")

    ended = tools.pushed(app, *emails)

    assert ended.pop("ana") == ("skipped", "unsubscribed")
    assert set(ended.values()) <= {DELIVERED}
    assert sim.folder().on_list("Newsletter") == set(emails[1:])


@pytest.mark.parametrize("answer", ["warning", "empty", "error400", "echo_unchanged"])
@pytest.mark.parametrize("what", ["unsubscribed", "do_not_contact"])
def test_who_opts_out_while_it_is_pushed_is_seen(
    answer: str,
    what: str,
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """An opt-out in the last moment is told from success, and stops nobody else."""
    sim.set(opt_out_subscribe=answer)
    emails = [ANA, BO, CEM]
    for email in emails:
        sim.folder().add_contact(email)

    def opt_out(request: httpx.Request) -> httpx.Request:
        contact = sim.folder().find(ANA)
        assert contact is not None
        if request.method == "POST" and request.url.path.endswith("/subscriptions"):
            if what == "unsubscribed":
                sim.folder().unsubscribe("Newsletter", ANA)
            else:
                contact.status = "donotcontact"
        return request

    app = onward_for(sim, between=tools.Between(sim, opt_out))
    given(app, *emails)

    ended = tools.pushed(app, *emails)

    assert ended == {"ana": ("skipped", what), "bo": DELIVERED, "cem": DELIVERED}
    assert sim.folder().on_list("Newsletter") == {BO, CEM}


def test_opt_outs_are_read_again_after_a_slow_batch(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Who leaves while a long batch is written is not subscribed at its end."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    emails = [f"p{number}@shop.example" for number in range(20)]
    for email in emails:
        sim.folder().add_contact(email, firstName="Old")
    app: list[TestApp] = []

    def slow(request: httpx.Request) -> httpx.Request:
        app[0].clock.tick(1)
        if request.method == "POST" and request.url.path.endswith("/70012350"):
            sim.folder().unsubscribe("Newsletter", emails[0])
        return request

    app.append(onward_for(sim, between=tools.Between(sim, slow)))
    given(app[0], *emails, first_name="New")

    ended = tools.pushed(app[0], *emails)

    assert ended.pop("p0") == ("skipped", "unsubscribed")
    assert set(ended.values()) == {DELIVERED}
    assert sim.folder().on_list("Newsletter") == set(emails[1:])


# -- waiting for a confirmation


def test_unconfirmed_contact_gets_fields_and_no_membership(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Who has not confirmed yet is updated only, until iContact says normal."""
    app = onward_for(sim)
    contact = sim.folder().add_contact(ANA, "pending")
    given(app, ANA, first_name="Ana")

    waiting = tools.pushed(app, ANA)

    assert waiting == {"ana": ("delivered", "awaiting_confirmation")}
    assert (values(sim), sim.folder().on_list("Newsletter")) == (
        {"firstName": "Ana"},
        set(),
    )
    contact.status = "normal"
    assert tools.pushed(app, ANA) == {"ana": DELIVERED}
    assert sim.folder().on_list("Newsletter") == {ANA}


def test_opt_in_pending_asks_the_person(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """With opt_in pending people are subscribed as pending, and once is enough."""
    app = onward_for(sim, 'segment = "Newsletter"\nopt_in = "pending"')
    sim.folder().add_contact(BO, lists=["Newsletter"])
    given(app, ANA, BO, CEM)

    ended = tools.pushed(app, ANA, BO, CEM)

    assert set(ended.values()) == {DELIVERED}
    statuses = [sim.folder().subscription("Newsletter", one) for one in (ANA, BO, CEM)]
    assert statuses == ["pending", "normal", "pending"]
    assert tools.pushed(app, ANA)["ana"][0] == "unchanged"


# -- addresses that change


def test_address_changed_here(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A new address here becomes the address of the same contact there."""
    app = onward_for(sim)
    given(app, ANA, first_name="Ana", identities={"user": "7"})
    tools.pushed(app, ANA)
    given(app, BO, identities={"user": "7"}, first_name="Bo")

    ended = tools.pushed(app, BO)

    assert ended == {"bo": DELIVERED}
    assert sim.folder().counts()["contacts"] == 1
    assert sim.folder().on_list("Newsletter") == {BO}


def test_address_changed_there(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A contact whose address was changed in iContact is still the same one."""
    app = onward_for(sim)
    given(app, ANA, first_name="Ana")
    tools.pushed(app, ANA)
    contact = sim.folder().find(ANA)
    assert contact is not None
    sim.folder().change_email(contact, "else@post.example")
    given(app, ANA, first_name="New")

    ended = tools.pushed(app, ANA)

    assert ended == {"ana": DELIVERED}
    assert (contact.email, sim.folder().counts()["contacts"]) == (ANA, 1)


@pytest.mark.parametrize("how", ["error400", "warning", "silent_ignore"])
@pytest.mark.parametrize("holder", ["normal", "deleted"])
def test_address_of_another_contact_is_refused(
    how: str,
    holder: str,
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """An address that belongs to another contact there is never taken from it."""
    sim.set(email_clash=how)
    app = onward_for(sim)
    given(app, ANA, first_name="Ana", identities={"user": "7"})
    tools.pushed(app, ANA)
    other = sim.folder().add_contact(BO, holder, firstName="Other", fax="555-0199")
    given(app, BO, identities={"user": "7"}, first_name="Bo")

    ended = tools.pushed(app, BO)

    assert ended == {"bo": ("failed", "address_taken")}
    assert (other.email, other.values) == (
        BO,
        {"firstName": "Other", "fax": "555-0199"},
    )
    assert values(sim)["firstName"] == "Ana"
    sim.folder().change_email(other, "free@post.example")
    assert tools.pushed(app, BO) == {"bo": DELIVERED}


def test_two_of_ours_do_not_share_one_of_theirs(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A contact there that is linked to one of ours is not written for another."""
    app = onward_for(sim)
    given(app, ANA, first_name="Ana")
    tools.pushed(app, ANA)
    contact = sim.folder().find(ANA)
    assert contact is not None
    sim.folder().change_email(contact, BO)
    given(app, ANA, BO, first_name="New")

    ended = tools.pushed(app, BO, ANA)

    assert ended == {"bo": ("failed", "address_taken"), "ana": DELIVERED}
    assert contact.email == ANA
    assert tools.pushed(app, BO) == {"bo": DELIVERED}
    assert sim.folder().counts()["contacts"] == 2


# -- memberships


@pytest.mark.parametrize(
    "answer", ["notices", "empty", "record", "warning", "error400"]
)
@pytest.mark.parametrize("size", [1, 2, 8])
def test_membership_that_was_there_already(
    answer: str,
    size: int,
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """However a duplicate is answered, it is success and spoils nothing."""
    sim.set(duplicate_subscription=answer)
    app = onward_for(sim)
    emails = [f"p{number}@shop.example" for number in range(size)]
    for email in emails[::2]:
        sim.folder().add_contact(email, lists=["Newsletter"])
    given(app, *emails)

    ended = tools.pushed(app, *emails)

    assert set(ended.values()) == {DELIVERED}
    assert sim.folder().on_list("Newsletter") == set(emails)


def test_contact_moved_off_the_list_is_put_back(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Success means on the list: who was moved to another list is put on again."""
    app = onward_for(sim)
    emails = [f"p{number}@shop.example" for number in range(5)]
    given(app, *emails, first_name="Ana")
    tools.pushed(app, *emails)
    for row in list(sim.folder().subscriptions.values())[:3]:
        sim.folder().drop_subscription(row)
    given(app, *emails, first_name="New")

    ended = tools.pushed(app, *emails)

    assert set(ended.values()) == {DELIVERED}
    assert sim.folder().on_list("Newsletter") == set(emails)


@pytest.mark.parametrize("answer", ["error500", "warning", "error404"])
@pytest.mark.parametrize("who", ["new", "there", "known"])
def test_deleted_list_holds_its_rows(
    answer: str,
    who: str,
    sim: Simulator,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """A list that is gone pauses its pushes with the reason; back again, they go."""
    sim.set(deleted_list_subscribe=answer)
    app = onward_for(sim)
    emails = [ANA, BO, CEM]
    given(app, CEM, "first@shop.example", first_name="Old")
    tools.pushed(app, "first@shop.example")
    if who == "known":
        given(app, *emails, first_name="Old")
        tools.pushed(app, *emails)
    given(app, *emails, first_name="Ana")
    if who == "there":
        for email in emails:
            sim.folder().add_contact(email)
    newsletter = sim.folder().list_named("Newsletter")
    sim.folder().delete_list(newsletter.list_id)

    rows = app.push(to="icontact", emails=emails)
    app.deliver()

    assert {state for state, _ in tools.ended(app, rows).values()} == {"waiting"}
    assert {code for _, code in tools.ended(app, rows).values()} == {"segment_gone"}
    assert 'the list "Newsletter" (4410) was deleted' in tools.reason(app, ANA)
    sim.folder().lists[newsletter.list_id] = newsletter
    tools.verify(app)
    app.deliver()
    assert set(tools.ended(app, rows).values()) == {DELIVERED}
    assert sim.folder().on_list("Newsletter") == set(emails)
    assert {values(sim, email)["firstName"] for email in emails} == {"Ana"}


@pytest.mark.parametrize("status", [404, 500])
def test_deleted_list_is_seen_when_opt_outs_are_read(
    status: int, sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Where reading a deleted list's memberships fails, that too means it is gone."""
    app = onward_for(sim)
    emails = [ANA, BO, CEM]
    for email in emails:
        sim.folder().add_contact(email)
    given(app, "first@shop.example", *emails)
    tools.pushed(app, "first@shop.example")
    newsletter = sim.folder().list_named("Newsletter")
    sim.folder().delete_list(newsletter.list_id)
    words = "No result for (4410)." if status == 500 else "Not Found"
    for _ in range(9):
        sim.fail("status", 1, "GET", "subscriptions", status=status, errors=[words])

    rows = app.push(to="icontact", emails=emails)
    app.deliver()

    assert {code for _, code in tools.ended(app, rows).values()} == {"segment_gone"}
    sim.clear_faults()
    sim.folder().lists[newsletter.list_id] = newsletter
    tools.verify(app)
    app.deliver()
    assert set(tools.ended(app, rows).values()) == {DELIVERED}


def test_password_of_any_letters_works_and_is_kept_nowhere(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """A password of colons and umlauts opens iContact and is in no stored row."""
    sim.password = "päss:wörd"
    app = onward_for(sim)
    given(app, ANA)

    ended = tools.pushed(app, ANA)

    assert ended == {"ana": DELIVERED}
    dumped = tools.dump(app)
    assert "contacts" in dumped
    assert "wörd" not in dumped
    assert "w\\u00f6rd" not in dumped


# -- what was sent and not confirmed


@pytest.mark.parametrize(
    ("kind", "resource"),
    [
        ("timeout_after_write", "contacts"),
        ("close_after_write", "contacts"),
        ("html_503", "subscriptions"),
        ("status", "subscriptions"),
    ],
)
@pytest.mark.parametrize("people", [(ANA,), (ANA, BO, CEM)])
def test_value_that_changes_back_is_sent_again(
    people: tuple[str, ...],
    kind: str,
    resource: str,
    onward_for: OnwardFor,
    tools: SimpleNamespace,
) -> None:
    """A push that changed a hidden field and did not end is remembered by the next.

    The search rows do not show the field, and here it is again what it was.
    """
    sim = Simulator()
    app = onward_for(sim)
    given(app, *people, tier="silver")
    tools.pushed(app, *people)
    given(app, *people, tier="gold")
    sim.fail(kind, method="POST", resource=resource, status=401)
    tools.pushed(app, *people, segment="VIP")
    assert any(values(sim, one)["loyaltytier"] == "gold" for one in people)
    given(app, *people, tier="silver")
    sim.clear_faults()
    app.clock.tick(3_600)
    tools.resume(app)

    rows = app.push(to="icontact", emails=list(people))
    app.deliver()
    app.deliver()

    # Unchanged where the push to the other list was first.
    ends = {state for state, _ in tools.ended(app, rows).values()}
    assert ends <= {"delivered", "unchanged"}
    assert {values(sim, one)["loyaltytier"] for one in people} == {"silver"}


def test_field_that_left_the_map_and_came_back_is_sent(
    onward_for: OnwardFor, tools: SimpleNamespace, tmp_path: Path
) -> None:
    """Of a field that was not mapped for a while nothing is believed."""
    sim = Simulator()
    app = onward_for(sim)
    given(app, ANA, tier="gold")
    tools.pushed(app, ANA)
    field_map = tmp_path / "map.toml"
    mapped = field_map.read_text()
    field_map.write_text(mapped.replace('loyaltytier = "tier"', ""))
    given(app, ANA, city="Durham")
    tools.pushed(app, ANA)
    values(sim)["loyaltytier"] = "theirs"
    field_map.write_text(mapped)

    assert tools.pushed(app, ANA) == {"ana": DELIVERED}
    assert values(sim)["loyaltytier"] == "gold"


def test_do_not_contact_is_not_called_unchanged(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """After a consent iContact is asked again, and may say the same."""
    app = onward_for(sim)
    given(app, ANA)
    tools.pushed(app, ANA)
    ana = sim.folder().find(ANA)
    assert ana is not None
    ana.status = "donotcontact"
    tools.pushed(app, ANA, force=True)
    app.consent(ANA, how="form", who="sam")

    assert tools.pushed(app, ANA) == {"ana": ("skipped", "do_not_contact")}
    ana.status = "normal"
    app.consent(ANA, how="form", who="sam")
    assert tools.pushed(app, ANA) == {"ana": DELIVERED}


def test_one_stray_404_of_somebody_who_moved(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Under the new address there is nobody yet; that the id is gone is asked twice."""
    app = onward_for(sim)
    app.record_action("met", identities={"email": ANA, "user": "7"})
    tools.pushed(app, ANA)
    app.record_action("moved", identities={"email": BO, "user": "7"})
    sim.fail("status", 1, "GET", "contacts", status=404, after=1, errors=["Not Found"])

    assert tools.pushed(app, BO) == {"bo": DELIVERED}
    assert len(sim.folder().contacts) == 1


# -- at the same time


def test_contact_is_on_its_way_to_one_list_at_a_time(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Somebody new on two lists is made once, and then known."""
    app = onward_for(sim)
    given(app, ANA)

    app.push(to="icontact", email=ANA)
    tools.pushed(app, ANA, segment="VIP")

    made = [body for path, body in writes(sim) if path == "contacts"]
    assert made == [[{"email": ANA}]]
    assert sim.folder().on_list("Newsletter") == sim.folder().on_list("VIP") == {ANA}


def test_merge_while_it_is_being_sent(
    sim: Simulator, onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """What comes back belongs to the survivor, who is not made a second time."""
    merging: list[Callable[[], object]] = []

    def between(request: httpx.Request) -> httpx.Request:
        if merging and "subscriptions" in request.url.path:
            merging.pop()()
        return request

    app = onward_for(sim, between=tools.Between(sim, between))
    app.record_action("met", identities={"email": ANA, "user": "7"})
    app.record_action("met", identities={"email": BO, "user": "8"})
    tools.pushed(app, ANA)
    merging.append(
        lambda: app.record_action("met", identities={"email": BO, "user": "7"})
    )

    app.push(to="icontact", email=ANA, force=True)
    app.deliver()
    app.clock.tick(60)
    app.deliver()

    assert merging == []
    assert tools.pushed(app, BO, force=True) == {"bo": DELIVERED}
    assert [one.email for one in sim.folder().contacts.values()] == [BO]
