"""The short answer: the latest news of each connection, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from onward.why.answer import ActionWhy, ConnectionWhy, Since, TriggerWhy


def short_answer(
    connections: Sequence[ConnectionWhy],
    actions: Sequence[ActionWhy],
    triggers: Sequence[TriggerWhy],
    since: Since,
) -> tuple[str, ...]:
    """Return a sentence for each thing that explains what happened, or did not."""
    if not connections:
        return ("there is no connection to push to; see `onward connections add`",)
    answer: list[str] = []
    for one in connections:
        if one.pushes:
            answer.append(f"{one.connection}: {one.pushes[0].sentence}")
        elif one.blocks:
            answer.append(f"{one.connection}: {one.blocks}")
    if not any(one.pushes for one in connections):
        answer += _why_nothing(connections, actions, triggers, since)
    return tuple(answer)


def _why_nothing(
    connections: Sequence[ConnectionWhy],
    actions: Sequence[ActionWhy],
    triggers: Sequence[TriggerWhy],
    since: Since,
) -> list[str]:
    if not any(one.rules for one in connections):
        return ["no rule and no trigger pushes anywhere"]
    said: list[str] = []
    if since.deliveries is not None:
        said.append(
            f"what ended before {since.deliveries:%Y-%m-%d %H:%M} was removed, and "
            "nothing was queued for it since"
        )
    looks = [look for action in actions for look in action.looked]
    if not actions:
        said.append(f"nothing {_recorded(since)}, so no rule had anything to look at")
    elif not looks:
        said.append("no rule matches any of its actions")
    else:
        # Of each rule the latest look; actions come newest first.
        failed = {look.rule: look for look in reversed(looks) if not look.ran}
        said += [f"rule {key} did not run: {one.why}" for key, one in failed.items()]
        if not failed and since.deliveries is None:
            said.append("the rules that ran push nowhere")
    return said + [
        f"trigger {one.key}: {one.sentence}" for one in triggers if one.fired_at is None
    ]


def _recorded(since: Since) -> str:
    if since.events is None:
        return "was recorded of it"
    when = f"{since.events:%Y-%m-%d %H:%M}"
    return f"was recorded of it since {when} (what is older was removed)"
