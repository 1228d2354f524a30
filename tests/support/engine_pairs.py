"""A reference model and an engine with the same weights, the chunks they read, and the engine's masks of dropout."""

import ctypes
from typing import Any

import numpy as np
import torch

from storycell.engine import EngineModel
from storycell.engine.library import Dropout, check, library
from storycell.nn.model import CharLM

V = 23


def pair(
    cell: str, L: int, H: int, embedding: int, bias: bool = True, *, backend: str = "reference", **keywords: Any
) -> tuple[CharLM, EngineModel]:
    """`keywords` are the engine's: precision, threads, dropouts."""
    precision = keywords.get("precision", "fp32")
    model = CharLM(V, H, L, cell, embedding_size=embedding, gate_bias=bias, backend=backend, precision=precision)
    engine = EngineModel(V, H, L, cell, embedding_size=embedding, gate_bias=bias, **keywords)
    engine.write({name: p.detach().numpy() for name, p in model.named_parameters()})
    return model, engine


def chunk(B: int, T: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """ids and targets `[B T]`."""
    ids = np.random.default_rng(seed).integers(0, V, (B, T + 1))
    return ids[:, :-1], ids[:, 1:]


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def distance(a: Any, b: Any) -> float:
    """Over the norm of `b`."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-12)


def lanes(n: int) -> int:
    return -(-n // 16) * 16


def mask(shape: tuple[int, ...], share: float, seed: int, number: int) -> np.ndarray:
    """What the engine multiplies memory of this shape by, as native/engine/model.h says."""
    ones, out = np.ones(shape, np.float32), np.empty(shape, np.float32)
    seed = library().storycell_model_seed(seed, number)
    a = Dropout(0, ones.size, ones.size, seed, 1.0 - share, ones.ctypes.data, out.ctypes.data)
    check(library().storycell_dropout(ctypes.byref(a), 1))
    return out
