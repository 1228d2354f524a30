"""`Model`: weights, vocabulary and settings of a finished (or running) training, ready to write and to be measured.

In: a run folder, or `demo`, the model in the package. Out: text, losses.
"""

import codecs
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Literal

import torch

from storycell import evaluator, sampler, tokens
from storycell.checkpoint import RunConfig, RunFolder
from storycell.corpus import Corpus, stories, text_corpus
from storycell.errors import SettingsError
from storycell.evaluator import Evaluation, Nats
from storycell.model import CharLM
from storycell.sampler import Sampling
from storycell.shapes import Ids
from storycell.vocab import Vocabulary

PROMPT = "Once upon a"
CHARS = 1000
Unknown = Literal["error", "replace", "skip"]


def load(run: str | Path = "demo", *, backend: str = "auto", device: str = "cpu") -> "Model":
    """The model in a run folder; `demo` is the one in the package. Nothing is unpickled."""
    folder = RunFolder(_demo_folder() if str(run) == "demo" and not Path("demo/config.json").exists() else run)
    config, vocab = folder.config(), folder.vocab()
    with torch.device("meta"):  # nothing is allocated before the weights are known to fit
        lm = CharLM.from_settings(len(vocab), config.settings.model, backend=backend)
    folder.load_weights(lm)
    return Model(lm.to(device).eval(), vocab, config, folder.path)


def _demo_folder() -> Path:
    return Path(str(resources.files("storycell") / "demo"))


class Model:
    """A trained model: `generate` and `stream` write, `evaluate` and `score` measure. `lm` is the network itself."""

    def __init__(self, lm: CharLM, vocab: Vocabulary, config: RunConfig, path: Path) -> None:
        self.lm, self.vocab, self.config, self.path = lm, vocab, config, path

    def generate(
        self,
        prompt: str = PROMPT,
        chars: int = CHARS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        greedy: bool = False,
        seed: int | None = None,
        stop: str | None = None,
        unknown: Unknown = "error",
    ) -> str:
        """The prompt and what follows it: `chars` characters at most, fewer where the story ends or `stop` appears."""
        sampling = Sampling(temperature, top_k, top_p, min_p, greedy)
        _, read = self.vocab.prompt_ids(prompt, unknown)
        return read + "".join(self.stream(prompt, chars, sampling=sampling, seed=seed, stop=stop, unknown=unknown))

    def stream(
        self,
        prompt: str = PROMPT,
        chars: int = CHARS,
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop: str | None = None,
        unknown: Unknown = "error",
    ) -> Iterator[str]:
        """What follows the prompt, in pieces as they come; a piece that could become `stop` is held back."""
        for _, piece in self.streams(prompt, chars, sampling=sampling, seed=seed, stop=stop, unknown=unknown):
            yield piece

    def streams(
        self,
        prompt: str = PROMPT,
        chars: int = CHARS,
        *,
        count: int = 1,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop: str | None = None,
        unknown: Unknown = "error",
    ) -> Iterator[tuple[int, str]]:
        """Several continuations of one prompt side by side: (number of the stream, piece). Stream k has seed + k."""
        if chars < 0 or count < 1:
            raise SettingsError(f"chars = {chars}, count = {count}: the one must be at least 0, the other at least 1")
        seed = secrets.randbits(32) if seed is None else seed
        ids, _ = self.vocab.prompt_ids(prompt, unknown)
        writers = [_Writer(self.vocab, stop) for _ in range(count)]
        seeds = [seed + k for k in range(count)]
        for row in sampler.streams(self.lm, ids, sampling or Sampling(), seeds, chars):
            for k, (writer, chosen) in enumerate(zip(writers, row, strict=True)):
                if piece := writer.take(chosen):
                    yield k, piece
            if all(writer.done for writer in writers):
                return
        for k, writer in enumerate(writers):
            if piece := writer.rest():
                yield k, piece

    def evaluate(self, text: str | Corpus, *, windows: int | None = None) -> Evaluation:
        """The loss on a text (see `storycell.evaluator`); `windows=T` scores zero-state windows of T characters."""
        corpus = text_corpus(text) if isinstance(text, str) else text
        with tempfile.TemporaryDirectory(prefix="storycell-") as folder:
            half = tokens.write_tokens(corpus, self.vocab, Path(folder) / "text.tokens")
            ids = half.open(Path(folder) / "text.tokens", self.vocab)
            result = evaluator.evaluate(self.lm, ids, self.vocab, windows=windows, utf8_bytes=half.utf8_bytes)
            return self._with_floor(result, ids) if corpus.is_embedded else result

    def evaluate_prepared(self, prepared: tokens.Prepared, *, windows: int | None = None) -> Evaluation:
        """The loss on the validation half of a prepared text, whose vocabulary must be this model's."""
        ids = prepared.valid_ids
        if ids is None or prepared.valid is None:
            raise SettingsError(f"{prepared.name} has no validation text")
        if prepared.vocab != self.vocab:
            raise SettingsError(
                f"{prepared.folder} was prepared with another vocabulary than the model's; give the text itself"
            )
        result = evaluator.evaluate(self.lm, ids, self.vocab, windows=windows, utf8_bytes=prepared.valid.utf8_bytes)
        return self._with_floor(result, ids) if prepared.name == "stories" else result

    def score(self, text: str) -> Nats:
        """Nats of every target of a text, `[chars]`, in its order."""
        return evaluator.score(self.lm, self._ids(text))

    def _ids(self, text: str) -> Ids:
        with tempfile.TemporaryDirectory(prefix="storycell-") as folder:
            path = Path(folder) / "text.tokens"
            return tokens.write_tokens(text_corpus(text), self.vocab, path).open(path, self.vocab)[:].copy()

    def _with_floor(self, result: Evaluation, ids: Ids) -> Evaluation:
        """Add what the grammar itself would have paid, if it can write every story."""
        texts = (self.vocab.decode(story[1:]) for story in tokens.stories_of(ids))
        floor = -sum(stories.log_probability(text) for text in texts) / result.chars
        return replace(result, floor_nats=floor) if floor < float("inf") and result.windows is None else result

    @property
    def params(self) -> int:
        """How many numbers the model has learnt."""
        return sum(parameter.numel() for parameter in self.lm.parameters())

    def __repr__(self) -> str:
        lm = self.lm
        network = f"{lm.cell}, {lm.num_layers} x {lm.hidden_size}, {len(self.vocab)} ids"
        return f"Model({self.path}: {network}, {self.params:,} parameters)"


class _Writer:
    """Ids of one stream -> pieces of text, up to the end of the story or the stop string."""

    def __init__(self, vocab: Vocabulary, stop: str | None) -> None:
        self._vocab, self._stop, self._held = vocab, stop or "", ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.done = False

    def take(self, k: int | None) -> str:
        """The text that can be shown now that id `k` was drawn; None is the end of the story."""
        if self.done:
            return ""
        if k is None:
            return self.rest()
        self._held += self._decoder.decode(self._vocab.bytes_of(k))
        if self._stop and self._stop in self._held:
            shown, self._held, self.done = self._held[: self._held.index(self._stop)], "", True
            return shown
        keep = next((n for n in range(len(self._stop) - 1, 0, -1) if self._held.endswith(self._stop[:n])), 0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def rest(self) -> str:
        """What was held back, once nothing can follow."""
        if self.done:
            return ""
        self.done = True
        return self._held + self._decoder.decode(b"", final=True)
