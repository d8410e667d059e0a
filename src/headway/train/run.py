"""One pretraining from beginning to end: pictures in, a run folder out."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headway.backbones.weights import FILE as WEIGHTS
from headway.backbones.weights import load_backbone, save_backbone
from headway.data.source import Source
from headway.data.store import Store, natural_size
from headway.distributed import barrier, broadcast_object, rank
from headway.errors import HeadwayError
from headway.files import is_temporary, sweep, write_json
from headway.plain import describe
from headway.protocol import Learner
from headway.train.best import Best
from headway.train.checkpoint import newest
from headway.train.engine import make_fabric
from headway.train.eye import PICTURES, make_eye
from headway.train.job import Job, main_size
from headway.train.lock import held
from headway.train.log import Jsonl, Note, Sink
from headway.train.loggers import check_loggers, closing, open_loggers
from headway.train.loop import ProbeFunction, fit
from headway.train.lost import noticing
from headway.train.origin import Origin, read_origin, take_over
from headway.train.pictures import check_pictures, store_pictures
from headway.train.plan import Report
from headway.train.planning import make_learner, make_plan, preview, spread
from headway.train.pool import keep_pool
from headway.train.record import FILE, differences, plan_of, read_record, record_of, resumed
from headway.train.shape import FREE
from headway.train.start import seen_before, size_of_weights
from headway.train.state import plain_copy
from headway.train.step import check_batch

CACHE = "cache"
"""Folder in the run for decoded pictures that do not fit into memory; removed with the end of the run."""


def run_job(
    job: Job,
    source: Source,
    out: Path,
    *,
    resume: bool = False,
    repeat: dict[str, Any] | None = None,
    started: float | None = None,
    sinks: Sequence[Sink] = (),
    loggers: Sequence[str] = (),
    decoding: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
    probe: ProbeFunction | None = None,
    probe_every: int = 0,
    save_every: int = 0,
    shard: bool = False,
) -> dict[str, Any]:
    """Carry out a job and leave a run folder.

    Args:
        job: What to do.
        source: The pictures.
        out: The run folder; must not exist unless ``resume``.
        resume: Go on from the last whole checkpoint there, or start where there is none; where the run is finished
            nothing is done, and its result is as recorded.
        repeat: The record of a run whose choices are taken over instead of measured anew.
        started: ``time.perf_counter()`` at which the budget began; none: now.
        sinks: Take the events, beside ``log.jsonl``.
        loggers: Names in ``train.loggers`` of sinks that take them too.
        say: Told what a person should know before training starts.
        decoding: Told how many pictures of how many are decoded.
        probe: Measures the backbone now and then (per cent).
        probe_every: Steps between probes; 0: at the end alone.
        save_every: Steps between checkpoints; 0: as many as take two minutes.
        shard: Cut weights, gradients and moments over the processes.

    Returns:
        run, task, steps, seconds, images_per_second, loss; skipped, where steps were; probe, where it did not begin
        by chance.

    Raises:
        HeadwayError: Anything that the user can mend, before anything is overwritten.
        Interrupted: After SIGTERM or Ctrl-C, once the run is saved.
    """
    started = time.perf_counter() if started is None else started
    check_loggers(loggers)
    if min(probe_every, save_every) < 0 or (probe_every and not probe):
        raise HeadwayError("--probe-every and --save-every are steps, 0 or more, and the former needs --probe LABELLED")
    device = make_fabric(shard=shard).device  # from here on every process knows its number
    with held(out) if rank() == 0 else nullcontext():
        earlier = broadcast_object(_earlier(job, out, resume))
        if earlier and broadcast_object(earlier.get("status") == "finished" and (out / WEIGHTS).is_file()):
            check_pictures(store_pictures(job, source, earlier["size"], None, decoding), device, earlier, out)
            if rank() == 0:
                say(f"{out} is finished, and stays as it is")
            return _recorded_result(earlier)
        begun = broadcast_object(newest(out) if earlier and rank() == 0 else None)  # the step behind which it goes on
        known, origin = earlier or repeat, _origin(job, out, earlier is not None, begun is not None)
        size, patch = _view(job, source, origin)
        store = store_pictures(job, source, size, out / CACHE, decoding)
        check_pictures(store, device, known, out if earlier else None)
        before = seen_before(job, origin)
        learner = make_learner(job, store, size, patch, origin)
        batch = min(job.recipe.batch, len(store.images))
        check_batch(learner, batch, job.accumulate)
        notes = _notes(job, store, batch, tracked=probe is not None)
        if origin and begun is None:
            notes.append(_begin_from(learner, origin))
        if known:
            plan, measured = plan_of(known), known["measured"]
        else:
            plan, measured = make_plan(job, store, learner, batch, started, say, shard)
            plan = replace(plan, first=origin.first_for(store) if origin else 0)
            notes.append(preview(plan, len(store.images), measured["seconds_per_step"]))
        plan = replace(  # a resumed run may choose these anew
            plan, accumulate=max(plan.accumulate, job.accumulate), recompute=job.recompute, on_collapse=job.on_collapse,
            shard=shard, probe_every=probe_every, probe_start=bool(probe and (job.weights or job.extend)),
            save_every=save_every or plan.save_every,
        )  # fmt: skip
        if repeat and (odd := differences(repeat, plan)):
            notes.append(f"the last bits may differ from those of the run that is repeated: {'; '.join(odd)}")
        record = earlier or record_of(job, store, learner, plan, measured, size)
        if earlier and earlier.get("status") != "finished":
            record = resumed(earlier, plan, begun or 0)
        log = Jsonl(out / "log.jsonl")
        if rank() == 0:
            sweep(out, out / "state")
            write_json(out / FILE, {**record, "status": "running"})
            if before is not None:
                keep_pool(out, torch.cat([before, store.hashes]).unique())
            for note in notes:
                say(note)
                if not earlier:
                    log(Note(note))
        boards = open_loggers(loggers, out, record, log) if rank() == 0 else []
        barrier()
        best = Best(probe, out) if probe and plan.probe_start else None
        eye = make_eye(spread(store.images, PICTURES), size)
        with noticing(out), closing(boards):
            report = fit(
                learner, store.images, plan, job.recipe.optim, run=out, resume=resume, sinks=(*sinks, log, *boards),
                probe=best or probe, eye=eye,
            )  # fmt: skip
            if best and rank() == 0 and (verdict := best.verdict()):
                say(verdict)
                log(Note(verdict))
            return _finish(job, out, learner, record, report, time.perf_counter() - started, best)


def _view(job: Job, source: Source, origin: Origin | None) -> tuple[int, int]:
    """Side of the main view, and the patch to ask for."""
    used_to = size_of_weights(job, origin)
    return (used_to, 0) if used_to else main_size(natural_size(source)[0], job)


def _notes(job: Job, store: Store, batch: int, *, tracked: bool) -> list[str]:
    """What a person should know before training starts."""
    notes = [f"skipped {name}: {reason}" for name, reason in store.skipped]
    if batch < job.recipe.batch:
        notes.append(f"batch {batch} instead of {job.recipe.batch}: there are no more pictures")
    if job.weights and not tracked:
        notes.append(
            "whether these weights gain or lose is not measured without --probe LABELLED; "
            "RankMe of their features is logged from the start on"
        )
    return notes


def _origin(job: Job, out: Path, resume: bool, begun: bool) -> Origin | None:
    """The run whose network this one begins with, if any: once it has a checkpoint of its own, it is itself that."""
    if begun and (job.extend or job.weights):
        return read_origin(out)
    if not job.extend:
        return None
    try:
        return read_origin(Path(job.extend))
    except HeadwayError as error:
        if not resume:
            raise
        raise HeadwayError(f"{error}; {out} has no whole checkpoint of its own, and begins from that run") from error


def _begin_from(learner: Learner, origin: Origin) -> str:
    """Take over the weights of the run that is extended; gives what to say of it."""
    anew = take_over(learner, origin)
    rest = f"; of the task {len(anew)} tensors begin anew ({anew[0]} among them)" if anew else ""
    return f"goes on from {origin.folder} with a new warm-up and a new cosine{rest}"


def _earlier(job: Job, out: Path, resume: bool) -> dict[str, Any] | None:
    """The record of the run to resume. Raises HeadwayError where ``out`` is taken or is another run's."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not out.exists() or all(name == CACHE or is_temporary(name) for name in names):
        return None  # decoded pictures and torn files are what an attempt leaves that ended before it began
    if not (out / FILE).is_file():
        raise HeadwayError(
            f"{out} exists and is no run (it holds no {FILE}), so --resume cannot help; choose another --out"
        )
    if not resume:
        raise HeadwayError(f"{out} exists; add --resume to go on with it, or choose another --out")
    record = read_record(out)
    changed = [key for key in _changed(describe(job), record["job"]) if key not in FREE]
    if changed:
        raise HeadwayError(
            f"{out} was begun with another {', '.join(changed)}; repeat its command, or choose another --out"
        )
    return record


def _changed(now: Any, then: Any, key: str = "") -> list[str]:
    """Names of what differs between two descriptions of a job."""
    if not (isinstance(now, dict) and isinstance(then, dict)):
        return [key] if now != then else []
    names = [*now, *(then.keys() - now.keys())]
    return [found for n in names for found in _changed(now.get(n), then.get(n), f"{key}.{n}".lstrip("."))]


def _finish(
    job: Job, out: Path, learner: Learner, record: dict[str, Any], report: Report, seconds: float, best: Best | None
) -> dict[str, Any]:
    result = {
        "run": str(out), "task": job.task, "steps": report.steps, "seconds": round(seconds, 2),
        "images_per_second": round(report.pictures, 1), "loss": round(report.loss, 6),
        **({"skipped": report.skipped} if report.skipped else {}), **({"probe": best.seen()} if best else {}),
    }  # fmt: skip
    if record.get("status") != "finished":
        record["stretches"][-1]["accumulate"] = report.accumulate  # which memory may have forced
    else:
        result = _recorded_result(record)  # nothing was left to do
    backbone = plain_copy(learner.backbone)
    if rank() == 0:
        if best and best.verdict():
            backbone = load_backbone(best.weights)
        save_backbone(backbone, out / WEIGHTS)
        write_json(out / FILE, {**record, "status": "finished", "result": result})
        shutil.rmtree(out / CACHE, ignore_errors=True)
    barrier()
    return result


def _recorded_result(record: dict[str, Any]) -> dict[str, Any]:
    """What a finished run came to; JSON has no NaN."""
    result = dict(record["result"])
    return {**result, "loss": float("nan") if result["loss"] is None else result["loss"]}
