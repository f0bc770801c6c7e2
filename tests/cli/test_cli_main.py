"""The command line as a whole: order of words, errors, speed, versions."""

from __future__ import annotations

import subprocess
import sys

import pytest

import onward
from onward.cli.arguments import arrange

from .conftest import Place

GROUPS = {"deliveries", "contacts"}


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        ("deliveries", "deliveries list"),
        ("deliveries --json", "deliveries list --json"),
        ("deliveries --help", "deliveries --help"),
        ("deliveries show 3", "deliveries show 3"),
        ("db", "db"),
        ("deliver --config x.toml", "--config x.toml deliver"),
        ("deliveries --config=x.toml --json", "--config=x.toml deliveries list --json"),
        ("fire a --debug", "--debug fire a"),
        ("fire a -- --debug", "fire a -- --debug"),
        ("points a@b.example -10", "points a@b.example -10"),
        ("", ""),
    ],
)
def test_words_are_put_in_order(typed: str, parsed: str) -> None:
    """Global options may stand anywhere, and a group without a verb lists."""
    assert arrange(typed.split(), GROUPS) == parsed.split()


def test_the_version_is_shown(empty: Place) -> None:
    """`onward --version` prints the version and nothing else."""
    assert empty.good("--version").out == f"onward {onward.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    """`onward --help` waits for no database, HTTP client or template engine."""
    heavy = ("sqlalchemy", "sqlmodel", "httpx", "jinja2", "cryptography", "pydantic")
    code = (
        "import sys; from onward.cli import main; main(['--help']);"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stderr.splitlines()[-1] == "[]"
    assert "deliveries" in done.stdout


def test_every_public_name_can_be_imported() -> None:
    """What `onward.__all__` promises is there, though imported late."""
    assert sorted(onward.__all__) == onward.__all__
    for name in onward.__all__:
        assert getattr(onward, name) is not None
    assert set(onward.__all__) <= set(dir(onward))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = onward.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "argv",
    [
        ["delivr"],
        ["deliveries", "lst"],
        ["push", "a@b.example"],
        ["deliveries", "show", "x"],
    ],
)
def test_a_wrong_call_ends_2(empty: Place, argv: list[str]) -> None:
    """What the parser does not understand ends 2, with plain lines on stderr."""
    ran = empty.run(*argv)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("Usage: onward")
    assert "╭" not in ran.err


def test_a_mistake_is_one_sentence(empty: Place) -> None:
    """A user's mistake is one plain line on stderr, without a traceback."""
    ran = empty.run("deliveries", "show", "7")

    expected = "there is no delivery 7; `onward deliveries` lists them\n"
    assert (ran.status, ran.out, ran.err) == (1, "", expected)


def test_every_problem_of_the_file_is_said_with_its_line(place: Place) -> None:
    """A wrong key is named with its line and what was probably meant."""
    place.configure('[[rules]]\nkey = "a"\nwehn = "x"\npoints = 1')

    ran = place.run("deliver")

    assert ran.status == 1
    assert '"wehn" is not known; did you mean "when"?' in ran.err
    assert "onward.toml: line " in ran.err
    place.configure()
    assert place.run("deliver").status == 0


def test_a_bug_is_called_one(empty: Place) -> None:
    """An unexpected error is one sentence without its text; --debug raises it."""
    (empty.path / "plugins").mkdir()
    empty.write("onward.toml", "")
    empty.write(
        "plugins/broken.py",
        """
from onward import Integration

def make(**options):
    raise LookupError("secret text")

class Broken(Integration):
    key = "broken"
    simulator = "onward_dropin_broken:make"
    verify = fields = push = make
""",
    )

    ran = empty.run("simulate", "broken")

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("onward: this is a bug in Onward (LookupError)")
    assert "secret text" not in ran.err
    with pytest.raises(LookupError):
        empty.run("--debug", "simulate", "broken")


def test_the_file_may_be_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config wins over ONWARD_CONFIG; relative paths are the file's own."""
    away = place.path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    monkeypatch.setenv("ONWARD_CONFIG", "nowhere.toml")

    named = place.run("connections", "--json", "--config", "../onward.toml")

    assert [row["name"] for row in named.json] == ["icontact"]
    missing = place.run("connections")
    assert missing.status == 1
    assert "there is no such file" in missing.err
    assert list(away.iterdir()) == []
