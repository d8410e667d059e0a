"""The schema of run.json: its keys and their types."""

from pathlib import Path
from typing import Any, Literal, get_type_hints

from headway.backbones.vit_config import ViTConfig
from headway.errors import HeadwayError
from headway.protocol import InputSpec
from headway.train.config import Plan, PretrainConfig
from headway.utils.serialize import type_mismatch

CHANGEABLE_ON_RESUME = ("grad_accum", "activation_checkpointing", "on_collapse")
"""Settings that may differ when a run is resumed."""

SEGMENT_SCHEMA = {
    "step": int, **{name: get_type_hints(Plan)[name] for name in (*CHANGEABLE_ON_RESUME, "fsdp")},
    "processor": str, "threads": int, "device": str, "processes": int, "versions": dict[str, str],
}  # fmt: skip
RECORD_SCHEMA: dict[str, Any] = {
    "schema": int,
    "task": str,
    "size": int,
    "config": {**get_type_hints(PretrainConfig), "recipe": dict[str, Any]},  # its own schema is the task's config
    "plan": get_type_hints(Plan),
    "measurements": dict[str, Any],
    "architecture": {"kind": Literal["vit", "timm"], "size": int, "input_spec": get_type_hints(InputSpec)},
    "data": {"images": int, "side": int, "fingerprint": str, "skipped": int},
    "segments": list[dict[str, Any]],
    "commit": str | None,
    "started_at": str,
}
"""Keys that a record must have, and the types of their values."""
RESULT_SCHEMA = {
    "run": str, "task": str, "steps": int, "seconds": float, "images_per_second": float, "loss": float | None,
}  # fmt: skip
"""The same for the ``result`` of a finished run; a loss of NaN is null."""


def damaged_record_error(file: str | Path, reason: object) -> HeadwayError:
    """The error for a record that Headway cannot have written."""
    return HeadwayError("run-damaged", f"{file} is damaged: {reason}; repair it, or train the run again")


def schema_error(record: dict[str, Any]) -> str | None:
    """Why a record does not match the schema: its first missing or wrong key; None where it matches."""
    schema: dict[str, Any] = dict(RECORD_SCHEMA)
    if isinstance(architecture := record.get("architecture"), dict):
        own = get_type_hints(ViTConfig) if architecture.get("kind") == "vit" else {"model": str}
        schema["architecture"] = {**own, **RECORD_SCHEMA["architecture"]}
    if record.get("status") == "finished":
        schema["result"] = RESULT_SCHEMA
    if reason := type_mismatch(record, schema):
        return reason
    if not record["segments"]:
        return "segments is empty"
    for number, segment in enumerate(record["segments"]):
        if reason := type_mismatch(segment, SEGMENT_SCHEMA, f"segments[{number}]"):
            return reason
    if unknown := record["plan"].keys() - RECORD_SCHEMA["plan"].keys():
        return f"plan.{min(unknown)} is not known"
    try:
        Plan(**record["plan"])
    except HeadwayError as error:
        return str(error)
    low = next((key for key in ("side", "images") if record["data"][key] < 1), None)
    return f"data.{low} is {record['data'][low]}, not above 0" if low else None
