"""The engine as WebAssembly, as text to put into a page: see `embedded.js`, which reads it, and `tools/wasm.py`."""

import base64
import zlib
from functools import cache
from importlib import resources

MODULES = {"engine-simd": "engine.wasm", "engine-relaxed": "engine-relaxed.wasm"}  # by the id of the element


def read(name: str) -> bytes:
    """A module of the package."""
    return resources.files("storycell.web").joinpath(name).read_bytes()


def deflate(data: bytes) -> str:
    """Data as text for `inflate` of `embedded.js`: deflated, in base64."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(packer.compress(data) + packer.flush()).decode("ascii")


@cache
def elements() -> str:
    """Script elements, which no browser runs, that hold the modules."""
    made = (f'<script type="text/plain" id="{key}">{deflate(read(name))}</script>' for key, name in MODULES.items())
    return "\n".join(made)
