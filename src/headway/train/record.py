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
from headway.config import Recipe
from headway.data.store import Store
from headway.distributed import world
from headway.errors import HeadwayError
from headway.files import read_json
from headway.plain import describe, recall
from headway.protocol import Learner
from headway.train.job import Job
from headway.train.plan import Plan
from headway.train.shape import FREE, damaged, unlike_a_record

SCHEMA = 3
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
        "stretches": [stretch_of(plan, 0)],
        "commit": _commit(),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def stretch_of(plan: Plan, step: int) -> dict[str, Any]:
    """What the part of a run that begins now after ``step`` depends on to the last bit, beside its job."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {
        "step": step, **{name: getattr(plan, name) for name in (*FREE, "shard")}, **machine(), "versions": versions,
    }  # fmt: skip


def resumed(record: dict[str, Any], plan: Plan, step: int) -> dict[str, Any]:
    """The record of a run that goes on after ``step``: what was done beyond it is done again, and doesn't count."""
    behind = [stretch for stretch in record["stretches"] if stretch["step"] < step]
    job = {**record["job"], **{name: getattr(plan, name) for name in FREE}}
    return {**record, "job": job, "plan": asdict(plan), "stretches": [*behind, stretch_of(plan, step)]}


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
    schema = record.get("schema") if isinstance(record, dict) else None
    if type(schema) is not int or schema < 1:  # True is an int, too
        raise HeadwayError(f"{file} is no record of a run (it has no schema)")
    if schema > SCHEMA:
        raise HeadwayError(f"{file} has schema {schema}; this version reads up to {SCHEMA}: bring headway up to date")
    try:
        for old in range(schema, SCHEMA):
            record = MIGRATIONS[old](record)
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(file, f"{type(error).__name__}: {error}") from error
    if fault := unlike_a_record(record):
        raise damaged(file, fault)
    return record


def _from_1(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 knows runs that start from weights or from another run, and what was done about memory and collapse."""
    job = {"extend": "", "weights": "", "recompute": False, "on_collapse": "warn", **record["job"]}
    plan = {
        "recompute": False, "shard": False, "first": 0, "probe_start": False, "watch_every": 0, "on_collapse": "warn",
        **record["plan"],
    }  # fmt: skip
    return {**record, "schema": 2, "job": job, "plan": plan, "machine": {"processes": 1, **record["machine"]}}


def _from_2(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 3 knows under which choices, on what, each part of a run that was resumed was done."""
    rest = {key: value for key, value in record.items() if key not in ("machine", "versions")}
    choices = {name: record["plan"][name] for name in (*FREE, "shard")}
    stretch = {"step": 0, **choices, **record["machine"], "versions": record["versions"]}
    return {**rest, "schema": 3, "stretches": [stretch]}


MIGRATIONS = {1: _from_1, 2: _from_2}
"""By schema: what makes a record of it one of the next."""


def job_of(record: dict[str, Any], task: str, recipe: Recipe, file: str | Path = FILE) -> Job:
    """The job that a record tells of.

    Args:
        record: From ``read_record``.
        task: The task that it must be of, as a person typed it.
        recipe: That task's own recipe: types come from there.
        file: The record's, for the errors.

    Raises:
        HeadwayError: Another task, or a damaged record.
    """
    if record.get("task") != task:
        raise HeadwayError(
            f"{file} is of a run of the task {record.get('task')}, not of {task}; name the task that it is of"
        )
    try:
        known = {field.name for field in fields(Job)} - {"task", "recipe"}
        choices = {name: record["job"][name] for name in known}
        return Job(task=task, recipe=recall(record["job"]["recipe"], recipe, key="job.recipe"), **choices)
    except HeadwayError as error:
        raise damaged(file, error) from error


def recipe_for(task: str, own: Recipe, run: str, out: str = "") -> Recipe:
    """The recipe to begin with: that of a run to extend or repeat where it is of this task, else the task's own.

    Args:
        task: The task that a person typed.
        own: Its own recipe.
        run: To extend or to repeat; none: neither.
        out: The run that goes on, where one does: it knows the recipe better than what it once began from.
    """
    begun = out if out and (Path(out) / FILE).is_file() else ""
    record = read_record(Path(begun or run)) if run else {}
    return job_of(record, task, own, begun or run).recipe if record.get("task") == task else own


def repeated(record: dict[str, Any], given: Job, own: Recipe, file: str | Path = FILE) -> Job:
    """The job of the run to repeat. Raises HeadwayError where a person asked for anything else beside."""
    job = job_of(record, given.task, own, file)
    plain = Job(task=given.task, recipe=job.recipe)
    asked = [field.name for field in fields(Job) if getattr(given, field.name) != getattr(plain, field.name)]
    if asked:
        raise HeadwayError(f"--repeat repeats every choice of that run; leave out --{', --'.join(asked)}")
    return job


def plan_of(record: dict[str, Any]) -> Plan:
    """The plan that a record tells of."""
    return Plan(**record["plan"])


def machine() -> dict[str, Any]:
    """What results depend on to the last bit, beside versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "processor": platform.machine(), "threads": torch.get_num_threads(), "device": device, "processes": world(),
    }  # fmt: skip


def differences(record: dict[str, Any], plan: Plan) -> list[str]:
    """Why a run that repeats a record under this plan may differ from it in the last bits; empty where it cannot."""
    *before, last = stretches = [_flat(stretch) for stretch in record["stretches"]]
    now = _flat(stretch_of(plan, last["step"]))
    changes = [
        f"{name} {earlier.get(name)} up to step {later['step']} of that run, {later.get(name)} from there on"
        for earlier, later in zip(before, stretches[1:], strict=True)
        for name in later
        if name != "step" and earlier.get(name) != later.get(name)
    ]
    return changes + [f"{name} {last.get(name)} then, {now[name]} now" for name in now if last.get(name) != now[name]]


def _flat(stretch: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in stretch.items() if name != "versions"}, **stretch["versions"]}


def _commit() -> str | None:
    try:
        file = Path(__file__)  # tracked only in a checkout of Headway itself, not where it lies in an environment
        words = f"git ls-files --error-unmatch {file.name} && git rev-parse HEAD"
        answer = subprocess.run(words, shell=True, cwd=file.parent, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split()[-1] if answer.returncode == 0 else None
