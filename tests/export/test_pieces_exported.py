"""Exports of a model of word pieces: the page and the package generate what `sample` does, shown by character."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import playwright.sync_api as playwright
import pytest
from support.browser import needs_chromium, open_browser
from support.piece_models import PROMPTS, WITHIN_A_STORY, train_pieces

import storycell
from storycell.errors import ExportError
from storycell.generation.generate import find_unsettled, spell_unsettled
from storycell.types import BOUNDARY, UNKNOWN

pytest.importorskip("tokenizers", reason="the extra storycell[pieces] is not installed")
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node here")
ASKED = [(0.0, 0), (0.8, 7), (1.2, 2**40 + 3)]
GENERATE = "([prompt, options]) => storycell.generate(net, vocabulary, prompt, options)"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> storycell.Model:
    return train_pieces(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page_file(model: storycell.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "story.html"
    assert model.export(path, "fp32").max_abs_logit_change == 0
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with open_browser() as chromium:
        yield chromium


def opened(browser: playwright.Browser, path: Path, *, engine: bool = True) -> Iterator[playwright.Page]:
    context = browser.new_context(offline=True)
    page, troubles = context.new_page(), list[str]()
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    if not engine:
        page.add_init_script("delete globalThis.WebAssembly")
    page.goto(path.as_uri())
    page.evaluate("() => engineIsThere")
    page.select_option("#pace", "0")
    yield page
    context.close()
    assert troubles == []


@pytest.fixture(params=[True, False], ids=["engine", "plain JavaScript"])
def either(browser: playwright.Browser, page_file: Path, request: pytest.FixtureRequest) -> Iterator[playwright.Page]:
    yield from opened(browser, page_file, engine=request.param)


@pytest.fixture
def page(browser: playwright.Browser, page_file: Path) -> Iterator[playwright.Page]:
    yield from opened(browser, page_file)


def written(page: playwright.Page, prompt: str, chars: int, temperature: float, seed: int) -> str:
    """What the page shows once it has generated."""
    page.fill("#prompt", prompt)
    page.fill("#seed", str(seed))
    page.fill("#chars", str(chars))
    page.evaluate(
        "t => { const s = document.getElementById('temperature'); s.value = t; s.dispatchEvent(new Event('input')); }",
        temperature,
    )
    page.evaluate("() => begin()")
    page.click("#generate")
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    return str(page.evaluate("() => document.getElementById('story').textContent"))


def log_probabilities(model: storycell.Model, ids: list[int]) -> Any:
    """As the page has them: the unknown character is none of the possible ones."""
    logits = model.network.logits(np.array([[BOUNDARY, *ids[:-1]]]))[0][0].astype(np.float64)
    logits[:, UNKNOWN] = -np.inf
    return (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )


def by_node(folder: Path, program: str) -> Any:
    text = (
        'import { generate, stream, score, load } from "./packed/index.js";\nconst run = async () => {'
        + program
        + "};\n"
    )
    (folder.parent / "program.mjs").write_text(f"{text}console.log(JSON.stringify(await run()));", encoding="utf-8")
    done = subprocess.run([str(NODE), "program.mjs"], cwd=folder.parent, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def package(model: storycell.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "packed"
    assert model.export_npm(folder, "fp32").max_abs_logit_change == 0
    return folder


@needs_node
def test_a_package_generates_what_sample_does(package: Path, model: storycell.Model) -> None:
    prompts = WITHIN_A_STORY
    for how in (
        {},
        {"temperature": 1.2},
        {"topK": 5},
        {"topP": 0.7},
        {"minP": 0.2},
        {"topK": 9, "topP": 0.9, "minP": 0.05},
    ):
        asked = [(prompt, chars, seed) for prompt in prompts for chars in (0, 1, 2, 60) for seed in (1, 2**40)]
        program = f"""const all = {json.dumps(asked)}, how = {json.dumps(how)}, made = [];
        for (const [prompt, chars, seed] of all) made.push(await generate(prompt, {{ chars, seed, ...how }}));
        return made;"""
        named = {"topK": "top_k", "topP": "top_p", "minP": "min_p"}
        same = {named.get(name, name): value for name, value in how.items()}
        expected = [
            model.generate(prompt, chars, seed=seed, **{"temperature": 0.8, **same}) for prompt, chars, seed in asked
        ]
        assert by_node(package, program) == expected
    greedy = by_node(package, 'return await generate("Once upon a ti", { chars: 200, greedy: true });')
    assert greedy == model.generate("Once upon a ti", 200, greedy=True)


@needs_node
def test_a_run_folder_is_loaded_in_javascript(package: Path, model: storycell.Model) -> None:
    made = by_node(
        package,
        f"""const {{ readFileSync }} = await import("node:fs"), files = {{}};
        for (const name of ["config.json", "vocab.json", "model.safetensors"])
          files[name] = new Uint8Array(readFileSync({json.dumps(str(model.path))} + "/" + name));
        const {{ Model }} = await import("./packed/index.js");
        return (await Model.load(files)).generate("Once upon a ti", {{ chars: 80, seed: 3 }});""",
    )
    assert made == model.generate("Once upon a ti", 80, temperature=0.8, seed=3)


@needs_node
def test_a_package_tells_of_each_character(package: Path, model: storycell.Model) -> None:
    text = "Once upon a time Anna had 3 balls."
    found = by_node(
        package,
        f"""const pieces = [], text = {json.dumps(text)};
        for await (const character of stream("Once upon a ti", {{ chars: 20, seed: 1 }})) pieces.push(character);
        const refused = await generate("漢").catch((error) => error.message);
        return {{ pieces, refused, nats: [...await score(text)], h: [...(await load()).trace(text).h] }};""",
    )
    assert "".join(found["pieces"]) == model.generate("Once upon a ti", 20, temperature=0.8, seed=1)[14:]
    assert len(found["pieces"]) == 20
    assert "does not know “漢”" in found["refused"]
    ids = model.vocab.encode(text).astype(np.int64)
    logits = model.network.logits(np.array([[BOUNDARY, *ids[:-1]]]))[0][0].astype(np.float64)
    scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert found["nats"] == pytest.approx(model.vocab.spell_nats(scores, ids).tolist(), abs=1e-4)
    h = model.network.states(ids[np.newaxis])["h"][0, 0]
    assert found["h"] == pytest.approx(np.repeat(h, model.vocab.lengths[ids], axis=0).ravel().tolist(), abs=1e-4)


@needs_chromium
def test_one_seed_tells_the_story_of_storycell_sample(either: playwright.Page, model: storycell.Model) -> None:
    for prompt in PROMPTS:
        for temperature, seed in ASKED:
            options = {"chars": 200, "temperature": temperature, "seed": str(seed)}
            expected = model.generate(prompt, 200, temperature=temperature, seed=seed)
            assert either.evaluate(GENERATE, [prompt, options]) == expected


@needs_chromium
def test_in_int8_too(page: playwright.Page, model: storycell.Model) -> None:
    exact = storycell.load(model.path, precision="int8")
    page.select_option("#precision", "int8")
    for prompt in PROMPTS:
        options = {"chars": 40, "temperature": 0, "seed": "1"}
        assert page.evaluate(GENERATE, [prompt, options]) == exact.generate(prompt, 40, greedy=True)


@needs_chromium
def test_the_page_shows_it_by_character_up_to_the_end_of_a_piece(page: playwright.Page, model: storycell.Model) -> None:
    for prompt in WITHIN_A_STORY:
        for chars in (1, 2, 50):
            shown = written(page, prompt, chars, 0.8, 7)
            longer = model.generate(prompt, chars + 40, temperature=0.8, seed=7)
            assert longer.startswith(shown)
            assert len(shown) >= min(len(prompt) + chars, len(longer))
            assert len(shown) < len(prompt) + chars + max(model.vocab.lengths)
            assert page.locator("#story span").count() == len(shown)
            assert page.locator("#story span.given").count() == len(prompt)


@needs_chromium
def test_its_colours_are_the_surprise_of_each_character(page: playwright.Page, model: storycell.Model) -> None:
    vocab, prompt = model.vocab, "Once upon a time Anna had 3 ba"
    page.fill("#prompt", prompt)
    page.evaluate("() => begin()")
    settled, unsettled = find_unsettled(vocab, [], prompt)
    assert unsettled is not None
    scores = log_probabilities(model, [*settled, *unsettled.ids])
    expected = [
        *vocab.spell_nats(scores[: len(settled)], np.array(settled)),
        *spell_unsettled(vocab, unsettled, scores[len(settled) :]),
    ]
    assert page.evaluate("() => values()") == pytest.approx(expected, abs=1e-4)
    written(page, prompt, 40, 0.8, 3)
    ids = page.evaluate("() => story.ids")
    expected = vocab.spell_nats(log_probabilities(model, ids), np.array(ids)).tolist()
    assert page.evaluate("() => values()") == pytest.approx(expected, abs=1e-3)
    page.select_option("#colour", "c")
    values = page.evaluate("() => values()")
    c = model.network.states(np.array([[BOUNDARY, *ids]]))["c"][0, 0, 1:, page.evaluate("() => choice.unit")]
    assert values == pytest.approx(np.repeat(c, vocab.lengths[ids]).tolist(), abs=1e-4)


@needs_chromium
def test_what_may_follow_is_shown_and_chosen_as_text(page: playwright.Page, model: storycell.Model) -> None:
    page.fill("#prompt", "Once upon a ti")
    page.evaluate("() => begin()")
    logs = "(net.logits(traceAt(story.mark), logits), pieces.logs(logits))"
    ways = page.evaluate(f"() => pieces.waysOn(story.open, story.open.rows, {logs})")
    assert sum(way["probability"] for way in ways) == pytest.approx(1, abs=1e-9)
    assert len({way["text"] for way in ways}) == len(ways)
    assert page.locator("#choices button b").first.text_content() == "me"
    page.locator("#choices button").first.click()
    assert page.evaluate("() => document.getElementById('story').textContent") == "Once upon a time"
    assert page.evaluate("() => story.ids") == model.vocab.encode("Once upon a time").tolist()
    shown = page.locator("#choices button b").first.text_content()
    page.locator("#choices button").first.click()
    assert page.evaluate("() => document.getElementById('story').textContent") == "Once upon a time" + (
        shown or ""
    ).replace("␣", " ")
    page.click("#back")
    page.click("#back")
    assert "Once upon a time".startswith(page.evaluate("() => spans().join('')"))


@needs_chromium
def test_the_mark_walks_by_pieces(page: playwright.Page, model: storycell.Model) -> None:
    text = written(page, "Once upon a time Anna had 3 ba", 60, 0.5, 1)
    starts = page.evaluate("() => starts")
    assert starts[-1] == len(text)
    assert max(np.diff(starts)) > 3
    page.focus("#story")
    page.keyboard.press("Home")
    seen = [0]
    for _ in starts[1:]:
        page.keyboard.press("ArrowRight")
        seen.append(page.evaluate("() => spanAt(story.mark)"))
    assert seen == starts
    for start in reversed(starts[:-1]):
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("() => spanAt(story.mark)") == start
    long = int(np.argmax(np.diff(starts)))
    page.locator("#story span").nth(starts[long] + 1).click()
    assert page.evaluate("() => story.mark") == long
    assert page.locator("#story span.after").count() == len(text) - starts[long]
    page.click("#generate")
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    assert page.evaluate("() => document.getElementById('story').textContent")[: starts[long]] == text[: starts[long]]


@needs_chromium
def test_a_stranger_is_said_and_a_pattern_is_not_offered(page: playwright.Page) -> None:
    assert not page.is_visible("#regex")
    page.fill("#prompt", "Once 漢")
    page.click("#generate")
    assert "“漢”" in (page.locator("#trouble").text_content() or "")


@needs_node
@needs_chromium
def test_labels_are_read_before_the_prompt_and_cut_apart_from_it(browser: playwright.Browser, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{('tale', 'news')[k % 2]},Once {('cats', 'dogs')[k % 2]} ran {k}" for k in range(120)]
    table.write_text("\n".join(["genre,text", *rows]) + "\n", encoding="utf-8")
    settings = {"hidden": 24, "embedding": 16, "layers": 1, "streams": 4, "chunk": 16, "evaluations": 1, "threads": 1}
    settings |= {"vocab": "pieces:120", "recipe": "pieces", "steps": 300, "lr": 0.02, "labels": ["genre"]}
    labelled = storycell.train(table, out=tmp_path / "run", quiet=True, **settings).model
    prompt = "On"
    expected = {genre: labelled.generate(prompt, 12, seed=3, labels={"genre": genre}) for genre in ("tale", "news")}
    assert len(set(expected.values())) == 2
    labelled.export_npm(tmp_path / "packed", "fp32")
    labelled.export(tmp_path / "story.html", "fp32")
    for genre, text in expected.items():
        asked = json.dumps({"chars": 12, "seed": 3, "labels": {"genre": genre}})
        assert by_node(tmp_path / "packed", f"return await generate({json.dumps(prompt)}, {asked});") == text
    for page in opened(browser, tmp_path / "story.html"):
        for genre, text in expected.items():
            page.select_option("#labels select", genre)
            assert written(page, prompt, 12, 0.8, 3)[: len(text)] == text


def cut(text: str, facts: Mapping[str, str]) -> list[int]:
    """As docs/export.md says, from the metadata alone."""
    vocabulary = json.loads(facts["vocabulary"])
    merges = [tuple(pair) for pair in vocabulary["merges"]]
    texts = list(dict.fromkeys([*vocabulary["characters"], *(a + b for a, b in merges)]))
    ids: list[int] = []
    for word in re.findall(facts["words"], text):
        parts = list(word)
        while found := [pair for pair in merges if pair in pairwise(parts)]:
            at = list(pairwise(parts)).index(found[0])
            parts[at : at + 2] = ["".join(found[0])]
        ids += [texts.index(part) + len(vocabulary["reserved"]) for part in parts]
    return ids


def test_a_graph_says_how_a_text_is_cut_and_computes_what_the_run_does(model: storycell.Model, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert model.export(tmp_path / "story.onnx").max_abs_logit_change == 0
    session = onnxruntime.InferenceSession(tmp_path / "story.onnx", providers=["CPUExecutionProvider"])
    text = "Once upon a time Anna had 3 balls.\nThen she didn't have them"
    ids = cut(text, session.get_modelmeta().custom_metadata_map)
    assert ids == model.vocab.encode(text).tolist()
    assert len(ids) < len(text) / 2
    expected, last = model.network.logits(np.array([[BOUNDARY, *ids]]))
    state = {name: np.zeros(value.shape, np.float32) for name, value in last.items()}
    for t, k in enumerate([BOUNDARY, *ids]):
        logits, *after = session.run(None, {"ids": np.array([k]), **state})
        state = dict(zip(state, after, strict=True))
        assert logits[0] == pytest.approx(expected[0, t], abs=1e-4)


@pytest.mark.parametrize("ending", [".h"])
def test_a_header_is_refused(model: storycell.Model, ending: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"pieces of words; export it to \.html"):
        model.export(tmp_path / f"story{ending}")
    assert list(tmp_path.iterdir()) == []
