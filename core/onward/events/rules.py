"""Which rules an action leads to, and what they do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction

from onward.audiences.book import read_book
from onward.audiences.resolve import Question, resolve
from onward.config.model import PushTo, Rule
from onward.contacts.elsewhere import ask_facts
from onward.contacts.facts import Facts
from onward.errors import InputError
from onward.events.action import POINTS, Action
from onward.events.points import Fired, claim_again, claim_once, rule_claim
from onward.events.rulebook import RuleBook
from onward.filters import Filter
from onward.filters.names import AUDIENCE, is_of_event

log = logging.getLogger("onward.events")

Look = tuple[str, bool, str]
"""Key of a rule, whether it ran, and why not."""


@dataclass(slots=True)
class Entry:
    """One event row in the making: the action itself, or that the contact is new."""

    name: str
    data: Mapping[str, Any]
    looked: list[Look]
    event_id: int = 0


@dataclass(slots=True)
class Doing:
    """One action and what has followed from it so far.

    Args:
        entries: in the order of their rows; the last is the cause of pushes.
        delta: points it leads to, all rules together.
        wishes: of rules: (where to, key of the rule).
        fired: triggers this action is named as the cause of.
        pushes: rows queued or joined, in order.
    """

    action: Action
    contact_id: int
    created: bool
    delta: int
    entries: list[Entry]
    reasons: list[str]
    wishes: list[tuple[PushTo, str]]
    fired: list[Fired]
    pushes: dict[int, None]

    @classmethod
    def of(cls, action: Action, contact_id: int, *, created: bool) -> Doing:
        """Return what an action begins with; factories of fields would be slow."""
        return cls(action, contact_id, created, action.points, [], [], [], [], {})

    @property
    def event_id(self) -> int:
        """The event row its consequences name as their cause; 0 for none."""
        return self.entries[-1].event_id if self.entries else 0


Match = tuple[Doing, Entry, Rule]


def follow_rules(
    transaction: Transaction, book: RuleBook, doings: Sequence[Doing], now: datetime
) -> list[tuple[int, str]]:
    """Note in each doing what its rules say; write their claims.

    Returns:
        (contact id, segment) to be added to.
    """
    matches: list[Match] = [
        (doing, entry, rule)
        for doing in doings
        for entry in doing.entries
        if entry.name != POINTS  # points lead to triggers, not to rules
        for rule in book.matching(entry.name)
    ]
    if not matches:
        return []
    joined: list[tuple[int, str]] = []
    reasons = _why_not(transaction, book, matches, now)
    for (doing, entry, rule), why in zip(matches, reasons, strict=True):
        entry.looked.append((rule.key, not why, why))
        if why:
            continue
        doing.wishes += [(to, rule.key) for to in rule.push_to]
        joined += [(doing.contact_id, name) for name in rule.add_to]
        if rule.points:
            doing.delta += rule.points
            doing.reasons.append(f"rule {rule.key}")
    return joined


def _why_not(
    transaction: Transaction, book: RuleBook, matches: Sequence[Match], now: datetime
) -> list[str]:
    """Return why each rule does not run, "" where it does; take the claims."""
    questions = _questions(transaction, book, matches)
    facts = _facts(transaction, matches, questions)
    reasons: list[str] = []
    for doing, entry, rule in matches:
        question = questions.get(rule.key, "")
        if isinstance(question, str):
            reasons.append(question)
            continue
        about: Facts = {
            **facts.get(doing.contact_id, {}),
            "action": entry.name,
            "data": entry.data,
        }
        reasons.append(question.explain(about, now)[1])
    _claim(transaction, matches, reasons, now)
    return reasons


def _questions(
    transaction: Transaction, book: RuleBook, matches: Sequence[Match]
) -> dict[str, Question | str]:
    """Return key of a rule → what it asks, of those that ask anything.

    An audience that is not there any more (it was at the start) costs the rule, not
    the event: that is why it does not run, whether it wants it or not.
    """
    asking = {rule.key: rule for *_, rule in matches if rule.conditions.conditions}
    known: Mapping[str, Filter] = {}
    if any(AUDIENCE in rule.conditions.fields() for rule in asking.values()):
        known = read_book(transaction, book.audiences).filters
    questions: dict[str, Question | str] = {}
    for key, rule in asking.items():
        try:
            questions[key] = resolve(rule.conditions, known)
        except InputError as error:
            log.warning("rule %s does not run: %s", key, error.message)
            questions[key] = error.message
    return questions


def _facts(
    transaction: Transaction,
    matches: Sequence[Match],
    questions: Mapping[str, Question | str],
) -> dict[int, Facts]:
    """Read of the contacts what some condition asks about."""
    names: set[str] = set()
    ids: set[int] = set()
    for doing, _, rule in matches:
        question = questions.get(rule.key)
        if not isinstance(question, Question):
            continue
        read = [name for name in question.asks if not is_of_event(name)]
        if read:
            names.update(read)
            ids.add(doing.contact_id)
    if not ids:
        return {}
    return ask_facts(transaction, sorted(ids), frozenset(names))


def _claim(
    transaction: Transaction,
    matches: Sequence[Match],
    reasons: list[str],
    now: datetime,
) -> None:
    """Take the claims of rules that do not run every time, or note why not."""
    limited = [
        (place, rule, doing.contact_id)
        for place, (doing, _, rule) in enumerate(matches)
        if rule.repeat != "every" and not reasons[place]
    ]
    # In the order of contacts, like everybody who takes claims: no deadlock.
    limited.sort(key=lambda one: (one[2], one[0]))
    once = {(rule_claim(r.key), c): None for _, r, c in limited if r.repeat == "once"}
    mine = claim_once(transaction, list(once), now)
    for place, rule, contact_id in limited:
        claim = rule_claim(rule.key), contact_id
        if isinstance(rule.repeat, timedelta):
            may = claim_again(transaction, *claim, now, now - rule.repeat)
        else:
            may = claim in mine
            mine.discard(claim)  # the next action of this batch comes second
        if not may:
            reasons[place] = _ran_before(rule)


def _ran_before(rule: Rule) -> str:
    if isinstance(rule.repeat, timedelta):
        return f"it ran for this contact less than {rule.repeat} ago"
    return "it ran for this contact before, and runs once"
