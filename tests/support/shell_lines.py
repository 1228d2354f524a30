"""Calls of storycell in the lines of a shell, as pages show them."""

import shlex
from collections.abc import Iterator


def commands(text: str) -> Iterator[list[str]]:
    """The words of every call of storycell in a shell's lines: `storycell`, `-m storycell`, in a pipe or alone."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            at = words.index("|") if "|" in words else len(words)
            command, words = words[:at], words[at + 1 :]
            if "storycell" in command:
                at = command.index("storycell")
                if at == 0 or command[at - 1] == "-m" or all("=" in word for word in command[:at]):
                    end = command.index(">") if ">" in command else len(command)
                    yield command[at + 1 : end]
