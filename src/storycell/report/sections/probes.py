"""What all units together tell: linear probes beside control tasks and the untrained network."""

from storycell.inspect.inspection import Inspection
from storycell.inspect.probes import Probe
from storycell.report.inspection import Section


def build(found: Inspection) -> Section | None:
    """A row for every feature, the furthest ahead of the untrained network first."""
    if not found.probes:
        return None
    ranked = sorted(found.probes, key=lambda p: p.untrained - p.score)
    single = {name: fs[0].score for name, fs in found.findings.items() if fs}
    values = {"best": ranked[0], "rows": [_row(one, single.get(one.feature)) for one in ranked]}
    return Section(24, "What all units together tell", values)


def _row(one: Probe, single: float | None) -> list[str]:
    return [
        one.feature,
        f"{one.layer}",
        f"{one.score:.3f} ({one.low:.3f} to {one.high:.3f})",
        "-" if single is None else f"{single:.3f}",
        f"{one.control:.3f}",
        f"{one.selectivity:+.3f}",
        f"{one.untrained:.3f}",
    ]
