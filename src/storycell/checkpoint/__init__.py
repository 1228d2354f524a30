"""The run folder: everything that is left of a training, written atomically and read without trust.

`folder` is the run folder itself, `record` what its `config.json` holds, `text` reads the text that this names,
`tensors` its safetensors files, `disk` how a file is written so that a crash leaves the old one or the new one. Nothing
is ever unpickled.
"""

from storycell.checkpoint.disk import replacing, write_atomically, writing
from storycell.checkpoint.folder import LOGS, RunFolder, refuse_occupied
from storycell.checkpoint.record import RunConfig, TextRecord, now
from storycell.checkpoint.text import has_changed, open_text, open_valid, prepared_folder, read_run_text, read_text

__all__ = [
    "LOGS",
    "RunConfig",
    "RunFolder",
    "TextRecord",
    "has_changed",
    "now",
    "open_text",
    "open_valid",
    "prepared_folder",
    "read_run_text",
    "read_text",
    "refuse_occupied",
    "replacing",
    "write_atomically",
    "writing",
]
