"""Fixtures of all tests: one thread, a separate cache, and real images where they lie beside the project."""

from pathlib import Path

import pytest
import torch

from headway.train.engine.workers import WorkerChoice
from headway.train.plan import make_plan as planning
from tests.processes import Workers

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def unmeasured():
    """Runs skip the measurements, which take most of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "select_fastest", lambda train_module, images, plan, optim, **_: (plan, {}))
        patch.setattr(planning, "select_workers", lambda module, images, plan, *_, **__: WorkerChoice(plan, 0.02, {}))
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
