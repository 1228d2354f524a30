"""JSON values with one part of them changed to anything, for readers of what may come from anywhere."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}), st.just(-1),
    st.just(2**63), st.just("\ud800"), st.lists(st.integers(0, 3), max_size=3),
)  # fmt: skip


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value something can be put in place of what is there."""
    yield path
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from places(data[key], (*path, key))


def changed(data: Any, draw: Callable[..., Any]) -> Any:
    """The same JSON with one value replaced, removed, or a key added."""
    *way, last = draw(st.sampled_from([path for path in places(data) if path]))
    copy = json.loads(json.dumps(data))
    inner = copy
    for key in way:
        inner = inner[key]
    what = draw(st.sampled_from(["replace", "remove", "add"]))
    if what == "remove":
        del inner[last]
    elif what == "add" and isinstance(inner, dict):
        inner[draw(st.text(max_size=5))] = draw(ODD)
    else:
        inner[last] = draw(ODD)
    return copy
