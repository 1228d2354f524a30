"""Lossless compression of any file, driven by a character model: the loss, proven by bytes.

`framing` turns bytes into segments of symbols and back, `lanes` runs the model over the segments side by side, `coding`
is the entropy coder (constriction's range coder), `container` the file around it, `fingerprint` tells whether a file
belongs to this model and machine, `archive` is the whole way in and out.
"""

from storycell.codec.archive import Sizes, compress, decompress

__all__ = ["Sizes", "compress", "decompress"]
