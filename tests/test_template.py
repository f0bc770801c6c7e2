"""The template is a working plugin, and so is every copy of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import onward.testing
from onward.app import Onward
from onward.connections.state import resume
from onward.plugins import Loaded
from onward.testing import Clock
from onward_template.fake import Fake

TEMPLATE = Path(__file__).parents[1] / "plugins/_template"
CONFIG = """
[onward]
database_url = "sqlite://"
[connections.mail]
integration = "template"
segment = "Newsletter"
[connections.mail.settings]
token = "${TOKEN}"

[[rules]]
key = "forms"
when = "form.submitted"
push_to = ["mail", { to = "mail", segment = "Customers" }]
"""


def copy_into(folder: Path, word: str = "template") -> Path:
    """Copy the template as its guide says; return the plugin's folder."""
    place = folder / word
    for path in sorted(TEMPLATE.rglob("*")):
        if path.is_dir() or "__pycache__" in path.parts or path.name == "README.md":
            continue
        name = str(path.relative_to(TEMPLATE)).replace("template", word)
        copy = place / name.replace("ABOUT.md", "README.md")
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text("utf-8")
        text = text.replace("template", word).replace("Template", word.title())
        copy.write_text(text, "utf-8")
    return place


@pytest.fixture
def fake() -> Fake:
    """The service, in a dict."""
    return Fake()


@pytest.fixture
def app(tmp_path: Path, fake: Fake) -> Iterator[Onward]:
    """An Onward that finds the plugin in `plugins/` beside its onward.toml."""
    copy_into(tmp_path / "plugins")
    (tmp_path / "onward.toml").write_text(CONFIG)
    clock = Clock()
    app = Onward.from_config(
        tmp_path / "onward.toml",
        transport=httpx.MockTransport(fake.handle),
        env={"TOKEN": "right-token"},
        clock=clock,
        sleep=clock.sleep,
    )
    yield app
    app.close()


def states(app: Onward) -> list[tuple[str, str]]:
    """Return state and code of every row, in order."""
    return [(str(row["state"]), str(row["code"])) for row in rows(app)]


def rows(app: Onward) -> list[dict[str, object]]:
    """Return every push row."""
    return onward.testing.TestApp.deliveries(app)  # type: ignore[arg-type]


def test_dropped_folder_is_found(app: Onward, tmp_path: Path) -> None:
    """The folder beside onward.toml is loaded under its name, no installation."""
    found = app.runtime.plugins.loaded[-1]

    assert found == Loaded(
        "template", str(tmp_path / "plugins/template"), ("template",)
    )


def test_action_becomes_a_person_in_two_groups(app: Onward, fake: Fake) -> None:
    """From an action to both groups: mapped, created once, added to each."""
    app.record_action(
        "form.submitted",
        email="Ana@Shop.example",
        contact={"first_name": "Ana", "last_name": "Ruiz", "company": "Ruiz & Co"},
    )

    app.deliver()

    assert fake.people["ana@shop.example"].fields == {
        "email": "ana@shop.example",
        "name": "Ana Ruiz",
        "company": "Ruiz & Co",
        "city": "",
    }
    assert fake.people["ana@shop.example"].groups == {"g1", "g2"}
    assert states(app) == [("delivered", "delivered")] * 2


def test_groups_of_every_page_are_known(app: Onward, fake: Fake) -> None:
    """A group on the second page can be pushed to."""
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(email="ana@shop.example", to="mail")
    app.deliver()
    app.push(email="ana@shop.example", to="mail", segment="Press")

    app.deliver()

    assert fake.people["ana@shop.example"].groups == {"g1", "g3"}


def test_one_rejected_of_many(app: Onward, fake: Fake) -> None:
    """Of three in one request one is refused; the others are in; corrected, it goes."""
    for name in ("Ana", "!", "Cem"):
        email = f"{'bad' if name == '!' else name.lower()}@shop.example"
        app.upsert_contact({"email": email, "first_name": name})
    emails = [f"{name}@shop.example" for name in ("ana", "bad", "cem")]
    app.push(emails=emails, to="mail")

    app.deliver()

    assert states(app) == [
        ("delivered", "delivered"),
        ("failed", "refused"),
        ("delivered", "delivered"),
    ]
    assert fake.requests.count("POST people") == 1
    app.upsert_contact({"email": "bad@shop.example", "first_name": "Ben"})
    app.push(email="bad@shop.example", to="mail")
    app.deliver()
    assert states(app)[-1] == ("delivered", "delivered")


def test_wrong_token_pauses_and_a_right_one_delivers(app: Onward, fake: Fake) -> None:
    """A refused token holds everything; accepted again and resumed, all goes."""
    fake.token = "another"
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(email="ana@shop.example", to="mail")

    held = app.deliver().held

    assert held == {
        "mail": "Template does not accept this API token. "
        "Create another one under Account → API keys."
    }
    assert fake.people == {}
    fake.token = "right-token"
    resume(app.runtime, 1)
    app.deliver()
    assert states(app) == [("delivered", "delivered")]


def test_deleted_group_pauses_that_group_only(app: Onward, fake: Fake) -> None:
    """Rows for a deleted group are held; other groups go on; back, they go too."""
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(email="ana@shop.example", to="mail")
    app.deliver()
    del fake.groups["g2"]
    app.record_action("form.submitted", email="ana@shop.example", contact={"city": "X"})

    app.deliver()

    assert [row["state"] for row in rows(app)] == ["delivered", "delivered", "waiting"]
    assert fake.people["ana@shop.example"].groups == {"g1"}
    fake.groups["g2"] = "Customers"
    app.runtime.sleep(2 * 86_400)  # groups are read again once a day
    app.push(email="ana@shop.example", to="mail")
    app.deliver()
    app.deliver()
    assert fake.people["ana@shop.example"].groups == {"g1", "g2"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_outage_passes(app: Onward, fake: Fake, status: int) -> None:
    """A service that fails for a while gets the contact afterwards, once."""
    app.upsert_contact({"email": "ana@shop.example"})
    app.push(email="ana@shop.example", to="mail")
    app.deliver()
    app.push(email="ana@shop.example", to="mail", force=True)
    fake.failures = [status, status]

    for _ in range(4):
        app.deliver()
        app.runtime.sleep(600)

    assert states(app) == [("delivered", "delivered")] * 2
    assert len(fake.people) == 1


@pytest.mark.slow
def test_copy_under_another_name_passes_its_own_tests(tmp_path: Path) -> None:
    """Two words replaced as the guide says, the copy is a plugin with green tests."""
    place = copy_into(tmp_path, "acme")

    left = [p for p in place.rglob("*") if "emplate" in p.name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )

    assert left == []
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_template_is_not_loaded_where_it_lies(tmp_path: Path) -> None:
    """In `plugins/` under its own name, which starts with `_`, it sleeps."""
    shutil.copytree(TEMPLATE, tmp_path / "plugins/_template")

    app = onward.testing.app(plugins=tmp_path / "plugins")

    assert "template" not in app.runtime.plugins.integrations
    app.close()
