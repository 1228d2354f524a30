"""Runs fuzz targets under atheris: `python tests/fuzz [NAME…] [--seconds N] [--keep FOLDER]`.

In: names of targets, all of them if there is none, and how long each may run. Out: exit code 1 if one found an input
that ends in an error, hangs for two minutes or takes 3 GB; the input is then in the folder (its name is printed), and
`python tests/fuzz NAME FILE` runs it once more.
"""

import argparse
import hashlib
import importlib
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz import TARGETS

LONGEST = 2048  # bytes of an input
LIMITS = ("-timeout=120", "-rss_limit_mb=3000", "-len_control=10", "-print_final_stats=1")


def fuzz(name: str, folder: Path, options: list[str]) -> None:
    """Run one target in this process, which libFuzzer ends."""
    logging.getLogger("storycell").setLevel(logging.CRITICAL)  # what is odd about a text is said a thousand times
    with atheris.instrument_imports(include=["storycell"], enable_loader_override=False):
        target = importlib.import_module(f"fuzz.{name}")

    def kept(data: bytes) -> None:
        """The target; an input that ends in a Python exception is written down, as libFuzzer does with crashes."""
        try:
            target.one_input(data)
        except BaseException:
            path = folder / f"{name}-error-{hashlib.sha1(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"the input is in {path}", file=sys.stderr)
            raise

    atheris.Setup([name, *options], kept)
    atheris.Fuzz()


def started(name: str, seconds: float, folder: Path) -> int:
    """Run one target in a process of its own, from its seeds and what an earlier run kept; its exit code."""
    kept = folder / name
    kept.mkdir(parents=True, exist_ok=True)
    target = importlib.import_module(f"fuzz.{name}")
    for k, seed in enumerate(target.SEEDS):
        (kept / f"seed-{k}").write_bytes(seed)
    longest = f"-max_len={getattr(target, 'LONGEST', LONGEST)}"
    options = [*LIMITS, longest, f"-max_total_time={seconds:.0f}", f"-artifact_prefix={folder}/{name}-", str(kept)]
    return subprocess.run([sys.executable, __file__, "--inside", name, folder, *options], check=False).returncode


def main() -> int:
    """Run what the command line names."""
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TARGETS)}; or one and a FILE")
    parser.add_argument("--seconds", type=float, default=3600, help="how long each may run (default an hour)")
    parser.add_argument("--keep", type=Path, help="where inputs are kept from run to run (default: nowhere)")
    arguments = parser.parse_args()
    if len(arguments.names) == 2 and Path(arguments.names[1]).is_file():
        importlib.import_module(f"fuzz.{arguments.names[0]}").one_input(Path(arguments.names[1]).read_bytes())
        return 0
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="storycell-fuzz-"))
    names = arguments.names or TARGETS
    failed = [name for name in names if started(name, arguments.seconds, folder)]
    print(
        f"{len(names) - len(failed)} passed, {len(failed)} failed"
        + (f": {', '.join(failed)} (see {folder})" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
