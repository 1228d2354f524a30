"""Vocabularies of pieces: nothing of a text is lost, however it is cut and read, and the library cuts it alike."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tiny_runs import command

from storycell.data import pieces, prepare, splits
from storycell.data.corpus import open_corpus, text_corpus
from storycell.data.survey import survey
from storycell.data.tokens import as_blocks, open_prepared
from storycell.data.vocab import BOUNDARY_BYTE, Vocabulary, parse_kind
from storycell.errors import MissingExtraError, SettingsError, VocabularyError
from storycell.types import BOUNDARY, LABEL_END, RESERVED, UNKNOWN

tokenizers = pytest.importorskip("tokenizers")
STORIES = Path(__file__).parent / "stories-100.txt"
ODD = (
    "Don't we'll\n\n\n  'quoted'   x_y 12 345 – “ça” e\u0301te\u0301 n\u0303!?"
    " ...\n\tif a:\n\t\treturn\u00a0b 漢字かな🎈🎈 ''s 's\n"
)


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    """400 ids, of the stories and an odd text."""
    return survey(text_corpus(STORIES.read_text(encoding="utf-8") + ODD * 3), "pieces:400")[0]


def test_every_text_of_known_characters_comes_back(vocab: Vocabulary) -> None:
    assert len(vocab) == 400
    random.seed(1)
    characters = list(vocab.characters)
    texts = [ODD, STORIES.read_text(encoding="utf-8")[:3000].replace("<|endoftext|>\n", "")]
    texts += ["".join(random.choices(characters, k=200)) for _ in range(50)]
    texts += ["".join(random.choices(" '\nsta.", k=100)) for _ in range(50)]
    for text in texts:
        ids = vocab.encode(text)
        assert UNKNOWN not in ids
        assert vocab.decode(ids.tolist()) == text
        assert vocab.count_chars(ids) == len(text)


def test_a_character_that_is_not_known_is_one_id(vocab: Vocabulary) -> None:
    ids = vocab.encode("the cat Ж the cat").tolist()
    assert ids.count(UNKNOWN) == 1
    assert vocab.decode(ids) == "the cat � the cat"


def test_a_text_is_cut_as_the_library_cuts_it(vocab: Vocabulary) -> None:
    known = {text: k for k, text in enumerate(vocab.texts, RESERVED)}
    library = tokenizers.Tokenizer(tokenizers.models.BPE(known, list(vocab.merges)))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Split("\0", "removed")
    words = pieces.word_pattern(vocab.characters).findall(
        STORIES.read_text(encoding="utf-8").replace("<|endoftext|>", "") + ODD
    )
    words += ["".join(random.Random(k).choices(vocab.characters, k=12)) for k in range(300)]
    for word in set(words):
        assert vocab._encoder._cut(word) == library.encode(word).ids


def test_reading_in_parts_changes_no_piece(vocab: Vocabulary) -> None:
    text = (ODD * 4 + STORIES.read_text(encoding="utf-8")[:4000]).encode()
    text = text[:600] + BOUNDARY_BYTE + text[600:] if text[600] < 0x80 else text
    whole = vocab.encode_block(text).tolist()
    for size in (1, 2, 3, 7, 50, 1000):
        found, held = list[int](), b""
        characters = text.replace(BOUNDARY_BYTE, b"\0").decode()
        for at in range(0, len(characters), size):
            part = characters[at : at + size].encode().replace(b"\0", BOUNDARY_BYTE)
            ids, held = vocab.encode_part(held + part, ends=False)
            found += ids.tolist()
        found += vocab.encode_part(held, ends=True)[0].tolist()
        assert found == whole


def test_what_is_settled_of_a_text_stays_whatever_follows(vocab: Vocabulary) -> None:
    text = ODD + "Once upon a time, they didn't"
    for end in range(len(text)):
        settled, rest = vocab.settled(text[:end])
        assert vocab.decode(settled) + rest == text[:end]
        for more in ("", "s", "'ve", " x", "\n", "...\n", text[end:]):
            assert vocab.encode(text[:end] + more).tolist()[: len(settled)] == settled


def test_vocab_json_holds_all_that_is_needed_and_refuses_what_is_wrong(vocab: Vocabulary) -> None:
    labelled = replace(vocab, characters="".join(sorted({*vocab.characters, LABEL_END})), labels=("genre",))
    for one in (vocab, labelled):
        again = Vocabulary.from_json(one.to_json())
        assert again == one
        assert again.texts == one.texts
        assert again.encode(ODD).tolist() == one.encode(ODD).tolist()
    good = json.loads(vocab.to_json())
    for merges in ("ab", [["a"]], [["a", 1]], [["zz", "a"]], [["a", "b"], ["a", "b"]], [["a", ""]]):
        with pytest.raises(VocabularyError, match="merge"):
            Vocabulary.from_json(json.dumps(good | {"merges": merges}))
    with pytest.raises(VocabularyError, match="format"):
        Vocabulary.from_json(json.dumps(good | {"format": 1}))
    with pytest.raises(VocabularyError, match="merges"):
        Vocabulary.from_json(json.dumps(good | {"format": 1, "kind": "characters"}))


def test_labels_are_cut_apart_from_the_text(vocab: Vocabulary) -> None:
    characters = "".join(sorted({*vocab.characters, LABEL_END}))
    labelled = replace(vocab, characters=characters, labels=("genre", "year"))
    story = labelled.encode(labelled.header(["the tale", "12"]) + "Once upon a time")
    n = labelled.header_size(story)
    assert labelled.decode(story[:n].tolist()) == labelled.header(["the tale", "12"])


def test_new_characters_leave_the_pieces_as_they_are(vocab: Vocabulary) -> None:
    more = vocab.merge(Vocabulary("Жa"))
    assert more.texts == (*sorted([*vocab.characters, "Ж"]), *vocab.texts[len(vocab.characters) :])
    assert more.merges == vocab.merges


@pytest.mark.parametrize(("word", "expected"), [("characters", 0), ("bytes", 0), ("pieces", 2048), ("pieces:999", 999)])
def test_a_kind_is_named_by_a_word(word: str, expected: int) -> None:
    assert parse_kind(word) == (word.partition(":")[0], expected)


@pytest.mark.parametrize(
    "word", ["", "words", "bytes:3", "pieces:", "pieces:x", "pieces:2", "pieces:70000", "pieces:-4"]
)
def test_another_word_is_refused(word: str) -> None:
    with pytest.raises(SettingsError, match="must be characters, bytes, or pieces"):
        parse_kind(word)


def test_a_prepared_text_counts_characters_and_holds_the_text(tmp_path: Path) -> None:
    text = open_corpus([str(STORIES)])
    plain = prepare.prepare(text, tmp_path / "plain")
    made = prepare.prepare(text, tmp_path / "pieces", vocab="pieces:300")
    again = open_prepared(tmp_path / "pieces")
    assert again.vocab.kind == "pieces"
    assert made.valid is not None
    assert plain.valid is not None
    for mine, theirs in ((made.train, plain.train), (made.valid, plain.valid)):
        same = ("chars", "stories", "utf8_bytes", "unknown_chars")
        assert [getattr(mine, name) for name in same] == [getattr(theirs, name) for name in same]
        assert mine.tokens < theirs.tokens / 2
        assert mine.chars_per_id == pytest.approx((mine.chars + mine.stories) / mine.tokens)
    assert b"".join(as_blocks(again.train_ids, again.vocab)) == b"".join(as_blocks(plain.train_ids, plain.vocab))
    assert made.held_out == plain.held_out
    assert np.array_equal(prepare.prepare(text, tmp_path / "more", vocab="pieces:300").train_ids, made.train_ids)
    given = prepare.prepare(text, tmp_path / "given", vocab=made.vocab)
    assert np.array_equal(given.train_ids, made.train_ids)


def test_the_last_tenth_of_a_single_story_is_that_of_its_characters(tmp_path: Path) -> None:
    text = STORIES.read_text(encoding="utf-8").replace("<|endoftext|>\n", "")[:20_000]
    made = prepare.prepare(text_corpus(text), tmp_path / "one", vocab="pieces:200")
    assert made.valid is not None
    assert (made.train.chars, made.valid.chars) == (18_000, 2_000)
    assert made.vocab.decode(made.train_ids[1:].tolist()) + made.vocab.decode(made.valid_ids[1:].tolist()) == text


def test_small_buffers_write_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = open_corpus([str(STORIES)])
    large = prepare.prepare(text, tmp_path / "large", vocab="pieces:300")
    monkeypatch.setattr(splits, "_WAITING_BYTES", 17)
    small = prepare.prepare(text, tmp_path / "small", vocab="pieces:300")
    assert np.array_equal(small.train_ids, large.train_ids)
    assert small.train == large.train


def test_a_large_text_is_sampled_from_all_over_it_wherever_its_blocks_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    from storycell.data import survey as surveys

    monkeypatch.setattr(surveys, "_SAMPLE_BYTES", 100)
    block = bytes(range(97, 123)) * 100
    whole = surveys._sampled(block, 0, 5).replace(BOUNDARY_BYTE, b"")
    assert len(whole) == pytest.approx(len(block) / 5, abs=100)
    for size in (7, 100, 333):
        parts = [surveys._sampled(block[at : at + size], at, 5) for at in range(0, len(block), size)]
        assert b"".join(parts).replace(BOUNDARY_BYTE, b"") == whole


def test_fewer_ids_than_characters_are_refused() -> None:
    with pytest.raises(SettingsError, match="different characters"):
        survey(text_corpus("abcdefghij klm\n"), "pieces:5")


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'storycell\[pieces\]'"):
        pieces.learn_merges(Counter({"ab": 3}), "ab", 5)


def test_the_command_prepares_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = command(capsys, "prepare", STORIES, "--vocab=pieces", "--pieces=256", "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["vocab_size"] == 256
    assert open_prepared(tmp_path / "out").train_ids.dtype == np.uint8
    command(capsys, "prepare", STORIES, "--pieces=256", "--out", tmp_path / "no").stated(
        2, "--pieces", "--vocab pieces"
    )


def test_boundaries_are_ids_of_their_own(vocab: Vocabulary) -> None:
    text = b"\xffOnce\n\xffThe end.\n"
    ids = vocab.encode_block(text)
    assert np.count_nonzero(ids == BOUNDARY) == 2
    assert b"".join(as_blocks(ids, vocab)) == text


def test_a_pieces_loss_is_split_as_the_pieces_that_agree_say(vocab: Vocabulary) -> None:
    rng = np.random.default_rng(1)
    ids = vocab.encode(ODD + "Once upon a time there was a Ж.\n")
    ids = np.append(ids, [BOUNDARY, UNKNOWN]).astype(np.int64)
    logits = rng.normal(size=(len(ids), len(vocab))) * 4
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    texts = [vocab.text_of(k) for k in range(len(vocab))]
    expected = list[float]()
    for row, k in zip(np.exp(scores), ids, strict=True):
        before = 1.0
        for n in range(1, vocab.lengths[k]):
            now = sum(row[j] for j in range(RESERVED, len(vocab)) if texts[j].startswith(texts[k][:n]))
            expected.append(np.log(before / now))
            before = now
        expected.append(np.log(before / row[k]))
    nats = vocab.spell_nats(scores, ids)
    assert len(nats) == vocab.count_chars(ids)
    assert max(vocab.lengths[ids]) > 3
    np.testing.assert_allclose(nats, expected, rtol=1e-9, atol=1e-12)
    ends = np.cumsum(vocab.lengths[ids])
    sums = np.add.reduceat(nats, ends - vocab.lengths[ids])
    np.testing.assert_allclose(sums, -scores[np.arange(len(ids)), ids], rtol=1e-12)


def test_no_character_costs_less_than_nothing_however_sure_the_model_is(vocab: Vocabulary) -> None:
    ids = np.flatnonzero(vocab.lengths > 1)
    sure = np.full((len(ids), len(vocab)), -800.0, np.float32)  # e to that is 0 in float64
    sure[np.arange(len(ids)), ids[::-1]] = 0.0
    nats = vocab.spell_nats(sure, ids)
    assert np.isfinite(nats).all()
    assert (nats >= 0).all()
    assert nats.sum() == pytest.approx(800.0 * np.count_nonzero(ids != ids[::-1]))
    assert (vocab.spell_nats(sure, ids[::-1]) == 0).all()


def test_prefixes_are_those_of_the_texts() -> None:
    texts = ["b", "a", "ab", "abc", "\U0010ffff", "a\U0010ffff", "ad", "abd"]
    found = pieces.find_prefixes(texts)
    place = 0
    for text in texts:
        for n in range(1, len(text) + 1):
            agree = {texts[k] for k in found.order[found.first[place] : found.end[place]]}
            assert agree == {other for other in texts if other.startswith(text[:n])}
            place += 1


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_the_loss_of_a_character_is_its_own(kind: str) -> None:
    plain = survey(text_corpus("to be or not to be\n"), kind)[0]
    scores = np.log(np.random.default_rng(1).dirichlet(np.ones(len(plain)), size=5))
    ids = plain.encode("to be")
    assert plain.spell_nats(scores, ids).tolist() == (-scores[np.arange(5), ids]).tolist()
