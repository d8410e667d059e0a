"""Checkpoints: ``state/STEP/`` holds weights, moments and position; the last two whole ones are kept.

Where both were taken amid trouble, the last one from before it is kept beside them: a run in trouble goes back to that.
A folder is written under a temporary name, flushed, then renamed, so that a kill at any instant leaves a whole one.
``state.json`` is written last and holds the SHA-256 of the other files: a flipped byte is noticed, and the checkpoint
before is used. Nothing is pickled.
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from headway.draws import hashed
from headway.errors import HeadwayError
from headway.files import digest, read_json, to_json, write_json, write_whole

KEEP = 2
WEIGHTS, MOMENTS, STATE = "learner.safetensors", "optimizer.safetensors", "state.json"
Tensors = dict[str, torch.Tensor]


class Checkpoint(NamedTuple):
    """Everything that a run needs to go on.

    Attributes:
        weights: The learner's state dict: ``backbone.* | task.*``.
        moments: The optimizer's tensors by ``moment/parameter``.
        state: Plain data: ``step`` taken, ``sound`` (False where it was taken amid trouble), and whatever else the
            loop wants back.
    """

    weights: Tensors
    moments: Tensors
    state: dict[str, Any]


def save(run: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``run``; of the others only the one before it and the last sound one are kept.

    Raises:
        HeadwayError: Where it cannot be written (no space left, say); older checkpoints are then untouched.
    """
    folder = _folder(run, checkpoint.state["step"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():  # a resumed run may reach the step of a damaged one again
        shutil.rmtree(folder)

    def write(temporary: Path) -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(_plain(checkpoint.weights), temporary / WEIGHTS)
        save_file(_plain(checkpoint.moments), temporary / MOMENTS)
        digests = {name: digest(temporary / name) for name in (WEIGHTS, MOMENTS)}
        state = json.loads(to_json({**checkpoint.state, "sha256": digests}))  # checked as it reads back
        write_json(temporary / STATE, {**state, "check": _check(state)})

    write_whole(folder, write)
    found = steps(run)  # later ones were passed over as damaged: they must not push out this one
    known = [path for path in found if path <= folder]
    keep = [*known[-KEEP:], next((path for path in reversed(known) if _sound(path)), folder)]
    for other in found:
        if other not in keep:
            shutil.rmtree(other)
    return folder


def forget(run: Path, step: int) -> None:
    """Remove the checkpoints of later steps, the last one first: the run has gone back and takes these steps anew."""
    for folder in reversed(steps(run)):
        if folder > _folder(run, step):
            shutil.rmtree(folder)


def steps(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; temporary ones do not count."""
    return sorted(path for path in (run / "state").glob("[0-9]*") if path.is_dir())


def latest(run: Path, *, sound: bool = False) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and what was wrong with each newer one that had to be passed over.

    Args:
        run: The run folder.
        sound: Leave out those that were taken amid trouble.
    """
    faults: list[str] = []
    for folder in reversed(steps(run)):
        try:
            found = _load(folder)
        except HeadwayError as error:
            faults.append(f"{folder.name}: {error}")
            continue
        if found.state.get("sound", True) or not sound:
            return found, faults
    return None, faults


def newest(run: Path) -> int | None:
    """The step of the newest whole checkpoint, which ``latest`` would load; None where there is none."""
    for folder in reversed(steps(run)):
        with suppress(HeadwayError):
            return int(_verified(folder)["step"])
    return None


def _folder(run: Path, step: int) -> Path:
    return run / "state" / f"{step:08d}"


def _sound(folder: Path) -> bool:
    """Whether a checkpoint, by its own word, was not taken amid trouble; one whose state is damaged has no word."""
    with suppress(HeadwayError):
        return bool(_stated(folder).get("sound", True))
    return False


def _load(folder: Path) -> Checkpoint:
    state = _verified(folder)
    try:
        return Checkpoint(load_file(folder / WEIGHTS), load_file(folder / MOMENTS), state)
    except SafetensorError as error:
        raise HeadwayError(f"cannot read {folder}: {error}") from error


def _verified(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint, all of whose files are as they were written. Raises HeadwayError."""
    state = _stated(folder)
    for name in (WEIGHTS, MOMENTS):
        path = folder / name
        if not path.is_file() or digest(path) != state.get("sha256", {}).get(name):
            raise HeadwayError(f"{path} is missing or damaged (its SHA-256 is not the recorded one)")
    return state


def _stated(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint, itself as it was written. Raises HeadwayError."""
    state = read_json(folder / STATE)
    if not isinstance(state, dict) or state.pop("check", None) != _check(state):
        raise HeadwayError(f"{folder / STATE} is damaged (its check is not the recorded one)")
    return state


def _check(state: dict[str, Any]) -> int:
    """A number that changes with anything in the state."""
    return hashed(json.dumps(state, sort_keys=True))


def _plain(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
