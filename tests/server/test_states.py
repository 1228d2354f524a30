"""State slots: what is saved goes on exactly as if the whole text had been read, and nobody can guess a name."""

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import tiny_runs
from support.live_server import Served, in_this_process

import storycell
from storycell.context import PAST
from storycell.errors import SettingsError
from storycell.generation.sampler import Sampling
from storycell.types import BOUNDARY, RESERVED

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

from storycell.generation.sampler import Stream
from storycell.server.errors import ApiError
from storycell.server.security import ServerSettings
from storycell.server.service import Slots

A, B = "Once upon a time ", "Ben had 3 red"
ASKED = {"max_tokens": 60, "seed": 4, "temperature": 0.9}


def written(served: Served, prompt: str, **more: object) -> dict:
    answer: dict = served.post("/v1/completions", {"prompt": prompt, **ASKED, **more})
    return answer["choices"][0]


def test_going_on_from_a_saved_state_is_going_on_from_the_text(served: Served) -> None:
    expected = written(served, A + B)["text"]
    saved = served.post("/v1/states", {"prompt": A})
    assert saved["chars"] == len(A)
    assert written(served, B, state=saved["id"])["text"] == expected
    further = served.post("/v1/states", {"prompt": B, "state": saved["id"]})
    assert further["chars"] == len(A + B)
    for _ in range(2):  # using a state does not change it
        assert written(served, "", state=further["id"])["text"] == expected


@pytest.mark.parametrize(("ngrams", "matches"), [(4, 0), (0, 16), (4, 16)])
def test_a_saved_state_remembers_the_characters_that_the_next_ones_match(
    tmp_path: Path, ngrams: int, matches: int
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(tiny_runs.TEXT, encoding="utf-8")
    context = {"ngrams": ngrams, "ngram_rows": 200, "matches": matches}
    run = storycell.train(
        str(text), out=tmp_path / "run", quiet=True, steps=60, lr=0.02, threads=1, **tiny_runs.NETWORK, **context
    )
    lm = run.model.network
    long, more = "Once upon a time Ann had 3 red balls. Cleo had 71.\n" * 25, "Once upon a time "
    asked = {"max_tokens": 40, "seed": 4, "temperature": 0.9}

    async def scene() -> None:
        async with in_this_process(run.model) as ask:
            expected = (await ask("/v1/completions", {"prompt": long + more, **asked})).choice()["text"]
            saved = (await ask("/v1/states", {"prompt": long})).json
            for _ in range(2):  # using a state does not change it
                asked_on = {"prompt": more, "state": saved["id"], **asked}
                assert (await ask("/v1/completions", asked_on)).choice()["text"] == expected
            assert len(expected) > 10

    asyncio.run(scene())
    ids = [[BOUNDARY, *run.model.vocab.encode(long)]]
    state, after = lm.state_after(ids, lm.zero_state(1)), [run.model.vocab.encode(more)]
    assert state[PAST].shape == (1, 1, 1024 if matches else 3)
    forgetful = {**state, PAST: np.zeros_like(state[PAST])}
    assert np.abs(lm.logits(after, state)[0] - lm.logits(after, forgetful)[0]).max() > 0.1


def test_the_state_after_a_text_can_be_saved_also_where_a_stop_ended_it(served: Served) -> None:
    whole = written(served, A, temperature=0)["text"]
    stop = whole[17:20]
    cut = whole[: whole.index(stop)]
    for more in ({"max_tokens": len(cut)}, {"stop": stop}, {"stop": [stop, "never"], "logprobs": 1}):
        choice = written(served, A, save_state=True, **({"temperature": 0} | more))
        assert choice["text"] == cut
        slot = json.loads(served.request("GET", f"/v1/states/{choice['state']}")[2])
        assert slot["chars"] == len(A + cut)
        assert written(served, "", state=choice["state"], temperature=0)["text"].startswith(whole[len(cut) :][:20])


def test_a_fork_lives_when_its_origin_is_deleted(served: Served) -> None:
    saved = served.post("/v1/states", {"prompt": A + B})
    fork = served.post(f"/v1/states/{saved['id']}/fork", {})
    assert fork["id"] != saved["id"]
    status, _, content = served.request("DELETE", f"/v1/states/{saved['id']}")
    assert (status, json.loads(content)["deleted"]) == (200, True)
    assert served.refusal(f"/v1/states/{saved['id']}", method="GET")[0] == 404
    assert served.refusal("/v1/completions", {"prompt": "", "state": saved["id"]})[0] == 404
    assert written(served, "", state=fork["id"])["text"] == written(served, A + B)["text"]


def test_names_are_long_random_and_different(served: Served) -> None:
    names = {served.post("/v1/states", {"prompt": "Ann"})["id"] for _ in range(20)}
    assert len(names) == 20
    assert all(len(name.removeprefix("state-")) >= 24 for name in names)


def test_slots_are_capped_and_expire_after_their_last_use() -> None:
    now = [1000.0]
    slots = Slots(capacity=2, expiry_s=10, clock=lambda: now[0])
    stream = Stream(Sampling(), 1)
    stream.next_id = RESERVED
    first, second = slots.save(stream, 1), slots.save(stream, 2)
    with pytest.raises(ApiError, match="2 states are kept already") as caught:
        slots.save(stream, 3)
    assert caught.value.status == 429
    now[0] += 6
    assert slots.find(first.name).stream.next_id == RESERVED
    now[0] += 6  # the second was last used twelve seconds ago, the first six
    assert len(slots) == 1
    with pytest.raises(ApiError, match="there is no such state"):
        slots.find(second.name)
    slots.save(stream, 4)
    slots.delete(first.name)
    now[0] += 11
    assert len(slots) == 0


@pytest.mark.parametrize("path", [".", "./", "../mine", "inside/..", "../../mine/../mine/run/../../mine/run/."])
def test_a_model_has_its_folders_own_name_however_the_folder_is_named(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    run = tmp_path / "mine" if "run" not in path else tmp_path / "mine" / "run"
    shutil.copytree(made, run)
    (run / "inside").mkdir()
    monkeypatch.chdir(run)
    model = storycell.load(path)
    assert model.name == run.name

    async def scene() -> None:
        async with in_this_process(model) as ask:
            [card] = (await ask("/v1/models", None, method="GET")).json["data"]
            assert card["id"] == run.name
            asked = {"prompt": "Once", "max_tokens": 1, "model": run.name}
            assert (await ask("/v1/completions", asked)).json["model"] == run.name

    asyncio.run(scene())


def test_a_link_to_a_run_has_a_name_of_its_own(made: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(made, target_is_directory=True)
    assert storycell.load(tmp_path / "latest").name == "latest"
    assert storycell.load().name == "demo"


def test_names_of_hosts_are_compared_without_case() -> None:
    settings = ServerSettings(host="MyBox", allow_anyone=True, extra_hosts=frozenset({"Stories.Example.", "[::AB]"}))
    assert all(map(settings.answers_to, ("mybox", "MYBOX", "mybox.", "stories.example", "STORIES.example", "::ab")))
    assert not settings.answers_to("mybox.example")
    assert ServerSettings(host="LOCALHOST").is_loopback
    assert ServerSettings(host="LOCALHOST").answers_to("localhost")


@pytest.mark.parametrize("name", ["https://stories.example", "stories.example:8443", "a b", "", "bücher.example", "*"])
def test_a_name_that_no_browser_would_send_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="without scheme and port"):
        ServerSettings(extra_hosts=frozenset({name}))


def test_a_server_that_others_can_reach_needs_a_key_or_a_word() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", "example.org"):
        with pytest.raises(SettingsError, match="can be reached from other machines"):
            ServerSettings(host=host)
        assert ServerSettings(host=host, api_key="k").api_key == "k"
        assert ServerSettings(host=host, allow_anyone=True).allow_anyone
    for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        assert ServerSettings(host=host).is_loopback
