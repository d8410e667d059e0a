"""Processes of one machine that train together: their collectives, their threads, and their end."""

import os
import random
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway import worker_team as teams
from headway.distributed import (
    all_gather,
    all_gather_int,
    all_gather_rows,
    all_sum,
    average_gradients,
    barrier,
    broadcast_object,
    rank,
    single_process,
    world_size,
)
from headway.utils.threads import torch_threads
from headway.worker_team import SECTION_BYTES, worker_team
from tests.errors import raises
from tests.processes import is_running, run_in_team

DTYPES = [torch.float32, torch.float64, torch.int32, torch.int64]


def values_of(process, count, dtype, seed=0):
    generator = torch.Generator().manual_seed(1000 * seed + process)
    if dtype.is_floating_point:
        return torch.randn(count, dtype=dtype, generator=generator)
    return torch.randint(-1000, 1000, (count,), dtype=dtype, generator=generator)


def summed(counts, dtype):
    return [all_sum(values_of(rank(), count, dtype)) for count in counts]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_have_the_same_bits_on_each_process(processes, dtype, monkeypatch):
    monkeypatch.setattr(teams, "BUFFER_BYTES", 3 * SECTION_BYTES)
    section, buffer = SECTION_BYTES // dtype.itemsize, 3 * SECTION_BYTES // dtype.itemsize
    counts = [1, 2, section - 1, section, section + 1, buffer, buffer + 1, 2 * buffer + section + 7]
    results = run_in_team(processes, summed, counts, dtype)
    for number, count in enumerate(counts):
        expected = torch.stack([values_of(process, count, dtype) for process in range(processes)]).sum(0).to(dtype)
        found = [sums[number] for sums in results]
        assert found[0].dtype == dtype and all(torch.equal(found[0], other) for other in found[1:])
        torch.testing.assert_close(found[0], expected)


@settings(max_examples=15, deadline=None)
@given(
    processes=st.integers(2, 4),
    dtype=st.sampled_from(DTYPES),
    buffer=st.integers(1, 40),
    section=st.integers(0, 400),
    counts=st.lists(st.integers(0, 120), min_size=1, max_size=6),
)
def test_sums_and_gathers_of_any_size_through_buffers_of_any_size(processes, dtype, buffer, section, counts):
    def both():
        own = [values_of(rank(), count, dtype).round() for count in counts]  # whole numbers add up exactly
        return [(all_sum(x), all_gather(x)) for x in own]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teams, "BUFFER_BYTES", 8 * buffer)
        patch.setattr(teams, "SECTION_BYTES", section)
        results = run_in_team(processes, both)
    for number, count in enumerate(counts):
        rows = torch.stack([values_of(process, count, dtype).round() for process in range(processes)])
        for result in results:
            total, gathered = result[number]
            assert torch.equal(gathered, rows) and torch.equal(total, rows.sum(0).to(dtype))


def collectives_in_a_hurry(count):
    """Collectives of random kinds and sizes, before which each process waits for a different time."""
    alike, own, failures = random.Random(0), random.Random(rank() + 1), 0
    for turn in range(count):
        kind, size = alike.choice(["sum", "gather", "object"]), alike.choice([1, 3, 20, 5000])
        if own.random() < 0.2:
            time.sleep(own.random() * 5e-4)
        x = torch.full((size,), float(turn * world_size() + rank()), dtype=torch.float64)
        parts = turn * world_size() + torch.arange(world_size(), dtype=torch.float64)
        if kind == "sum":
            failures += not torch.equal(all_sum(x), parts.sum().expand(size))
        elif kind == "gather":
            failures += not torch.equal(all_gather(x), parts[:, None].expand(-1, size))
        else:
            failures += broadcast_object([turn, rank()]) != [turn, 0]
    return failures


@pytest.mark.parametrize("processes", [2, 3])
def test_a_fast_process_overwrites_nothing_that_a_slow_one_has_not_read(processes):
    assert run_in_team(processes, collectives_in_a_hurry, 200) == [0] * processes


def gathered_objects():
    plain = {"a": [1, 2.5, None, "ü"], "b": {"c": True}} if rank() == 0 else "not this one"
    long = ["x" * 3000] * 3 if rank() == 0 else None
    matrix = torch.arange(6.0).view(2, 3).T + rank()  # not contiguous
    flags = torch.tensor([rank() == 0, True])
    return (
        broadcast_object(plain),
        broadcast_object(long),
        all_gather(matrix),
        all_gather(flags),
        all_gather_int(rank()),
    )


def test_objects_and_tensors_are_gathered():
    for plain, long, matrices, flags, ranks in run_in_team(2, gathered_objects):
        assert plain == {"a": [1, 2.5, None, "ü"], "b": {"c": True}} and long == ["x" * 3000] * 3 and ranks == [0, 1]
        assert torch.equal(matrices, torch.stack([torch.arange(6.0).view(2, 3).T + process for process in (0, 1)]))
        assert flags.tolist() == [[True, True], [False, True]]


ROWS = [3, 0, 2]
"""Rows of each process."""


def gather_uneven_rows():
    begin = sum(ROWS[: rank()])
    x = torch.arange(15.0, dtype=torch.float64).view(5, 3)[begin : begin + ROWS[rank()]].clone().requires_grad_()
    rows, start = all_gather_rows(x)
    (rows.square().sum() * (rank() + 1)).backward()
    return rows.detach(), start, x.grad


def test_uneven_rows_are_gathered_with_their_gradients():
    every = torch.arange(15.0, dtype=torch.float64).view(5, 3)
    results = run_in_team(3, gather_uneven_rows)
    assert [start for _, start, _ in results] == [0, 3, 3]
    assert all(torch.equal(rows, every) for rows, _, _ in results)
    torch.testing.assert_close(torch.cat([gradient for _, _, gradient in results]), 2 * every * (1 + 2 + 3))


def averaged():
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), ())]
    for number, parameter in enumerate(parameters[:2]):
        parameter.grad = torch.full(parameter.shape, float(10 * number + rank()))
    parameters[0].grad = parameters[0].grad.T.contiguous().T  # a layout of its own, as convolutions have
    average_gradients(parameters)
    return [parameter.grad for parameter in parameters]


def test_gradients_are_averaged():
    for first, second, none in run_in_team(2, averaged):
        assert torch.equal(first, torch.full((2, 3), 0.5)) and torch.equal(second, torch.full((4,), 10.5))
        assert none is None


def test_each_process_computes_on_one_thread_and_the_number_is_restored():
    with torch_threads(2):
        assert run_in_team(2, torch.get_num_threads) == [1, 1]
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), worker_team(2):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2


def numbers():
    with single_process():
        alone = world_size(), rank()
    return os.getpid(), rank(), world_size(), alone


def test_ranks_are_those_of_different_processes_and_end_with_the_block():
    results = run_in_team(3, numbers)
    assert len({process for process, *_ in results}) == 3 and results[0][0] == os.getpid()
    assert [rest for _, *rest in results] == [[number, 3, (1, 0)] for number in range(3)]
    assert (world_size(), rank()) == (1, 0)


def test_a_team_of_one_and_a_nested_team_simply_run(monkeypatch):
    def nested():
        with worker_team(3):
            return all_gather_int(os.getpid())

    first, second = run_in_team(2, nested)
    assert first == second and len(set(first)) == 2
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a team of one has started a process"))
    with torch_threads(2), worker_team(1):
        assert world_size() == 1 and torch.get_num_threads() == 2


def test_no_process_remains():
    with worker_team(3):
        processes = all_gather_int(os.getpid())
    assert processes[0] == os.getpid() and not any(map(is_running, processes[1:]))
    with pytest.raises(ZeroDivisionError), worker_team(3):
        processes = all_gather_int(os.getpid())
        if rank() == 0:
            raise ZeroDivisionError
        barrier()  # nobody else comes
    assert not any(map(is_running, processes[1:]))


def test_no_process_remains_where_one_cannot_be_started(monkeypatch):
    honest, started = os.fork, []

    def fork():
        if started:
            raise OSError(11, "Resource temporarily unavailable")
        if process := honest():
            started.append(process)
        return process

    monkeypatch.setattr(os, "fork", fork)
    with (
        raises("processes-unsupported"),
        worker_team(3),
    ):
        pytest.fail("the block has run")
    assert started and not any(map(is_running, started)) and world_size() == 1


def test_what_other_processes_change_stays_with_them():
    changed = torch.zeros(2)
    with worker_team(2):
        changed[rank()] = 1.0
        barrier()
    assert changed.tolist() == [1.0, 0.0]


def test_without_forks_the_error_names_the_launcher(monkeypatch):
    monkeypatch.setattr(teams, "CAN_FORK", False)
    with raises("processes-unsupported", "--nproc-per-node"), worker_team(4):
        pytest.fail("the block has run")
    with worker_team(1):
        pass
