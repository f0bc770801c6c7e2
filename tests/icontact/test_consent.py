"""What a recorded consent answers, and what it does not: minutes lie between steps.

The simulator re-subscribes whoever it is asked to, so each test fails by what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from onward.connections.declare import declare_connections
from onward.connections.remove import remove_connection
from onward.connections.state import named
from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator
from onward_icontact.simulator.records import Contact

OnwardFor = Callable[..., TestApp]

ANA = "ana@shop.example"
BO = "bo@shop.example"
DELIVERED = {"ana": ("delivered", "delivered")}
LEFT = {"ana": ("skipped", "unsubscribed")}
GONE = {"ana": ("skipped", "deleted")}


class Story:
    """Ana, an iContact that does whatever it is asked to, and the minutes between."""

    def __init__(
        self, app: TestApp, sim: Simulator, push: Callable[..., object]
    ) -> None:
        self.app = app
        self.sim = sim
        self._push = push

    def push(self, *emails: str, **options: object) -> object:
        """Push people by hand, Ana if none is named; return what became of them."""
        self.app.clock.tick(60)
        return self._push(self.app, *(emails or (ANA,)), **options)

    def consents(self, email: str = ANA) -> None:
        """Record a permission."""
        self.app.clock.tick(60)
        self.app.consent(email, how="form", who="sam")

    def leaves(self, segment: str = "Newsletter", email: str = ANA) -> None:
        """Unsubscribe in iContact."""
        self.app.clock.tick(60)
        self.sim.folder().unsubscribe(segment, email)

    def joins(self, segment: str, status: str = "normal") -> None:
        """Get a membership in iContact that is none of our doing."""
        self.app.clock.tick(60)
        folder = self.sim.folder()
        list_id = folder.list_named(segment).list_id
        folder.subscribe(list_id, self.contact().contact_id, status)

    def is_deleted(self) -> None:
        """Be deleted in iContact."""
        self.app.clock.tick(60)
        self.sim.folder().delete_contact(self.contact())

    def contact(self, email: str = ANA) -> Contact:
        """Return what iContact has of somebody."""
        found = self.sim.folder().find(email)
        assert found is not None
        return found

    def on(self, segment: str = "Newsletter") -> set[str]:
        """Return who is on a list there."""
        return self.sim.folder().on_list(segment)


@pytest.fixture
def story(onward_for: OnwardFor, tools: SimpleNamespace) -> Story:
    """Ana here, and in iContact on both lists."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    app = onward_for(sim)
    sim.folder().add_contact(ANA, lists=["Newsletter", "VIP"])
    app.record_action(
        "met", identities={"email": ANA, "user": "7"}, contact={"city": "Durham"}
    )
    return Story(app, sim, tools.pushed)


def test_opt_out_that_was_seen_is_answered_once(story: Story) -> None:
    """A consent brings her back on the list that she left, for as long as she stays."""
    story.leaves()
    assert story.push() == LEFT
    story.consents()

    assert story.push(segment="VIP") == DELIVERED
    assert story.push() == DELIVERED
    assert story.on() == {ANA}

    story.leaves()
    assert story.push(force=True) == LEFT
    assert story.on() == set()


@pytest.mark.parametrize("is_pushed_before", [True, False])
def test_opt_out_that_was_not_seen_is_not_answered(
    is_pushed_before: bool, story: Story
) -> None:
    """Consent to be contacted at all is no permission for a list she leaves later."""
    if is_pushed_before:
        assert story.push() == DELIVERED
    story.app.suppress(ANA)
    story.consents()
    story.leaves("VIP")

    assert story.push(segment="VIP") == LEFT
    assert story.on("VIP") == set()

    story.consents()
    assert story.push(segment="VIP") == DELIVERED


def test_value_that_was_altered_uses_the_consent(story: Story) -> None:
    """She is on the list again although her data is not all there: that was it."""
    story.leaves()
    story.push()
    story.consents()
    story.sim.set(max_length=4)

    assert story.push() == {"ana": ("failed", "altered")}
    assert story.on() == {ANA}

    story.leaves()
    assert story.push() == LEFT
    assert story.on() == set()


def test_confirmation_that_is_awaited_uses_the_consent(story: Story) -> None:
    """Asked for her confirmation she gave it, and left: that is a new opt-out."""
    story.leaves()
    story.push()
    story.consents()
    story.joins("Newsletter", "pending")
    assert story.push() == {"ana": ("delivered", "awaiting_confirmation")}
    story.joins("Newsletter")
    story.leaves()

    assert story.push() == LEFT
    assert story.on() == set()


def test_answer_that_is_lost_uses_the_consent(story: Story) -> None:
    """Nobody knows whether she was on the list in between, so she is left alone."""
    story.leaves()
    story.push()
    story.consents()
    story.sim.fail("timeout_after_write", method="POST", resource="subscriptions")
    assert story.push() == {"ana": ("waiting", "timeout")}
    story.leaves()

    story.app.clock.tick(3_600)
    story.app.deliver()

    assert story.app.deliveries()[-1]["code"] == "unsubscribed"
    assert story.on() == set()
    story.consents()
    assert story.push() == DELIVERED


@pytest.mark.parametrize("then", ["a look-up that fails", "a merge"])
def test_consent_that_was_used_is_not_found_again(then: str, story: Story) -> None:
    """Whatever becomes of the row whose answer was lost, the next one is as careful."""
    story.leaves()
    story.push()
    story.consents()
    story.sim.fail("timeout_after_write", method="POST", resource="subscriptions")
    story.push()
    story.leaves()
    if then == "a merge":
        story.app.record_action("met", identities={"email": BO, "user": "7"})
    else:
        # Reading back goes well, the look-up before the resend does not.
        story.sim.fail("connect_error", method="GET", resource="contacts", after=1)

    for _ in range(6):
        story.app.clock.tick(3_600)
        story.app.deliver()

    assert story.app.deliveries()[-1]["code"] == "unsubscribed"
    assert story.on() == set()


@pytest.mark.parametrize("opt_out", ["left", "stopped here", "deleted"])
def test_deletion_that_came_later_is_not_answered(opt_out: str, story: Story) -> None:
    """Who was deleted after the consent is not made again, seen in between or not."""
    if opt_out == "left":
        story.leaves()
        story.push()
    elif opt_out == "stopped here":
        story.push()
        story.app.suppress(ANA)
    else:
        story.push()
        story.is_deleted()
        story.push(force=True)
    story.consents()
    if opt_out == "deleted":
        assert story.push(force=True) == DELIVERED
    contact = story.contact()
    story.is_deleted()

    assert story.push(segment="VIP", force=True) == GONE
    assert contact.status == "deleted"

    story.consents()
    story.push()
    assert contact.status == "normal"


def test_deletion_after_a_status_that_was_only_read(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """Read as do-not-contact after her consent, then deleted: not made again."""
    sim = Simulator(commas="literal", max_limit=20)
    app = onward_for(sim)
    for number in range(50):
        sim.folder().add_contact(f"other-{number}@post.example")
    app.upsert_contact({"email": ANA})
    story = Story(app, sim, tools.pushed)
    story.push()
    app.suppress(ANA)
    story.consents()
    contact = story.contact()
    contact.status = "donotcontact"
    many = [f"m{number}@shop.example" for number in range(30)]
    for email in many:
        app.upsert_contact({"email": email})
    app.clock.tick(1_000)
    story.push(*many)
    story.is_deleted()

    assert story.push(segment="VIP") == GONE
    assert contact.status == "deleted"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "kind", ["json_503", "timeout_after_write", "timeout_before_write"]
)
def test_coming_back_is_not_lost_half_way(
    kind: str, method: str, story: Story, tools: SimpleNamespace
) -> None:
    """Made again and not yet on the list, the consent still holds.

    Only a subscription that may have arrived has used it.
    """
    story.push()
    story.leaves()
    story.is_deleted()
    assert story.push(force=True) == GONE
    story.consents()
    story.sim.fail(kind, method=method, resource="subscriptions")

    story.push()
    for _ in range(6):
        story.app.clock.tick(1_000)
        story.app.deliver()

    used = (kind, method) == ("timeout_before_write", "POST")
    assert tools.ended(story.app)["ana"][0] == ("skipped" if used else "delivered")
    assert story.on() == (set() if used else {ANA})
    story.consents()
    assert story.push(force=True) == DELIVERED


def test_coming_back_happens_once(story: Story) -> None:
    """Made again, not yet on the list and deleted again: that is a new deletion."""
    story.push()
    story.is_deleted()
    assert story.push(force=True) == GONE
    story.consents()
    story.sim.fail("json_503", method="GET", resource="subscriptions")
    story.push()
    contact = story.contact()
    assert contact.status == "normal"
    story.is_deleted()

    story.app.clock.tick(3_600)
    story.app.deliver()

    assert story.app.deliveries()[-1]["code"] == "deleted"
    assert contact.status == "deleted"


def test_deletion_answered_brings_the_first_list_back(story: Story) -> None:
    """What else she had left by then is asked about list by list."""
    story.push()
    story.push(segment="VIP")
    story.leaves()
    story.leaves("VIP")
    story.is_deleted()
    assert story.push(force=True) == GONE
    story.consents()

    story.app.push(to="icontact", email=ANA)
    assert story.push(segment="VIP") == LEFT
    assert (story.on(), story.on("VIP")) == ({ANA}, set())
    story.consents()
    assert story.push(segment="VIP") == DELIVERED
    assert (story.on(), story.on("VIP")) == ({ANA}, {ANA})


def test_consent_does_not_pass_over_in_a_merge(story: Story) -> None:
    """What one has answered is no answer to what the other's contact said there."""
    story.app.record_action("met", identities={"email": BO, "user": "8"})
    story.sim.folder().add_contact(BO, lists=["Newsletter", "VIP"])
    story.leaves()
    story.push()
    story.push(BO, segment="VIP")
    story.consents()
    assert story.push() == DELIVERED
    story.leaves("Newsletter", BO)
    story.leaves()
    story.app.record_action("met", identities={"email": BO, "user": "7"})

    story.push(BO)

    assert story.on() == set()


def test_answered_deletion_does_not_pass_over_in_a_merge(story: Story) -> None:
    """The survivor's own contact was deleted too, and nobody knew that yet."""
    story.app.record_action("met", identities={"email": BO, "user": "8"})
    bo = story.sim.folder().add_contact(BO)
    story.push(BO)
    story.push()
    story.is_deleted()
    assert story.push(force=True) == GONE
    story.consents()
    story.sim.folder().delete_contact(bo)
    story.app.record_action("met", identities={"email": BO, "user": "7"})

    assert story.push(BO, force=True) == {"bo": ("skipped", "deleted")}
    assert bo.status == "deleted"


def test_consent_does_not_pass_over_to_another_remote_contact(story: Story) -> None:
    """The contact that has her new address left the list by itself."""
    story.sim.folder().add_contact(BO, lists=["Newsletter"])
    story.leaves()
    story.push()
    story.consents()
    story.is_deleted()
    story.leaves("Newsletter", BO)
    story.app.record_action("met", identities={"user": "7", "email": BO})

    assert story.push(BO) == {"bo": ("skipped", "unsubscribed")}
    assert story.on() == set()


def test_consent_is_not_used_again_by_a_connection_made_anew(story: Story) -> None:
    """What was answered before the connection was removed is not known any more."""
    story.leaves()
    story.push()
    story.consents()
    assert story.push() == DELIVERED
    story.leaves()
    runtime = story.app.runtime
    with runtime.database.read() as transaction:
        state = named(transaction, "icontact")
    remove_connection(runtime, replace(state, declared=""))
    declare_connections(runtime)
    story.app.verify("icontact")

    assert story.push() == LEFT
    assert story.on() == set()


def test_membership_does_not_pass_over_to_another_remote_contact(
    onward_for: OnwardFor, tools: SimpleNamespace
) -> None:
    """On a list too long to be read, a membership is believed of its contact only."""
    sim = Simulator(max_limit=20)
    app = onward_for(sim)
    for number in range(150):
        sim.folder().add_contact(f"other-{number}@post.example", lists=["Newsletter"])
    sim.folder().add_contact(BO)
    people = [f"p{number}@shop.example" for number in range(3)]
    for number, email in enumerate([ANA, *people]):
        app.record_action("met", identities={"email": email, "user": f"{number}"})
    story = Story(app, sim, tools.pushed)
    story.push(ANA, *people)
    story.is_deleted()
    app.record_action("met", identities={"user": "0", "email": BO})
    for email in people:
        app.upsert_contact({"email": email, "first_name": "New"})

    ended = story.push(BO, *people)

    assert ended == dict.fromkeys(["bo", "p0", "p1", "p2"], ("delivered", "delivered"))
    assert BO in story.on()
