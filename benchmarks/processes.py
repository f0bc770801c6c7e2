"""`onward` as real processes: their time, their processor and their memory."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[1]
PATIENCE_S = 60.0
SAMPLE_S = 0.05
SHARES = (0.1, 0.5, 1.0)

# How a process of the command line comes by the integrations of `services.py`.
DROP_IN = """\
from benchmarks import services
from onward import hookimpl


@hookimpl
def register_integrations(register):
    for one in (services.OnePost, services.ThreeCalls, services.OneAtATime):
        register(one)
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What one process needed for its work.

    Args:
        seconds: between the two marks.
        cpu: of them, seconds of processor.
        resident: MB when 10, 50 and 100 % of its time were over; empty where the
            system does not tell.
        peak: MB, the most it ever held.
        said: what it wrote on its terminal, the progress included.
    """

    code: int
    seconds: float
    cpu: float
    resident: tuple[float, ...]
    peak: float
    said: str


def drop_in(folder: Path) -> None:
    """Let the processes of a folder know the integrations of the benchmarks."""
    plugins = folder / "plugins"
    plugins.mkdir(exist_ok=True)
    (plugins / "services.py").write_text(DROP_IN, encoding="utf-8")


def memory_of(pid: int | str) -> tuple[float, float] | None:
    """Return what a process holds now and the most it ever held, in MB.

    None where there is no `/proc`, or no such process any more.
    """
    # Not `ru_maxrss`: a child starts with its parent's.
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmRSS" not in found:
        return None
    now, most = (int(found[name].split()[0]) / 1e3 for name in ("VmRSS", "VmHWM"))
    return now, most


def cpu_of(pid: int) -> float:
    """Return the seconds of processor a running process took; 0.0 without `/proc`."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    # Its name, in brackets, may hold blanks.
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def start(folder: Path, *words: str, terminal: int) -> subprocess.Popen[bytes]:
    """Start `onward` with these words in a folder; it writes to `terminal`."""
    found = shutil.which("onward", path=sysconfig.get_path("scripts"))
    program = found or str(Path(sys.executable).with_name("onward"))
    env = {**os.environ, "TERM": "xterm"}
    env["PYTHONPATH"] = os.pathsep.join([str(HERE), env.get("PYTHONPATH", "")])
    # Compiling every module anew is no part of a start.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.Popen(  # noqa: S603  # ours
        [program, *words],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )


def run(folder: Path, *words: str, begins: str = "", ends: str = "") -> Used:
    """Run `onward` to its end, on a terminal of its own, so that it shows how far.

    Args:
        begins: what it writes when its work begins, after its start; "" = at once.
        ends: what it writes when its work is done, before its end.
    """
    ours, its = pty.openpty()
    samples: list[float] = []
    peak, said = 0.0, bytearray()
    process = start(folder, *words, terminal=its)
    os.close(its)
    # (moment, seconds of processor) of each mark.
    marks: list[tuple[float, float]] = []
    wanted = [begins, ends]
    due = 0.0
    while True:
        ready, _, _ = select.select([ours], [], [], SAMPLE_S)
        if ready:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # how Linux says that nobody has it open any more
                part = b""
            if not part:
                break
            # The end of it is enough.
            said[:] = (said + part)[-100_000:]
        while len(marks) < len(wanted) and wanted[len(marks)].encode() in said:
            marks.append((time.perf_counter(), cpu_of(process.pid)))
        now = time.perf_counter()
        if now >= due and (found := memory_of(process.pid)) is not None:
            due = now + SAMPLE_S
            samples.append(found[0])
            peak = found[1]
    _, status, usage = os.wait4(process.pid, 0)
    os.close(ours)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not samples:  # only the peak is known, on macOS in bytes
        peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    text = said.decode(errors="replace")
    assert len(marks) == len(wanted) or process.returncode, text
    first, last = marks if len(marks) == len(wanted) else ((0.0, 0.0),) * 2
    return Used(
        process.returncode,
        last[0] - first[0],
        last[1] - first[1],
        tuple(samples[int(share * (len(samples) - 1))] for share in SHARES if samples),
        peak,
        text,
    )


@contextmanager
def worker(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `onward worker` for the time of the block, from when it says it runs.

    Args:
        name: of the file that takes its log.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as stream:
        process = start(folder, "worker", terminal=stream.fileno())
    try:
        until = time.monotonic() + PATIENCE_S
        while b"the worker runs" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text(encoding="utf-8", errors="replace"))
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
