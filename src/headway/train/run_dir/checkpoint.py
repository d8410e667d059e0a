"""Checkpoints: ``state/STEP/`` holds weights, optimizer state and position; the last two valid ones are kept.

Where both were taken during trouble, the last healthy one is kept as well, since a rollback returns to it. A folder is
written under a temporary name, flushed, then renamed, so that a kill at any instant leaves a valid checkpoint.
``state.json`` is written last and holds the SHA-256 of the other files: a flipped byte is detected, and the previous
checkpoint is used. Nothing is pickled.
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from headway.errors import HeadwayError
from headway.utils.files import atomic_write, file_sha256, read_json, to_json, write_json
from headway.utils.hashing import stable_hash

MAX_KEPT = 2
WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE = "train_module.safetensors", "optimizer.safetensors", "state.json"
Tensors = dict[str, torch.Tensor]


class Checkpoint(NamedTuple):
    """Everything that a run needs to continue.

    Attributes:
        weights: The state dict of the TrainModule: ``backbone.* | task.*``.
        optimizer_state: The optimizer's tensors by ``moment/parameter``.
        state: Plain data: ``step``, ``healthy`` (False where it was taken during trouble), and whatever else the loop
            stores.
    """

    weights: Tensors
    optimizer_state: Tensors
    state: dict[str, Any]


def save(run: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint below ``run``; of the others, keep only the one before it and the last healthy one.

    Raises:
        HeadwayError: It cannot be written (no space left, say); older checkpoints are then untouched.
    """
    folder = _step_folder(run, checkpoint.state["step"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():  # a resumed run may reach the step of a damaged one again
        shutil.rmtree(folder)

    def write(temporary: Path) -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(_to_cpu(checkpoint.weights), temporary / WEIGHTS_FILE)
        save_file(_to_cpu(checkpoint.optimizer_state), temporary / OPTIMIZER_FILE)
        digests = {name: file_sha256(temporary / name) for name in (WEIGHTS_FILE, OPTIMIZER_FILE)}
        state = json.loads(
            to_json({**checkpoint.state, "sha256": digests})
        )  # the checksum is of the state as it reads back
        write_json(temporary / STATE_FILE, {**state, "checksum": _checksum(state)})

    atomic_write(folder, write)
    found = step_folders(run)  # later ones were passed over as damaged; they must not displace this one
    known = [path for path in found if path <= folder]
    keep = [*known[-MAX_KEPT:], next((path for path in reversed(known) if _is_healthy(path)), folder)]
    for other in found:
        if other not in keep:
            shutil.rmtree(other)
    return folder


def delete_after(run: Path, step: int) -> None:
    """Delete the checkpoints of later steps, the last one first, after a rollback."""
    for folder in reversed(step_folders(run)):
        if folder > _step_folder(run, step):
            shutil.rmtree(folder)


def step_folders(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; temporary ones do not count."""
    return sorted(path for path in (run / "state").glob("[0-9]*") if path.is_dir())


def load_latest(run: Path, *, healthy: bool = False) -> tuple[Checkpoint | None, list[str]]:
    """Load the newest valid checkpoint.

    Args:
        run: The run folder.
        healthy: Ignore those that were taken during trouble.

    Returns:
        The checkpoint, None where there is none; and the errors of newer ones that are damaged.
    """
    errors: list[str] = []
    for folder in reversed(step_folders(run)):
        try:
            found = _load(folder)
        except HeadwayError as error:
            errors.append(f"{folder.name}: {error}")
            continue
        if found.state.get("healthy", True) or not healthy:
            return found, errors
    return None, errors


def latest_step(run: Path) -> int | None:
    """The step of the newest valid checkpoint, which ``load_latest`` would load; None where there is none."""
    for folder in reversed(step_folders(run)):
        with suppress(HeadwayError):
            return int(_read_verified_state(folder)["step"])
    return None


def _step_folder(run: Path, step: int) -> Path:
    return run / "state" / f"{step:08d}"


def _is_healthy(folder: Path) -> bool:
    """Whether a checkpoint was not taken during trouble; False where its state is damaged."""
    with suppress(HeadwayError):
        return bool(_read_state(folder).get("healthy", True))
    return False


def _load(folder: Path) -> Checkpoint:
    state = _read_verified_state(folder)
    try:
        return Checkpoint(load_file(folder / WEIGHTS_FILE), load_file(folder / OPTIMIZER_FILE), state)
    except SafetensorError as error:
        raise HeadwayError("checkpoint-damaged", f"cannot read {folder}: {error}") from error


def _read_verified_state(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint, after the SHA-256 of all its files was checked. Raises HeadwayError."""
    state = _read_state(folder)
    for name in (WEIGHTS_FILE, OPTIMIZER_FILE):
        path = folder / name
        if not path.is_file() or file_sha256(path) != state.get("sha256", {}).get(name):
            raise HeadwayError(
                "checkpoint-damaged", f"{path} is missing or damaged (its SHA-256 is not the recorded one)"
            )
    return state


def _read_state(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint, after its own checksum was checked. Raises HeadwayError."""
    state = read_json(folder / STATE_FILE)
    if not isinstance(state, dict) or state.pop("checksum", None) != _checksum(state):
        raise HeadwayError(
            "checkpoint-damaged", f"{folder / STATE_FILE} is damaged (its checksum is not the recorded one)"
        )
    return state


def _checksum(state: dict[str, Any]) -> int:
    """A hash of the state."""
    return stable_hash(json.dumps(state, sort_keys=True))


def _to_cpu(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
