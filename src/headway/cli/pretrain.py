"""``headway pretrain``: a folder of unlabelled pictures in, a trained backbone out."""

import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from headway.cli import command_started
from headway.cli.screen import counting, note
from headway.config import Recipe
from headway.data.open import open_source
from headway.data.source import Source, in_form
from headway.data.store import form_wanted, natural_size
from headway.distributed import rank
from headway.downstream.probe import knn_probe
from headway.pretext import AUTO, find_recipe
from headway.train.auto import HOUR, advice_of, advise, refuse_choices, situation
from headway.train.engine import make_fabric
from headway.train.interrupt import Interrupted
from headway.train.job import BACKBONE, Job, Stem, seconds_of
from headway.train.log import Bar
from headway.train.record import FILE, read_record, recipe_for, repeated
from headway.train.run import run_job
from headway.train.start import form_of_weights


def pretrain(
    task: Positional[str],
    *,
    data: str | Path | Source,
    out: str | Path,
    backbone: str = "",
    stem: Stem | Literal[""] = "",
    patch: int = 0,
    size: int = 0,
    budget: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    channels: int = 0,
    span: tuple[float, float] | None = None,
    seed: int = 0,
    accumulate: int = 1,
    precision: Literal["auto", "float32", "bf16", "float64"] = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    recompute: bool = False,
    shard: bool = False,
    probe: str | None = None,
    probe_every: int = 0,
    save_every: int = 0,
    log: str = "",
    on_collapse: Literal["warn", "stop", "rollback"] = "warn",
    weights: str = "",
    extend: str = "",
    repeat: str = "",
    resume: bool = False,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Train a backbone on unlabelled pictures with a pretext task.

    Example: headway pretrain simclr --data photos --out runs/photos --budget 10m

    Args:
        task: A name that ``headway tasks`` lists, a+b of them, your own as my_package.my_file:RECIPE, or auto, which
            chooses task, network, view, batch and rate by rules (docs/recipes.md). Name it first.
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), or a CSV with a column "file".
        out: The run folder to write; it must not exist.
        backbone: vit_pico, vit_nano, vit_micro, vit_tiny, vit_small, vit_base, vit_large, or timm:NAME; none: vit_tiny.
        stem: How a ViT makes patches into tokens: linear (none: this), conv, or residual (best for short runs).
        patch: Pixels a side of a patch; 0: 4 up to 32 pixels, 8 up to 96, 16 above.
        size: Side in pixels of the square main view; 0: the median short side, at most 224.
        budget: Time from command to finished run, such as 90s, 10m or 2h; excludes epochs and steps.
        epochs: Passes over the data; without budget and steps, the recipe's (of auto: an hour).
        steps: Optimiser steps.
        channels: C of every picture; 0: as most have, or as the weights want. With C, C equal pages of a TIFF are one
            picture.
        span: The two values in the files that become 0 and 1; none: measured where pictures have more than 8 bits, or
            those that the weights are used to.
        seed: Of weights, order and draws: the same command and seed give the same bits.
        accumulate: Micro-batches a step, to save memory where the loss allows.
        precision: Of the arithmetic; auto: measured.
        compile: Whether the backbone is compiled; auto: measured where the run lasts over 20 minutes.
        recompute: Compute blocks again in the backward pass rather than keep them: less memory, a third more time.
        shard: Cut weights, gradients and moments over the processes (FSDP2), for networks that one device cannot hold.
        probe: Labelled pictures on which a k-NN probe is measured meanwhile (its time is not in the budget); channels
            and span are those of the others.
        probe_every: Steps between probes; 0: at the end alone.
        save_every: Steps between checkpoints; 0: as many as take about two minutes.
        log: Dashboards that get the numbers too, by commas: tensorboard, wandb, mlflow; log.jsonl always does.
        on_collapse: What follows when features collapse: a warning, the end, or a return to the last good checkpoint.
        weights: What the backbone starts from: a safetensors file, a run, or "pretrained" for a timm:NAME's own; with
            probe, the frozen start is measured first, and a run that ends below it says so and keeps the best.
        extend: A run to go on from, with all that it learned, a new warm-up and a new cosine; pictures may be added.
        repeat: The run.json of a run to repeat with every choice, on the same data: the same bits on its machine.
        resume: Go on from the last checkpoint in ``out``, or start where there is none; a finished run stays as it is.
        recipe: The task with every choice; none: the task's own, or that of the run to extend or repeat.

    Returns:
        run, task, steps, seconds, images_per_second, loss; and skipped, where steps were skipped.
    """
    started = command_started()
    make_fabric(shard=shard)  # from here on every process knows its number
    seconds = None if budget is None else seconds_of(budget)
    source = None
    if task == AUTO:
        own_choice = {"backbone": backbone, "stem": stem, "patch": patch, "size": size, "weights": weights,
                      "extend": extend, "repeat": repeat, "recipe": recipe}  # fmt: skip
        refuse_choices([name for name, value in own_choice.items() if value])
        source = open_source(data, channels=channels, span=span)
        advice = advice_of(Path(out)) if resume else None
        if advice is None:
            advice = advise(situation(len(source), natural_size(source)[0], seconds))
        if budget is epochs is steps is None:
            seconds = HOUR
        task, recipe, backbone, stem, patch, size, notes = advice
        for line in notes if rank() == 0 else []:
            note(line)
    own = find_recipe(task)
    job = Job(
        task=task, recipe=recipe or recipe_for(task, own, extend or repeat, str(out) if resume else ""),
        backbone=backbone or BACKBONE, stem=stem or "linear", patch=patch, size=size, budget=seconds, epochs=epochs,
        steps=steps, seed=seed, accumulate=accumulate, precision=precision, compile=compile, recompute=recompute,
        on_collapse=on_collapse, weights=weights, extend=extend,
    )  # fmt: skip
    record = read_record(Path(repeat)) if repeat else None
    if record:
        job = repeated(record, job, own, repeat)
    earlier = read_record(Path(out)) if resume and (Path(out) / FILE).is_file() else None
    if form := form_of_weights(job, earlier or record, channels, span):
        source = in_form(open_source(data), form)
    source = source or open_source(data, channels=channels, span=span)
    look = None
    if probe:
        form = form_wanted(source)  # one look at the pictures, which the run itself would take
        began = time.perf_counter()
        look = knn_probe(in_form(open_source(probe, labelled=True), form), seed=seed)
        started += time.perf_counter() - began  # what is only looked at takes nothing from the budget
    with counting("decoding") as decoding, Bar(task) as bar:
        sinks = [bar] if rank() == 0 else []
        try:
            return run_job(
                job, source, Path(out), resume=resume, repeat=record, started=started, sinks=sinks, decoding=decoding,
                say=note, probe=look, probe_every=probe_every, save_every=save_every, shard=shard,
                loggers=[name.strip() for name in log.split(",") if name.strip()],
            )  # fmt: skip
        except Interrupted as stop:
            raise Interrupted(f"{stop}; repeat the command with --resume to go on", stop.signal) from None


def show(answer: dict[str, Any]) -> None:
    """Print the answer as two lines."""
    print = Console(soft_wrap=True, highlight=False, markup=False).print
    print(
        f"{answer['task']}: {answer['steps']} steps in {answer['seconds']:.0f} s "
        f"({answer['images_per_second']:,.0f} pictures/s), loss {answer['loss']:.3f}; the run is in {answer['run']}"
    )
    print(f"next: headway transfer {answer['run']} --data LABELLED --head linear --out MODEL")
