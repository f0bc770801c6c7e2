"""Log lines that can be followed, and show neither addresses nor secrets."""

from __future__ import annotations

import html
import io
import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.logs import JsonFormatter, TextFormatter, bound, protect
from onward.logs.addresses import without_addresses
from onward.logs.context import MOST_IDS, facts, named

LOCAL = st.text("abcXYZ019.!#$%*+_-~^ü'", min_size=1, max_size=30)
DOMAIN = st.from_regex(r"[a-zé0-9][a-z0-9-]{0,9}(\.[a-z]{2,6}){1,2}", fullmatch=True)


@dataclass
class Work:
    """Some work with facts that may change."""

    said: Mapping[str, object]

    def facts(self) -> Mapping[str, object]:
        """Return what it says now."""
        return self.said


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a protected JSON handler of the logger `onward.made` wrote."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    protect(handler, ["s3cr3t-word"])
    log = logging.getLogger("onward.made")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield stream
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def line_of(lines: io.StringIO) -> dict[str, object]:
    """Return the last line, parsed."""
    found: dict[str, object] = json.loads(lines.getvalue().splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ana@shop.example is refused", "<address> is refused"),
        ("GET /people?email=ana%40shop.example&x=1", "GET /people?email=<address>&x=1"),
        ("Key (email)=(ana@shop.example)", "Key (email)=(<address>)"),
        ("<ana.o'neil+x@shop.example>, b@c", "<<address>>, <address>"),
        ('"an a"@shop.example and ana@[10.0.0.1]', "<address> and <address>"),
        ("ana\\u0040shop.example ana&#64;shop.example", "<address> <address>"),
        ("püñk@bücher.example.", "<address>."),
        ("ana%2540shop.example", "<address>"),
        ("2 @ 3 euros, @property", "2 @ 3 euros, @property"),
        ("no address at all", "no address at all"),
    ],
)
def test_addresses_are_taken_out(text: str, left: str) -> None:
    """What looks like an address is replaced, however it is written; no more."""
    assert without_addresses(text) == left


@given(
    LOCAL, DOMAIN, st.sampled_from(["{}", "a {} b", "'{}'", "x={}&y", "({}),", '"{}"'])
)
def test_no_way_of_writing_an_address_stays(
    local: str, domain: str, around: str
) -> None:
    """Nothing with a local part and a domain survives, plain or encoded."""
    address = f"{local}@{domain}"
    for written in (
        address,
        quote(address),
        quote(address, safe=""),
        json.dumps(address)[1:-1],
        html.escape(address),
        repr(address)[1:-1],
    ):
        left = without_addresses(around.format(written))

        assert "@" not in left
        assert quote(domain) not in left.replace("<address>", "")


@pytest.mark.parametrize("text", ["a" * 200_000, "a@" * 100_000, "@" * 200_000])
def test_a_long_text_costs_little(text: str) -> None:
    """Whatever is in a text, it takes time in proportion to its length."""
    assert len(without_addresses(text)) <= len(text) * 9


def test_a_line_has_stable_keys(lines: io.StringIO) -> None:
    """Time, level, logger and message first, then facts, then who wrote it."""
    log = logging.getLogger("onward.made")

    log.warning("%d failed", 2, extra={"code": "http_400", "delivery_ids": [1, 2]})

    line = line_of(lines)
    assert list(line) == [
        "time",
        "level",
        "logger",
        "message",
        "delivery_ids",
        "code",
        "host",
        "pid",
        "thread",
    ]
    assert str(line["time"]).endswith("Z")
    assert line["message"] == "2 failed"
    assert line["delivery_ids"] == [1, 2]


def test_neither_secrets_nor_addresses_pass_a_protected_handler(
    lines: io.StringIO,
) -> None:
    """Message, extras and trace lose both; the kind of the error stays."""
    log = logging.getLogger("onward.made")

    try:
        {}["ana@shop.example s3cr3t-word"]  # type: ignore[index]
    except KeyError:
        log.exception(
            "%s went wrong", "bob@shop.example", extra={"path": "/x?key=s3cr3t-word"}
        )

    line = line_of(lines)
    assert "shop.example" not in lines.getvalue()
    assert "s3cr3t-word" not in lines.getvalue()
    assert line["message"] == "<address> went wrong"
    assert line["error"] == "KeyError"
    assert str(line["trace"]).startswith("Traceback")


def test_lines_carry_the_facts_of_the_work_around_them(lines: io.StringIO) -> None:
    """Also what it learns later, and in threads; the line's own facts win."""
    log = logging.getLogger("onward.made")
    work = Work({"connection": "acme", "code": "outer"})

    with bound(work), bound(Work({"attempt_id": 7})), ThreadPoolExecutor() as pool:
        thread = copy_context().run
        work.said = {"connection": "other", "code": "outer"}
        pool.submit(thread, log.info, "said", extra={"code": "own"}).result()
    inside = line_of(lines)
    log.info("afterwards")

    assert (inside["connection"], inside["attempt_id"]) == ("other", 7)
    assert inside["code"] == "own"
    assert "connection" not in line_of(lines)
    assert facts() == {}


def test_a_line_about_one_delivery_names_no_other(lines: io.StringIO) -> None:
    """In the middle of a batch, too; and a batch too large is named by its ends."""
    log = logging.getLogger("onward.made")

    with bound(Work(named([1, 2, 3]))):
        log.info("one", extra={"delivery_id": 2})

    assert "delivery_ids" not in line_of(lines)
    assert named([*range(1, MOST_IDS + 2)]) == {
        "deliveries": MOST_IDS + 1,
        "first_id": 1,
        "last_id": MOST_IDS + 1,
    }


def test_text_for_people_has_the_facts_behind_it() -> None:
    """Numbers in a row are written short; a request is not said twice."""
    record = logging.makeLogRecord({"name": "onward.x", "msg": "attempt 7 ended"})
    vars(record).update(
        status=200, attempt_id=7, delivery_ids=[1, 2, 3, 7, 9, 10], reason="no way"
    )

    line = TextFormatter().format(record)

    assert line.endswith(
        "attempt 7 ended [attempt_id=7 delivery_ids=1-3,7,9-10 reason='no way']"
    )
