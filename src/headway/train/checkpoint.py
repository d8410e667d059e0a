"""Checkpoints: ``state/STEP/`` holds weights, moments and position; the last two whole ones are kept.

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
        state: Plain data: ``step`` taken, and whatever else the loop wants back.
    """

    weights: Tensors
    moments: Tensors
    state: dict[str, Any]


def save(run: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``run``; of the others only the one before it is kept.

    Raises:
        HeadwayError: Where it cannot be written (no space left, say); older checkpoints are then untouched.
    """
    folder = run / "state" / f"{checkpoint.state['step']:08d}"
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
    keep = [path for path in found if path <= folder][-KEEP:]
    for other in found:
        if other not in keep:
            shutil.rmtree(other)
    return folder


def steps(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; temporary ones do not count."""
    return sorted(path for path in (run / "state").glob("[0-9]*") if path.is_dir())


def latest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, and what was wrong with each newer one that had to be passed over."""
    faults: list[str] = []
    for folder in reversed(steps(run)):
        try:
            return _load(folder), faults
        except HeadwayError as error:
            faults.append(f"{folder.name}: {error}")
    return None, faults


def newest(run: Path) -> int | None:
    """The step of the newest whole checkpoint, which ``latest`` would load; None where there is none."""
    for folder in reversed(steps(run)):
        with suppress(HeadwayError):
            return int(_verified(folder)["step"])
    return None


def _load(folder: Path) -> Checkpoint:
    state = _verified(folder)
    try:
        return Checkpoint(load_file(folder / WEIGHTS), load_file(folder / MOMENTS), state)
    except SafetensorError as error:
        raise HeadwayError(f"cannot read {folder}: {error}") from error


def _verified(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint, all of whose files are as they were written. Raises HeadwayError."""
    state = read_json(folder / STATE)
    if not isinstance(state, dict) or state.pop("check", None) != _check(state):
        raise HeadwayError(f"{folder / STATE} is damaged (its check is not the recorded one)")
    for name in (WEIGHTS, MOMENTS):
        path = folder / name
        if not path.is_file() or digest(path) != state.get("sha256", {}).get(name):
            raise HeadwayError(f"{path} is missing or damaged (its SHA-256 is not the recorded one)")
    return state


def _check(state: dict[str, Any]) -> int:
    """A number that changes with anything in the state."""
    return hashed(json.dumps(state, sort_keys=True))


def _plain(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
