"""A tiny model of word pieces that has learnt a little, and texts to cut."""

from pathlib import Path
from typing import Any

import storycell

SHORT = (
    "<|endoftext|>\n".join(
        f"Once upon a time {('Anna', 'Benno', 'Cleo')[k % 3]} had {k} balls.\nThen she didn't have them.\n"
        for k in range(60)
    )
    + "<|endoftext|>\n"
)
WITHIN_A_STORY = ["Once upon a ti", "Once upon a time", "O", "", "Once upon a time Anna had 3 ba", "Once upon\n", "a\n"]
PROMPTS = [*WITHIN_A_STORY, "<|endoftext|>\nTh"]
# Where Python's and JavaScript's tables of characters differ, or look alike.
HOSTILE = (
    "Don't we'll\n\n\n  'quoted'   x_y 12 345 – “ça” e\u0301te\u0301 n\u0303!?\u0301 ...\n\tif a:\n\t\treturn\u00a0b "
    "漢字かな🎈🎈 👩\u200d👩\u200d👧 ''s 's's 'sa 's_ 's1 's\u0301 ½ Ⅷ ² ٣٤ १२ 𝟘𝟙 ①② Ⓐ ªº ŉ ǅ ʰ \u0345x _\u0301 "
    "\u200d \ufeff \u200b \u2028\u2029\x85\x1c\x1d\x1e\x0b\x0c \x1f \u1680\u3000\u180e \u0bd7 க் हिन्दी עִבְרִית ไทย ۝ ․ ‿⁀ "
    + "a" * 90 + " " * 90 + "!" * 90 + "\n" * 20 + "9" * 90
)  # fmt: skip


def train_pieces(
    folder: Path, text: str = SHORT, *, steps: int = 60, pieces: int = 150, **more: Any
) -> storycell.Model:
    """One whose texts differ from seed to seed."""
    path = folder / "pieces.txt"
    path.write_text(text, encoding="utf-8")
    settings: dict[str, Any] = {"recipe": "pieces", "hidden": 24, "embedding": 16, "layers": 1, "streams": 4}
    settings |= {
        "chunk": 16,
        "evaluations": 1,
        "threads": 1,
        "lr": 0.02,
        "optimizer": "muon",
        "vocab": f"pieces:{pieces}",
    }
    return storycell.train(path, out=folder / "run-of-pieces", quiet=True, steps=steps, **(settings | more)).model
