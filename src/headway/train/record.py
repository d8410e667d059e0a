"""``run.json``: what a run was asked to do, with every choice made for it; written, read back, brought up to date.

It names types, and none is imported for that: whoever reads it hands in the recipe of a task that a person typed.
"""

import platform
import subprocess
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from headway.backbones.load import architecture
from headway.config import Recipe, describe, recall
from headway.data.store import Store
from headway.distributed import world
from headway.errors import HeadwayError
from headway.files import read_json
from headway.protocol import Learner
from headway.train.job import Job
from headway.train.plan import Plan

SCHEMA = 2
"""Version of run.json."""
FILE = "run.json"
PACKAGES = ("headway", "torch", "torchvision", "lightning-fabric", "timm", "safetensors")


def record_of(job: Job, store: Store, learner: Learner, plan: Plan, measured: dict[str, Any], size: int) -> Any:
    """The record of a run that begins now."""
    return {
        "schema": SCHEMA,
        "task": job.task,
        "job": describe(job),
        "plan": asdict(plan),
        "measured": measured,
        "size": size,
        "architecture": architecture(learner.backbone),
        "data": {
            "pictures": len(store.images), "side": store.side, "fingerprint": store.fingerprint,
            "skipped": len(store.skipped),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": _commit(),
        "machine": machine(),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def read_record(run: Path) -> dict[str, Any]:
    """The record of a run, brought up to this version's schema.

    Args:
        run: Its folder, or the file itself.

    Raises:
        HeadwayError: No record, a damaged one, or one of a newer version.
    """
    file = run / FILE if run.is_dir() else run
    if not file.is_file():
        raise HeadwayError(f"no run in '{run}' (it holds no {FILE}); give the folder that headway pretrain wrote")
    record = read_json(file)
    if not isinstance(record, dict) or not isinstance(schema := record.get("schema"), int) or schema < 1:
        raise HeadwayError(f"{file} is no record of a run (it has no schema)")
    if schema > SCHEMA:
        raise HeadwayError(f"{file} has schema {schema}; this version reads up to {SCHEMA}: bring headway up to date")
    try:
        for old in range(schema, SCHEMA):
            record = MIGRATIONS[old](record)
    except (KeyError, TypeError, AttributeError) as error:
        raise HeadwayError(f"{file} is damaged ({type(error).__name__}: {error}); train the run again") from error
    return record


def _from_1(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 knows runs that start from weights or from another run, and what was done about memory and collapse."""
    job = {"extend": "", "weights": "", "recompute": False, "on_collapse": "warn", **record["job"]}
    plan = {
        "recompute": False, "shard": False, "first": 0, "probe_start": False, "watch_every": 0, "on_collapse": "warn",
        **record["plan"],
    }  # fmt: skip
    return {**record, "schema": 2, "job": job, "plan": plan, "machine": {"processes": 1, **record["machine"]}}


MIGRATIONS = {1: _from_1}
"""By schema: what makes a record of it one of the next."""


def job_of(record: dict[str, Any], task: str, recipe: Recipe) -> Job:
    """The job that a record tells of.

    Args:
        record: From ``read_record``.
        task: The task that it must be of, as a person typed it.
        recipe: That task's own recipe: types come from there.

    Raises:
        HeadwayError: Another task, or a damaged record.
    """
    if record.get("task") != task:
        raise HeadwayError(
            f"the record is of a run of {record.get('task')}, not of {task}; name the task that it is of"
        )
    try:
        known = {field.name for field in fields(Job)} - {"task", "recipe"}
        choices = {name: record["job"][name] for name in known}
        return Job(task=task, recipe=recall(record["job"]["recipe"], recipe), **choices)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadwayError(f"the record is damaged ({type(error).__name__}: {error})") from error


def recipe_for(task: str, own: Recipe, run: str) -> Recipe:
    """The recipe to begin with: that of a run to extend or repeat where it is of this task, else the task's own."""
    record = read_record(Path(run)) if run else {}
    return job_of(record, task, own).recipe if record.get("task") == task else own


def repeated(record: dict[str, Any], given: Job, own: Recipe) -> Job:
    """The job of the run to repeat. Raises HeadwayError where a person asked for anything else beside."""
    job = job_of(record, given.task, own)
    plain = Job(task=given.task, recipe=job.recipe)
    asked = [field.name for field in fields(Job) if getattr(given, field.name) != getattr(plain, field.name)]
    if asked:
        raise HeadwayError(f"--repeat repeats every choice of that run; leave out --{', --'.join(asked)}")
    return job


def plan_of(record: dict[str, Any]) -> Plan:
    """The plan that a record tells of. Raises HeadwayError for a damaged one."""
    try:
        return Plan(**record["plan"])
    except (KeyError, TypeError) as error:
        raise HeadwayError(f"the record is damaged ({type(error).__name__}: {error})") from error


def machine() -> dict[str, Any]:
    """What results depend on to the last bit, beside versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "processor": platform.machine(), "threads": torch.get_num_threads(), "device": device, "processes": world(),
    }  # fmt: skip


def differences(record: dict[str, Any]) -> list[str]:
    """How this machine differs from that of a record, where the last bits may differ for it."""
    mine = {"versions": {name: version(name) for name in PACKAGES}, "machine": machine()}
    return [
        f"{name} {record.get(part, {}).get(name)} then, {value} now"
        for part, values in mine.items()
        for name, value in values.items()
        if record.get(part, {}).get(name) != value
    ]


def _commit() -> str | None:
    try:
        file = Path(__file__)  # tracked only in a checkout of Headway itself, not where it lies in an environment
        words = f"git ls-files --error-unmatch {file.name} && git rev-parse HEAD"
        answer = subprocess.run(words, shell=True, cwd=file.parent, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split()[-1] if answer.returncode == 0 else None
