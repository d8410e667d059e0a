"""``pretrain``: trains a backbone on unlabeled images."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headway.api.result import OPTIONAL, Result
from headway.api.training import training_sinks
from headway.utils.command import command_start_time, is_command
from headway.utils.duration import parse_duration
from headway.utils.notes import note
from headway.utils.progress import ProgressCallback, stage_progress

if TYPE_CHECKING:
    from headway.config import Recipe
    from headway.data.sources.base import DataLike, Source
    from headway.protocol import Backbone


@dataclass(frozen=True, repr=False)
class PretrainResult(Result):
    """A finished run."""

    run: str
    """The run folder."""
    task: str
    """The pretext task."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """From the command to the finished run."""
    images_per_second: float
    """Over all processes."""
    loss: float
    """At the end."""
    skipped_steps: int | None = field(default=None, metadata=OPTIONAL)
    """Steps that were skipped, where any were."""
    probe: dict[str, float | None] | None = field(default=None, metadata=OPTIONAL)
    """Accuracy of the probe in percent at start, best and last, where initial weights were probed."""

    @property
    def backbone(self) -> Backbone:
        """The trained backbone, read from the run folder."""
        from headway.backbones.weights import load_backbone

        return load_backbone(self.run)


def pretrain(
    task: str,
    *,
    data: DataLike,
    out: str | Path,
    backbone: str = "",
    stem: Literal["", "linear", "conv", "residual"] = "",
    patch: int = 0,
    size: int = 0,
    budget: str | float | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    channels: int = 0,
    value_range: tuple[float, float] | None = None,
    seed: int = 0,
    grad_accum: int = 1,
    precision: Literal["auto", "float32", "bf16", "float64"] = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    activation_checkpointing: bool = False,
    processes: int = 0,
    threads: int = 0,
    fsdp: bool = False,
    probe: str | None = None,
    probe_every: int = 0,
    save_every: int = 0,
    loggers: str = "",
    on_collapse: Literal["warn", "stop", "rollback"] = "warn",
    init: str = "",
    continue_from: str = "",
    reproduce: str = "",
    resume: bool = False,
    recipe: Recipe | None = None,
    progress: ProgressCallback | None = None,
) -> PretrainResult:
    """Train a backbone on unlabeled images with a pretext task.

    Example: headway pretrain simclr --data photos --out runs/photos --budget 10m

    Args:
        task: A name that ``headway tasks`` lists, a+b for a combination, your own as my_package.my_file:RECIPE, or
            auto, which chooses task, network, view size, batch size and learning rate by rules (docs/recipes.md). The
            task is the first argument.
        data: A folder, a tar or brace pattern of tars ('train-{0..4}.tar.gz'), or a CSV with a column "file".
        out: The run folder to write; it must not exist.
        backbone: vit_pico, vit_nano, vit_micro, vit_tiny, vit_small, vit_base, vit_large, or timm:NAME; none: vit_tiny,
            or the network of init.
        stem: Patch embedding of a ViT: linear (the default), conv, or residual (best for short runs).
        patch: Patch size in pixels; 0: 4 up to 32 pixels, 8 up to 96, 16 above.
        size: Side in pixels of the square main view; 0: the median short side, at most 224.
        budget: Time from command to finished run, such as 90s, 10m or 2h (a number: seconds); excludes epochs and
            steps.
        epochs: Epochs; without budget and steps, the recipe's (of auto: as many as take an hour).
        steps: Optimizer steps.
        channels: Channels of every image; 0: as most images have, or as the initial weights need. With C, C equal pages
            of a TIFF are one image.
        value_range: The two values in the files that become 0 and 1; none: measured where images have more than 8 bits,
            or as the initial weights need.
        seed: Seed of weights, order and augmentation: the same command and seed give the same bits.
        grad_accum: Micro-batches per step (gradient accumulation), to save memory where the loss allows it.
        precision: Floating-point precision; auto: measured.
        compile: Whether the backbone is compiled (torch.compile); auto: measured where the run takes over 20 minutes.
        activation_checkpointing: Recompute activations in the backward pass: less memory, about a third more time.
        processes: Processes on this machine that share each step, each on one thread (Linux); 0: as many as are fastest
            at the moment, which is measured (in a call from Python: 1).
        threads: Torch's threads in one process; 0: measured.
        fsdp: Shard weights, gradients and optimizer state over the processes (FSDP2), for networks that do not fit on
            one device.
        probe: Labeled images for a k-NN probe during training (its time is not in the budget); they are read with the
            channels and value_range of the data.
        probe_every: Steps between probes; 0: only at the end.
        save_every: Steps between checkpoints; 0: about every two minutes.
        loggers: Dashboards to log to, separated by commas: tensorboard, wandb, mlflow; log.jsonl is always written.
        on_collapse: What to do when features collapse: warn, stop, or roll back to the last healthy checkpoint.
        init: Initial weights: a safetensors file, a run, or timm:NAME for timm's pretrained network. With probe, the
            initial weights are probed first; a run that ends below them says so and keeps the best weights.
        continue_from: A run to continue with all its weights, a new warmup and a new cosine schedule; images may be
            added.
        reproduce: The run.json of a run to reproduce with every choice, on the same data: the same bits on the same
            machine.
        resume: Resume from the last checkpoint in ``out``, or start where there is none; a finished run is not changed.
        recipe: The task with all its settings; none: the task's own, or that of the run to continue or reproduce.
        progress: Called with the progress of each stage; none: silent.
    """
    from headway.data.dataset.image_store import resolve_pixel_format
    from headway.data.open import open_source
    from headway.data.sources.base import with_pixel_format
    from headway.distributed import rank
    from headway.downstream.knn_probe import knn_probe
    from headway.pretext import AUTO, find_recipe
    from headway.train.config import DEFAULT_BACKBONE, PretrainConfig, is_timm
    from headway.train.engine.fabric import make_fabric
    from headway.train.init.initial_weights import initial_pixel_format
    from headway.train.loop.signals import Interrupted
    from headway.train.plan.auto import DEFAULT_BUDGET_S, check_no_overrides
    from headway.train.pretrain import run_pretraining
    from headway.train.run_context import RunOptions
    from headway.train.run_dir.record import RECORD_FILE, read_record, recipe_for, reproduced_config

    start, folder = command_start_time(), Path(out)
    fabric = make_fabric(fsdp=fsdp)  # from here on each process knows its rank
    seconds, source = None if budget is None else parse_duration(budget), None
    if task == AUTO:
        own_settings = {"backbone": backbone, "stem": stem, "patch": patch, "size": size, "init": init,
                        "continue_from": continue_from, "reproduce": reproduce, "recipe": recipe}  # fmt: skip
        check_no_overrides([name for name, value in own_settings.items() if value])
        source = open_source(data, channels=channels, value_range=value_range)
        task, recipe, backbone, stem, patch, size = _choose(source, folder if resume else None, seconds)
        if budget is epochs is steps is None:
            seconds = DEFAULT_BUDGET_S
    default_recipe = find_recipe(task)
    config = PretrainConfig(
        task=task, recipe=recipe or recipe_for(task, default_recipe, continue_from or reproduce, str(out) * resume),
        backbone=backbone or (init if is_timm(init) else DEFAULT_BACKBONE), stem=stem or "linear", patch=patch,
        size=size, budget=seconds, epochs=epochs, steps=steps, seed=seed, grad_accum=grad_accum, precision=precision,
        compile=compile, activation_checkpointing=activation_checkpointing, on_collapse=on_collapse, init=init,
        continue_from=continue_from, processes=processes, threads=threads,
    )  # fmt: skip
    record = read_record(Path(reproduce)) if reproduce else None
    if record:
        config = reproduced_config(record, config, default_recipe, reproduce)
    resumed = read_record(folder) if resume and (folder / RECORD_FILE).is_file() else None
    if pixel_format := initial_pixel_format(config, resumed or record, channels, value_range):
        source = with_pixel_format(open_source(data), pixel_format)
    source = source or open_source(data, channels=channels, value_range=value_range)
    probe_function = None
    if probe:  # its images have the pixel format of the data; its time is not in the budget
        began = time.perf_counter()
        labeled = with_pixel_format(open_source(probe, labeled=True), resolve_pixel_format(source))
        probe_function = knn_probe(labeled, seed=seed)
        start += time.perf_counter() - began
    options = RunOptions(
        reproduce=record, start_time=start, loggers=[name.strip() for name in loggers.split(",") if name.strip()],
        probe=probe_function, probe_every=probe_every, save_every=save_every, fsdp=fsdp, auto_processes=is_command(),
    )  # fmt: skip
    try:
        result = run_pretraining(
            config, source, folder, resume=resume, options=options,
            sinks=training_sinks(progress, task) if rank() == 0 else [],
            decode_progress=stage_progress(progress, "decoding"), notify=note, fabric=fabric,
        )  # fmt: skip
    except Interrupted as stop:
        raise Interrupted(f"{stop}; repeat the command with --resume to continue", stop.signal) from None
    return PretrainResult(**result)


def _choose(source: Source, resumed: Path | None, seconds: float | None) -> tuple[Any, ...]:
    """The settings of ``auto``: task, recipe, backbone, stem, patch, size; those of the run that is resumed."""
    from headway.data.dataset.image_store import median_short_side
    from headway.distributed import rank
    from headway.train.plan.auto import auto_inputs, choose_settings, recorded_choice

    choice = None if resumed is None else recorded_choice(resumed)
    if choice is None:
        choice = choose_settings(auto_inputs(len(source), median_short_side(source)[0], seconds))
    *settings, notes = choice
    for text in notes if rank() == 0 else []:
        note(text)
    return tuple(settings)
