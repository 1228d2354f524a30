"""Settings and recipes: every number that a training run depends on, frozen and validated.

`Settings` come from the defaults, a recipe (a TOML file in the package), and flags or keyword arguments, each
overriding the one before. A wrong value raises `SettingsError`, which names the setting. A run has exactly one budget
(steps, characters or minutes); setting one on top of a recipe clears the recipe's.
"""

import re
import reprlib
import tomllib
from importlib import resources
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from storycell.errors import SettingsError

BUDGETS = ("steps", "chars", "minutes")

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class StrictModel(BaseModel):
    """Base of all settings: frozen, nothing unknown, no silent conversion, no nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class ModelSettings(StrictModel):
    """What the network is: enough, with the vocabulary, to build it again."""

    cell: str = Field("lstm", description="lstm, gru, rnn, mlstm, mingru, minlstm, or one you registered")
    layers: PositiveInt = Field(1, le=64, description="cells stacked on top of each other")
    hidden: PositiveInt = Field(256, le=65_536, description="hidden width H of a layer")
    embedding: int = Field(
        64, ge=0, le=65_536, description="width of the character embedding; 0 feeds one-hot characters"
    )
    dropout: Probability = Field(0.0, description="dropout between layers and before the output, while training")
    weight_dropout: Probability = Field(
        0.0, description="share of the hidden-to-hidden weights dropped for a whole chunk, while training"
    )
    embedding_dropout: Probability = Field(
        0.0, description="share of the characters whose embedding is dropped for a whole chunk, while training"
    )
    ngrams: int = Field(
        0, ge=0, le=16, description="longest n-gram that adds a learnt row to the embedding, 2 to 16; 0: none"
    )
    ngram_rows: PositiveInt = Field(65_536, le=2**26, description="rows of the table that all n-grams share")
    matches: int = Field(
        0,
        ge=0,
        le=64,
        description="longest match, with what stood in the story before, that adds a learnt row to the embedding, "
        "2 to 64; 0: none",
    )
    gate_bias: bool = Field(True, description="biases inside the gates")
    forget_bias: float = Field(-1.0, ge=-100, le=100, description="where the LSTM's forget-gate biases start")
    gate_norm: bool = Field(
        False, description="what goes into each gate of an LSTM is divided by its root mean square before its last bias"
    )

    @model_validator(mode="after")
    def _gates_can_be_normalised(self) -> "ModelSettings":
        if self.gate_norm and (self.cell != "lstm" or not self.gate_bias):
            wanted = f"cell is {self.cell!r}" if self.cell != "lstm" else "gate_bias is off"
            raise ValueError(
                f"gate_norm = True: only an LSTM with gate biases has normalised gates, and {wanted}; "
                "leave gate_norm out, or set cell to lstm and gate_bias on"
            )
        return self

    @model_validator(mode="after")
    def _context_fits(self) -> "ModelSettings":
        for name, longest in (("ngrams", self.ngrams), ("matches", self.matches)):
            if longest == 1:
                raise ValueError(f"{name} = 1: it must be 0 or at least 2")
            if longest and not self.embedding:
                raise ValueError(
                    f"{name} = {longest}: they are added to the embedding, and embedding is 0; set {name} to 0 too"
                )
        return self


class TrainSettings(StrictModel):
    """How the network is trained: batches, optimiser, schedule, budget, machine."""

    streams: PositiveInt = Field(64, le=65_536, description="streams B read side by side")
    chunk: PositiveInt = Field(128, le=1_048_576, description="characters T between truncations of the gradient")
    batching: Literal["streams", "windows", "items"] = Field(
        "streams",
        description="streams: carried state; windows: random places, zero state; items: random stories, zero state",
    )
    reset: Probability = Field(0.0, description="probability that a stream starts a chunk from the zero state")
    optimizer: Literal["normuon", "muon", "adamw", "adam", "sgd"] = Field(
        "adamw", description="normuon or muon (for the recurrent matrices; adamw for the rest), adamw, adam or sgd"
    )
    lr: PositiveFloat = Field(6e-3, le=1e3, description="highest learning rate")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="what the learning rate does after the warm-up"
    )
    warmup: Probability = Field(0.02, description="share of the budget over which the learning rate rises from zero")
    final_lr: float = Field(0.02, ge=0, le=1, description="share of the learning rate left at the end of the cosine")
    weight_decay: float = Field(0.01, ge=0, le=100, description="decay of weight matrices, of Muon and AdamW")
    clip: PositiveFloat | None = Field(1.0, description="largest global norm of the gradient; none switches it off")
    average: Probability = Field(
        0.0, description="decay of a running mean of the weights, which is then what is evaluated and kept; 0: none"
    )
    soft_targets: Probability = Field(
        0.0, description="share of the loss that an n-gram of the training text teaches at first; it falls to 0"
    )
    soft_chars: PositiveInt = Field(
        4_000_000, le=10**15, description="characters over which that share falls, where the budget is not smaller"
    )
    steps: PositiveInt | None = Field(None, le=10**15, description="budget in steps")
    chars: PositiveInt | None = Field(None, le=10**15, description="budget in characters")
    minutes: PositiveFloat | None = Field(None, le=525_600, description="budget in minutes, evaluations included")
    evaluations: PositiveInt = Field(12, le=100_000, description="how often to look at the validation text on the way")
    save_every: PositiveFloat = Field(30.0, description="seconds between two saves of last.safetensors")
    checkpoints: Literal["none", "log"] = Field(
        "none", description="log: keep small copies of the weights at log-spaced steps, for inspect --film"
    )
    seed: int = Field(1, ge=0, lt=2**32, description="seed of initialisation, dropout and batches")
    backend: Literal["auto", "native", "reference", "torch"] = Field(
        "auto", description="backend for the recurrent layers"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="precision of matmul inputs")
    threads: PositiveInt | None = Field(
        None,
        le=1024,
        description="processor threads of a machine, shared by its processes; unset takes as many as torch",
    )
    device: str = Field("auto", description="auto (cuda or cpu), cpu, cuda, cuda:1 or mps")

    @field_validator("device")
    @classmethod
    def _known_device(cls, name: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name):
            raise ValueError(f"device = {name!r}: it must be auto, cpu, cuda, cuda:1 (or another number) or mps")
        return name

    @model_validator(mode="after")
    def _one_budget(self) -> "TrainSettings":
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: give one budget, in steps, characters or minutes")
        return self

    @property
    def budget(self) -> tuple[str, float]:
        """The unit of the budget and its amount, such as `("minutes", 3.0)`; a minute where none was given."""
        for name in BUDGETS:
            amount = getattr(self, name)
            if amount is not None:
                return name, amount
        return "minutes", 1.0


NORMALISED_RATE = 2.5  # normalised gates stand, and want, so many times the learning rate of others (LOG.md)


class Settings(StrictModel):
    """Everything a run was made with, apart from its text."""

    recipe: str = "quick"
    model: ModelSettings = ModelSettings()
    training: TrainSettings = TrainSettings()

    def with_changes(self, **overrides: Any) -> "Settings":
        """These settings with some replaced, by their flat names: `with_changes(hidden=512, minutes=3)`."""
        if any(overrides.get(name) is not None for name in BUDGETS):
            overrides = {**dict.fromkeys(BUDGETS), **overrides}
        if overrides.get("embedding") == 0:  # rows of a context are added to an embedding
            overrides = {"ngrams": 0, "matches": 0, **overrides}
        if overrides.get("cell", "lstm") != "lstm" or overrides.get("gate_bias") is False:
            overrides = {"gate_norm": False, **overrides}
        groups = {"model": self.model.model_dump(), "training": self.training.model_dump()}
        for name, value in overrides.items():
            group = next((g for g, fields in groups.items() if name in fields), None)
            if group is None:
                raise SettingsError(f"there is no setting named {name!r}; the settings are {', '.join(names())}")
            groups[group][name] = value
        return validate(Settings, {"recipe": self.recipe, **groups})


def names() -> list[str]:
    """The flat names of all settings, in the order of their definition."""
    return [*ModelSettings.model_fields, *TrainSettings.model_fields]


def recipes() -> list[str]:
    """The names of the recipes in the package."""
    folder = resources.files("storycell") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def recipe(name: str) -> Settings:
    """The settings of a recipe; `SettingsError` lists the names if there is none of that name."""
    if name not in recipes():
        raise SettingsError(f"there is no recipe {name!r}; the recipes are {', '.join(recipes())}")
    text = (resources.files("storycell") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    tables.pop("about")
    return validate(Settings, {"recipe": name, **tables})


def resolve(name: str = "quick", /, **overrides: Any) -> Settings:
    """Defaults < recipe `name` < `overrides`, which are flat names (`hidden=512`) and win wherever they are given.

    The learning rate of a recipe with normalised gates is divided by `NORMALISED_RATE` where it has to do without them.
    """
    found = recipe(name)
    settings = found.with_changes(**overrides)
    if "lr" in overrides or settings.model.gate_norm or not found.model.gate_norm:
        return settings
    return settings.with_changes(lr=settings.training.lr / NORMALISED_RATE)


M = TypeVar("M", bound=BaseModel)

_REASONS = {  # pydantic's types of error, in our words
    "greater_than_equal": "it must be at least {ge}",
    "greater_than": "it must be above {gt}",
    "less_than_equal": "it must be at most {le}",
    "less_than": "it must be below {lt}",
    "literal_error": "it must be {expected}",
    "finite_number": "it must be a finite number",
    "int_type": "it must be a whole number",
    "float_type": "it must be a number",
    "bool_type": "it must be true or false",
    "string_type": "it must be a text",
    "list_type": "it must be a list",
    "dict_type": "it must be a JSON object",
    "model_type": "it must be a JSON object",
}
_NOT_NAMES = {"settings", "model", "training", "str", "int"}  # groups, and what pydantic adds for the sides of a union


def validate(kind: type[M], values: Any) -> M:
    """`values` as a `kind`, or a `SettingsError` whose one sentence names the first setting that is wrong, and why."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    path = first["loc"]
    name = ".".join(str(part) for part in path if part not in _NOT_NAMES) or ".".join(map(str, path)) or "the whole"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "extra_forbidden":
        return f"there is no setting named {name!r}"
    context = first.get("ctx", {})
    reason = _REASONS.get(first["type"], first["msg"]).format(**context)
    return f"{name} = {reprlib.repr(first['input'])}: {reason}"
