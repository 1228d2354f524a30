"""A folder of token files, or an unfinished one, in which a stranger wrote: opened, or refused in a sentence.

An input is the number of the file and its content. The journal of a preparation is among them: whatever it says, the
preparation ends, and as it does without one.
"""

import json
import shutil
from pathlib import Path

from fuzz import folder, refusing
from storycell.data import corpus
from storycell.data.prepare import identify, prepare
from storycell.data.tokens import open_prepared

FOLDER = folder()
TEXT = corpus.text_corpus("<|endoftext|>\n".join(f"{k} “times” {k * k}\n" for k in range(9)))
WORK = identify(TEXT, None, "characters").work
MADE = prepare(TEXT, FOLDER / "made").folder
CHANGED = Path(shutil.copytree(MADE, FOLDER / "changed"))
FILES = ("prepared.json", "vocab.json", "train.tokens", "valid.tokens")
JOURNAL = len(FILES)
SEEDS = [
    *(bytes([k]) + (MADE / name).read_bytes() for k, name in enumerate(FILES)),
    bytes([JOURNAL]) + b"0" * 32 + b"\n" + json.dumps({"translating": {"source": 0}}).encode(),
]


def one_input(data: bytes) -> None:
    """Open the folder, or go on with the preparation."""
    if not data:
        return
    number, content = data[0] % (JOURNAL + 1), data[1:]
    if number == JOURNAL:
        _goes_on(content)
        return
    path = CHANGED / FILES[number]
    path.write_bytes(content)
    try:
        with refusing(str(CHANGED)):
            prepared = open_prepared(CHANGED)
            prepared.check_ids()
            assert isinstance(prepared.vocab.decode(prepared.train_ids), str)
    finally:
        path.write_bytes((MADE / FILES[number]).read_bytes())


def _goes_on(journal: bytes) -> None:
    out = FOLDER / "out"
    partial = FOLDER / f".out.{WORK[:16]}.part"
    partial.mkdir()
    (partial / "journal.json").write_bytes(journal)
    (partial / "train.tokens").write_bytes((MADE / "train.tokens").read_bytes())
    try:
        prepare(TEXT, out)
        assert all((out / name).read_bytes() == (MADE / name).read_bytes() for name in FILES)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
