"""What axe-core (https://github.com/dequelabs/axe-core) finds wrong with a page for those who cannot see or point."""

from typing import Any

import pytest


def serious_violations(page: Any) -> list[str]:
    """Violations that are serious or critical, of a Playwright page as it stands; skips where axe is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    response = axe.Axe().run(page).response
    assert response["passes"], "axe has looked at nothing"
    return [
        f"{found['id']}: {node['html']}: {node['failureSummary']}"
        for found in response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
