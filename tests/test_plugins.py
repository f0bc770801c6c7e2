"""Plugins are found, and one that is broken is listed and stops nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import onward.testing
from onward import Draft, Integration, PluginError, hookimpl
from onward.hookspecs import hookspec
from onward.plugins import Loaded, Plugins, add_plugin, load_plugins, new_manager
from onward.testing.app import TestApp
from onward_icontact import IContact

ICONTACT = Loaded("icontact", "onward", ("icontact",))

WORKING = '''
"""Pushes to {title}."""
import onward

class {title}(onward.Integration):
    key, title, hosts = "{key}", "{title}", ["api.{key}.example"]

    def verify(self, api):
        return onward.Account("1", "1", "{title}")

    def fields(self, api, segment):
        return [onward.RemoteField("email")]

    def push(self, api, batch, segment):
        for item in batch:
            yield item.delivered("1")
'''


def working(key: str) -> str:
    """Return the text of a working plugin."""
    return WORKING.format(key=key, title=key.title())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A `plugins/` folder with one plugin that works, `good`."""
    place = tmp_path / "plugins"
    place.mkdir()
    (place / "good.py").write_text(working("good"))
    yield place
    for name in [name for name in sys.modules if name.startswith("onward_dropin_")]:
        del sys.modules[name]


def load(folder: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Load everything; return name → (integrations, problem) of the drop-ins."""
    found = load_plugins(folder=folder)
    assert found.loaded[0] == ICONTACT, "what was dropped in stops no installed one"
    assert found.integrations["good"].title == "Good", "nor its neighbour"
    return {one.name: (one.integrations, one.problem) for one in found.loaded[1:]}


# -- what is found


def test_installed_plugins_are_found_by_entry_point() -> None:
    """Even iContact comes in through the same door as everybody's plugin."""
    found = load_plugins()

    assert found.loaded == [ICONTACT]
    assert found.integration("icontact") is IContact


def test_file_dropped_in_is_a_plugin(folder: Path) -> None:
    """One file with one Integration subclass and no hook is enough."""
    assert load(folder) == {"good": (("good",), "")}


def test_package_dropped_in_is_a_plugin(folder: Path) -> None:
    """A folder that is a package, or holds one, is loaded under its own name."""
    flat = folder / "flat"
    nested = folder / "nested" / "onward_nested"
    for package in (flat, nested):
        package.mkdir(parents=True)
        key = package.name.removeprefix("onward_")
        (package / "parts.py").write_text(working(key))
        (package / "__init__.py").write_text(
            "from onward import hookimpl\n"
            f"from .parts import {key.title()}\n"
            "@hookimpl\n"
            "def register_integrations(register):\n"
            f"    register({key.title()})\n"
        )

    assert load(folder) == {
        "flat": (("flat",), ""),
        "good": (("good",), ""),
        "nested": (("nested",), ""),
    }


def test_decorated_function_dropped_in_is_a_plugin(folder: Path) -> None:
    """A file with a decorated function needs nothing else."""
    (folder / "acme.py").write_text(
        "import onward\n"
        '@onward.integration("acme", url="https://api.acme.example/contacts")\n'
        "def acme(item):\n"
        '    return {"email": item.email}\n'
    )

    assert load(folder)["acme"] == (("acme",), "")


def test_imported_classes_are_not_announced_again(folder: Path) -> None:
    """Only classes a file defines count, not those it imports, nor keyless bases."""
    (folder / "more.py").write_text(
        "from onward_icontact import IContact\n"
        + working("more").replace(
            "More(onward.Integration)", "Base(onward.Integration)"
        )
        + "\nBase.key = ''\nclass More(Base):\n    key = 'more'\n"
    )

    assert load(folder)["more"] == (("more",), "")


def test_hidden_names_are_never_loaded(folder: Path) -> None:
    """What starts with `_` or `.`, or is no Python, is not even listed."""
    for name in ("_draft.py", ".hidden.py", "notes.txt"):
        (folder / name).write_text("raise SystemExit('loaded')")
    for name in ("_template", ".git", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('loaded')")

    assert load(folder) == {"good": (("good",), "")}


def test_missing_folder_is_no_problem(tmp_path: Path) -> None:
    """Without a `plugins/` folder the installed ones are there."""
    assert load_plugins(folder=tmp_path / "plugins").loaded == [ICONTACT]


def test_installed_plugin_is_not_loaded_twice() -> None:
    """In a checkout, `plugins/` holds what is installed from it: listed once."""
    checkout = Path(__file__).parents[1] / "plugins"

    found = load_plugins(folder=checkout)

    assert found.loaded == [ICONTACT]


# -- what is broken


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "import no_such_thing",
            "ModuleNotFoundError: No module named 'no_such_thing'",
        ),
        ("def broken(:\n    pass", "SyntaxError: invalid syntax (bad.py, line 1)"),
        (
            "x = 1\nraise RuntimeError('no luck')",
            "RuntimeError: no luck (bad.py, line 2)",
        ),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (bad.py, line 2)"),
    ],
)
def test_file_that_cannot_be_imported(folder: Path, text: str, problem: str) -> None:
    """Whatever happens on import is listed with its place; corrected, it loads."""
    bad = folder / "bad.py"
    bad.write_text(text)

    integrations, said = load(folder)["bad"]

    assert integrations == ()
    assert said.startswith(problem)
    bad.write_text(working("bad"))
    assert load(folder)["bad"] == (("bad",), "")


def test_package_that_fails_half_way_leaves_nothing(folder: Path) -> None:
    """A package whose second module fails is forgotten whole, and loads corrected."""
    package = folder / "bad"
    package.mkdir()
    (package / "first.py").write_text(working("bad"))
    (package / "__init__.py").write_text(
        "from .first import Bad\nfrom . import second\n"
    )

    assert "cannot import name 'second'" in load(folder)["bad"][1]
    assert [name for name in sys.modules if "dropin_bad" in name] == []
    (package / "second.py").write_text("")
    (package / "__init__.py").write_text(
        "from .first import Bad\nBad.__module__ = __name__\n"
    )
    assert load(folder)["bad"] == (("bad",), "")


def test_folder_without_a_package_says_so(folder: Path) -> None:
    """A folder that holds no package is listed with what it lacks."""
    (folder / "empty").mkdir()
    (folder / "empty" / "acme.py").write_text(working("acme"))

    assert load(folder)["empty"] == ((), "no folder with an __init__.py")


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        (
            "def befor_push(draft): ...",
            "unknown hook 'befor_push'; the hooks are before_push(draft), "
            "register_integrations(register)",
        ),
        (
            "def before_push(contact): ...",
            "hook 'before_push' hookimpl definition: before_push(contact) Argument(s) "
            "{'contact'} are declared in the hookimpl but can not be found in the "
            "hookspec; the hooks are before_push(draft), "
            "register_integrations(register)",
        ),
    ],
)
def test_misspelt_hook(folder: Path, hook: str, problem: str) -> None:
    """A hook that does not exist, or not so, is named beside those that do."""
    (folder / "bad.py").write_text(f"from onward import hookimpl\n@hookimpl\n{hook}\n")

    assert load(folder)["bad"] == ((), problem)


def test_hook_around_hooks_is_refused(folder: Path) -> None:
    """A wrapper would silently do nothing, so it is refused."""
    (folder / "bad.py").write_text(
        "from onward import hookimpl\n"
        "@hookimpl(wrapper=True)\n"
        "def before_push(draft):\n"
        "    yield\n"
    )

    problem = load(folder)["bad"][1]

    assert "before_push must be a plain function, no wrapper" in problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            (
                "class Bad(onward.Integration):",
                "class Bad(onward.Integration):\n    contract = 2",
            ),
            '"bad" is written for contract 2, this Onward has 1: update the plugin or '
            "Onward",
        ),
        (
            ('"bad"', '"Bad Mail"'),
            'Bad needs a `key` of lower-case letters, digits and "_", as "acme"; it '
            "has 'Bad Mail'",
        ),
        (("def push", "def publish"), '"bad" lacks push()'),
        (
            ("    def verify", "    Settings = dict\n\n    def verify"),
            'the Settings of "bad" must be a subclass of ConnectionSettings',
        ),
        (
            ("    def verify", "    in_flight = 0\n\n    def verify"),
            '`in_flight` of "bad" must be at least 1',
        ),
    ],
)
def test_integration_that_breaks_the_contract(
    folder: Path, change: tuple[str, str], problem: str
) -> None:
    """A class that could not work is refused in a sentence; corrected, it loads."""
    bad = folder / "bad.py"
    bad.write_text(working("bad").replace(*change))

    assert load(folder)["bad"] == ((), problem)
    bad.write_text(working("bad"))
    assert load(folder)["bad"] == (("bad",), "")


def test_key_already_taken(folder: Path) -> None:
    """Of two integrations with one key the first stays; the other is told by whom."""
    (folder / "other.py").write_text(
        working("good").replace("class Good", "class Other")
    )

    found = load_plugins(folder=folder)

    assert found.loaded[1:] == [
        Loaded("good", str(folder / "good.py"), ("good",)),
        Loaded(
            "other",
            str(folder / "other.py"),
            (),
            f'the key "good" is already taken by {folder.name}/good.py',
        ),
    ]
    assert found.integrations["good"].__name__ == "Good"


def test_name_already_taken(folder: Path) -> None:
    """A drop-in that is called like an installed plugin is listed, not loaded."""
    (folder / "icontact.py").write_text(working("mine"))

    found = load_plugins(folder=folder)

    assert found.loaded[-1] == Loaded(
        "icontact",
        str(folder / "icontact.py"),
        problem='the name "icontact" is already taken',
    )
    assert found.integration("icontact") is IContact
    assert "mine" not in found.integrations


def test_one_bad_integration_of_two(folder: Path) -> None:
    """A plugin with a good and a bad class keeps the good one and says why."""
    (folder / "two.py").write_text(
        working("two") + working("three").replace("def push", "def posh")
    )

    assert load(folder)["two"] == (("two",), '"three" lacks push()')


# -- switched off


def test_disabled_plugins_are_listed_and_not_loaded(folder: Path) -> None:
    """`[plugins] disabled` keeps installed and dropped plugins out, not even run."""
    (folder / "good.py").write_text("raise SystemExit('loaded')")

    found = load_plugins(folder=folder, disabled=["icontact", "good"])

    assert found.loaded == [
        Loaded("icontact", "onward", problem="disabled"),
        Loaded("good", str(folder / "good.py"), problem="disabled"),
    ]
    assert found.integrations == {}


def test_safe_mode_loads_none(folder: Path) -> None:
    """In safe mode nothing is loaded, so that a plugin can be told from Onward."""
    assert load_plugins(folder=folder, safe_mode=True).loaded == []


def test_unknown_integration_names_the_known_ones(folder: Path) -> None:
    """Asking for what is not there lists what is, and where to look."""
    found = load_plugins(folder=folder)

    with pytest.raises(PluginError) as caught:
        found.integration("mailchump")

    assert caught.value.message == (
        'there is no integration "mailchump"; known: good, icontact; `onward plugins` '
        "says what was loaded and why not"
    )


# -- before_push

Hook = Callable[[Draft], object]


def with_hooks(*hooks: Hook) -> Plugins:
    """Return plugins of which each has one `before_push`."""
    plugins = Plugins(new_manager())
    for number, hook in enumerate(hooks, start=1):

        class Plugin:
            """Holds one hook."""

            before_push = staticmethod(hookimpl(hook))

        add_plugin(plugins, f"plugin-{number}", "a test", Plugin())
    assert [one.problem for one in plugins.loaded] == ["" for _ in hooks]
    return plugins


def a_draft() -> Draft:
    """Return a draft as hooks see it."""
    return Draft("news", "acme", 1, "l1", {"email": "ana@shop.example"})


def test_before_push_changes_fields_and_vetoes() -> None:
    """Every plugin's hook sees the draft as the one before left it."""

    def shout(draft: Draft) -> None:
        draft.fields["name"] = "ANA"

    def veto(draft: Draft) -> None:
        draft.veto = f"no {draft.fields['name']}"

    draft = a_draft()

    # pluggy calls what was registered last first.
    with_hooks(veto, shout).before_push(draft)

    assert draft.fields == {"email": "ana@shop.example", "name": "ANA"}
    assert draft.veto == "no ANA"


def test_before_push_may_take_no_argument() -> None:
    """As everywhere in pluggy, a hook names only the arguments it wants."""
    calls: list[int] = []

    def count() -> None:
        calls.append(1)

    plugins = Plugins(new_manager())

    class Plugin:
        """Holds a hook without argument."""

        before_push = staticmethod(hookimpl(count))

    add_plugin(plugins, "counting", "a test", Plugin())
    plugins.before_push(a_draft())

    assert calls == [1]


def _empty(draft: Draft) -> None:
    setattr(draft, "fields", None)  # noqa: B010 - as untyped code would


def _number(draft: Draft) -> None:
    broken: dict[str, object] = draft.fields  # type: ignore[assignment]
    broken["points"] = 10


def _yes(draft: Draft) -> None:
    setattr(draft, "veto", True)  # noqa: B010 - as untyped code would


def _raise(draft: Draft) -> None:
    raise ValueError(draft.connection)


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        (_raise, "plugin-1: before_push failed: ValueError('news')"),
        (_empty, "plugin-1: before_push left fields that are no dict but NoneType"),
        (
            _number,
            "plugin-1: before_push left 'points': int, where only texts can be sent",
        ),
        (_yes, "plugin-1: before_push left a veto that is no sentence but bool"),
    ],
)
def test_before_push_that_fails_names_its_plugin(hook: Hook, problem: str) -> None:
    """What a hook raises or leaves unusable is a PluginError with its name."""
    with pytest.raises(PluginError) as caught:
        with_hooks(hook).before_push(a_draft())

    assert caught.value.message == problem


def test_contact_of_a_failing_hook_waits_and_then_goes() -> None:
    """A hook that raises costs its contact a try and nobody else anything."""
    app = an_app_with_hook()
    app.push(emails=["ana@shop.example", "ben@shop.example"], to="good")

    app.deliver(until_empty=False)

    assert [(row["state"], row["code"]) for row in app.deliveries()] == [
        ("waiting", "plugin_error"),
        ("delivered", "delivered"),
    ]
    assert app.deliveries()[0]["reason"].startswith("fussy: before_push failed")
    app.runtime.plugins.manager.unregister(name="fussy")
    app.clock.tick(60)
    app.deliver()
    assert app.deliveries()[0]["state"] == "delivered"
    app.close()


def an_app_with_hook() -> TestApp:
    """Return an app whose hook fails on Ana."""
    scope: dict[str, type[Integration]] = {}
    exec(working("good"), scope)  # noqa: S102 - our own text, as a drop-in runs it
    scope["Good"].default_map = {"email": "email"}
    app = onward.testing.app(
        '[connections.good]\nintegration = "good"', integrations=[scope["Good"]]
    )

    class Fussy:
        """Fails on Ana."""

        @hookimpl
        def before_push(self, draft: Draft) -> None:
            """Raise for one of two."""
            if draft.fields["email"].startswith("ana"):
                raise LookupError("no such Ana")

    add_plugin(app.runtime.plugins, "fussy", "a test", Fussy())
    for name in ("ana", "ben"):
        app.upsert_contact({"email": f"{name}@shop.example"})
    return app


def test_register_integrations_announces_every_class() -> None:
    """A plugin may register several; `register` is called once per class."""
    scope: dict[str, type[Integration]] = {}
    exec(working("one") + working("two"), scope)  # noqa: S102 - our own text

    class Plugin:
        """Announces both."""

        @hookimpl
        def register_integrations(
            self, register: Callable[[type[Integration]], None]
        ) -> None:
            """Announce them."""
            register(scope["One"])
            register(scope["Two"])

    plugins = Plugins(new_manager())
    add_plugin(plugins, "both", "a test", Plugin())

    assert plugins.loaded == [Loaded("both", "a test", ("one", "two"))]
    assert hookspec.project_name == "onward"
