"""The Python surface: `train` and `resume` give a `Run`, `load` gives a `Model`."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storycell.config import Settings
from storycell.data.corpus import Corpus
from storycell.data.resumable import Progress
from storycell.data.tokens import Prepared
from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.evaluation import evaluator
from storycell.evaluation.evaluator import Evaluation, Nats
from storycell.evaluation.texts import encode_text, evaluate_split, evaluate_text
from storycell.generation.constraints import Constraint, Rules, header_of
from storycell.generation.generate import CHARS, Unknown, generate_text, stream_texts
from storycell.generation.sampler import Header, Sampling
from storycell.language_model import Held, LanguageModel
from storycell.naming import show_facts, show_name
from storycell.runs.default_prompt import default_prompt
from storycell.runs.folder import RunConfig, RunFolder
from storycell.runs.machine import versions
from storycell.runs.network import load_run, run_name, torch_module
from storycell.runs.text import read_run_text
from storycell.types import BOUNDARY, Ids

if TYPE_CHECKING:  # what is slow to import is imported by what needs it
    from storycell.export.export import Export
    from storycell.export.html import Steering
    from storycell.export.trainer import TrainerPage
    from storycell.generation.items import Items
    from storycell.inspect.authors import Authors
    from storycell.inspect.features import Feature
    from storycell.inspect.film import Film
    from storycell.inspect.gradients import GradientFlow
    from storycell.inspect.patching import Carriers, Patched
    from storycell.inspect.steering import Direction
    from storycell.inspect.step import UnitStep
    from storycell.inspect.trace import Trace
    from storycell.inspect.units import Finding
    from storycell.nn.model import CharLM
    from storycell.training.start import Texts
    from storycell.training.trainer import Report


def load(run: str | Path = "demo", *, backend: str = "auto", device: str = "cpu", precision: str = "fp32") -> "Model":
    """The model in a run folder; `demo` is the one in the package, `hf:USER/NAME` one on the hub. Nothing is unpickled.

    With `precision="bf16"` it generates with products in bf16, about twice as fast where the processor multiplies that;
    with `"int8"` in whole numbers of 8 bits, faster still, from AVX2 on. It is measured and looked into in
    float32 all the same. Raises `RunFolderError` where a file is missing or damaged,
    `BackendError` where backend, device or precision cannot be had.
    """
    found = load_run(run, backend=backend, device=device, precision=precision)
    return Model(found.network, found.vocab, found.config, found.path)


class Model:
    """A trained model: `generate` and `stream` sample, `evaluate` and `score` measure, `trace` and others look inside.

    `network` is what computes: arrays in and out.
    """

    network: LanguageModel
    vocab: Vocabulary
    config: RunConfig
    path: Path

    def __init__(self, network: LanguageModel, vocab: Vocabulary, config: RunConfig, path: Path) -> None:
        self.network, self.vocab, self.config, self.path = network, vocab, config, path

    @property
    def lm(self) -> "CharLM":
        """The network as a torch module: the one that computes, or a copy where torch does not compute.

        `MissingExtraError` where torch is not installed.
        """
        lm: CharLM = torch_module(self.network, self.config.settings.model)
        return lm

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
        labels: Mapping[str, str] | None = None,
        **rules: Any,
    ) -> str:
        """The prompt and what follows it: `chars` characters at most, fewer where the story ends or a stop appears.

        Without a prompt it begins as its own texts begin (`default_prompt`). `stop` is a text, or several: the text
        ends before the first of them that is complete. `unknown` says what becomes of characters that the
        model does not know (see `Vocabulary.prompt_ids`): an `UnknownCharacterError`, the closest known ones, nothing.
        `hold` keeps values of units where you want them, from the first character on: `{("c", 0, 17): 1.0}` the cell
        state of unit 17 of layer 0, likewise "i", "f", "g", "o", "h". It is slow: the cells' own lines compute.
        `rules` are those of `storycell.generation.constraints.Rules`, such as `match="[A-Z][a-z]+"`, `max_chars=20`,
        `no_copy=30`: the text, with its prompt, is as they say, or a `SettingsError` says that none can be.
        `labels` are what a model with labels is asked for, as in `{"genre": "recipe"}`; others it chooses itself.
        """
        found, prompt, chars = self._constrain(_rules(rules), prompt, chars, unknown)
        return generate_text(
            self.network,
            self.vocab,
            prompt,
            chars,
            constraint=found,
            header=self._header(labels),
            sampling=Sampling(temperature, top_k, top_p, min_p, greedy),
            seed=seed,
            stop=stop,
            unknown=unknown,
            hold=hold,
        )

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
        rules: Rules | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[str]:
        """What follows the prompt, in pieces as they come; a piece that could become a stop is held back."""
        pieces = self.streams(
            prompt,
            chars,
            sampling=sampling,
            seed=seed,
            stop=stop,
            unknown=unknown,
            hold=hold,
            rules=rules,
            labels=labels,
        )
        for _, piece in pieces:
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
        rules: Rules | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[tuple[int, str]]:
        """Several continuations of one prompt side by side: (number of the stream, piece). Stream k has seed + k.

        Each text, with its prompt, is as the `rules` say.
        """
        found, prompt, chars = self._constrain(rules or Rules(), prompt, chars, unknown)
        return stream_texts(
            self.network,
            self.vocab,
            prompt,
            chars,
            constraint=found,
            header=self._header(labels),
            count=count,
            sampling=sampling,
            seed=seed,
            stop=stop,
            unknown=unknown,
            hold=hold,
        )

    def _constrain(
        self, rules: Rules, prompt: str | None, chars: int, unknown: Unknown
    ) -> tuple[Constraint | None, str, int]:
        """The constraint that the rules are, the prompt, and how many characters may follow it."""
        if prompt is None:
            prompt = "" if rules.shapes_text else self.default_prompt
        if not rules:
            return None, prompt, chars
        read = len(self.vocab.prompt_ids(prompt, unknown)[0])
        most = rules.max_chars or read + chars
        found = rules.constraint(self.vocab, most, self.training_ids)
        return found, prompt, chars if rules.max_chars is None else max(1, most - read)

    def _header(self, labels: Mapping[str, str] | None) -> Header | None:
        return header_of(self.vocab, self.labels, labels or {})

    @property
    def labels(self) -> dict[str, list[str]]:
        """The labels that texts can be asked for by, each with its values; none listed where there are very many."""
        return self.config.text.labels

    def items(
        self,
        count: int,
        *,
        rules: Rules | None = None,
        labels: Mapping[str, str] | None = None,
        chars: int = CHARS,
        **how: Any,
    ) -> "Items":
        """`count` texts for a list, such as new names; `how` are the arguments of `storycell.generation.items`."""
        from storycell.generation.items import generate_items

        found, prompt, chars = self._constrain(rules or Rules(), how.pop("prompt", None), chars, "error")
        return generate_items(
            self.network,
            self.vocab,
            count,
            prompt=prompt,
            chars=chars,
            constraint=found,
            header=self._header(labels),
            known=read_run_text(self.config, self.vocab) if how.get("new") else None,
            **how,
        )

    def training_ids(self) -> Ids:
        """The text that the model was trained on, in its ids; `CorpusError` where it cannot be read any more."""
        return read_run_text(self.config, self.vocab).train_ids

    def evaluate(self, text: str | Corpus, *, windows: int | None = None) -> Evaluation:
        """The loss on a text (see `storycell.evaluation.evaluator`); `windows=T` scores zero-state windows instead."""
        return evaluate_text(self.network, self.vocab, text, windows=windows)

    def evaluate_prepared(self, prepared: Prepared, *, windows: int | None = None) -> Evaluation:
        """The loss on the validation split of a prepared text, whose vocabulary must be this model's."""
        return evaluate_split(self.network, self.vocab, prepared, windows=windows)

    def score(self, text: str) -> Nats:
        """Nats of every target of a text, `[chars]`, in its order; a piece's in equal parts on its characters."""
        return evaluator.score(self.network, encode_text(text, self.vocab), self.vocab)

    def trace(self, text: str) -> "Trace":
        """Every gate and state along a text of T characters: `trace["c", 0]` is layer 0's cell state, `[T H]`.

        Of a model of pieces, every character of a piece has the values once the piece was read.
        """
        from storycell.inspect.trace import trace

        return trace(self.network, encode_text(text, self.vocab), self.vocab)

    def find_units(self, text: str, feature: "str | Feature", *, top: int = 5) -> "list[Finding]":
        """The units that tell most about a feature of a text, best first; see `storycell.inspect.units`.

        `feature` is a name, such as "inside quotes", or a `Feature` of your own, one value a character. Raises
        `SettingsError` with the names there are, or where the feature occurs too seldom to be told.
        """
        from storycell.inspect.features import features
        from storycell.inspect.trace import trace
        from storycell.inspect.units import find_units

        path = self.trace(text)
        known = features(path.text)
        if isinstance(feature, str) and feature not in known:
            raise SettingsError(f"there is no feature {feature!r}; this text has {', '.join(known)}")
        chosen = known[feature] if isinstance(feature, str) else feature
        untrained = trace(
            self.network.copy_untrained(self.config.settings.training.seed), encode_text(text, self.vocab), self.vocab
        )
        found = find_units(path, untrained, {chosen.name: chosen}, top=top)
        if not found:
            raise SettingsError(f"the feature {chosen.name!r} occurs too seldom, or nearly everywhere, in this text")
        return found[chosen.name]

    def authors(self, text: str, layer: int, which: "int | Any", at: int = -1) -> "Authors":
        """Who wrote the memory of a unit, or of a direction `[H]`, after character `at` of a text.

        `shares`, one for each character (or piece) in `read`, add up to an LSTM's cell state or a GRU's hidden state;
        `SettingsError` for other cells.
        """
        from storycell.inspect.authors import authors

        return authors(self.trace(text), layer, which, at)

    def patch(
        self,
        base: str,
        source: str,
        *,
        layers: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        units: Sequence[tuple[int, int]] | None = None,
        direction: Any | None = None,
        then: str = "",
        chars: int = 0,
        sampling: Sampling | None = None,
        seed: int = 1,
    ) -> "Patched":
        """Read `base`, put part of the state after `source` in its state's place, read `then`, generate `chars`.

        All of the state, or of `layers`, of `names` ("c", "h"), of `units` as (layer, unit), or along a `direction`
        `[H]` of one layer's c or h. What is expected then is in `before`, `after` and `source`: probabilities `[V]`.
        Raises `SettingsError` where there is no such part. See `storycell.inspect.patching`.
        """
        from storycell.inspect.patching import Part, patch

        part = Part(
            None if layers is None else tuple(layers),
            None if names is None else tuple(names),
            None if units is None else tuple(units),
            direction,
        )
        return patch(self.network, self.vocab, base, source, part, then=then, chars=chars, sampling=sampling, seed=seed)

    def carriers(self, fact: str = "a quotation is open", *, count: int = 64) -> "Carriers":
        """Which layers and units carry a fact of the embedded stories, from `count` pairs of prompts that differ in it.

        Facts are "a quotation is open", "she or he", "what was lost". See `storycell.inspect.patching.carriers_of` for
        pairs of your own.
        """
        from storycell.inspect.patching import carriers

        return carriers(self.network, self.vocab, fact, count=count)

    def direction(self, text: str, about: "str | tuple[Any, Any]", layer: int = -1) -> "Direction":
        """The difference of the mean h of a layer between two kinds of characters of a text; `layer` -1 is the last.

        `about` is "she, not he", "inside quotes, not outside", "glad, not sad", or two masks, a yes or no for each
        character of `trace(text)`. `SettingsError` where either is too seldom. `save` writes it to a file.
        """
        from storycell.inspect.steering import direction

        return direction(self.trace(text), about, layer)

    def steer(self, direction: "Direction | str | Path", dose: float = 1.0) -> "Model":
        """This model with `dose` times a direction on top of what its layer shows, at every step.

        A direction is one from `direction`, or a file that one was saved in. `SettingsError` where it does not fit.
        """
        from storycell.inspect.steering import Direction, steer

        along = direction if isinstance(direction, Direction) else Direction.load(direction)
        return Model(steer(self.network, along, dose), self.vocab, self.config, self.path)

    def step(self, text: str, layer: int, unit: int) -> "UnitStep":
        """The step of a unit in which the last character of a text is read: what comes in, sums, gates, states.

        Of a model of pieces it is the step that reads the last piece. Raises `SettingsError` where there is no such
        unit, or for cells other than lstm, gru and rnn.
        """
        from storycell.inspect.step import unit_step

        return unit_step(self.network, [BOUNDARY, *self.vocab.prompt_ids(text)[0]], layer, unit)

    def film(self, text: str) -> "Film":
        """What was learnt when, from the checkpoints of a run trained with `checkpoints="log"`: `births` by feature.

        Raises `RunFolderError` where the run kept none, `SettingsError` where the text is too short. See
        `storycell.inspect.film`.
        """
        from storycell.inspect.film import film, reel_of

        reel = reel_of(RunFolder(self.path), self.network)
        return film(reel, self.vocab, encode_text(text, self.vocab), self.config.settings.training.seed)

    def gradient_flow(self, text: str, lags: int = 128) -> "GradientFlow":
        """How far back the loss of a character reaches: gradient norms `[samples lags+1]` by (state, layer).

        Of a model of pieces lags count pieces, and it is the loss of a piece.
        """
        from storycell.inspect.gradients import gradient_flow

        return gradient_flow(self.trace(text), lags)

    def export(
        self, path: str | Path, weights: str | None = None, *, steer: "Direction | str | Path | None" = None
    ) -> "Export":
        """Write the model as one file that plays elsewhere: `.html`, `.onnx`, `.c` or `.h`, by the ending of `path`.

        `weights` is fp32 (the default of .onnx and .c), fp16 (of .html) or int8 (of .h). With `steer`, a direction or a
        file of one, a page has a slider for its dose. Raises `ExportError`; see
        `storycell.export.export`.
        """
        from storycell.export.export import export
        from storycell.export.html import Features

        return export(
            self.network,
            self.vocab,
            path,
            weights,
            name=self.name,
            prompt=self.default_prompt,
            maker=f"storycell {versions()['storycell']}",
            features=Features(
                labels=self.labels,
                steer=None if steer is None else _steering(steer),
                has_tunes=self.config.text.has_tunes,
            ),
        )

    def export_npm(self, folder: str | Path, weights: str | None = None) -> "Export":
        """Write the model as an ES module with types into a new folder, for Node, browsers and bundlers.

        `weights` is fp16 (the default) or fp32. Raises `ExportError`; see `storycell.export.npm`.
        """
        from storycell.export.npm import export_npm

        return export_npm(
            self.network,
            self.vocab,
            folder,
            weights,
            name=self.name,
            prompt=self.default_prompt,
            labels=self.labels,
        )

    def export_trainer(self, path: str | Path) -> "TrainerPage":
        """Write a page (`.html`) that trains models in the browser, from nothing or from this one.

        Raises `ExportError`; see `storycell.export.trainer`.
        """
        from storycell.export.trainer import export_trainer

        return export_trainer(self.network, self.vocab, path, name=self.name)

    def push(self, name: str, *, license: str | None = None, private: bool = False) -> str:
        """Put the model on the Hugging Face hub as USER/NAME; returns its address. See `storycell.runs.hub.push`."""
        from storycell.runs.hub import push

        return push(RunFolder(self.path), self.params, name, license=license, private=private)

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
        """The number of parameters."""
        return sum(weight.size for weight in self.network.weights().values())

    def _repr_html_(self) -> str:
        """For a notebook: what it is, and how its texts begin."""
        network, training = self.network, self.config.settings.training
        return show_facts(
            f"Model {self.name}",
            {
                "network": f"{network.cell}, {network.num_layers} x {network.hidden_size}",
                "parameters": self.params,
                "vocabulary": f"{len(self.vocab)} ids ({self.vocab.kind})",
                "trained on": " ".join(self.config.text.words),
                "recipe": self.config.settings.recipe,
                "budget": "{1:g} {0}".format(*training.budget),
                "a text begins": self.default_prompt,
            },
        )

    def __repr__(self) -> str:
        lm = self.network
        network = f"{lm.cell}, {lm.num_layers} x {lm.hidden_size}, {len(self.vocab)} ids"
        return f"Model({self.path}: {network}, {self.params:,} parameters)"


def _steering(steer: "Direction | str | Path") -> "Steering":
    """A direction as an exported page has it, with a random one of the same length."""
    from storycell.export.html import Steering
    from storycell.inspect.steering import Direction

    along = steer if isinstance(steer, Direction) else Direction.load(steer)
    vectors = [[float(f"{x:.6g}") for x in one.vector] for one in (along, along.random(0))]
    return Steering(show_name(along.about), along.layer, vectors)


def _rules(given: dict[str, Any]) -> Rules:
    names = [one.name for one in fields(Rules)]
    if wrong := [name for name in given if name not in names]:
        raise SettingsError(f"generate has no argument {wrong[0]!r}; the rules of a text are {', '.join(names)}")
    return Rules(**given)


@dataclass(frozen=True, repr=False)
class Run:
    """One training. `summary` is what it ended with (the keys that `storycell train --json` prints)."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    interrupted: str = ""  # the signal that stopped it, if one did

    @cached_property
    def config(self) -> RunConfig:
        """Everything in `config.json`."""
        return RunFolder(self.path).config()

    @property
    def settings(self) -> Settings:
        """Every setting, resolved."""
        return self.config.settings

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The learning curve: the lines of `metrics.jsonl`."""
        return RunFolder(self.path).metrics()

    @cached_property
    def model(self) -> Model:
        """The best weights, ready to generate and to be measured."""
        return load(self.path)

    def __repr__(self) -> str:
        stopped = f", stopped by {self.interrupted}" if self.interrupted else ""
        if not self.summary:
            return f"Run({self.path}{stopped})"
        said = f"{self.summary['step']:,} steps in {self.summary['elapsed_s']:g} s"
        nats = self.summary.get("valid_nats")
        return f"Run({self.path}: {said}{'' if nats is None else f', {nats:.4f} nats per character held out'}{stopped})"

    def _repr_html_(self) -> str:
        """For a notebook: what it ended with, and its curve."""
        from storycell.training.curve import loss_curve

        words = {name: self.summary[key] for name, key in _SHOWN.items() if self.summary.get(key) is not None}
        curve = base64.b64encode(loss_curve(self.metrics, self.path.name, self.summary.get("floor_nats"))).decode()
        image = f"<img width='576' alt='the loss curve' src='data:image/png;base64,{curve}'>"
        return show_facts(str(self), words) + image


_SHOWN = {  # in a notebook: name -> key of a run's summary
    "steps": "step",
    "characters": "chars",
    "parameters": "params",
    "seconds": "elapsed_s",
    "nats per character, held out": "valid_nats",
    "bits per character": "bits_per_char",
    "perplexity": "perplexity",
    "floor, nats": "floor_nats",
}


@contextmanager
def _watched(
    callback: "Callable[[Report], None] | None", progress: Progress | None, quiet: bool
) -> "Iterator[tuple[Callable[[Report], None] | None, Progress | None]]":
    """What is called meanwhile: the caller's own, or a display where there is a terminal or a notebook."""
    if quiet or callback is not None or progress is not None:
        yield callback, progress
        return
    from storycell.training.display import TrainingDisplay, preparing

    with preparing() as bar, TrainingDisplay(lines=False) as display:
        yield display.show, bar


def train(
    text: "Texts | None" = None,
    *,
    valid: "Texts | None" = None,
    out: str | Path | None = None,
    recipe: str | None = None,
    init: str | Path | None = None,
    vocab: str | None = None,
    encoding: str = "utf-8",
    column: str | None = None,
    lines: bool = False,
    labels: Sequence[str] = (),
    anonymise: bool = False,
    callback: "Callable[[Report], None] | None" = None,
    progress: Progress | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train a model on a text and give its run.

    `text` and `valid` are what the command line takes: files, folders, globs, names of corpora; without `text` it is
    the embedded `stories`, whatever lies in the working directory. `column` is the column of tables, or field of JSON
    objects, with the text, where that is not clear. With `lines` each line of a file is a story, as in a list of names;
    `labels` are columns, or fields, by which texts can be asked for. `vocab` is what an id stands for: `characters`
    (the default), `bytes`, or pieces of words, `pieces:2048` so many. With `anonymise` the names of
    people in chats and mail are replaced. `out` is the run folder to make (a name is made in
    `runs/` without it). `init` is a run whose weights to start from; characters that are new are added to its
    vocabulary. Meanwhile a bar shows how far it is, on a terminal and in a notebook, unless `quiet` or where you look
    on by a `callback` of reports or a `progress` of the reading. `settings` are those of `storycell.config`, by name,
    on top of the recipe, which is `items` for `lines` and else `quick` where none is named.
    Raises `StorycellError`s: each says what is wrong, where, and what to do.
    The number of threads is the caller's again at the end; by default it is torch's own, within a container's quota.
    In several processes, as `torchrun` starts them, all but the first call no callback and get a run without a summary.
    """
    from storycell.training import start

    with _watched(callback, progress, quiet) as (callback, progress):
        result = start.train(
            text,
            valid=valid,
            out=out,
            recipe=recipe,
            init=init,
            vocab=vocab,
            encoding=encoding,
            column=column,
            lines=lines,
            labels=labels,
            anonymise=anonymise,
            callback=callback,
            progress=progress,
            **settings,
        )
    return Run(result.path, result.summary, result.interrupted)


def resume(
    run: str | Path,
    *,
    text: "Texts | None" = None,
    valid: "Texts | None" = None,
    callback: "Callable[[Report], None] | None" = None,
    progress: Progress | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Go on with a run from its last save, to the bit. `settings` may change the budget and how it is spent.

    It is shown as by `train`.

    Raises `ResumeError` where the text is another one, or a setting is changed that cannot be honoured.
    """
    from storycell.training import start

    with _watched(callback, progress, quiet) as (callback, progress):
        result = start.resume(run, text=text, valid=valid, callback=callback, progress=progress, **settings)
    return Run(result.path, result.summary, result.interrupted)
