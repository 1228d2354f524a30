"""Names and colours of a coloured story: one table for Python and the scripts, and every value in its colour."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storycell
from storycell.nn.adapter import TorchModel
from storycell.nn.cells import registry
from storycell.nn.model import CharLM
from storycell.web import names, theme

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here")
STORY = Path(storycell.__file__).parent / "web" / "story.js"


def in_node(expression: str) -> Any:
    """The value of an expression of `story.js`, which node reads as a page does."""
    program = f"{theme.script('web/story.js')}\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run([str(NODE), "-"], input=program.encode(), capture_output=True, check=True)
    return json.loads(done.stdout)


def test_node_reads_the_module_as_it_lies_in_the_package() -> None:
    program = f'import {{ nameOf }} from "{STORY.as_uri()}"; console.log(nameOf("f"));'
    done = subprocess.run(
        [str(NODE), "--no-warnings", "--input-type=module", "-"], input=program.encode(), capture_output=True
    )
    assert done.stdout.decode().strip() == "forget gate", done.stderr


@pytest.mark.parametrize("cell", registry.cell_names())
def test_every_value_of_every_cell_has_a_name(cell: str) -> None:
    model = TorchModel(CharLM(5, 3, 1, cell))
    assert set(model.value_names) <= set(names.VALUES)
    zero = {name: value[0] for name, value in model.zero_state(1).items()}
    values = model.layer_step(0, model.inputs(np.array([[2]]))[0], zero)
    for symbol, value in values.items():
        if names.VALUES[symbol].is_gate and cell != "minlstm":  # whose shares of a gate are computed later
            assert bool(((value >= 0) & (value <= 1)).all()), symbol


def test_python_and_the_scripts_read_one_table() -> None:
    symbols = list(names.VALUES)
    expression = "Object.keys(VALUES).map((s) => [s, nameOf(s), isGate(s), meaningOf(s)])"
    assert in_node(expression) == [[s, v.name, v.is_gate, v.meaning] for s, v in names.VALUES.items()]
    assert symbols[:2] == ["c", "h"]
    assert names.GATES == ("i", "f", "o", "r", "z")
    backwards = ["x", *reversed(symbols)]
    assert in_node(f"inOrder({json.dumps(backwards)})") == names.in_order(backwards) == [*symbols, "x"]
    assert in_node('nameOf("x")') == names.name_of("x") == "x"


def test_colours_say_how_much_and_of_what() -> None:
    assert in_node("colourOf(LOSS, FULL_NATS / 4)") == "color-mix(in srgb, var(--loss) 25.0%, transparent)"
    assert in_node("colourOf(LOSS, 99)") == "color-mix(in srgb, var(--loss) 100.0%, transparent)"
    assert in_node('colourOf(scaleOf("f", [0.1]), 0.5)') == "color-mix(in srgb, var(--high) 50.0%, transparent)"
    assert in_node('colourOf(scaleOf("c", [8, -4]), -4)') == "color-mix(in srgb, var(--low) 50.0%, transparent)"
    cell_states = json.dumps([0.5] * 98 + [2, 40])
    assert in_node(f'scaleOf("c", {cell_states}).full') == 2  # one that is far out does not make all others pale
    assert in_node('[scaleOf("c", []).full, scaleOf("h", []).full, scaleOf("g", [3, -5]).full]') == [0.1, 1, 5]
    assert in_node('colourOf(scaleOf("h", [0.2]), 0.2)') == "color-mix(in srgb, var(--high) 20.0%, transparent)"
    assert in_node("[colourOf(NOTHING, 1), colourOf(LOSS, null), colourOf(LOSS, 0.01)]") == ["", "", ""]


def test_probabilities_are_never_rounded_to_nothing_or_to_certainty() -> None:
    cases = {1.0: "100 %", 0.99995: ">99.9 %", 0.5: "50 %", 0.0995: "10 %", 0.0123: "1.2 %", 0.0004: "<0.1 %"}
    assert in_node(f"{json.dumps(list(cases))}.map(percent)") == list(cases.values())
