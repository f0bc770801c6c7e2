"""The rules of the house, held by machine: what is added must follow them too."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

import onward
import onward.testing
from onward import Api, Integration, Item, RemoteField, hookspecs
from onward.contacts.fields import DERIVED_FIELDS, STANDARD_FIELDS
from onward.fieldmap import FieldMap
from onward.hookspecs import PROJECT
from onward.runtime import shipped_field_maps

ROOT = Path(__file__).parents[1]
PROJECT_FILE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL: dict[str, Any] = PROJECT_FILE["tool"]["hatch"]["build"]["targets"]["wheel"]
GUIDE = (ROOT / "plugins/_template/README.md").read_text("utf-8")

# Modules without a test file of their own name → the files that test them. A name
# that ends in `.*` stands for a package that is tested as a whole.
TESTED_ELSEWHERE: dict[str, str] = {
    "answers": "icontact/test_client.py icontact/test_odd_answers.py",
    "calls": "icontact/test_client.py icontact/test_paging.py",
    "among": "test_database.py",
    "onward": "test_exported_members.py",
    "onward_icontact": "test_plugins.py",
    "compact": "delivery/test_erased_bytes.py",
    "connections.*": "cli/test_cli_connections.py test_push_life.py",
    "contacts.elsewhere": "audiences/test_members.py",
    "contacts.erased": "delivery/test_erased_bytes.py",
    "contacts.forgetting": "test_contacts_erasing.py delivery/test_erased_bytes.py",
    "contacts.remotely": "delivery/test_erased_bytes.py",
    "contacts.unfinished": "test_erased_processes.py",
    "contacts.fields": "test_fieldmap_suggest.py test_contacts_headers.py",
    "contacts.given": "test_contacts_input.py",
    "contacts.textfile": "test_contacts_reading.py",
    "delivery.*": "test_push_life.py",
    "demo": "icontact/test_demo.py",
    "errands.*": "delivery/test_errands.py",
    "errors": "test_answer.py",
    "events.*": "test_app.py test_events_processes.py",
    "failpoints": "test_push_life.py",
    "faults": "test_plugins.py",
    "finding": "icontact/test_costs.py icontact/test_push_switches.py",
    "hookspecs": "test_plugins.py",
    "integration": "icontact/test_verify.py icontact/test_settings.py",
    "limiter": "test_api.py test_contract.py",
    "memory": "test_api.py",
    "migrations.*": "test_migrate.py",
    "models.*": "test_migrate.py test_database.py",
    "plain": "test_redact.py",
    "preview": "cli/test_cli_connections.py",
    "reading": "icontact/test_push.py",
    "remote": "icontact/test_push.py",
    "runtime": "test_house.py",
    "speed": "test_limiter.py",
    "sql": "test_database.py",
    "subscribing": "icontact/test_push.py",
    "testing.*": "test_docs.py test_template.py",
}


def plugin_folders() -> list[Path]:
    """Return the folders of the plugins that are shipped."""
    return [
        path
        for path in sorted((ROOT / "plugins").iterdir())
        if path.is_dir() and not path.name.startswith(("_", "."))
    ]


def python_files(*folders: str) -> Iterator[Path]:
    """Yield every Python file below some folders of the checkout."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield path


# -- plugins


@pytest.mark.parametrize("folder", plugin_folders(), ids=lambda path: path.name)
def test_every_plugin_is_packaged(folder: Path) -> None:
    """A plugin's folder has its package, entry point, place in the wheel, README.

    Globs in `packages` drop plugins without a word, so they are named one by one.
    """
    package = f"onward_{folder.name}"
    points = PROJECT_FILE["project"]["entry-points"]["onward"]

    assert (folder / package / "__init__.py").is_file()
    assert (folder / package / "py.typed").is_file()
    assert (folder / "README.md").read_text("utf-8").startswith("# ")
    assert points.get(folder.name) == package, "add its line to pyproject.toml"
    assert f"plugins/{folder.name}/{package}" in WHEEL["packages"]
    installed = {point.name for point in entry_points(group=PROJECT)}
    assert folder.name in installed, "install again: entry points are read then"


@pytest.mark.parametrize("folder", plugin_folders(), ids=lambda path: path.name)
def test_every_plugin_only_announces(folder: Path) -> None:
    """The `__init__` of a plugin holds imports and its hook, and nothing else."""
    tree = ast.parse((folder / f"onward_{folder.name}/__init__.py").read_text("utf-8"))

    allowed = (
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.Assign,
        ast.Expr,
        ast.If,
    )
    assert [type(node) for node in tree.body if not isinstance(node, allowed)] == []
    assert [n.name for n in tree.body if isinstance(n, ast.FunctionDef)] == [
        "register_integrations"
    ]


def test_entry_points_and_folders_are_the_same() -> None:
    """No entry point names a plugin whose folder is gone."""
    points = PROJECT_FILE["project"]["entry-points"]["onward"]

    assert sorted(points) == [folder.name for folder in plugin_folders()]


@pytest.mark.parametrize("folder", plugin_folders(), ids=lambda path: path.name)
def test_shipped_map_names_standard_fields_only(folder: Path) -> None:
    """The default map of a plugin loads, and fits an account without own fields."""
    module = __import__(f"onward_{folder.name}.integration", fromlist=["STANDARD"])
    standard: tuple[RemoteField, ...] = module.STANDARD

    field_map = FieldMap.load(shipped_field_maps() / f"{folder.name}.toml")

    bound = field_map.bind(standard, {**STANDARD_FIELDS, **DERIVED_FIELDS})
    assert bound.render({"email": "ana@shop.example"}).fields["email"] == (
        "ana@shop.example"
    )


def test_every_shipped_map_belongs_to_a_plugin() -> None:
    """`field_maps/` holds one map per plugin, found by the one function."""
    assert shipped_field_maps() == ROOT / "field_maps"
    assert [path.stem for path in sorted(shipped_field_maps().glob("*"))] == [
        folder.name for folder in plugin_folders()
    ]


# -- the guide


def hooks() -> list[str]:
    """Return the names of the hooks."""
    return [
        name
        for name, thing in vars(hookspecs).items()
        if getattr(thing, f"{PROJECT}_spec", None) is not None
    ]


def test_there_are_two_hooks() -> None:
    """Another hook is added when a plugin needs it, and then here."""
    assert hooks() == ["register_integrations", "before_push"]


@pytest.mark.parametrize("hook", hooks())
def test_every_hook_is_documented_and_tested(hook: str) -> None:
    """The guide has a heading with the hook's exact arguments; a test names it."""
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    tests = (ROOT / "tests/test_plugins.py").read_text("utf-8")

    assert f"\n### `{hook}({arguments})`\n" in GUIDE
    for argument in inspect.signature(getattr(hookspecs, hook)).parameters:
        assert f"\n- `{argument}`: " in GUIDE
    assert f"def test_{hook}_" in tests


def public_members() -> list[str]:
    """Return what an author may use: names, attributes and methods."""
    found = [name for name in onward.__all__ if name != "Onward"]
    for kind in (Integration, Item, Api):
        names = [*kind.__dict__, *getattr(kind, "__annotations__", {})]
        found += [f"{kind.__name__}.{n}" for n in names if not n.startswith("_")]
    # The core's side of the client.
    core_only = {"Api.reserve", "Api.close"}
    return sorted(set(found) - core_only)


@pytest.mark.parametrize("name", public_members())
def test_guide_documents_every_public_name(name: str) -> None:
    """Every exported name, attribute and method stands in the guide's reference."""
    reference = GUIDE.partition("\n## Reference\n")[2]
    shown = "".join(re.findall(r"`[^`]+`|```.*?```", reference, re.DOTALL))

    assert re.search(rf"\b{name.rpartition('.')[2]}\b", shown), f"document {name}"


# -- tests


def test_modules_have_tests() -> None:
    """Every module has a test file of its name, or stands in the list above."""
    files = {path.stem for path in python_files("tests")}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    untested: list[str] = []
    for name, path in shipped_modules().items():
        words = name.split(".")
        # Under its whole name, its own, or with all of its package.
        names = {"_".join(words), words[-1], words[0]}
        few = len(path.read_text("utf-8").splitlines()) < 12
        if not (few or words[0] in folders or {f"test_{n}" for n in names} & files):
            untested.append(name)

    listed = set(TESTED_ELSEWHERE)
    assert [
        name
        for name in untested
        if not {name, f"{name}.*", f"{name.partition('.')[0]}.*"} & listed
    ] == []
    named = {file for why in TESTED_ELSEWHERE.values() for file in why.split()}
    assert [file for file in named if not (ROOT / "tests" / file).is_file()] == []


def shipped_modules() -> dict[str, Path]:
    """Return name without `onward.` or its plugin → file of every module."""
    found: dict[str, Path] = {}
    for package in WHEEL["packages"]:
        for path in python_files(package):
            parts = path.relative_to(ROOT / package).with_suffix("").parts
            words = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(words or [path.parent.name])] = path
    return found


@pytest.mark.parametrize(
    "path",
    [*python_files("tests", "plugins/_template/tests")],
    ids=lambda path: path.stem,
)
def test_tests_fake_the_outermost_only(path: Path) -> None:
    """No test mocks our own code, and none waits for a clock on the wall."""
    tree = ast.parse(path.read_text("utf-8"))
    wrong: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names}
            source = node.module if isinstance(node, ast.ImportFrom) else ""
            if source in ("unittest", "unittest.mock") or names & {"unittest.mock"}:
                wrong.append(f"line {node.lineno}: imports mock")
            if source == "time" and "sleep" in names:
                wrong.append(f"line {node.lineno}: imports sleep")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("time.sleep", "mocker.patch", "mock.patch"):
                wrong.append(f"line {node.lineno}: {called}")

    assert wrong == []


# -- the package


def test_version_stands_in_one_place() -> None:
    """`__version__` is the only place; packaging and metadata take it from there."""
    assert "version" not in PROJECT_FILE["project"]
    assert PROJECT_FILE["project"]["dynamic"] == ["version"]
    assert PROJECT_FILE["tool"]["hatch"]["version"]["path"] == "core/onward/__init__.py"
    assert version("onward") == onward.__version__


def test_packages_are_typed() -> None:
    """Each package carries `py.typed`, or nobody outside sees its types."""
    packages = [*WHEEL["packages"], "plugins/_template/onward_template"]

    assert [p for p in packages if not (ROOT / p / "py.typed").is_file()] == []


def test_licence_is_apache() -> None:
    """LICENSE is the text of Apache 2.0, and the metadata says so."""
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert (
        "Apache License\n                           Version 2.0, January 2004" in text
    )
    assert "9. Accepting Warranty or Additional Liability." in text
    assert PROJECT_FILE["project"]["license"] == "Apache-2.0"


def test_changelog_has_its_form() -> None:
    """CHANGELOG.md follows Keep a Changelog, newest first, this version on top."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (.+))?$", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))

    assert text.startswith("# Changelog\n")
    assert "keepachangelog.com" in text
    assert versions[0][0] in ("Unreleased", onward.__version__)
    for name, date in versions:
        assert (
            name == "Unreleased"
            or date == "Unreleased"
            or re.fullmatch(r"\d{4}-\d\d-\d\d", date)
        )
    assert kinds <= {"Added", "Changed", "Deprecated", "Fixed", "Removed", "Security"}


def test_commands_of_the_house_exist() -> None:
    """Makefile has every target the README names; CI and pre-commit call the same."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    hooks_file = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")

    assert targets >= {"bench", "check", "demo", "nightly", "quick", "setup", "test"}
    assert set(re.findall(r"entry: make (\w+)", hooks_file)) <= targets
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_base_needs_what_the_design_names() -> None:
    """A dependency more is a decision: it is made here as well."""
    needs = {
        re.split(r"[<>=\[]", need)[0]
        for need in PROJECT_FILE["project"]["dependencies"]
    }

    assert needs == {
        "alembic",
        "blinker",
        "cryptography",
        "httpx",
        "jinja2",
        "orjson",
        "pluggy",
        "sqlmodel",
        "typer",
        "tzdata",
    }


@pytest.mark.slow
def test_wheel_and_sdist_are_complete(tmp_path: Path) -> None:
    """Built through the sdist, the wheel has all packages, maps and the template.

    The maps are found in the unpacked wheel as they are in the checkout.
    """
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    built = sorted(tmp_path.iterdir())
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts/check_wheel.py", *built],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout.startswith("complete: "), checked.stdout
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(unpacked)

    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from onward.runtime import shipped_field_maps as maps\n"
            "from onward.fieldmap import FieldMap\n"
            "print(maps()); FieldMap.load(maps() / 'icontact.toml')",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert [path.suffix for path in built] == [".whl", ".gz"]
    assert found.stdout.strip() == str(unpacked / "onward/field_maps")
