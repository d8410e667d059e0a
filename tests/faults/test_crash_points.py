"""A crash after each file operation: the resumed run ends in the same bits."""

import pytest

from headway.train.run_dir import checkpoint
from headway.utils.files import remove_stale_temps
from tests.faults.power import Power, PowerCut
from tests.small import max_difference, train

STEPS, EVERY = 6, 2


def go(folder, **more):
    return train("rotation", STEPS, batch=6, precision="float32", run=str(folder), save_every=EVERY, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of an uninterrupted run, and its file operations."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        power = Power(patch, folder)
        weights = go(folder)
    assert [path.name for path in checkpoint.step_folders(folder)] == ["00000004", "00000006"]
    return weights, power.log


def test_every_write_is_flushed_and_renamed_and_its_folder_flushed(whole):
    log = whole[1]
    assert len(log) > 40 and {entry.split()[0] for entry in log} >= {"write", "fsync", "replace", "mkdir", "rmtree"}
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.OPTIMIZER_FILE):
        assert log.count(f"write {name}") == log.count(f"fsync {name}") == 1 + STEPS // EVERY
    written = [
        entry for entry in log if entry.startswith("write") and checkpoint.STATE_FILE in entry
    ]  # by a temporary name
    assert len(written) == 1 + STEPS // EVERY


@pytest.mark.slow
@pytest.mark.parametrize("tear", [False, True], ids=["killed", "power cut"])
def test_a_run_resumes_to_the_same_bits_after_a_crash_at_any_operation(whole, tear, tmp_path):
    weights, log = whole
    for point, operation in enumerate(log):
        folder = tmp_path / f"{point}"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            Power(patch, folder, cut_after=point, tear=tear)
            with pytest.raises(PowerCut):
                go(folder)
        remove_stale_temps(folder, folder / "state")  # as run_pretraining does first
        ended = go(folder, resume=True)
        assert max_difference(weights, ended) == 0.0, f"after operation {point}: {operation}"
        assert [path.name for path in (folder / "state").iterdir() if path.name.startswith(".")] == []


def test_two_crashes_in_a_row(whole, tmp_path):
    weights, log = whole
    for first in range(5, len(log), 11):
        folder = tmp_path / f"{first}"
        folder.mkdir()
        for cut in (first, 9):
            with pytest.MonkeyPatch.context() as patch:
                Power(patch, folder, cut_after=cut, tear=True)
                with pytest.raises(PowerCut):
                    go(folder, resume=True)
                    raise PowerCut  # too close to the end for another write
        assert max_difference(weights, go(folder, resume=True)) == 0.0
