"""`Model`: weights, vocabulary and settings of a finished (or running) training, ready to write and to be measured.

In: a run folder, or `demo`, the model in the package. Out: text, losses.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal

from storycell import evaluator, inspector, sampler, tokens
from storycell.api.beginning import default_prompt
from storycell.api.machine import best_device, versions
from storycell.checkpoint import RunConfig, RunFolder
from storycell.corpus import Corpus, stories, text_corpus
from storycell.errors import CorpusError, RunFolderError, SettingsError, VocabularyError
from storycell.evaluator import Evaluation, Nats
from storycell.export import Export, export
from storycell.inspector import Feature, Finding, GradientFlow, Held, Trace
from storycell.model import CharLM
from storycell.sampler import Sampling
from storycell.shapes import Ids
from storycell.text_stream import Pieces
from storycell.vocab import Vocabulary

CHARS = 1000
MOST_STREAMS = 65_536
LARGEST_SEED = 2**64 - 1
Unknown = Literal["error", "replace", "skip"]


def load(run: str | Path = "demo", *, backend: str = "auto", device: str = "cpu", precision: str = "fp32") -> "Model":
    """The model in a run folder; `demo` is the one in the package. Nothing is unpickled.

    With `precision="bf16"` it writes with products in bf16, about twice as fast where the processor multiplies that; it
    is measured and looked into in float32 all the same. Raises `RunFolderError` where a file is missing or damaged,
    `BackendError` where backend, device or precision cannot be had.
    """
    place = best_device(device)
    folder = RunFolder(_demo_folder() if str(run) == "demo" and not Path("demo/config.json").exists() else run)
    config, vocab = folder.config(), folder.vocab()
    # On meta nothing is allocated before the weights are known to fit.
    lm = CharLM.from_settings(len(vocab), config.settings.model, backend=backend, device="meta")
    folder.load_weights(lm)
    return Model(lm.to(place).eval().write_in(precision), vocab, config, folder.path)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for token files, gone at the end; `RunFolderError` where it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix="storycell-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise RunFolderError(
            f"the folder for temporary files cannot be written: {error.strerror or error}; free space there, or name "
            "another one in the environment variable TMPDIR"
        ) from None


def _demo_folder() -> Path:
    return Path(str(resources.files("storycell") / "demo"))


def run_name(run: str | Path) -> str:
    """The name of a run's folder, however its path is written: `.`, `..` and `runs/mine/` have one too."""
    return Path(os.path.abspath(run)).name or "run"  # noqa: PTH100 (`resolve` would follow a link to another name)


class Model:
    """A trained model: `generate` and `stream` write, `evaluate` and `score` measure, `trace` and others look inside.

    `lm` is the network itself.
    """

    def __init__(self, lm: CharLM, vocab: Vocabulary, config: RunConfig, path: Path) -> None:
        self.lm, self.vocab, self.config, self.path = lm, vocab, config, path

    def generate(
        self,
        prompt: str | None = None,
        chars: int = CHARS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        greedy: bool = False,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        unknown: Unknown = "error",
        hold: Held | None = None,
    ) -> str:
        """The prompt and what follows it: `chars` characters at most, fewer where the story ends or a stop appears.

        Without a prompt it begins as its own texts begin (`default_prompt`). `stop` is a text, or several: what is
        written ends before the first of them that is complete. `unknown` says what becomes of characters that the
        model does not know (see `Vocabulary.prompt_ids`): an `UnknownCharacterError`, the closest known ones, nothing.
        `hold` keeps values of units where you want them, from the first character on: `{("c", 0, 17): 1.0}` the cell
        state of unit 17 of layer 0, likewise "i", "f", "g", "o", "h". It is slow: the cells' own lines compute.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, greedy)
        _, read = self.vocab.prompt_ids(self.default_prompt if prompt is None else prompt, unknown)
        pieces = self.stream(prompt, chars, sampling=sampling, seed=seed, stop=stop, unknown=unknown, hold=hold)
        return read + "".join(pieces)

    def stream(
        self,
        prompt: str | None = None,
        chars: int = CHARS,
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        unknown: Unknown = "error",
        hold: Held | None = None,
    ) -> Iterator[str]:
        """What follows the prompt, in pieces as they come; a piece that could become a stop is held back."""
        rest = {"sampling": sampling, "seed": seed, "stop": stop, "unknown": unknown, "hold": hold}
        for _, piece in self.streams(prompt, chars, **rest):  # type: ignore[arg-type]
            yield piece

    def streams(
        self,
        prompt: str | None = None,
        chars: int = CHARS,
        *,
        count: int = 1,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        unknown: Unknown = "error",
        hold: Held | None = None,
    ) -> Iterator[tuple[int, str]]:
        """Several continuations of one prompt side by side: (number of the stream, piece). Stream k has seed + k."""
        _check_whole("chars", chars, 0, None)
        _check_whole("count", count, 1, MOST_STREAMS)
        if seed is None:
            seed = secrets.randbits(32)
        _check_whole("seed", seed, 0, LARGEST_SEED)
        stops = _stops(stop)
        ids, _ = self.vocab.prompt_ids(self.default_prompt if prompt is None else prompt, unknown)
        seeds = [seed + k for k in range(count)]
        sampling = sampling or Sampling()
        if hold:
            return self._pieces(inspector.held_streams(self.lm, ids, sampling, seeds, chars, hold), count, stops)
        return self._pieces(sampler.streams(self.lm, ids, sampling, seeds, chars), count, stops)

    def _pieces(self, rows: Iterator[list[int | None]], count: int, stops: list[str]) -> Iterator[tuple[int, str]]:
        going = {k: Pieces(self.vocab, stops) for k in range(count)}
        for row in rows:
            for k, pieces in list(going.items()):
                chosen = row[k]
                if piece := (pieces.rest() if chosen is None else pieces.take([chosen])).text:
                    yield k, piece
                if chosen is None or pieces.stopped:
                    del going[k]
            if not going:
                return
        for k, pieces in going.items():
            if piece := pieces.rest().text:
                yield k, piece

    def evaluate(self, text: str | Corpus, *, windows: int | None = None) -> Evaluation:
        """The loss on a text (see `storycell.evaluator`); `windows=T` scores zero-state windows of T characters."""
        corpus = text_corpus(text) if isinstance(text, str) else text
        with _temporary_folder() as folder:
            half = tokens.write_tokens(corpus, self.vocab, folder / "text.tokens")
            ids = half.open(folder / "text.tokens", self.vocab)
            try:
                result = evaluator.evaluate(self.lm, ids, self.vocab, windows=windows, utf8_bytes=half.utf8_bytes)
                return self._with_floor(result, ids) if corpus.is_embedded else result
            finally:
                del ids  # and with it the mapping: Windows removes no file that is mapped

    def evaluate_prepared(self, prepared: tokens.Prepared, *, windows: int | None = None) -> Evaluation:
        """The loss on the validation half of a prepared text, whose vocabulary must be this model's."""
        ids = prepared.valid_ids
        if ids is None or prepared.valid is None:
            raise CorpusError(f"{prepared.name} holds nothing out to score; name a text to score")
        if prepared.vocab != self.vocab:
            raise VocabularyError(
                f"{prepared.folder} was prepared with another vocabulary than the model's; give the text itself"
            )
        with prepared.ids_blamed():
            result = evaluator.evaluate(self.lm, ids, self.vocab, windows=windows, utf8_bytes=prepared.valid.utf8_bytes)
        return self._with_floor(result, ids) if prepared.name == "stories" else result

    def score(self, text: str) -> Nats:
        """Nats of every target of a text, `[chars]`, in its order."""
        return evaluator.score(self.lm, self._ids(text))

    def trace(self, text: str) -> Trace:
        """Every gate and state along a text of T characters: `trace["c", 0]` is layer 0's cell state, `[T H]`."""
        return inspector.trace(self.lm, self._ids(text), self.vocab)

    def find_units(self, text: str, feature: str | Feature, *, top: int = 5) -> list[Finding]:
        """The units that tell most about a feature of a text, best first; see `storycell.inspector.units`.

        `feature` is a name, such as "inside quotes", or a `Feature` of your own, one value a character. Raises
        `SettingsError` with the names there are, or where the feature occurs too seldom to be told.
        """
        path = self.trace(text)
        known = inspector.features(path.text)
        if isinstance(feature, str) and feature not in known:
            raise SettingsError(f"there is no feature {feature!r}; this text has {', '.join(known)}")
        chosen = known[feature] if isinstance(feature, str) else feature
        twin = inspector.trace(
            inspector.untrained(self.lm, self.config.settings.training.seed), self._ids(text), self.vocab
        )
        found = inspector.find_units(path, twin, {chosen.name: chosen}, top=top)
        if not found:
            raise SettingsError(f"the feature {chosen.name!r} occurs too seldom, or nearly everywhere, in this text")
        return found[chosen.name]

    def gradient_flow(self, text: str, lags: int = 128) -> GradientFlow:
        """How far back the loss of a character reaches: gradient norms `[samples lags+1]` by (state, layer)."""
        return inspector.gradient_flow(self.trace(text), lags)

    def _ids(self, text: str) -> Ids:
        with _temporary_folder() as folder:
            path = folder / "text.tokens"
            return tokens.write_tokens(text_corpus(text), self.vocab, path).open(path, self.vocab)[:].copy()

    def _with_floor(self, result: Evaluation, ids: Ids) -> Evaluation:
        """Add what the grammar itself would have paid, if it can write every story."""
        texts = (self.vocab.decode(story[1:]) for story in tokens.stories_of(ids))
        floor = -sum(stories.log_probability(text) for text in texts) / result.chars
        return replace(result, floor_nats=floor) if floor < float("inf") and result.windows is None else result

    def export(self, path: str | Path, weights: str | None = None) -> Export:
        """Write the model as one file that plays elsewhere: `.html`, `.onnx` or `.c`, by the ending of `path`.

        `weights` is fp32 (the default of .onnx and .c), fp16 (of .html) or int8. Raises `ExportError`; see
        `storycell.export`.
        """
        return export(
            self.lm,
            self.vocab,
            path,
            weights,
            name=self.name,
            prompt=self.default_prompt,
            maker=f"storycell {versions()['storycell']}",
        )

    @property
    def default_prompt(self) -> str:
        """What the model's own texts begin with: the prompt where none is given; it may be empty."""
        return default_prompt(self.vocab, self.config.text)

    @property
    def name(self) -> str:
        """What the model is called: the name of its run folder."""
        return run_name(self.path)

    @property
    def params(self) -> int:
        """How many numbers the model has learnt."""
        return sum(parameter.numel() for parameter in self.lm.parameters())

    def __repr__(self) -> str:
        lm = self.lm
        network = f"{lm.cell}, {lm.num_layers} x {lm.hidden_size}, {len(self.vocab)} ids"
        return f"Model({self.path}: {network}, {self.params:,} parameters)"


def _check_whole(name: str, value: int, least: int, most: int | None) -> None:
    if value < least or (most is not None and value > most):
        bound = f"at least {least}" if most is None else f"from {least} to {most:,}"
        raise SettingsError(f"{name} = {value}: it must be {bound}")


def _stops(stop: str | Sequence[str] | None) -> list[str]:
    """The stop texts; an empty one stops nothing."""
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    if wrong := [text for text in stops if not isinstance(text, str)]:
        raise SettingsError(f"stop = {wrong[0]!r}: it must be a text, or a list of texts")
    return [text for text in stops if text]
