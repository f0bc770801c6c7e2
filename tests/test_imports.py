"""Dependencies between modules point one way, and plugins use the public names."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import onward
import onward.testing

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"
PLUGINS = ROOT / "plugins"

# From the ground up. A module may import what stands in its own line or above;
# the longest name that fits counts. What a later line needs must not know it.
LAYERS: tuple[tuple[str, ...], ...] = (
    # words and small tools that know nothing of us
    (
        "errors",
        "among",
        "clock",
        "contract",
        "failpoints",
        "instrument",
        "logs.addresses",
        "logs.context",
        "plain",
        "sql",
        "tracing",
    ),
    # values: pure functions over what was given
    (
        "address",
        "answer",
        "config",
        "contacts.fields",
        "contacts.headers",
        "contacts.values",
        "fieldmap",
        "filters",
        "logs",
        "redact",
        "sync.schedule",
        "transport",
        "vault",
    ),
    # what is kept
    (
        "models",
        "migrations",
        "compact",
        "database",
        "migrate",
        "copying",
        "limiter",
        "memory",
        "remote",
        "speed",
        "sync.plan",
        "sync.runs",
    ),
    ("alerts.book",),
    ("signals",),
    # what a plugin sees
    ("api", "integrations", "decorator", "hookspecs", "faults", "plugins"),
    # everything that is shared, in one value
    ("runtime",),
    ("waking", "worktime"),
    # the people and the rows about them
    (
        "contacts",
        "audiences.book",
        "audiences.check",
        "audiences.resolve",
        "delivery.queue",
        "delivery.retry",
        "errands.attempts",
        "errands.optouts",
        "errands.queue",
    ),
    ("connections", "webhooks"),
    ("delivery",),
    ("errands",),
    # what happens to people, and what follows
    ("events", "merge"),
    (
        "contacts.erasing",
        "contacts.exporting",
        "contacts.importing",
        "contacts.showing",
    ),
    # one thing around all of it, and those who look at it
    (
        "alerts",
        "audiences",
        "engine",
        "doctor",
        "forecast",
        "preview",
        "diagnose",
        "pruning",
        "replay",
        "sync",
        "why",
        "health",
        "metrics",
    ),
    ("app",),
    ("testing",),
    ("cli",),
)
PUBLIC_MODULES = {"onward", "onward.testing"}


@cache
def modules() -> Mapping[str, Path]:
    """Return dotted name → file of every module of the core."""
    found: dict[str, Path] = {}
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """Yield what a file imports when it runs; `lazy` adds what functions import.

    `from onward.delivery import queue` counts as onward.delivery.queue.
    """

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.FunctionDef | ast.Lambda) and not lazy:
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                if child.level:
                    raise AssertionError(f"{path} imports relatively")
                base = str(child.module)
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    yield full if full in modules() else base
            else:
                yield from walk(child)

    yield from walk(ast.parse(path.read_text("utf-8")))


def own_imports(module: str, *, lazy: bool) -> set[str]:
    """Return the modules of the core that a module of the core imports."""
    found = set(imports(modules()[module], lazy=lazy))
    return {name for name in found if name in modules() and name != module}


def layer_of(module: str) -> int:
    """Return the line of `LAYERS` a module stands in."""
    name = module.removeprefix("onward.")
    fitting = [
        (len(entry), number)
        for number, line in enumerate(LAYERS)
        for entry in line
        if name == entry or name.startswith(f"{entry}.")
    ]
    assert fitting, f"{module} stands in no line of LAYERS: give it its place"
    return max(fitting)[1]


def layered() -> list[str]:
    """Return the modules that have a layer: all but the façade itself."""
    return [name for name in modules() if name != "onward"]


def test_dependencies_point_one_way() -> None:
    """A module imports only what stands beside or below it, functions included."""
    # The façade names everybody and imports nobody until asked.
    upward = [
        f"{module} imports {other}"
        for module in layered()
        for other in sorted(own_imports(module, lazy=True) - {"onward"})
        if layer_of(other) > layer_of(module)
    ]

    assert upward == []


def test_every_name_in_the_layers_exists() -> None:
    """No line names a module that was renamed or removed."""
    unknown = [
        entry for line in LAYERS for entry in line if f"onward.{entry}" not in modules()
    ]

    assert unknown == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Modules can be loaded in some order, each after all it imports."""
    graph = {name: own_imports(name, lazy=False) for name in modules()}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [f"{b} imports {a}" for a, b in pairwise(error.args[1])]
        raise AssertionError("\n".join(circle)) from None


def test_core_names_no_integration() -> None:
    """Nothing in the core imports or names a service: none has a private door."""
    shipped = [path.name for path in PLUGINS.iterdir() if not path.name.startswith("_")]
    named = [
        f"{module} names {name}"
        for module, path in modules().items()
        for name in [*shipped, "onward_template"]
        if name in path.read_text("utf-8").lower()
    ]

    assert named == []


def plugin_files() -> list[Path]:
    """Return every Python file of every plugin, the template and tests included."""
    return sorted(
        path for path in PLUGINS.rglob("*.py") if "__pycache__" not in path.parts
    )


@pytest.mark.parametrize("path", plugin_files(), ids=lambda path: path.stem)
def test_plugins_use_public_names_only(path: Path) -> None:
    """A plugin imports from `onward` and `onward.testing`, and what they export."""
    tree = ast.parse(path.read_text("utf-8"))
    wrong: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
            wrong += [n for n in names if _ours(n) and n not in PUBLIC_MODULES]
        elif isinstance(node, ast.ImportFrom) and _ours(node.module or ""):
            public = (
                onward.testing.__all__ if node.module != "onward" else onward.__all__
            )
            names = {alias.name for alias in node.names}
            wrong += [
                f"{node.module}.{name}"
                for name in sorted(names)
                if node.module not in PUBLIC_MODULES or name not in {*public, "testing"}
            ]

    assert wrong == []


def _ours(module: str) -> bool:
    return module == "onward" or module.startswith("onward.")


@pytest.mark.parametrize("path", plugin_files(), ids=lambda path: path.stem)
def test_plugins_do_not_import_each_other(path: Path) -> None:
    """A plugin stands alone: it can be removed, and its neighbour works."""
    own = path.relative_to(PLUGINS).parts[0].strip("_")
    packages = {
        child.name
        for folder in PLUGINS.iterdir()
        if folder.is_dir() and folder.name.strip("_") != own
        for child in folder.glob("onward_*")
    }
    tree = ast.parse(path.read_text("utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported & packages == set()
