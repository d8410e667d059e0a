"""What run.json must hold: the keys, and of which type each is, so that whoever reads one may rely on it."""

from pathlib import Path
from typing import Any, Literal, get_type_hints

from headway.backbones.vit import ViTConfig
from headway.errors import HeadwayError
from headway.plain import misfit
from headway.protocol import Inputs
from headway.train.job import Job
from headway.train.plan import Plan

FREE = ("accumulate", "recompute", "on_collapse")
"""What a resumed run may be asked for otherwise than when it began."""

STRETCH = {
    "step": int, **{name: get_type_hints(Plan)[name] for name in (*FREE, "shard")},
    "processor": str, "threads": int, "device": str, "processes": int, "versions": dict[str, str],
}  # fmt: skip
SHAPE: dict[str, Any] = {
    "schema": int,
    "task": str,
    "size": int,
    "job": {**get_type_hints(Job), "recipe": dict[str, Any]},  # whose own shape the task knows
    "plan": get_type_hints(Plan),
    "measured": dict[str, Any],
    "architecture": {"kind": Literal["vit", "timm"], "size": int, "inputs": get_type_hints(Inputs)},
    "data": {"pictures": int, "side": int, "fingerprint": str, "skipped": int},
    "stretches": list[dict[str, Any]],
    "commit": str | None,
    "began": str,
}
"""Keys that a record must have, and what they hold."""
RESULT = {
    "run": str, "task": str, "steps": int, "seconds": float, "images_per_second": float, "loss": float | None,
}  # fmt: skip
"""The same of a finished run's ``result``; a loss that is no number is null."""


def damaged(file: str | Path, fault: object) -> HeadwayError:
    """The error for a record that cannot be what Headway wrote."""
    return HeadwayError(f"{file} is damaged: {fault}; mend it, or train the run again")


def unlike_a_record(record: dict[str, Any]) -> str | None:
    """The first key of a record that is missing or holds what it cannot; None where all is well."""
    shape: dict[str, Any] = dict(SHAPE)
    if isinstance(about := record.get("architecture"), dict):
        told = about["inputs"] if isinstance(about.get("inputs"), dict) else {}
        known = get_type_hints(ViTConfig) if about.get("kind") == "vit" else {"model": str}
        given = {name: hint for name, hint in known.items() if name in about}  # older records know of fewer choices
        inputs = {name: hint for name, hint in get_type_hints(Inputs).items() if name != "pages" or name in told}
        shape["architecture"] = {**given, **SHAPE["architecture"], "inputs": inputs}
    if record.get("status") == "finished":
        shape["result"] = RESULT
    if fault := misfit(record, shape):
        return fault
    if not record["stretches"]:
        return "stretches is empty"
    for number, stretch in enumerate(record["stretches"]):
        if fault := misfit(stretch, STRETCH, f"stretches[{number}]"):
            return fault
    if odd := record["plan"].keys() - SHAPE["plan"].keys():
        return f"plan.{min(odd)} is not known"
    try:
        Plan(**record["plan"])
    except HeadwayError as error:
        return str(error)
    low = next((key for key in ("side", "pictures") if record["data"][key] < 1), None)
    return f"data.{low} is {record['data'][low]}, not above 0" if low else None
