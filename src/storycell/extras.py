"""Packages that only some of storycell needs: what each is for, and one clear error where it is missing.

They are imported where they are used, never at the top of a module that others import. torch is one of them.
"""

from importlib import import_module
from importlib.util import find_spec

from storycell.errors import MissingExtraError

EXTRAS = {  # package -> the extra that brings it
    "torch": "torch",
    "matplotlib": "figures",
    "huggingface_hub": "hub",
    "rapidfuzz": "items",
    "constriction": "compress",  # a dependency, but where it has no wheels
    "inscriptis": "documents",
    "docx": "documents",
    "pysubs2": "documents",
    "pyarrow": "parquet",
    "pronouncing": "rhyme",
    "symusic": "midi",
    "tokenizers": "pieces",
}


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except (ValueError, ImportError):  # blocked: `sys.modules[package] = None`
        return False


def require(package: str, purpose: str) -> None:
    """Import a package; `MissingExtraError` says that `purpose`, as in "a figure", needs it and how to install it."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or package).partition(".")[0] != package:  # it is there, and lacks something itself
            raise
        raise MissingExtraError(
            f"{purpose} needs {package}, which is not installed; pip install 'storycell[{EXTRAS[package]}]' installs it"
        ) from None
