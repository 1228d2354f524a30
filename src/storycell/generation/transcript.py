"""A chat as a plain text with which a character model goes on.

Such a model knows no roles. So a chat becomes the text that it would have been, had the model generated its part: what
was asked stands on lines of its own, and an answer follows directly what it answered. The last message is where the
model goes on, and what comes next is the answer.

A model of transcripts knows speakers (`Name: words` lines, as `storycell train chat.txt` reads the messengers'
exports). Told two of them, the one asks and the other answers, a line for each message, and the answer ends where the
next line of a speaker begins.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storycell.errors import SettingsError


@dataclass(frozen=True)
class Message:
    """Who said what; `name` is the speaker's, where it is not the usual one."""

    role: str  # "user", "assistant", or another, which has no speaker
    words: str
    name: str | None = None


def speakers_of(text: str) -> tuple[str, str]:
    """The two names in `USER:ANSWERER`; `SettingsError` where they are none."""
    names = text.split(":")
    if len(names) != 2 or not all(name.strip() for name in names) or "\n" in text:
        raise SettingsError(f"speakers {text!r}: give two names of one line, as in Ann:Ben")
    return names[0], names[1]


def transcript(messages: Iterable[Message], speakers: Sequence[str] | None = None) -> tuple[str, list[str]]:
    """(the text that the answer follows, the texts before which it ends)."""
    text, names, last = "", list(speakers or ()), None
    for message in messages:
        last, speaker = message.role, None
        if speakers is not None:
            speaker = message.name or {"user": speakers[0], "assistant": speakers[1]}.get(message.role)
        goes_on = speaker is None and message.role == "assistant"
        if text and not goes_on and not text.endswith("\n"):
            text += "\n"
        text += message.words if speaker is None else f"{speaker}: {message.words}"
        names += [speaker] if speaker is not None and speaker not in names else []
    if speakers is not None and last != "assistant":
        text += "\n" * (text != "" and not text.endswith("\n")) + f"{speakers[1]}: "
    return text, [f"\n{name}:" for name in names]
