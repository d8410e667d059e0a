"""``run.json``: the record of a run, with its config and every choice that was made for it.

A record names types, but nothing is imported by these names: a caller passes in the recipe of the task that the user
named, and the types come from there.
"""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from headway.backbones.build import to_config
from headway.config import Recipe
from headway.data.dataset.image_store import ImageStore
from headway.distributed import world_size
from headway.errors import HeadwayError
from headway.protocol import TrainModule
from headway.train.config import Plan, PretrainConfig, is_timm
from headway.train.run_dir.record_schema import CHANGEABLE_ON_RESUME, damaged_record_error, schema_error
from headway.utils.files import read_json
from headway.utils.serialize import deserialize, serialize

SCHEMA_VERSION = 1
"""Version of the schema of run.json."""
RECORD_FILE = "run.json"
PACKAGES = ("headway", "torch", "torchvision", "lightning-fabric", "timm", "safetensors")


def new_record(
    config: PretrainConfig,
    store: ImageStore,
    train_module: TrainModule,
    plan: Plan,
    measurements: dict[str, Any],
    size: int,
) -> Any:
    """The record of a run that starts now."""
    return {
        "schema": SCHEMA_VERSION,
        "task": config.task,
        "config": serialize(config),
        "plan": asdict(plan),
        "measurements": measurements,
        "size": size,
        "architecture": to_config(train_module.backbone),
        "data": {
            "images": len(store.images), "side": store.side, "fingerprint": store.fingerprint,
            "skipped": len(store.skipped),
        },
        "segments": [new_segment(plan, 0)],
        "commit": _git_commit(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def new_segment(plan: Plan, step: int) -> dict[str, Any]:
    """What the part of a run after ``step`` depends on bit for bit, besides its config.

    A run that is resumed has a segment for each part.
    """
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {
        "step": step, **{name: getattr(plan, name) for name in (*CHANGEABLE_ON_RESUME, "fsdp")}, **machine_info(plan),
        "versions": versions,
    }  # fmt: skip


def resumed_record(record: dict[str, Any], plan: Plan, step: int) -> dict[str, Any]:
    """The record of a run that is resumed after ``step``. Later segments are dropped: their steps are taken again."""
    earlier = [segment for segment in record["segments"] if segment["step"] < step]
    config = {**record["config"], **{name: getattr(plan, name) for name in CHANGEABLE_ON_RESUME}}
    return {**record, "config": config, "plan": asdict(plan), "segments": [*earlier, new_segment(plan, step)]}


def record_with_changes(record: dict[str, Any], changes: Sequence[dict[str, int]]) -> dict[str, Any]:
    """The record of a run whose plan changed on the way: a segment begins with each change."""
    segments = []
    for step in sorted({part["step"] for part in (*record["segments"], *changes)}):
        segment = [segment for segment in record["segments"] if segment["step"] <= step][-1]
        in_force = {k: v for change in changes if change["step"] <= step for k, v in change.items() if k in segment}
        segments.append({**segment, **in_force, "step": step})
    return {**record, "plan": {**record["plan"], "changes": list(changes)}, "segments": segments}


def read_record(run: Path) -> dict[str, Any]:
    """Read and check the record of a run.

    Args:
        run: Its folder, or the file itself.

    Raises:
        HeadwayError: No record, a damaged one, or one of another schema.
    """
    file = run / RECORD_FILE if run.is_dir() else run
    if not file.is_file():
        raise HeadwayError(
            "run-not-found",
            f"no run in '{run}' (it holds no {RECORD_FILE}); give the folder that headway pretrain wrote",
        )
    record = read_json(file)
    schema = record.get("schema") if isinstance(record, dict) else None
    if type(schema) is not int or schema < 1:  # True is an int, too
        raise HeadwayError("run-damaged", f"{file} is no record of a run (it has no schema)")
    if schema != SCHEMA_VERSION:
        raise HeadwayError(
            "run-version", f"{file} has schema {schema}; this version reads schema {SCHEMA_VERSION}; update headway"
        )
    if reason := schema_error(record):
        raise damaged_record_error(file, reason)
    return record


def config_of(record: dict[str, Any], task: str, recipe: Recipe, file: str | Path = RECORD_FILE) -> PretrainConfig:
    """The config in a record.

    Args:
        record: From ``read_record``.
        task: The task that the record must be of, as the user named it.
        recipe: The default recipe of that task, which gives the types.
        file: The record's file, for error messages.

    Raises:
        HeadwayError: The record is of another task, or damaged.
    """
    if record.get("task") != task:
        raise HeadwayError(
            "resume-differs",
            f"{file} is of a run of the task {record.get('task')}, not of {task}; name the task that it is of",
        )
    try:
        known = {field.name for field in fields(PretrainConfig)} - {"task", "recipe"}
        choices = {name: record["config"][name] for name in known}
        return PretrainConfig(
            task=task, recipe=deserialize(record["config"]["recipe"], recipe, key="config.recipe"), **choices
        )
    except HeadwayError as error:
        raise damaged_record_error(file, error) from error


def recipe_for(task: str, default_recipe: Recipe, run: str, out: str = "") -> Recipe:
    """The recipe to start from: that of the run to continue or reproduce where it is of this task, else the default.

    Args:
        task: The task that the user named.
        default_recipe: Its default recipe.
        run: The run to continue or reproduce; empty: neither.
        out: The run to resume, where one is: its own record counts more than that of the run it started from.
    """
    own_run = out if out and (Path(out) / RECORD_FILE).is_file() else ""
    record = read_record(Path(own_run or run)) if run else {}
    if record.get("task") != task:
        return default_recipe
    return config_of(record, task, default_recipe, own_run or run).recipe


def reproduced_config(
    record: dict[str, Any], given: PretrainConfig, default_recipe: Recipe, file: str | Path = RECORD_FILE
) -> PretrainConfig:
    """The config of the run to reproduce. Raises HeadwayError where the user set any other option."""
    config = config_of(record, given.task, default_recipe, file)
    default = PretrainConfig(task=given.task, recipe=config.recipe)
    names = [
        field.name for field in fields(PretrainConfig) if getattr(given, field.name) != getattr(default, field.name)
    ]
    names = [name for name in names if name != "backbone" or not is_timm(given.init)]  # which --init sets
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise HeadwayError("options-conflict", f"--reproduce takes every setting from that run; leave out {options}")
    return config


def plan_of(record: dict[str, Any]) -> Plan:
    """The plan in a record."""
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record["plan"].items()}
    return Plan(**fields)


def machine_info(plan: Plan) -> dict[str, Any]:
    """What results depend on bit for bit: properties of the machine, and how the run uses it."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "processor": platform.machine(), "threads": plan.threads or torch.get_num_threads(), "device": device,
        "processes": max(world_size(), plan.processes),
    }  # fmt: skip


def reproduction_differences(record: dict[str, Any], plan: Plan) -> list[str]:
    """Why a run that reproduces a record under this plan may differ in the last bits; empty where it cannot."""
    *before, last = segments = [_flatten_segment(segment) for segment in record["segments"]]
    now = _flatten_segment(new_segment(plan, last["step"]))
    now |= {name: value for change in plan.changes for name, value in change.items() if name in now}
    repeated = {change["step"] for change in plan.changes}
    changes = [
        f"{name} {earlier.get(name)} up to step {later['step']} of that run, {later.get(name)} from there on"
        for earlier, later in zip(before, segments[1:], strict=True)
        for name in later.keys() - {"step", *(("processes", "threads") if later["step"] in repeated else ())}
        if earlier.get(name) != later.get(name)
    ]
    return changes + [
        f"{name} {last.get(name)} then, {now[name]} now"
        for name in now
        if name != "step" and last.get(name) != now[name]
    ]


def _flatten_segment(segment: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in segment.items() if name != "versions"}, **segment["versions"]}


def _git_commit() -> str | None:
    try:
        file = Path(__file__)  # tracked by git only in a checkout of Headway itself
        command = f"git ls-files --error-unmatch {file.name} && git rev-parse HEAD"
        answer = subprocess.run(command, shell=True, cwd=file.parent, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split()[-1] if answer.returncode == 0 else None
