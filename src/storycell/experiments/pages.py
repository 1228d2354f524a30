"""Pages and JSON of an experiment onto the disk, whole or not at all."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storycell.checkpoint import disk


def write_page(path: Path, html: str) -> None:
    """Write an HTML file; its folder is made if need be."""
    _write(path, html.encode())


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file; numbers that are not finite become null."""
    _write(path, (json.dumps(finite(data), indent=1) + "\n").encode())


def finite(value: Any) -> Any:
    """The same data with null for numbers that JSON has not."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, data: bytes) -> None:
    with disk.writing(path, "free space, or name another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write_atomically(path, data)
