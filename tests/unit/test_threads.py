"""Thread pools do not change the number of torch's threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from headway.data.sampling import loader
from headway.data.sampling.loader import Loader
from headway.utils import threads
from headway.utils.threads import thread_executor, torch_threads


def in_new_thread() -> int:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(torch.get_num_threads).result()


def test_an_executor_runs_torch_single_threaded_and_restores_the_setting():
    with torch_threads(2):
        with thread_executor(3, "three") as executor:
            futures = [executor.submit(torch.get_num_threads) for _ in range(9)]
            assert {future.result() for future in futures} == {1}
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == in_new_thread() == 2


def test_nested_executors_and_errors_restore_the_setting():
    with torch_threads(2):
        with pytest.raises(ZeroDivisionError), thread_executor(1, "outer") as outer:

            def inner() -> int:
                with thread_executor(1, "inner") as executor:
                    return executor.submit(torch.get_num_threads).result()

            assert outer.submit(inner).result() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == in_new_thread() == 2


def test_batches_are_gathered_in_one_thread_while_training_keeps_its_threads(monkeypatch):
    counts = []
    gather = loader.Batch
    monkeypatch.setattr(loader, "Batch", lambda *given: counts.append(torch.get_num_threads()) or gather(*given))
    with torch_threads(2):
        for _ in Loader(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), seed=0, batch_size=4).batches(0, 3):
            assert torch.get_num_threads() == 2
        assert counts == [1, 1, 1]
        assert torch.get_num_threads() == in_new_thread() == 2


def test_several_threads_are_used_unless_they_stall_and_the_answer_is_kept_for_a_while(monkeypatch):
    probes, now, stall = [], [1000.0], [True]
    monkeypatch.setattr(threads, "_last_probe", None)
    monkeypatch.setattr(threads, "threads_stall", lambda count: probes.append(count) or stall[0])
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(threads, "available_threads", lambda: 4)
    assert threads.unstalled_threads() == 1
    stall[0] = False
    assert threads.unstalled_threads() == 1 and probes == [4]
    now[0] += threads.STALL_MEMORY_S + 1
    assert threads.unstalled_threads() == 4 and probes == [4, 4]
    monkeypatch.setattr(threads, "available_threads", lambda: 1)
    assert threads.unstalled_threads() == 1 and probes == [4, 4], "one thread needs no probe"
