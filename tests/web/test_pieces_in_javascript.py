"""JavaScript cuts every text into the pieces that Python cuts it into, and splits a piece's loss alike."""

import json
import random
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.piece_models import HOSTILE

import storycell
from storycell.data import pieces
from storycell.data.corpus import text_corpus
from storycell.data.survey import survey
from storycell.data.vocab import Vocabulary
from storycell.generation.generate import find_unsettled, spell_unsettled
from storycell.types import UNKNOWN

SOURCE = Path(storycell.__file__).parent / "web" / "pieces.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here")
pytest.importorskip("tokenizers", reason="the extra storycell[pieces] is not installed")
STORIES = Path(__file__).parents[1] / "data" / "stories-100.txt"


@pytest.fixture(scope="module")
def vocab() -> Vocabulary:
    """500 ids, of the stories and of what is hard to cut."""
    return survey(text_corpus(STORIES.read_text(encoding="utf-8") + HOSTILE * 3), "pieces:500")[0]


@pytest.fixture(scope="module")
def texts(vocab: Vocabulary) -> list[str]:
    rng = random.Random(1)
    plain = STORIES.read_text(encoding="utf-8").replace("<|endoftext|>\n", "")
    found = [HOSTILE, plain[:5000], *(plain[at : at + rng.randrange(60)] for at in range(0, 20_000, 97))]
    found += [HOSTILE[:end] for end in range(0, len(HOSTILE), 7)]
    found += ["".join(rng.choices(vocab.characters, k=60)) for _ in range(200)]
    return found + ["".join(rng.choices(" '\nsta.\u0301_1", k=60)) for _ in range(200)]


def by_node(tmp_path: Path, program: str, asked: Any) -> Any:
    (tmp_path / "pieces.mjs").write_text(SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    head = 'import { Pieces } from "./pieces.mjs";\nimport { readFileSync } from "node:fs";\n'
    head += 'const asked = JSON.parse(readFileSync(0, "utf8"));\n'
    (tmp_path / "program.mjs").write_text(f"{head}console.log(JSON.stringify(({program})(asked)));", encoding="utf-8")
    done = subprocess.run(
        [str(NODE), "program.mjs"], cwd=tmp_path, input=json.dumps(asked).encode(), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def model_of(vocab: Vocabulary, *, classes: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"characters": vocab.characters, "merges": vocab.merges}
    return found | ({"classes": pieces.character_classes(vocab.characters)} if classes else {})


@pytest.mark.parametrize("classes", [True, False], ids=["Python's classes", "JavaScript's own"])
def test_every_text_is_cut_alike(vocab: Vocabulary, texts: list[str], classes: bool, tmp_path: Path) -> None:
    program = """({ model, texts }) => {
      const pieces = new Pieces(model);
      const cut = texts.map((text) => pieces.encode(text)), settled = texts.map((text) => pieces.settle(text));
      return { texts: pieces.texts.slice(2), cut, settled };
    }"""
    found = by_node(tmp_path, program, {"model": model_of(vocab, classes=classes), "texts": texts})
    assert found["texts"] == list(vocab.texts)
    longest = 0
    for text, ids, settled in zip(texts, found["cut"], found["settled"], strict=True):
        assert ids == vocab.ids_of_text(text).tolist(), text
        expected, unsettled = find_unsettled(vocab, ids, text)
        assert settled["settled"] == expected
        if unsettled is None:
            assert settled["open"] is None
            continue
        assert settled["open"]["text"] == unsettled.text
        assert settled["open"]["usual"] == unsettled.ids
        assert settled["open"]["beyond"] == [one.tolist() for one in unsettled.beyond]
        longest = max(longest, len(unsettled.ids))
    assert longest > 10


def test_the_classes_of_characters_make_pythons_pattern() -> None:
    characters = "".join(map(chr, [*range(0x3000), *range(0xA000, 0xA900), *range(0x1D7C0, 0x1D800), 0x1F388]))
    kinds = dict(zip(characters, pieces.character_classes(characters), strict=True))
    find = pieces.word_pattern(characters)
    expected = {"l": "aa", "m": "aa", "d": "11", "_": "__", "o": "!!"}
    for c, kind in kinds.items():
        if kind != "s":
            others = [pair for pair in expected.values() if find.fullmatch(f"{c}{pair[0]}")]
            wanted = {
                "l": ["aa", "aa"],
                "m": ["aa", "aa", "__", "!!"],
                "d": ["11"],
                "_": ["__", "!!"],
                "o": ["__", "!!"],
            }
            assert others == wanted[kind], (hex(ord(c)), kind)
        assert bool(re.match(r"\s", c)) == (kind == "s")


def test_javascripts_own_classes_are_pythons(tmp_path: Path) -> None:
    """Of all characters that both have heard of; each has its version of Unicode."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    every = [c for c in every if unicodedata.category(c) != "Cn"]
    wanted = pieces.character_classes("".join(every))
    program = r"""({ characters }) => {
      const kinds = { a: "l", 1: "d", _: "_" }, all = Array.from(characters);
      const assigned = all.map((c) => !/\p{Cn}/u.test(c));
      return { assigned, classes: all.map(classOf).join("") };
    }"""
    text = SOURCE.read_text(encoding="utf-8").replace("function classOf", "export function classOf")
    (tmp_path / "open.mjs").write_text(text, encoding="utf-8")
    (tmp_path / "ask.mjs").write_text(
        'import { classOf } from "./open.mjs";\nimport { readFileSync } from "node:fs";\n'
        f'console.log(JSON.stringify(({program})(JSON.parse(readFileSync(0, "utf8")))));',
        encoding="utf-8",
    )
    done = subprocess.run(
        [str(NODE), "ask.mjs"],
        cwd=tmp_path,
        input=json.dumps({"characters": "".join(every)}).encode(),
        capture_output=True,
    )
    found = json.loads(done.stdout)
    differ = [
        (hex(ord(c)), mine, theirs)
        for c, mine, theirs, known in zip(every, wanted, found["classes"], found["assigned"], strict=True)
        if known and mine != theirs
    ]
    assert sum(found["assigned"]) > 200_000
    assert differ == []


def test_losses_are_split_alike(vocab: Vocabulary, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ids = vocab.encode(STORIES.read_text(encoding="utf-8")[:300]).astype(np.int64)
    logits = (rng.normal(size=(len(ids), len(vocab))) * 4).astype(np.float32)
    prompt = "Once upon a ti"
    _, unsettled = find_unsettled(vocab, [], prompt)
    assert unsettled is not None
    n = len(unsettled.ids)
    program = """({ model, ids, logits, prompt }) => {
      const pieces = new Pieces(model), logs = logits.map((row) => pieces.logs(row));
      const { open } = pieces.settle(prompt), nats = ids.map((id, k) => pieces.spell(logs[k], id));
      return { nats, open: pieces.spellOpen(open, logs.slice(0, open.usual.length)) };
    }"""
    asked = {"model": model_of(vocab), "ids": ids.tolist(), "logits": logits.tolist(), "prompt": prompt}
    found = by_node(tmp_path, program, asked)
    scores = logits.astype(np.float64)
    scores[:, UNKNOWN] = -np.inf
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    assert [len(nats) for nats in found["nats"]] == vocab.lengths[ids].tolist()
    assert [one for nats in found["nats"] for one in nats] == pytest.approx(
        vocab.spell_nats(scores, ids).tolist(), rel=1e-9
    )
    assert found["open"] == pytest.approx(spell_unsettled(vocab, unsettled, scores[:n]).tolist(), rel=1e-9)
