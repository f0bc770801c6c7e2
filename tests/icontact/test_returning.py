"""What a consent to come back answers of somebody who was deleted in iContact."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from onward.testing.app import TestApp
from onward_icontact.simulator import Simulator

ANA = "ana@shop.example"


def came_back(app: TestApp, sim: Simulator, *, seen: bool) -> None:
    """Let Ana be deleted, consent, be brought back by the owner; then leave the list.

    Args:
        seen: a pull saw that she was on the list before all that, and left it.
    """
    folder = sim.folder()
    if seen:
        folder.unsubscribe("Newsletter", ANA)
    app.sync("icontact")
    ana = folder.find(ANA)
    assert ana is not None
    folder.delete_contact(ana)
    app.sync("icontact")
    app.clock.tick(60)
    app.consent(ANA, how="form", who="sam")
    ana.status = "normal"
    app.clock.tick(60)
    app.sync("icontact")
    app.clock.tick(60)


def test_consent_to_a_deletion_answers_no_later_opt_out(
    onward_for: Callable[..., TestApp], tools: SimpleNamespace
) -> None:
    """Brought back by the owner she leaves a list: the consent before is no answer."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    app = onward_for(sim)
    sim.folder().add_contact(ANA, lists=["Newsletter"])
    came_back(app, sim, seen=False)
    list_id = sim.folder().list_named("Newsletter").list_id
    ana = sim.folder().find(ANA)
    assert ana is not None
    sim.folder().subscribe(list_id, ana.contact_id, "normal")
    sim.folder().unsubscribe("Newsletter", ANA)

    assert tools.pushed(app, ANA) == {"ana": ("skipped", "unsubscribed")}

    assert sim.folder().on_list("Newsletter") == set()
    app.clock.tick(60)
    app.consent(ANA, how="form", who="sam")
    assert tools.pushed(app, ANA) == {"ana": ("delivered", "delivered")}


def test_consent_to_a_deletion_answers_what_was_known_before(
    onward_for: Callable[..., TestApp], tools: SimpleNamespace
) -> None:
    """An opt-out noted before the deletion was known when she consented."""
    sim = Simulator(opt_out_subscribe="resubscribes")
    app = onward_for(sim)
    sim.folder().add_contact(ANA, lists=["Newsletter"])
    came_back(app, sim, seen=True)

    assert tools.pushed(app, ANA) == {"ana": ("delivered", "delivered")}
    assert sim.folder().on_list("Newsletter") == {ANA}
