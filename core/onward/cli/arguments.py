"""What people type, put into the one order the parser knows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# Options of `onward` itself → whether a value follows.
GLOBAL = {"--config": True, "--debug": False}


def arrange(argv: Sequence[str], groups: Collection[str]) -> list[str]:
    """Move global options to the front, and let a bare group list.

    Args:
        groups: names of the groups that have a `list` command.
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name = word.partition("=")[0]
        if word == "--":
            rest += [word, *words]
        elif name in GLOBAL:
            front.append(word)
            if GLOBAL[name] and word == name:
                front += [value for value in [next(words, None)] if value is not None]
        else:
            rest.append(word)
    if rest and rest[0] in groups:
        following = rest[1] if len(rest) > 1 else ""
        if not following or (
            following.startswith("-") and following not in ("-h", "--help")
        ):
            rest.insert(1, "list")
    return front + rest
