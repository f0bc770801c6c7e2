"""Reading a collection to its end while it changes, so that another can go on.

Rows vanish and come back between two calls, so pages overlap: as long as one row of
the seam comes again, nothing slipped through between them. When none does, the
reading goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from onward import Rejected, Temporary
from onward_icontact.calls import OVERLAP, PAGE
from onward_icontact.rows import SMALLEST_PAGE, Page, may_be_cut, text_of

Get = Callable[[int, int], Page]  # limit, offset

# Statuses, and the code, of a page that may be too much at once.
TOO_MUCH = frozenset({400, 413, 500, 504})
TOO_SLOW = "timeout"
# A service that fails so often with pages of full size is not asked for them again.
FULL_SIZE_TRIES = 3
# Lost seams of one reading; more, and it goes on later from where it is.
MOST_BACK = 10
SAME_PAGES = 3


@dataclass(slots=True)
class Place:
    """Where a reading stands: after some pages, before `offset`.

    Args:
        seam: ids of the rows that are read twice.
        highest: highest id so far, where rows come by rising id.
        longest: rows of the longest page so far.
        by_id: rows came by rising id, as far as they were read.
        whole: every row had an id.
    """

    offset: int = 0
    seam: list[str] = field(default_factory=list[str])
    highest: int = 0
    longest: int = 0
    by_id: bool = False
    whole: bool = True


def walk(get: Get, place: Place) -> Iterator[tuple[Page, bool]]:
    """Yield page after page and whether it was the last; move `place` along.

    Whoever was there all the time is on some page; some are on several. The end is
    not where `total` says, but where a page brings nobody new; the call for that page
    is saved when a short page and the total agree.

    Args:
        place: after each page, where another reading can go on.

    Raises:
        Temporary: the pages shift faster than they can be read, or do not turn.
        Rejected, ServiceError: as `get`, when a page cannot be had in any size.
    """
    sizes = _Sizes(get)
    before: Sequence[str] = place.seam
    back = went_back = alike = 0
    while True:
        page = sizes.page(place.offset)
        ids = _ids(page, place)
        numbers = _rising(ids) if place.by_id else None
        place.by_id = numbers is not None
        is_new = not set(ids).issubset(before)
        if place.offset and place.seam and set(ids).isdisjoint(before):
            # Of pages further back the first that begins with known ids will do.
            if not (back and numbers and numbers[0] <= place.highest):
                went_back += not back
                if went_back > MOST_BACK:
                    raise Temporary("iContact's pages shifted while they were read")
                # By a page, and faster where there is nobody any more.
                back = len(ids) or max(2 * back, place.longest)
                place.offset = max(place.offset - back, 0)
                continue
        elif numbers and place.offset and not back:
            # Somebody came back, or rows are sorted page by page: nobody can tell.
            place.by_id = numbers[0] >= min(map(int, place.seam), default=0)
        back = 0
        alike = alike + 1 if ids and ids == before else 0
        if alike == SAME_PAGES:
            raise Temporary("iContact shows the same page again and again")
        size = len(set(ids))
        is_short = size < min(place.longest, sizes.limit) or not (
            place.longest or may_be_cut(size)
        )
        agrees = page.total == place.offset + size and (is_short or not is_new)
        is_last = not ids or agrees or (size == 1 and not is_new)
        _move(place, ids, numbers, is_new=is_new)
        before = ids
        yield page, is_last
        if is_last:
            return


def _ids(page: Page, place: Place) -> list[str]:
    ids = [text_of(row.get("contactId")) for row in page.rows]
    if "" in ids:
        place.whole = False
        ids = [id_ for id_ in ids if id_]
        if not ids:
            raise Temporary(
                "iContact answered with rows without an id", code="not_understood"
            )
    return ids


def _rising(ids: Sequence[str]) -> list[int] | None:
    """Return ids as numbers; None when they do not rise, or are none."""
    try:
        numbers = list(map(int, ids))
    except ValueError:
        return None
    return numbers if numbers == sorted(numbers) else None


def _move(
    place: Place, ids: Sequence[str], numbers: Sequence[int] | None, *, is_new: bool
) -> None:
    """Put the place behind a page, but for the rows that are to come again.

    After a page with nobody new one row is enough: if it comes alone, that is the end,
    however short the service makes its pages.
    """
    distinct = list(dict.fromkeys(ids))
    size = len(distinct)
    # All but one at most, or it would not move.
    overlap = min(OVERLAP, max(size // 5, 1), max(size - 1, 0)) if is_new else 1
    place.seam = distinct[size - overlap :]
    place.offset += size - len(place.seam)
    place.longest = max(place.longest, size)
    if numbers:
        place.highest = max(place.highest, numbers[-1])


class _Sizes:
    """Asks for pages: 500 rows, fewer where that fails, and 500 again behind it."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self.limit = PAGE
        self._until = 0
        self._failures = 0

    def page(self, offset: int) -> Page:
        """Return the page at an offset, in the largest size that works."""
        if offset >= self._until and self._failures < FULL_SIZE_TRIES:
            self.limit = PAGE
        while True:
            try:
                page = self._get(self.limit, offset)
            except (Rejected, Temporary) as error:
                if not _may_be_too_much(error) or self.limit <= SMALLEST_PAGE:
                    raise
                if self.limit == PAGE:
                    self._failures += 1
                    self._until = offset + PAGE
                self.limit = max(self.limit // 5, SMALLEST_PAGE)
            else:
                if self.limit == PAGE:
                    self._failures = 0
                return page


def _may_be_too_much(error: Rejected | Temporary) -> bool:
    return error.status in TOO_MUCH or error.code == TOO_SLOW
