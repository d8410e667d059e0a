"""Decide whether a run folder is free, can be resumed, or is finished."""

from pathlib import Path
from typing import Any

from headway.backbones.weights import WEIGHTS_FILE
from headway.errors import HeadwayError
from headway.train.config import PretrainConfig
from headway.train.run_dir.record import RECORD_FILE, read_record
from headway.train.run_dir.record_schema import CHANGEABLE_ON_RESUME
from headway.utils.files import is_temporary
from headway.utils.locks import LOCK_FILE
from headway.utils.serialize import serialize

DECODE_CACHE = "cache"
"""Folder in the run for decoded images that do not fit into memory; it is removed at the end of the run."""


def record_to_resume(config: PretrainConfig, out: Path, resume: bool) -> dict[str, Any] | None:
    """The record of the run to resume; None where the folder is free.

    Raises:
        HeadwayError: The folder holds something else, or a run with another config, or ``resume`` is False.
    """
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not out.exists() or all(name in (DECODE_CACHE, LOCK_FILE) or is_temporary(name) for name in names):
        return None  # an attempt that ended before its start leaves decoded images, its lock and temporary files
    if not (out / RECORD_FILE).is_file():
        raise HeadwayError(
            "run-exists",
            f"{out} exists and is no run (it holds no {RECORD_FILE}), so --resume cannot help; choose another --out",
        )
    if not resume:
        raise HeadwayError("run-exists", f"{out} exists; add --resume to continue it, or choose another --out")
    record = read_record(out)
    free = {*CHANGEABLE_ON_RESUME, "processes", "threads"}
    changed = [key for key in _changed_keys(serialize(config), record["config"]) if key not in free]
    if changed:
        raise HeadwayError(
            "resume-differs",
            f"{out} was started with another {', '.join(changed)}; repeat its command, or choose another --out",
        )
    return record


def is_finished(record: dict[str, Any], out: Path) -> bool:
    """Whether the run of a record is finished and has its weights."""
    return record.get("status") == "finished" and (out / WEIGHTS_FILE).is_file()


def recorded_result(record: dict[str, Any]) -> dict[str, Any]:
    """The result of a finished run; null, which stands for NaN in JSON, becomes NaN again."""
    result = dict(record["result"])
    return {**result, "loss": float("nan") if result["loss"] is None else result["loss"]}


def _changed_keys(now: Any, then: Any, key: str = "") -> list[str]:
    """Names of the fields that differ between two serialized configs."""
    if not (isinstance(now, dict) and isinstance(then, dict)):
        return [key] if now != then else []
    names = [*now, *(then.keys() - now.keys())]
    return [found for n in names for found in _changed_keys(now.get(n), then.get(n), f"{key}.{n}".lstrip("."))]
