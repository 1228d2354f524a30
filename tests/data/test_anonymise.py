"""`--anonymise`: the names of people in chats and mail are nowhere in what is learnt, prepared and kept."""

import json
import mailbox
import re
import unicodedata
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_runs import FLAGS, command

import storycell
from storycell.data.anonymise import EMAIL, HANDLE, MADE_UP, PHONE, Anonymiser
from storycell.data.corpus import open_corpus
from storycell.data.tokens import open_prepared
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError
from storycell.runs.text import open_words

PEOPLE = ["Ottilie Grabowski", "Zbyněk K.", "+44 7700 900123", "Torvald"]
SECRETS = ["ottilie", "grabowski", "zbyn", "torvald", "900123", "555", "example.org"]


def whatsapp(days: int = 3, first: int = 0) -> str:
    said = [
        "Zbyněk, are you there? Ring me on +1 (555) 123-4567 :)",
        "yes OTTILIE, mrs grabowski! OttilieGrabowski, zbynek is on his way",
        "Write to ottilie.grabowski@example.org or @ottilie_g92, not to @\u2068Torvald\u2069's",
        "Who is this? It is 2020-12-31, 24.12.2020 21:15, 1234 of them",
    ]
    lines = [
        f"[{day:02d}.12.20, 21:{n:02d}:03] {PEOPLE[(n + first) % 3]}: {said[(n + day) % 4]}\n"
        for day in range(1, days + 1)
        for n in range(30)
    ]
    return "".join(["[01.12.20, 21:00:00] Ottilie Grabowski: \u200eMessages are end-to-end encrypted.\n", *lines])


def stories(words: list[Path], **settings: object) -> list[str]:
    data = b"".join(open_corpus([str(word) for word in words], anonymise=True, **settings).blocks())  # type: ignore[arg-type]
    return [story.decode() for story in data.split(BOUNDARY_BYTE) if story.strip()]


def test_a_name_is_replaced_in_every_form_as_a_whole_word_in_its_case_and_nothing_else_is() -> None:
    known = Anonymiser()
    known.meet([("Ann Miller",), ("Ben B.",), ("René O'Neil",), ("Ann Smith", "smithy")])
    known.meet([("王小明",), ("Ada van der Meer",)])
    alex, bo, casey, dana, eli, finn = MADE_UP[:6]
    for said, expected in {
        "Ann, ANN, ann: Ann's AnnMiller, Miller, Ann! Mr Miller": (
            f"{alex}, {alex.upper()}, {alex.lower()}: {alex}'s {alex}, {alex}! Mr {alex}"
        ),
        "Ann Smith, Ms Smith; smithy; Ann  \u202fMiller": f"{dana}, Ms {dana}; {dana.lower()}; {alex}",
        "Ben B. and BEN B says ben": f"{bo} and {bo.upper()} says {bo.lower()}",
        "René Rene\u0301 rene RENÉ O’Neil O'Neil": f"{casey} {casey} {casey.lower()} {casey} {casey}",
        "你好王小明说": f"你好{eli}说",
        "Van der Meer, van and der, Ada van der Meer": f"Van der {finn}, van and der, {finn}",
        "_Ann_ *Ann* @Ann @annmiller @ann_m92 @stranger @\u2068Ann Miller\u2069": (
            f"_{alex}_ *{alex}* @{alex} @{alex.lower()} @{alex.lower()} {HANDLE} @\u2068{alex}\u2069"
        ),
        "Annie, annual, Bennet, 12345, 10:30, 31.12.2020 21:15, 2020-12-31, a@b": None,
        "+44 7700 900123, 020 7946 0958, (030) 1234567": f"{PHONE}, {PHONE}, {PHONE}",
        "ann.miller@example.org, x+y@mail.example.co.uk": f"{EMAIL}, {EMAIL}",
    }.items():
        assert known.replace(said) == (said if expected is None else expected)
        assert known.replace(said) == known.replace(said)
    assert [known.name_of(name) for name in ("Ann Miller", "Ann  Smith", "smithy", "Nobody")] == [
        alex, dana, dana, "Nobody",
    ]  # fmt: skip


def test_no_made_up_name_is_that_of_somebody_and_there_are_enough() -> None:
    known = Anonymiser()
    people = [f"Person{chr(97 + k % 26)}{'x' * (k // 26)}" for k in range(100)]
    known.meet([("Alex Bo",), *((name,) for name in people)])
    given = [known.name_of(name) for name in ("Alex Bo", *people)]
    assert len(set(given)) == 101
    assert given[:2] == ["Casey", "Dana"]
    assert not {"Alex", "Bo"} & set(given)


def test_a_text_is_searched_for_the_people_it_may_name_only() -> None:
    known = Anonymiser()
    known.meet([(f"Person{'abcdefghij'[k % 10] * (k + 1)} Surname{k}",) for k in range(500)])
    assert known._pattern_for("nobody is here").person == {}
    assert set(known._pattern_for("persona").person.values()) == {0}


def telegram() -> dict[str, object]:
    def message(who: str | None, text: object) -> dict[str, object]:
        return {"id": 1, "type": "message", "date": "2020-12-31T21:15:03", "from": who, "text": text}

    mention = {"type": "mention_name", "text": "Torvald", "user_id": 7}
    return {"name": "Zbyněk", "type": "personal_chat", "id": 7, "messages": [
        message("Ottilie Grabowski", ["Hi ", mention, " and ", {"type": "mention", "text": "@zbynek_k"}]),
        message("Zbyněk K.", "Torvald, Ottilie?"), message(None, "gone"),
    ]}  # fmt: skip


def discord() -> dict[str, object]:
    def message(nick: str | None, name: str, text: str, *mentions: dict[str, str]) -> dict[str, object]:
        author = {"id": name, "name": name, "nickname": nick}
        return {"timestamp": "2020-12-31T21:15:03", "content": text, "author": author, "mentions": list(mentions)}

    return {"guild": {"id": "1", "name": "G"}, "channel": {"id": "3", "name": "general"}, "messages": [
        message("Ottilie", "grabowski92", "Hi @Torvald", {"name": "torvald", "nickname": "Torvald"}),
        message(None, "Zbyněk K.", "Grabowski92? torvald?"),
    ]}  # fmt: skip


def mail(path: Path) -> None:
    box = mailbox.mbox(path)
    for sender, body in (
        ("Ottilie Grabowski <o.grabowski@example.org>", "Dear Zbynek,\nring 555 123 4567.\nGrabowski, Ottilie\n"),
        ("=?utf-8?q?Zbyn=C4=9Bk_K=2E?= <zk@example.org>", "On Monday Ottilie <o.grabowski@example.org> wrote: hi.\n"),
    ):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = sender, "Torvald <torvald@example.org>", "Hi"
        message.set_content(body)
        box.add(message)
    box.close()


def test_the_people_of_every_kind_of_chat_and_of_mail_get_other_names_in_what_they_say_too(tmp_path: Path) -> None:
    alex, bo, casey = MADE_UP[:3]
    (tmp_path / "result.json").write_text(json.dumps(telegram()), encoding="utf-8")
    assert stories([tmp_path / "result.json"]) == [
        f"{alex}: Hi {bo} and @{casey.lower()}\n{casey}: {bo}, {alex}?\nSomeone: gone\n"
    ]
    (tmp_path / "discord.json").write_text(json.dumps(discord()), encoding="utf-8")
    assert stories([tmp_path / "discord.json"]) == [f"{alex}: Hi @{bo}\n{casey}: {alex}? {bo.lower()}?\n"]
    mail(tmp_path / "box.mbox")
    assert stories([tmp_path / "box.mbox"]) == [
        f"Dear {casey},\nring {PHONE}.\n{alex}\n",
        f"On Monday {alex} <{EMAIL}> wrote: hi.\n",
    ]
    (tmp_path / "_chat.txt").write_text(whatsapp(1), encoding="utf-8")
    chat = stories([tmp_path / "_chat.txt"])[0]
    assert chat.startswith(f"{alex}: ")
    assert "2020-12-31, 24.12.2020 21:15, 1234 of them" in chat
    assert not [secret for secret in SECRETS if secret in chat.lower()]


def test_somebody_has_one_name_in_all_files_in_what_is_held_out_and_in_another_chat_later(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 1), ("c", 2)):
        (tmp_path / f"{name}.txt").write_text(whatsapp(2, first), encoding="utf-8")
    both = stories([tmp_path / "a.txt", tmp_path / "b.txt"])
    writers = [[line.partition(":")[0] for line in story.splitlines()[:3]] for story in both]
    alex, bo, casey = writers[0]
    assert writers[2] == [bo, casey, alex]
    run = storycell.train(
        tmp_path / "a.txt", valid=tmp_path / "b.txt", anonymise=True, out=tmp_path / "run", quiet=True, steps=2,
        hidden=8, threads=1, streams=2, chunk=16,
    )  # fmt: skip
    record = run.model.config.text
    assert record.anonymise
    later = open_words([str(tmp_path / "c.txt")], record=record)
    assert next(iter(later.blocks())).startswith(f"{casey}: ".encode())  # type: ignore[union-attr]
    (tmp_path / "book.txt").write_text("Torvald slept.\n")  # names nobody, and is scored as it lies
    assert b"".join(open_words([str(tmp_path / "book.txt")], record=record).blocks()) == b"Torvald slept.\n"  # type: ignore[union-attr]


def test_no_name_is_in_any_file_of_a_run_and_of_a_prepared_folder_and_none_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = whatsapp(30)
    (tmp_path / "_chat.txt").write_text(chat, encoding="utf-8")
    names = chat.count("Zbyněk, ") + 4 * chat.count("yes OTTILIE") + 2 * chat.count("Write to")  # an address is not one
    assert names > 1500
    for words in (
        ["prepare", tmp_path / "_chat.txt", "--out", tmp_path / "prepared"],
        ["train", tmp_path / "_chat.txt", "--out", tmp_path / "run", *FLAGS],
    ):
        done = command(capsys, *words, "--anonymise")
        assert done.code == 0
        assert "--anonymise: 4 people get made-up names" in done.err
        assert (
            f"replaced names in what is said {names:,} times, and masked {chat.count('Ring me')} telephone" in done.err
        )
        assert f"numbers and {chat.count('Write to')} e-mail addresses" in done.err
        assert not [secret for secret in SECRETS if secret in (done.out + done.err).lower()]
    files = [path for name in ("prepared", "run") for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert len(files) >= 8
    for path in files:
        held = path.read_bytes().lower()
        assert not [secret for secret in SECRETS if secret.encode() in held and secret != "555"], path
    prepared = open_prepared(tmp_path / "prepared")
    learnt = prepared.vocab.decode(prepared.train_ids.tolist())
    assert len(learnt) > 40_000
    assert not [secret for secret in SECRETS if secret in learnt.lower()]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["text"]["anonymise"] is True
    assert command(capsys, "train", "--resume", tmp_path / "run", "--steps=5").code == 0
    assert command(capsys, "eval", tmp_path / "run", tmp_path / "_chat.txt").code == 0
    refused = command(capsys, "train", "--resume", tmp_path / "run", "--anonymise")
    refused.stated(2, "--anonymise does not go with --resume")


def test_a_path_with_a_name_is_refused_and_standard_input_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "WhatsApp Chat with ottilie.txt"
    path.write_text(whatsapp(30), encoding="utf-8")
    out = tmp_path / "run"
    for verb, flags in (("train", FLAGS), ("prepare", [])):
        refused = command(capsys, verb, path, "--anonymise", "--out", out, *flags)
        assert refused.code == 1
        assert "holds a name that --anonymise replaces; move the file to another name, or give it by" in refused.err
        assert not out.exists()
    with path.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert command(capsys, "train", "-", "--anonymise", "--out", out, *FLAGS).code == 0
    assert b"ottilie" not in (out / "config.json").read_bytes().lower()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("book.txt", "Once upon a time.\n", "book.txt is a plain text, which does not say whom to replace"),
        (
            "a.csv",
            "name,text\nAnn,Hi\n",
            "a.csv is read as CSV: the column 'text' of each record is a story, which does not",
        ),
        ("a.abc", "X:1\nK:C\nabc|\n", "a.abc is read as ABC music"),
        ("stories", "", "stories names nobody"),
    ],
)
def test_what_does_not_say_who_wrote_it_is_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    if text:
        (tmp_path / name).write_text(text)
    with pytest.raises(CorpusError, match="--anonymise is for chats") as refused:
        open_corpus([str(tmp_path / name) if text else name], anonymise=True)
    assert reason in str(refused.value)


def test_what_was_prepared_already_is_not_anonymised_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "_chat.txt").write_text(whatsapp(3), encoding="utf-8")
    assert command(capsys, "prepare", tmp_path / "_chat.txt", "--out", tmp_path / "made").code == 0
    refused = command(capsys, "train", tmp_path / "made", "--anonymise", "--out", tmp_path / "run", *FLAGS)
    assert refused.code != 0
    assert "has been prepared already; --anonymise is for the text that it was made of" in refused.err


def test_the_same_chat_is_another_text_with_and_without_names(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text(whatsapp(), encoding="utf-8")
    named, anonymised = open_corpus([str(path)]), open_corpus([str(path)], anonymise=True)
    assert named.digest() != anonymised.digest()
    assert anonymised.digest() == open_corpus([str(path)], anonymise=True).digest()


_WORD = st.text(alphabet="abcdeéößя", min_size=3, max_size=6).map(str.capitalize)
_FORMS = st.sampled_from([str, str.upper, str.lower, str.casefold, lambda s: unicodedata.normalize("NFD", s)])
_AROUND = st.sampled_from([" ", ", ", "\n", "@", "_", "*", "!", "12", "'s ", "(", "“", "-", " \u2068"])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_word_of_a_name_is_left_however_it_is_written_and_joined(data: st.DataObject) -> None:
    people = data.draw(st.lists(st.lists(_WORD, min_size=1, max_size=3), min_size=1, max_size=4))
    known = Anonymiser()
    known.meet([(" ".join(words),) for words in people])
    every = [word for words in people for word in words]
    said = ""
    for _ in range(data.draw(st.integers(1, 8))):
        said += data.draw(_AROUND) + data.draw(_FORMS)(data.draw(st.sampled_from([*every, "zzz"]))) + data.draw(_AROUND)
    left = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", known.replace(said)).casefold())
    assert not {unicodedata.normalize("NFC", word).casefold() for word in every} & set(left), (people, said)
