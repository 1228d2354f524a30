"""Similar moments: the places of the text whose hidden state is nearest to the chosen character's."""

from storycell.inspect.inspection import Inspection
from storycell.report.inspection import Section


def build(found: Inspection) -> Section:
    """Nothing but words: the page's script fills it from what it reads for the text."""
    return Section(80, "Similar moments")
