"""A chat is the text that it would have been, had the model generated its part."""

import pytest

from storycell.errors import SettingsError
from storycell.generation.transcript import Message, speakers_of, transcript


def chat(*lines: str) -> list[Message]:
    """`user: words` and so on as messages; `user/Ann: words` with a name."""
    made = []
    for line in lines:
        who, words = line.split(": ", 1)
        role, _, name = who.partition("/")
        made.append(Message(role, words, name or None))
    return made


def test_an_answer_stands_directly_behind_what_it_answered_and_questions_on_lines_of_their_own() -> None:
    messages = chat("system: A.", "user: B", "assistant:  and b\n", "user: C", "developer: D", "assistant: d")
    assert transcript(messages, None) == ("A.\nB and b\nC\nDd", [])
    assert transcript(chat("user/Eve: B"), None) == ("B", [])


def test_speakers_get_a_line_for_each_message_and_end_the_answer() -> None:
    both = ("Ann", "Ben")
    messages = chat("system: A.", "user: hi", "assistant: ho", "user/Eve: well")
    assert transcript(messages, both) == ("A.\nAnn: hi\nBen: ho\nEve: well\nBen: ", ["\nAnn:", "\nBen:", "\nEve:"])
    assert transcript(chat("user: hi", "assistant: ho"), both) == ("Ann: hi\nBen: ho", ["\nAnn:", "\nBen:"])


def test_speakers_begin_a_text_that_nobody_began() -> None:
    assert transcript([], ("Ann", "Ben")) == ("Ben: ", ["\nAnn:", "\nBen:"])
    assert transcript([], None) == ("", [])


def test_speakers_are_two_names_of_one_line() -> None:
    assert speakers_of("Ann:Ben Jo") == ("Ann", "Ben Jo")
    for text in ("", "Ann", "Ann:", ":Ann", "Ann: ", "Ann:Ben:Eve", "A\nB:C"):
        with pytest.raises(SettingsError, match="give two names of one line"):
            speakers_of(text)
