"""Make the model in the package from a run, `python tools/pack_demo.py RUN`; with a FOLDER behind it, a test run.

In: a run folder. Out: `src/storycell/demo/` (or the folder) with its settings and vocabulary, its learning curve, and
its weights, all matrices in bytes (a quarter of the size; the loss moves in the fourth decimal), and so that they are
float16 numbers: a page or package made of it holds the same model.
"""

import shutil
import sys
from pathlib import Path

import storycell
from storycell.quantized import Scaled
from storycell.runs.files import to_json
from storycell.runs.folder import RunFolder

DEMO = Path(__file__).parents[1] / "src" / "storycell" / "demo"


def main() -> None:
    """Read the run's best weights, round them, write the folder anew; the README in it stays."""
    run, folder = (Path(word) for word in (*sys.argv[1:], DEMO)[:2])
    model = storycell.load(run)
    _, about = RunFolder(run).load_weights({name: weight.shape for name, weight in model.network.weights().items()})
    folder.mkdir(exist_ok=True)
    for name in ("vocab.json", "metrics.jsonl"):
        shutil.copy(run / name, folder / name)
    config = RunFolder(run).config()
    names = {"words": _names(config.text.words), "valid_words": _names(config.text.valid_words or [])}
    init = config.init and Path(config.init).name
    told = config.model_dump() | {"text": config.text.model_dump() | names, "init": init}
    (folder / "config.json").write_bytes(to_json(told))
    weights = model.network.weights()
    matrices = {name: Scaled.in_float16(weight).matrix() for name, weight in weights.items() if weight.ndim > 1}
    RunFolder(folder).save_weights(weights | matrices, about, matrices)
    print(f"{folder}: {(folder / 'model.safetensors').stat().st_size:,} bytes")


def _names(words: list[str]) -> list[str]:
    """The last two parts of paths: which text it was, not where it lay."""
    return ["/".join(Path(word).parts[-2:]) for word in words]


if __name__ == "__main__":
    main()
