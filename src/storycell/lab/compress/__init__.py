"""Lossless compression of any file, driven by a character model: the loss, proven by bytes.

`framing` turns bytes into segments of symbols and back, `coder` runs the model over the segments side by side and codes
them (constriction's range coder), `container` is the file around it, `fingerprint` tells whether a file belongs to this
model and machine, `archive` is the whole way in and out.
"""
