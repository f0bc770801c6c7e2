"""`onward worker`, `onward simulate` and a terminal, as processes of their own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from select import select

import httpx
import pytest

from onward.testing import serve
from onward.vault import Vault

from .conftest import PASSWORD, Place, line_with

pytestmark = pytest.mark.slow

Stop = list[subprocess.Popen[str]]
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_delivers_until_it_is_stopped(
    place: Place, stop: Stop, number: signal.Signals
) -> None:
    """It sends what others queue, logs without secrets, and ends 0 when told."""
    place.good("fire", "seen", "--email", "ana@shop.example")
    place.good("push", "ana@shop.example", "--to", "icontact")
    worker = place.start("worker", **PIPES)
    stop.append(worker)

    said = line_with(worker, "icontact: verified")
    while place.good("deliveries", "--state", "delivered", "--json").json == []:
        assert worker.poll() is None
    worker.send_signal(number)
    out, err = worker.communicate(timeout=60)

    assert (worker.returncode, out) == (0, "")
    assert "icontact: delivered delivered: 1" in err
    assert err.splitlines()[-1].endswith("stopped")
    assert PASSWORD not in said + err
    assert place.sim.folder().on_list("Newsletter") == {"ana@shop.example"}


def test_a_worker_ends_what_it_is_sending(place: Place, stop: Stop) -> None:
    """Told to stop in the middle of a batch, it stores what became of it first."""
    sending, go_on = threading.Event(), threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.path.endswith("/contacts"):
            sending.set()
            go_on.wait(60)
        return place.sim.handle(request)

    with serve(handle) as slow:
        text = (place.path / "onward.toml").read_text()
        place.write("onward.toml", text.replace(place.url, f"{slow.url}/icp"))
        place.good("fire", "seen", "--email", "ana@shop.example")
        place.good("push", "ana@shop.example", "--to", "icontact")
        worker = place.start("worker", **PIPES)
        stop.append(worker)
        assert sending.wait(60)

        worker.send_signal(signal.SIGTERM)
        said = line_with(worker, "stopping")
        go_on.set()
        worker.communicate(timeout=60)

    assert "what is being sent ends first" in said
    assert worker.returncode == 0
    [row] = place.good("deliveries", "--json").json
    assert (row["state"], row["tries"]) == ("delivered", 0)


def test_a_simulator_says_how_to_reach_it(place: Place, stop: Stop) -> None:
    """One JSON line, then a service that takes those credentials; SIGTERM ends it."""
    options = ("--set", "commas=ignored", "--plain")
    process = place.start("simulate", "icontact", *options, **PIPES)
    stop.append(process)
    assert process.stdout is not None

    said = json.loads(process.stdout.readline())

    assert list(said) == [
        "url",
        "app_id",
        "username",
        "password",
        "account_id",
        "client_folder_id",
    ]
    answer = httpx.get(
        f"{said['url']}/a/",
        headers={
            "API-Version": "2.2",
            "API-AppId": said["app_id"],
            "API-Username": said["username"],
            "API-Password": said["password"],
            "Accept": "application/json",
        },
        trust_env=False,
    )
    accounts = [row["accountId"] for row in answer.json()["accounts"]]
    assert accounts == [said["account_id"]]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_the_switches_of_a_simulator_are_listed(empty: Place) -> None:
    """`--set list` names every switch with its values."""
    listed = empty.good("simulate", "icontact", "--set", "list").out.splitlines()

    assert listed[0].split("\t")[0] == "switch"
    commas = next(line.split("\t") for line in listed if line.startswith("commas"))
    assert commas[:3] == ["commas", "honoured", "honoured, literal, first, ignored"]


def terminal(
    place: Place,
    *argv: str,
    answers: Sequence[tuple[str, str]] = (),
    width: int = 80,
) -> str:
    """Run a command on a terminal; return all that was shown, and its status.

    Args:
        answers: what to wait for, and what to type then.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from onward.cli import main; exit(main())", *argv],
        cwd=place.path,
        env={**os.environ, "COLUMNS": str(width), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, since, left = "", 0, list(answers)
    try:
        while select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 65_536).decode()
            except OSError:
                break  # the other end was closed
            if left and left[0][0] in shown[since:]:
                since = len(shown)
                os.write(ours, f"{left.pop(0)[1]}\n".encode())
    finally:
        process.kill() if process.poll() is None and left else None
        status = process.wait()
        os.close(ours)
    assert not left, f"it never asked for {left[0][0]!r}: {shown}"
    return f"{shown}[{status}]"


def test_a_connection_is_asked_for_on_a_terminal(place: Place) -> None:
    """Prompts come from the integration, secrets stay hidden, lists are offered."""
    place.write("onward.toml", "")
    Vault.create_key_file(place.path / "onward.key")
    settings = dict(w.split("=", 1) for w in place.settings() if "=" in w)
    settings["account_id"] = settings["client_folder_id"] = ""
    options = [w for n, v in settings.items() for w in ("--set", f"{n}={v}")]

    # Segments begin with "nowhere in particular", so VIP is the third.
    answers = [("Account ID?", "1"), ("Folder ID?", "1"), ("do contacts go?", "3")]
    add = ("connections", "add", "icontact", *options)
    shown = terminal(place, *add, answers=answers)

    assert "Which Account ID?" in shown
    assert "Which Client Folder ID?" in shown
    assert "Where do contacts go?" in shown
    assert shown.endswith("[0]")
    assert PASSWORD not in shown
    [listed] = place.good("connections", "--json").json
    assert listed["segment"] == "VIP"


def test_prompts_explain_and_refusals_can_be_mended(place: Place) -> None:
    """A setting's help and link stand above its prompt; secrets are not echoed."""
    place.write("onward.toml", "")
    Vault.create_key_file(place.path / "onward.key")
    settings = dict(w.split("=", 1) for w in place.settings() if "=" in w)
    del settings["password"]
    asked = [w for n, v in settings.items() for w in ("--set", f"{n}={v}")]
    add = ("connections", "add", "icontact", *asked, "--segment", "VIP")
    prompt = "API-specific password: "  # the blank comes when the echo is off
    answers = [(prompt, "wrong"), ("Try again?", "y")]
    answers += [(f"{title} [", "") for title in ("Application ID", "Username")]
    answers += [(prompt, PASSWORD)]
    answers += [(f"{title} [", "") for title in ("Account ID", "Folder ID", "API URL")]

    shown = terminal(place, *add, answers=answers)

    assert "Not your login password." in shown
    assert "https://app.icontact.com/icp/core/externallogin" in shown
    assert "API-specific password" in shown
    assert "The credentials entered were not able to" in shown
    assert shown.endswith("[0]")
    assert PASSWORD not in shown


def test_a_terminal_gets_a_table_and_no_colour_when_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn on a terminal, even a narrow one nothing is cut off."""
    monkeypatch.setenv("NO_COLOR", "1")
    place.good("fire", "seen", "--email", "a-rather-long-name@shop.example")
    place.good("push", "a-rather-long-name@shop.example", "--to", "icontact")

    shown = terminal(place, "deliveries", width=60)
    wide = terminal(place, "deliveries", width=200)

    assert "…" not in shown
    assert "a-rather-long-name@shop.example" in wide
    assert "─" in wide
    assert "\x1b[3" not in wide
