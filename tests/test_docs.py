"""Every block of code in README and the plugin guide runs.

What a block is, its language and first line say:

- `python` with a first line `# name.py`: a file of that name;
- any other `python`: run, in one namespace a document, in order;
- `toml`: a file of the name in its first line, `onward.toml` when there is none;
- `console`: each line after `$ ` is run in the folder of those files, and what
  follows must be what it says; `…` stands for anything, alone on a line for any
  number of lines. `COMMAND &` runs until the end; its first line is waited for;
- `console` that shows no answer at all: not run, but every command of ours in it
  must exist and know its options;
- `console` with a first line `# name.py says`: what that one said since;
- `postgresql://onward@db.example/onward`: an empty database of the tests' server;
- `text`, `mermaid`: not run, and neither are commands that `ELSEWHERE` lists.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from onward.cli import root

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "plugins/_template/README.md"
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", GUIDE, *sorted((ROOT / "docs").glob("*.md")))
    if "```" in path.read_text("utf-8")
]
LANGUAGES = {"console", "mermaid", "python", "text", "toml"}
SERVER = "postgresql://onward@db.example/onward"
# Run by .ci/run on a clean checkout, not from inside their own tests.
ELSEWHERE = ("git clone", "cd ", "make ", "pip install", "python -m pip", "export ")

BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document: Path) -> Iterator[tuple[str, str]]:
    """Yield language and text of every block."""
    for found in BLOCK.finditer(document.read_text("utf-8")):
        yield found[1], found[2]


def name_in(text: str) -> str:
    """Return the file name in a first line like `# plugins/acme.py`."""
    found = re.match(r"# ([\w./-]+\.(?:py|toml|csv|json))\s*$", text.partition("\n")[0])
    return found[1] if found else ""


def is_as_shown(said: str, shown: str) -> bool:
    """Tell whether output is what a document shows, `…` standing for anything."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else _line(line) + r"[ \t]*\n"
        for line in shown.splitlines()
    )
    return re.fullmatch(pattern, said) is not None


def _line(shown: str) -> str:
    return ".*?".join(re.escape(part.rstrip()) for part in shown.split("…"))


class Reader:
    """Somebody who does what a document says, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = SERVER
        self.names: dict[str, object] = {"__name__": "document"}
        self.running: dict[str, subprocess.Popen[str]] = {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ONWARD_")
        } | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "COLUMNS": "80",
            "NO_COLOR": "1",
        }

    def read(self, language: str, text: str) -> None:
        """Do what one block says."""
        text = text.replace("8025", self.port).replace(SERVER, self.server)
        name = name_in(text)
        if name:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        elif language == "python":
            code = compile(text, "a block", "exec", dont_inherit=True)
            exec(code, self.names)  # noqa: S102 - our own
        elif language == "toml":
            (self.folder / "onward.toml").write_text(text, "utf-8")
        elif language == "console":
            self.type(text)

    def type(self, text: str) -> None:
        """Type the commands of a block and compare what they say."""
        says = re.match(r"# (\S+) says\n", text)
        if says:
            process = self.running[says[1]]
            process.terminate()
            said, _ = process.communicate(timeout=30)
            assert is_as_shown(said, text[says.end() :]), said
            return
        parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        typed = [part.partition("\n")[::2] for part in parts]
        if not any(shown.strip() for _, shown in typed):
            for command, _ in typed:
                self.look_up(command)
            return
        for command, shown in typed:
            if command.startswith(ELSEWHERE):
                continue
            if command.endswith(" &"):
                said = self.start(command.removesuffix(" &"))
            else:
                said = self.run(command)
            assert is_as_shown(said, shown), f"$ {command}\n{said}"

    def look_up(self, command: str) -> None:
        """Hold a command of ours against those there are, options included."""
        words = shlex.split(command, comments=True)
        if words[0] != "onward":
            assert command.startswith(ELSEWHERE), f"nobody runs this: {command}"
            return
        found: Any = typer.main.get_command(root.app)
        for word in words[1:]:
            found = getattr(found, "commands", {}).get(word, found)
        known = {name for option in found.params for name in option.opts}
        options = {word for word in words if word.startswith("--")}
        assert found.name in words[1:], f"there is no such command: {command}"
        assert options <= known | {"--help"}, f"no such option: {command}"

    def start(self, command: str) -> str:
        """Run something beside; return its first line."""
        process = subprocess.Popen(
            shlex.split(command),
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running[command.rpartition(" ")[2]] = process
        assert process.stdout is not None
        return process.stdout.readline()

    def run(self, command: str) -> str:
        """Run a command to its end; return what it says."""
        done = subprocess.run(
            ["bash", "-c", command],  # noqa: S607 - what a reader types into
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout

    def close(self) -> None:
        """Stop what still runs."""
        for process in self.running.values():
            process.kill()
            process.communicate()


@contextmanager
def a_reader(folder: Path) -> Iterator[Reader]:
    """Return a reader whose processes end with it."""
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.close()


def marked(document: Path) -> Any:
    """Return a document to be run; one that needs a server is marked so."""
    needed = SERVER in document.read_text("utf-8")
    marks = [pytest.mark.postgres] if needed else []
    return pytest.param(document, marks=marks, id=str(document.relative_to(ROOT)))


@pytest.mark.slow
@pytest.mark.parametrize("document", [marked(one) for one in DOCUMENTS])
def test_every_block_does_what_the_document_says(
    document: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Somebody who does what the document says sees what it shows."""
    monkeypatch.chdir(tmp_path)
    with a_reader(tmp_path) as reader:
        if SERVER in document.read_text("utf-8"):
            url = str(request.getfixturevalue("postgres_url"))
            reader.server = url.replace("+psycopg", "", 1)
        for language, text in blocks(document):
            reader.read(language, text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.parent.name)
def test_every_block_says_what_it_is(document: Path) -> None:
    """No block hides from the test above behind a language nobody runs."""
    assert {language for language, _ in blocks(document)} <= LANGUAGES


@pytest.mark.parametrize(
    ("said", "shown", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a\n", "a\nb\n", False),
        ("1 passed in 0.3s\n", "1 passed in …\n", True),
        ("a\nb\nc\nd\n", "a\n…\nd\n", True),
        ("a\nd\n", "a\n…\nd\n", True),
        ("a (x)\tb  \n", "a (x)\tb\n", True),
        ("a\n", "…\nb\n", False),
    ],
)
def test_what_is_shown_is_compared_closely(said: str, shown: str, same: bool) -> None:
    """The comparison forgives blanks at line ends and what `…` stands for only."""
    assert is_as_shown(said, shown) is same


def test_smallest_integration_has_twenty_lines() -> None:
    """The class the guide begins with has at most 20 lines, blank ones not counted."""
    texts = [text for _, text in blocks(GUIDE) if "class Acme(Integration)" in text]

    lines = [line for line in texts[0].splitlines() if line.strip()]

    assert len(lines) <= 20
