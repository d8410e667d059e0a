"""Fixtures of all tests: one thread, a separate cache, and real images where they lie beside the project."""

import os
import signal
from pathlib import Path

# A team of OpenMP or OpenBLAS threads waits awake for its slowest thread: beside a busy program it takes many times as
# long as one thread. The libraries read these variables when they are loaded, and the commands that tests start inherit
# them. A test that needs more threads sets their number itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import pytest
import torch

from tests.processes import Workers
from tests.small import skip_measurements

SHARED = Path(__file__).parent.parent.parent / "shared"


torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # whatever an earlier test left


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def unmeasured():
    """Runs skip the measurements, which take most of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        skip_measurements(patch)
        yield


@pytest.fixture(scope="session")
def workers():
    """``workers(n)``: n processes in one group, started once and shared by all tests."""
    groups: dict[int, Workers] = {}

    def get(size: int) -> Workers:
        if size not in groups:
            groups[size] = Workers(size)
        return groups[size]

    yield get
    for group in groups.values():
        group.close()


@pytest.fixture(scope="session")
def shared():
    """The folder of real images; tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("no real images beside the project (../shared)")
    return SHARED


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal: a shell makes background processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
