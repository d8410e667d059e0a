"""One pretraining from beginning to end: pictures in, a run folder out."""

import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from headway.backbones.load import architecture
from headway.backbones.weights import save_backbone
from headway.config import describe
from headway.data.source import Source
from headway.data.store import Store, build_store, natural_size
from headway.distributed import barrier, broadcast_object, rank
from headway.errors import HeadwayError
from headway.files import read_json, write_json
from headway.protocol import Learner
from headway.train.engine import make_fabric
from headway.train.job import Job, main_size, stored_side
from headway.train.log import Jsonl, Note, Sink
from headway.train.loop import Plan, ProbeFunction, Report, check_batch, fit
from headway.train.planning import make_learner, make_plan
from headway.train.pool import keep_pool

SCHEMA = 1
"""Version of run.json."""
CACHE = "cache"
"""Folder in the run for decoded pictures that do not fit into memory; removed with the end of the run."""


def run_job(
    job: Job,
    source: Source,
    out: Path,
    *,
    resume: bool = False,
    started: float | None = None,
    sinks: Sequence[Sink] = (),
    decoding: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    probe: ProbeFunction | None = None,
    probe_every: int = 0,
) -> dict[str, Any]:
    """Carry out a job and leave a run folder.

    Args:
        job: What to do.
        source: The pictures.
        out: The run folder; must not exist unless ``resume``.
        resume: Go on from the last whole checkpoint there, or start where there is none.
        started: ``time.perf_counter()`` at which the budget began; none: now.
        sinks: Take the events, beside ``log.jsonl``.
        say: Told what a person should know before training starts.
        decoding: Told how many pictures of how many are decoded.
        probe: Measures the backbone now and then (per cent).
        probe_every: Steps between probes; 0: at the end alone.

    Returns:
        run, task, steps, seconds, images_per_second, loss.

    Raises:
        HeadwayError: Anything that the user can mend, before anything is overwritten.
    """
    started = time.perf_counter() if started is None else started
    make_fabric()  # from here on every process knows its number
    earlier = broadcast_object(_earlier(job, out, resume))
    natural = natural_size(source)[0]
    size, patch = main_size(natural, job)
    side = stored_side(natural, size, job.recipe.detail)
    store = build_store(source, side, cache=out / CACHE, progress=decoding)
    if len(store.images) < 2:
        raise HeadwayError(
            f"{len(store.images)} picture could be read; self-supervision compares pictures and needs at least 2"
        )
    if earlier and earlier["data"]["fingerprint"] != store.fingerprint:
        raise HeadwayError(f"{out} was trained on other pictures; --resume goes on with the same ones alone")
    learner = make_learner(job, store, size, patch)
    batch = min(job.recipe.batch, len(store.images))
    check_batch(learner, batch, job.accumulate)
    log = Jsonl(out / "log.jsonl")
    notes = [f"skipped {name}: {reason}" for name, reason in store.skipped]
    if batch < job.recipe.batch:
        notes.append(f"batch {batch} instead of {job.recipe.batch}: there are no more pictures")
    if earlier:
        plan, measured = Plan(**earlier["plan"]), earlier["measured"]
    else:
        plan, measured = make_plan(job, store, learner, batch, started, say)
    plan = replace(plan, probe_every=probe_every)
    record = earlier or _record(job, store, learner, plan, measured, size)
    if rank() == 0:
        write_json(out / "run.json", {**record, "status": "running"})
        keep_pool(out, store.hashes)
        for note in notes:
            say(note)
            if not earlier:
                log(Note(note))
    barrier()
    report = fit(
        learner, store.images, plan, job.recipe.optim, run=out, resume=resume, sinks=(*sinks, log), probe=probe
    )
    return _finish(job, out, learner, record, report, time.perf_counter() - started, earlier)


def _earlier(job: Job, out: Path, resume: bool) -> dict[str, Any] | None:
    """The record of the run to resume. Raises HeadwayError where ``out`` is taken or is another run's."""
    if not out.exists() or (out.is_dir() and {path.name for path in out.iterdir()} <= {CACHE}):
        return None  # decoded pictures alone are what an attempt leaves that failed before it began
    if not (out / "run.json").is_file():
        raise HeadwayError(
            f"{out} exists and is no run (it holds no run.json), so --resume cannot help; choose another --out"
        )
    if not resume:
        raise HeadwayError(f"{out} exists; add --resume to go on with it, or choose another --out")
    record: dict[str, Any] = read_json(out / "run.json")
    if record.get("schema") != SCHEMA:
        raise HeadwayError(f"{out}/run.json has schema {record.get('schema')}; this version reads {SCHEMA}")
    if record["job"] != _as_json(describe(job)):
        changed = [key for key, value in _as_json(describe(job)).items() if record["job"].get(key) != value]
        raise HeadwayError(
            f"{out} was begun with another {', '.join(changed)}; repeat its command, or choose another --out"
        )
    return record


def _record(
    job: Job, store: Store, learner: Learner, plan: Plan, measured: dict[str, Any], size: int
) -> dict[str, Any]:
    packages = ("headway", "torch", "torchvision", "lightning-fabric", "timm", "safetensors")
    return {
        "schema": SCHEMA,
        "task": job.task,
        "job": _as_json(describe(job)),
        "plan": asdict(plan),
        "measured": measured,
        "size": size,
        "architecture": architecture(learner.backbone),
        "data": {
            "pictures": len(store.images), "side": store.side, "fingerprint": store.fingerprint,
            "skipped": len(store.skipped),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": _commit(),
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "device": _device()},
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _finish(
    job: Job, out: Path, learner: Learner, record: dict[str, Any], report: Report, seconds: float, earlier: Any
) -> dict[str, Any]:
    result = {
        "run": str(out), "task": job.task, "steps": report.steps, "seconds": round(seconds, 2),
        "images_per_second": round(report.pictures, 1), "loss": round(report.loss, 6),
    }  # fmt: skip
    if earlier and earlier["status"] == "finished":
        result = earlier["result"]  # nothing was left to do
    if rank() == 0:
        save_backbone(learner.backbone, out / "model.safetensors")
        write_json(out / "run.json", {**record, "status": "finished", "result": result})
        shutil.rmtree(out / CACHE, ignore_errors=True)
    barrier()
    return result


def _as_json(thing: Any) -> Any:
    """As it will read back from JSON (tuples become lists)."""
    if isinstance(thing, dict):
        return {key: _as_json(value) for key, value in thing.items()}
    return [_as_json(item) for item in thing] if isinstance(thing, (list, tuple)) else thing


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _commit() -> str | None:
    try:
        file = Path(
            __file__
        )  # tracked only in a checkout of Headway itself, not where it lies in somebody's environment
        words = f"git ls-files --error-unmatch {file.name} && git rev-parse HEAD"
        answer = subprocess.run(words, shell=True, cwd=file.parent, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split()[-1] if answer.returncode == 0 else None
