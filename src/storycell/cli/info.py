"""`storycell info [RUN]`: a run; the machine; which backend computes, and why."""

from pathlib import Path
from typing import Any

import click

from storycell import api, extras, loss, threads
from storycell.cli.flags import NAME, Verb, print_json
from storycell.data import prepare
from storycell.engine.library import MULTIPLY_BF16, blas, isa
from storycell.runs.folder import RunFolder
from storycell.runs.machine import best_device, machine, versions
from storycell.runs.network import GET_TORCH, engine_obstacle


@click.command("info", cls=Verb)
@click.argument("run", required=False, type=NAME, help="a run folder, or demo")
def command(run: str | None, as_json: bool) -> None:
    """Print what there is to know, as lines or as JSON."""
    facts = {"machine": _machine()} | ({"run": _run(run)} if run else {})
    if as_json:
        print_json(facts)
        return
    for title, lines in facts.items():
        print(title)
        for name, value in lines.items():
            print(
                f"  {name.replace('_', ' '):<18}{value:,}"
                if isinstance(value, int)
                else f"  {name.replace('_', ' '):<18}{value}"
            )


def _machine() -> dict[str, Any]:
    device = best_device("auto")
    backend, multiplies_bf16 = _backend(device)
    return {
        **machine(),
        "threads": threads.default(),
        "device": device,
        "backend": backend,
        "native_kernel": _kernel(),
        "bf16": f"{'' if multiplies_bf16 else 'not '}multiplied in hardware",
        **versions(),
        "prepared_texts": str(prepare.cache_folder()),
    }


def _backend(device: str) -> tuple[str, bool]:
    """What computes an LSTM there, and why; whether it multiplies bf16 in hardware."""
    obstacle = engine_obstacle("lstm", device=device)
    if obstacle is None:
        return "native: our own engine, the fastest on a CPU", isa() in MULTIPLY_BF16
    if not extras.is_installed("torch"):
        return f"none: {obstacle}; {GET_TORCH}", False
    from storycell.nn.backends.choice import describe

    return describe("lstm", device)


def _kernel() -> str:
    try:
        also = f", float32 products of training by {blas()}" if blas() else ""
        return f"built, computing with {isa()}{also}"
    except (ImportError, RuntimeError) as error:
        return str(error)


_SHOWN = 12  # values of a label


def _labels(labels: dict[str, list[str]]) -> dict[str, str]:
    """What texts can be asked for by, a line for all labels."""
    said = [
        f"{name}={'|'.join(values[:_SHOWN])}{'|…' if len(values) > _SHOWN else ''}" if values else f"{name}=…"
        for name, values in labels.items()
    ]
    return {"labels": "; ".join(said)} if said else {}


def _rows(longest: int, rows: int, unit: str) -> str:
    return f"of 2 to {longest} {unit}, in {rows:,} rows" if longest else "none"


def _run(name: str) -> dict[str, Any]:
    model = api.load(name)
    config, metrics = model.config, RunFolder(model.path).metrics()
    network, training = config.settings.model, config.settings.training
    unit, amount = training.budget
    facts: dict[str, Any] = {
        "folder": str(Path(model.path)),
        "made_at": config.made_at,
        "text": " ".join(config.text.words)
        + (", each line a story" if config.text.lines else "")
        + (", tunes in ABC" if config.text.has_tunes else "")
        + (", names of people replaced" if config.text.anonymise else ""),
        "characters": f"{config.text.train_chars:,} to train on, {config.text.valid_chars:,} held out",
        "network": f"{network.cell}, {network.layers} x {network.hidden}, embedding {network.embedding or 'one-hot'}"
        + (", normalised gates" if network.gate_norm else ""),
        "n_grams": _rows(network.ngrams, network.ngram_rows, model.vocab.kind),
        "matches": _rows(network.matches, network.matches * len(model.vocab), model.vocab.kind),
        "saved_bytes": (Path(model.path) / "model.safetensors").stat().st_size,
        "vocabulary": f"{len(model.vocab)} ids ({model.vocab.kind})",
        **_labels(config.text.labels),
        "parameters": model.params,
        "recipe": config.settings.recipe,
        "budget": f"{amount:g} {unit}",
        "computed_by": f"{training.backend}, {training.precision}, {training.threads} threads, {training.device}",
        "machine": f"{config.machine.get('processor')}, {config.machine.get('cores')} cores",
    }
    done = [entry for entry in metrics if entry.get("valid_nats") is not None]
    if done:
        best = min(done, key=lambda entry: float(entry["valid_nats"]))
        facts["steps"] = int(metrics[-1]["step"])
        facts["best"] = (
            f"{best['valid_nats']:.4f} nats per character on a part of the held-out text, at step {best['step']:,} "
            f"({loss.bits_per_char(best['valid_nats']):.3f} bits, perplexity {loss.perplexity(best['valid_nats']):.3f})"
        )
        facts["speed"] = f"{metrics[-1]['chars_per_s']:,.0f} characters per second"
    return facts
