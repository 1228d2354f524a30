"""A headless Chromium for the tests, through Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = os.environ.get("STORYCELL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="there is no Chromium here; STORYCELL_CHROMIUM can name one"
)


@contextmanager
def open_browser(*more_flags: str) -> Iterator[Any]:
    """Within, a Chromium that runs; a test that asks for one is skipped where there is none, but not under CI."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("there is no Chromium here; STORYCELL_CHROMIUM can name one")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *more_flags])
        yield browser
        browser.close()
