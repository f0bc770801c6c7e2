"""Say what is missing in a wheel and an sdist, or should not be there.

Usage: python scripts/check_wheel.py dist/onward-….whl [dist/onward-….tar.gz]
"""

from __future__ import annotations

import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
JUNK = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}


def places() -> dict[str, str]:
    """Return what goes into the wheel: path in the checkout → path in there."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    build = document["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = {str(path): PurePosixPath(path).name for path in build["packages"]}
    return packages | {str(k): str(v) for k, v in build["force-include"].items()}


def files_of(place: str) -> list[str]:
    """Return the files below a path of the checkout, caches left out.

    A path that is a file itself is one file without a name below it.
    """
    if (ROOT / place).is_file():
        return [""]
    return [
        f"/{path.relative_to(ROOT / place).as_posix()}"
        for path in sorted((ROOT / place).rglob("*"))
        if path.is_file() and not JUNK & set(path.parts)
    ]


def wheel_problems(names: set[str]) -> list[str]:
    """Hold the names in a wheel against the checkout."""
    own = {name for name in names if ".dist-info/" not in name}
    wanted = {
        f"{there}{file}" for here, there in places().items() for file in files_of(here)
    }
    problems = [f"missing in the wheel: {name}" for name in sorted(wanted - own)]
    problems += [f"not wanted in the wheel: {name}" for name in sorted(own - wanted)]
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        problems.append("missing in the wheel: LICENSE")
    return problems


def sdist_problems(names: set[str]) -> list[str]:
    """Hold the names in an sdist, first folder removed, against the checkout."""
    wanted = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"}
    for place in (*places(), "tests", "examples"):
        wanted |= {f"{place}{file}" for file in files_of(place)}
    return [f"missing in the sdist: {name}" for name in sorted(wanted - names)]


def problems_of(path: Path) -> list[str]:
    """Return what is wrong with a wheel or an sdist."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return wheel_problems({n for n in wheel.namelist() if not n.endswith("/")})
    with tarfile.open(path) as sdist:
        files = [member.name for member in sdist.getmembers() if member.isfile()]
    return sdist_problems({name.partition("/")[2] for name in files})


def main(paths: list[str]) -> int:
    """Print every problem; return 1 when there is one."""
    if not paths:
        print(__doc__)
        return 2
    found = [problem for path in paths for problem in problems_of(Path(path))]
    print("\n".join(found) or f"complete: {', '.join(Path(p).name for p in paths)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
