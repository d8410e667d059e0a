"""Threads of our own leave torch's alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from headway.data import loader
from headway.data.loader import Loader
from headway.threads import pool, threads


def in_new_thread() -> int:
    with ThreadPoolExecutor(1) as plain:
        return plain.submit(torch.get_num_threads).result()


def test_a_pool_keeps_torch_to_one_thread_in_each_of_its_own_and_leaves_everything_as_it_was():
    with threads(2):
        with pool(3, "three") as made:
            found = [made.submit(torch.get_num_threads) for _ in range(9)]
            assert {one.result() for one in found} == {1}
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == in_new_thread() == 2


def test_pools_within_one_another_and_errors_leave_everything_as_it_was():
    with threads(2):
        with pytest.raises(ZeroDivisionError), pool(1, "outer") as outer:

            def inner() -> int:
                with pool(1, "inner") as made:
                    return made.submit(torch.get_num_threads).result()

            assert outer.submit(inner).result() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == in_new_thread() == 2


def test_pictures_are_gathered_by_one_thread_while_training_keeps_its_own(monkeypatch):
    seen = []
    gather = loader.Batch
    monkeypatch.setattr(loader, "Batch", lambda *given: seen.append(torch.get_num_threads()) or gather(*given))
    with threads(2):
        for _ in Loader(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), seed=0, batch=4).batches(0, 3):
            assert torch.get_num_threads() == 2
        assert seen == [1, 1, 1]
        assert torch.get_num_threads() == in_new_thread() == 2
