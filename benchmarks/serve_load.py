"""How many characters a second `storycell serve` gives to many clients at once, and how soon the first one comes.

    python benchmarks/serve_load.py [RUN] [--clients 200] [--chars 500] [--rounds 5]

Each round starts `--clients` streaming requests in the same instant, every one over a connection of its own, with a
seed of its own; a story may end before `--chars`, and what counts is what came. Every text must be complete, and the
same in every round. With `--rough`, as many clients again read slowly, vanish, or send half a request meanwhile.
Prints a line for each round and one JSON object. The clients share the machine with the server.
"""

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.live_server import Served, head_and_body, serving, text_of

from storycell.lab.bench.results import keep

PROMPT = "Once upon a time"


async def client(served: Served, chars: int, seed: int) -> tuple[str, float, float]:
    """One streamed completion: its text, the seconds to its first character, the instant of its end."""
    host, port = served.address
    began = time.monotonic()
    body = {"prompt": PROMPT, "max_tokens": chars, "temperature": 0.8, "seed": seed, "stream": True}
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head_and_body(body, host))
    pieces, first_s = [], 0.0
    while piece := await reader.read(65_536):
        pieces.append(piece)
        if not first_s and b"data: {" in piece:
            first_s = time.monotonic() - began
    ended = time.monotonic()
    writer.close()
    return text_of(b"".join(pieces)), first_s, ended


async def nuisance(served: Served, kind: int) -> None:
    """A client that reads slowly (0), vanishes (1) or sends half a request (2)."""
    host, port = served.address
    reader, writer = await asyncio.open_connection(host, port)
    whole = head_and_body({"prompt": PROMPT, "max_tokens": 500, "stream": True}, host)
    writer.write(whole if kind < 2 else whole[: len(whole) // 2])
    for _ in range(20 if kind == 0 else 1 if kind == 1 else 0):
        await reader.read(300)
        await asyncio.sleep(0.05)
    if kind == 2:
        await asyncio.sleep(0.5)
    writer.transport.abort()


async def one_round(served: Served, clients: int, chars: int, rough: bool) -> dict[str, object]:
    """All clients at once; what they got and when."""
    others = [asyncio.create_task(nuisance(served, k % 3)) for k in range(clients if rough else 0)]
    began = time.monotonic()
    answers = await asyncio.gather(*(client(served, chars, seed) for seed in range(clients)))
    elapsed_s = max(ended for _, _, ended in answers) - began
    await asyncio.gather(*others)
    texts = [text for text, _, _ in answers]
    firsts = sorted(first_s for _, first_s, _ in answers)
    return {
        "texts": texts,
        "chars_per_s": sum(map(len, texts)) / elapsed_s,
        "first_char_p50_s": firsts[len(firsts) // 2],
        "first_char_p95_s": firsts[int(len(firsts) * 0.95)],
    }


def main() -> None:
    """Start a server of its own, load it, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", default="demo")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--chars", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rough", action="store_true", help="slow, vanishing and half clients beside them")
    given = parser.parse_args()
    with serving(given.run, request_timeout_s=2.0) as served:
        asyncio.run(one_round(served, 10, 50, rough=False))  # warm
        rounds = []
        for number in range(given.rounds):
            rounds.append(asyncio.run(one_round(served, given.clients, given.chars, given.rough)))
            found = rounds[-1]
            print(
                f"round {number + 1}: {found['chars_per_s']:,.0f} characters/s, first character "
                f"p50 {found['first_char_p50_s']:.3f} s, p95 {found['first_char_p95_s']:.3f} s",
                file=sys.stderr,
            )
    assert all(one["texts"] == rounds[0]["texts"] for one in rounds), "a seeded text depended on the load"
    summary = {
        name: round(statistics.median(float(str(one[name])) for one in rounds), 4)
        for name in ("chars_per_s", "first_char_p50_s", "first_char_p95_s")
    }
    facts = {"clients": given.clients, "chars": given.chars, "rounds": given.rounds, "rough": given.rough}
    keep(summary | facts | {"run": given.run, "written": sum(map(len, rounds[0]["texts"]))})


if __name__ == "__main__":
    main()
