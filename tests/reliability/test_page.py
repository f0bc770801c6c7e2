"""The page of reliability has every cell, and none that is not good."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from onward.failpoints import DELIVERY, QUEUEING

from .test_matrix import COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reliability.md").read_text("utf-8")


def maker() -> ModuleType:
    """The script that writes the page."""
    spec = importlib.util.spec_from_file_location(
        "make_reliability", DOCS / "make_reliability.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_cell_was_played_and_is_good() -> None:
    """Every place with every database and engine; nobody lost, nothing different."""
    head = next(line for line in PAGE.splitlines() if line.startswith("| killed |"))
    rows = {line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines()}
    places = maker().PLACES

    assert set(places) == {*DELIVERY, *QUEUEING}
    assert set(places.values()) <= rows
    assert [column.name for column in COLUMNS if column.name not in head] == []
    assert "not run" not in PAGE
    assert PAGE.count("✗") == 1  # where it is explained


def test_page_says_what_is_promised() -> None:
    """What the page promises is what its script has; it is written by that."""
    assert PAGE.endswith(maker().PROMISES)
