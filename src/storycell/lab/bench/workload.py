"""`Workload`: what a benchmark measures (sizes, threads, precision, rounds), validated as all settings are.

Fields that were left open are filled in by the task that measures it.
"""

from typing import Literal

from pydantic import Field

from storycell.config import ModelSettings, PositiveInt, StrictModel

V = 96  # characters: the printable ones of a keyboard, as in TinyStories
CLIP, RATE = 1.0, 1e-3  # of a training step
TEMPERATURE = 0.8  # of generation


class Workload(StrictModel):
    """A model's sizes and how to measure it. None is for the task to choose."""

    cell: Literal["lstm", "gru", "rnn"] = Field("lstm", description="recurrent cell")
    layers: PositiveInt = Field(1, le=64, description="cells stacked on top of each other")
    hidden: PositiveInt = Field(256, le=65_536, description="hidden width H of a layer")
    embedding: PositiveInt = Field(64, le=65_536, description="width of the character embedding")
    streams: PositiveInt | None = Field(None, le=65_536, description="streams side by side (train 64, sample 1)")
    chunk: PositiveInt = Field(128, le=1_048_576, description="train: characters of a stream in one step")
    threads: PositiveInt | None = Field(
        None, le=1024, description="threads (train: every core, within a container's quota; sample: 1)"
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="precision of storycell's matmul inputs (auto: sample fp32, train the fastest; int8: sample)",
    )
    backend: Literal["auto", "native", "reference", "torch"] = Field(
        "auto", description="what computes storycell's side: the engine (native), or layers of torch"
    )
    rounds: PositiveInt = Field(7, le=1000, description="how often each contestant is timed")
    compile: bool = Field(False, description="train: torch.compile too, which takes a while")
    loop: bool = Field(True, description="the plain loop of the article too, which torch computes")

    @property
    def model(self) -> ModelSettings:
        """The network that storycell's side has."""
        return ModelSettings(cell=self.cell, layers=self.layers, hidden=self.hidden, embedding=self.embedding)
