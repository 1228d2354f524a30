"""The pool of memory of the kernels' passes: what it lends, takes back and lets go."""

import gc
import threading
from itertools import pairwise

import torch

from storycell.nn.backends.native.buffers import Buffers

MB = 1 << 20


def block(pool: Buffers, size: int = MB) -> torch.Tensor:
    return pool.take((size,), torch.uint8)


def test_memory_comes_back_when_no_tensor_refers_to_it() -> None:
    pool = Buffers()
    first = pool.take((256, 1024), torch.float32)
    place, view = first.data_ptr(), first[3:].view(torch.int32)
    del first
    second = pool.take((256, 1024), torch.float32)
    assert second.data_ptr() != place  # a view still refers to it
    del view
    gc.collect()
    again = pool.take((1024, 512), torch.bfloat16)
    assert again.data_ptr() == place
    assert again.shape == (1024, 512)
    assert again.dtype == torch.bfloat16


def test_no_two_tensors_share_memory_and_all_are_aligned() -> None:
    pool = Buffers()
    held = [block(pool, size) for size in (MB, MB, MB + 1, 70_001) for _ in range(3)]
    spans = sorted((t.data_ptr(), t.data_ptr() + t.nbytes) for t in held)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert all(start % 64 == 0 for start, _ in spans)


def test_idle_and_lent_together_never_exceed_what_was_lent_at_once() -> None:
    pool = Buffers()
    for k in range(100):
        held = [block(pool, MB + 50_000 * k), block(pool, 2 * MB + 70_000 * k)]
        lent = sum(t.nbytes for t in held)
        del held
        block(pool, 100_000)
        assert pool.lent_bytes + pool.idle_bytes <= 1.25 * lent + 100_000


def test_what_is_not_asked_for_is_let_go() -> None:
    pool = Buffers()
    block(pool, 100 * MB)
    for _ in range(3000):
        block(pool, MB)
    assert pool.idle_bytes <= 2 * MB


def test_who_finds_the_pool_taken_does_not_wait() -> None:
    """A fork may have copied a lock that nobody will ever release."""
    pool = Buffers()
    pool._lock.acquire()
    assert block(pool).nbytes == MB


def test_many_threads_get_memory_of_their_own() -> None:
    pool, wrong = Buffers(), []

    def work(mark: int) -> None:
        for _ in range(300):
            tensor = block(pool, 100_000).fill_(mark)
            if not (tensor == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
