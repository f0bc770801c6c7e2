"""Write `semantics.md` from the docstrings of `tests/test_semantics.py`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "test_semantics.py"
PAGE = ROOT / "docs" / "semantics.md"
HEADING = "# --"

INTRODUCTION = """\
# Exact semantics

Every line is the docstring of a test in `tests/test_semantics.py`,
true as long as that test passes.
The page is made by `python docs/make_semantics.py`; a test fails when it is stale.
"P1" to "P21" are traps of Mautic's point triggers, with what Onward does instead.
"""


def page() -> str:
    """Return the whole page."""
    source = TESTS.read_text(encoding="utf-8")
    headings = {
        number: line.removeprefix(HEADING).strip()
        for number, line in enumerate(source.splitlines(), 1)
        if line.startswith(HEADING)
    }
    lines = [INTRODUCTION]
    said = ""
    for test in ast.parse(source).body:
        if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_"):
            continue
        heading = headings[max(n for n in (0, *headings) if n < test.lineno)]
        if not heading:
            continue
        if heading != said:
            lines.append(f"{'' if not said else chr(10)}## {heading}\n")
            said = heading
        sentence = " ".join((ast.get_docstring(test) or "").split())
        lines.append(f"- {sentence}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
