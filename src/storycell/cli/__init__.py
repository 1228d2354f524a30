"""The command line: one module a verb, imported when that verb is called, so that `--help` answers at once."""

from storycell.cli.main import main

__all__ = ["main"]
