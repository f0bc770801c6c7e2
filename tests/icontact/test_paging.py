"""A collection is read to its end while it changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward import Rejected, Temporary
from onward_icontact.paging import MOST_BACK, Place, walk
from onward_icontact.rows import Page

Ids = list[int]


@dataclass
class Shelf:
    """Rows in some order that change while they are read.

    Args:
        before_page: what happens to the rows before the page of that number.
        order: the order they stand in; None = by id.
        caps: most rows of the pages, in turn, the last for good.
        total: what is said, given how many there are and how many are shown.
        twice: so many rows of each page come a second time.
    """

    rows: Ids
    before_page: dict[int, Callable[[Ids], object]] = field(
        default_factory=dict[int, Callable[[Ids], object]]
    )
    order: Callable[[int], int] | None = None
    caps: Sequence[int] = (500,)
    total: Callable[[int, int], int | None] = lambda there, shown: there
    twice: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def get(self, limit: int, offset: int) -> Page:
        """Answer one page."""
        number = len(self.asked)
        if number in self.before_page:
            self.before_page.pop(number)(self.rows)
        self.asked.append((limit, offset))
        there = sorted(set(self.rows), key=self.order)
        cap = self.caps[min(number, len(self.caps) - 1)]
        shown = there[offset : offset + min(limit, cap)]
        shown = sorted(shown + shown[: self.twice], key=self.order)
        rows = [{"contactId": str(id_)} for id_ in shown]
        return Page(rows, self.total(len(there), len(shown)))


def read(shelf: Shelf, place: Place | None = None) -> Ids:
    """Read the shelf; return the ids as they came."""
    pages = walk(shelf.get, Place(by_id=True) if place is None else place)
    return [int(row["contactId"]) for page, _ in pages for row in page.rows]


def pieces(shelf: Shelf, stops: Sequence[int]) -> tuple[Ids, Place]:
    """Read the shelf by several processes, each for so many pages."""
    place, got = Place(by_id=True), Ids()
    for pages in [*stops, 10_000]:
        place = Place(**json.loads(json.dumps(asdict(place))))
        for number, (page, is_last) in enumerate(walk(shelf.get, place), 1):
            got += [int(row["contactId"]) for row in page.rows]
            if is_last:
                return got, place
            if number == pages:
                break
    raise AssertionError("it has no end")


@pytest.mark.parametrize(
    ("size", "calls"), [(0, 1), (3, 1), (499, 1), (501, 2), (980, 2), (10_000, 21)]
)
def test_as_many_calls_as_pages(size: int, calls: int) -> None:
    """A short page whose total agrees is the last; pages overlap by ten rows."""
    shelf = Shelf(list(range(size)))

    got = read(shelf)

    assert set(got) == set(range(size))
    assert len(shelf.asked) == calls
    assert shelf.asked[:2] == [(500, 0), (500, 490)][:calls]


@pytest.mark.parametrize("size", [1, 20, 37, 500, 990, 1_203])
@pytest.mark.parametrize(
    "total",
    [
        lambda there, shown: None,
        lambda there, shown: 0,
        lambda there, shown: shown,
        lambda there, shown: 7,
        lambda there, shown: there // 2,
        lambda there, shown: there - 1,
        lambda there, shown: there + 3,
        lambda there, shown: 10**9,
    ],
)
def test_total_is_not_believed(
    size: int, total: Callable[[int, int], int | None]
) -> None:
    """Too low, too high, of the page or none: reading ends when nobody new comes."""
    shelf = Shelf(list(range(size)), total=total)

    got = read(shelf)

    assert set(got) == set(range(size))
    assert len(shelf.asked) <= size // 490 + 3


@pytest.mark.parametrize("cap", [20, 25, 30, 45, 75, 100])
def test_total_of_a_page_that_is_cut(cap: int) -> None:
    """A page as long as somebody may have chosen is not taken for all there is."""
    shelf = Shelf(list(range(130)), caps=[cap], total=lambda there, shown: shown)

    assert set(read(shelf)) == set(range(130))


def test_more_rows_vanish_than_pages_overlap() -> None:
    """The reading goes back until it finds where it was, and loses nobody."""
    shelf = Shelf(list(range(2_000)))
    shelf.before_page[3] = lambda rows: rows.__delitem__(slice(0, 700))

    got = read(shelf)

    assert set(range(700, 2_000)) <= set(got)
    assert len(shelf.asked) <= 5 + 3


def test_order_that_is_not_by_id_goes_back_too() -> None:
    """Where ids tell nothing, a row of the seam does."""
    shelf = Shelf(list(range(2_000)), order=lambda id_: id_ * 7_919 % 2_003)
    left = set(sorted(shelf.rows, key=shelf.order)[700:])
    shelf.before_page[3] = lambda rows: rows.__setitem__(slice(None), sorted(left))
    place = Place(by_id=True)

    got = read(shelf, place)

    assert left <= set(got)
    assert not place.by_id


def test_rows_that_come_back_shift_the_others() -> None:
    """A page that repeats what was seen is not taken for the end."""
    shelf = Shelf(list(range(1_000, 3_000)))
    shelf.before_page[1] = lambda rows: rows.extend(range(500))

    got = read(shelf)

    assert set(got) >= set(range(1_000, 3_000))


def test_folder_emptied_while_it_is_read() -> None:
    """Reading ends where it began, with nobody."""
    shelf = Shelf(list(range(2_000)))
    shelf.before_page[2] = lambda rows: rows.clear()
    place = Place(by_id=True)

    got = read(shelf, place)

    assert max(got) == 989
    assert shelf.asked[-1] == (500, 0)


def test_rows_vanish_faster_than_they_can_be_read() -> None:
    """That is said, and another reading goes on from there."""
    shelf = Shelf(list(range(9_000)), order=lambda id_: -id_)
    for number in range(2, 40):
        shelf.before_page[number] = lambda rows: rows.__delitem__(slice(-100, None))
    place = Place()

    with pytest.raises(Temporary, match="shifted"):
        read(shelf, place)

    shelf.before_page.clear()
    assert place.offset > 0
    assert set(shelf.rows) <= set(read(shelf))


@pytest.mark.parametrize(
    "error",
    [
        Rejected("the limit is too high", status=400),
        Temporary("it fails", status=500),
        Temporary("it failed behind the proxy", status=504),
        Temporary("it did not answer in time", code="timeout"),
    ],
)
def test_page_that_fails_is_asked_for_smaller(error: Exception) -> None:
    """It is not skipped, and behind it pages have their full size again."""
    shelf = Shelf(list(range(3_000)))

    def get(limit: int, offset: int) -> Page:
        if offset <= 1_234 < offset + limit and limit > 20:
            shelf.asked.append((limit, offset))
            raise error
        return shelf.get(limit, offset)

    pages = [page for page, _ in walk(get, Place(by_id=True))]

    assert {row["contactId"] for page in pages for row in page.rows} == {
        str(number) for number in range(3_000)
    }
    assert shelf.asked[-1][0] == 500
    assert len(shelf.asked) < 45


def test_smaller_page_is_not_a_short_one() -> None:
    """It has as many rows as were asked for, so its total is not believed either."""
    shelf = Shelf(list(range(1_600)))

    def get(limit: int, offset: int) -> Page:
        if offset > 400 and limit > 100:
            raise Temporary("it fails", status=500)
        page = shelf.get(limit, offset)
        return Page(page.rows, offset + len(page.rows))

    got = {row["contactId"] for page, _ in walk(get, Place()) for row in page.rows}

    assert len(got) == 1_600


def test_service_that_never_gives_full_pages() -> None:
    """After a few tries it is no longer asked for 500 rows."""
    shelf = Shelf(list(range(5_000)))

    def get(limit: int, offset: int) -> Page:
        page = shelf.get(limit, offset)
        if limit > 100:
            raise Rejected("the limit is too high", status=400)
        return page

    got = [row["contactId"] for page, _ in walk(get, Place()) for row in page.rows]

    assert len(set(got)) == 5_000
    assert [limit for limit, _ in shelf.asked].count(500) == 3


@pytest.mark.parametrize(
    "error",
    [
        Temporary("slow down", status=503, code="throttled", throttled=True),
        Temporary("not what was asked", code="ignored_filter"),
        Rejected("no", status=404),
    ],
)
def test_other_failures_are_raised_as_they_come(error: Exception) -> None:
    """Then another reading goes on from the place."""
    shelf, place = Shelf(list(range(2_000))), Place(by_id=True)
    failures: list[Exception] = [error]

    def get(limit: int, offset: int) -> Page:
        if offset > 900 and failures:
            raise failures.pop()
        return shelf.get(limit, offset)

    with pytest.raises(type(error)):
        list(walk(get, place))

    rest = [int(r["contactId"]) for page, _ in walk(get, place) for r in page.rows]
    assert (min(rest), max(rest)) == (980, 1_999)


def test_page_that_fails_in_every_size_is_not_skipped() -> None:
    """The reading stops before it."""
    shelf, place = Shelf(list(range(900))), Place(by_id=True)
    shelf.before_page[1] = lambda rows: shelf.asked.clear()

    def get(limit: int, offset: int) -> Page:
        if offset + limit > 700:
            raise Temporary("it fails", status=500)
        return shelf.get(limit, offset)

    with pytest.raises(Temporary, match="it fails"):
        list(walk(get, place))

    assert 600 < place.offset <= 700


def test_pages_that_do_not_turn() -> None:
    """A service that ignores the offset is not read for ever, nor believed."""
    shelf = Shelf(list(range(2_000)))

    with pytest.raises(Temporary, match="same page"):
        list(walk(lambda limit, _: shelf.get(limit, 0), Place(by_id=True)))

    assert len(shelf.asked) < 6


def test_ids_that_are_no_numbers() -> None:
    """They are read; that they came in order cannot be told."""
    shelf, place = Shelf(list(range(1_100))), Place(by_id=True)

    def get(limit: int, offset: int) -> Page:
        page = shelf.get(limit, offset)
        rows = [{"contactId": f"c-{row['contactId']}"} for row in page.rows]
        return Page(rows, page.total)

    got = {row["contactId"] for page, _ in walk(get, place) for row in page.rows}

    assert len(got) == 1_100
    assert not place.by_id


def test_rows_without_an_id() -> None:
    """Somebody is there who cannot be named, so nobody counts as missing."""
    place = Place(by_id=True)
    rows = [{"contactId": "1"}, {"email": "bo@shop.example"}, {"contactId": "2"}]

    got = list(walk(lambda *_: Page(rows, 3), place))

    assert got[0][0].rows == rows
    assert not place.whole
    with pytest.raises(Temporary, match="without an id"):
        list(walk(lambda *_: Page([{}], 1), Place()))


# -- anything at all


@st.composite
def shelves(draw: st.DrawFn) -> tuple[Shelf, set[int], set[int], bool]:
    """Draw a shelf that changes; who is there all the time, and who ever is.

    The last value: rows stand by id, and none comes in before another.
    """
    size = draw(st.integers(0, 120))
    rows = draw(st.sets(st.integers(1, 300), min_size=size // 2, max_size=size))
    changes: dict[int, Callable[[Ids], object]] = {}
    always, ever = set(rows), set(rows)
    for number in draw(st.lists(st.integers(0, 20), max_size=MOST_BACK, unique=True)):
        gone = set(draw(st.lists(st.sampled_from(sorted(ever) or [0]), max_size=60)))
        new = draw(st.sets(st.integers(1, 400), max_size=30))
        always -= gone
        ever |= new

        def change(there: Ids, gone: set[int] = gone, new: set[int] = new) -> None:
            there[:] = sorted((set(there) - gone) | new)

        changes[number] = change
    order = draw(st.sampled_from([None, lambda id_: id_ * 101 % 401, lambda i: -i]))
    is_honest = draw(st.booleans())
    shelf = Shelf(
        sorted(rows),
        changes,
        order=order,
        # Who lies about the total must be caught by the length of pages, and the
        # other way round.
        caps=(
            draw(st.lists(st.integers(2, 50), min_size=1, max_size=9))
            if is_honest
            else [draw(st.sampled_from([20, 50]))]
        ),
        total=(
            (lambda there, shown: there)
            if is_honest
            else draw(
                st.sampled_from(
                    [
                        lambda there, shown: shown,
                        lambda there, shown: None,
                        lambda there, shown: there // 2,
                        lambda there, shown: there + 9,
                    ]
                )
            )
        ),
        twice=draw(st.integers(0, 3)),
    )
    return shelf, always, ever, order is None and ever == set(rows)


@given(shelves(), st.lists(st.integers(1, 3), max_size=4))
def test_nobody_is_missed_and_nobody_made_up(
    drawn: tuple[Shelf, set[int], set[int], bool], stops: list[int]
) -> None:
    """Whoever was there all the time came, by however many processes it was read.

    That rows come by id is doubted only where they do not.
    """
    shelf, always, ever, is_sorted = drawn

    got, place = pieces(shelf, stops)

    assert always <= set(got) <= ever
    assert place.by_id >= is_sorted


def test_rows_sorted_page_by_page_are_not_sorted() -> None:
    """That is found where a page begins before the seam."""
    mixed = list(range(0, 2_000, 2)) + list(range(1, 2_000, 2))
    place = Place(by_id=True)

    def get(limit: int, offset: int) -> Page:
        shown = sorted(mixed[offset : offset + limit])
        return Page([{"contactId": str(id_)} for id_ in shown], len(mixed))

    got = {int(r["contactId"]) for page, _ in walk(get, place) for r in page.rows}

    assert got == set(range(2_000))
    assert not place.by_id
