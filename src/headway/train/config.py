"""What a pretraining is asked to do (PretrainConfig), how it is carried out (Plan), and how it ended (FitResult)."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from headway.config import Recipe
from headway.errors import HeadwayError, unknown_name_error

Stem = Literal["linear", "conv", "residual"]
DEFAULT_BACKBONE = "vit_tiny"


def is_timm(name: str) -> bool:
    """Whether a backbone, or the source of initial weights, is given as timm:NAME."""
    return name.startswith("timm:")


MAX_WORKERS = 1024
"""The largest number of processes, or of threads, that can be asked for."""


def check_workers(processes: int, threads: int) -> None:
    """Refuse numbers of processes and threads that contradict one another. Raises HeadwayError."""
    for name, value in {"processes": processes, "threads": threads}.items():
        if not 0 <= value <= MAX_WORKERS:
            raise HeadwayError("value-out-of-range", f"--{name} must lie in 0..{MAX_WORKERS}, got {value}")
    if processes > 1 and threads > 1:
        raise HeadwayError(
            "options-conflict", "each of several processes computes on one thread; give --processes or --threads"
        )


@dataclass(frozen=True)
class PretrainConfig:
    """What was requested. Together with the data it determines the run."""

    task: str
    """Name of the pretext task."""
    recipe: Recipe
    """The task with all its settings."""
    backbone: str = DEFAULT_BACKBONE
    """Name of the backbone."""
    stem: Stem = "linear"
    """How a ViT turns patches into tokens."""
    patch: int = 0
    """Side of a patch in pixels; 0: 4 for views up to 32 pixels, 8 up to 96, 16 above."""
    size: int = 0
    """Side of the main view in pixels; 0: the median short side, at most 224, rounded down to whole patches."""
    budget: float | None = None
    """Seconds from the start of the command to the finished run."""
    epochs: float | None = None
    """Passes over the data."""
    steps: int | None = None
    """Optimizer steps."""
    seed: int = 0
    """Seed of the initial weights, the order of images and the augmentations."""
    grad_accum: int = 1
    """Micro-batches per step."""
    precision: Literal["auto", "float32", "bf16", "float64"] = "auto"
    """Precision of the arithmetic; auto: whichever is faster on this machine."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the backbone is compiled; auto: tried where the run lasts more than 20 minutes."""
    activation_checkpointing: bool = False
    """Whether blocks are computed again in the backward pass, to save memory."""
    init: str = ""
    """Source of the backbone's initial weights: a safetensors file, a run, or timm:NAME; empty: random."""
    continue_from: str = ""
    """The run that this one continues; empty: none."""
    on_collapse: Literal["warn", "stop", "rollback"] = "warn"
    """What happens when the features collapse."""
    processes: int = 0
    """Processes on this machine that share each step, of one thread each; 0: measured."""
    threads: int = 0
    """Torch's threads where there is one process; 0: measured."""

    def __post_init__(self) -> None:
        lengths = {
            name: getattr(self, name) for name in ("budget", "epochs", "steps") if getattr(self, name) is not None
        }
        if len(lengths) > 1:
            raise HeadwayError(
                "options-conflict", f"{' and '.join('--' + n for n in lengths)} exclude one another; give one of them"
            )
        recipe = self.recipe
        positive = {
            "recipe.batch-size": recipe.batch_size, "recipe.epochs": recipe.epochs,
            "recipe.storage-scale": recipe.storage_scale, "grad-accum": self.grad_accum,
        }  # fmt: skip
        for name, value in {**lengths, **positive}.items():
            if not (math.isfinite(value) and value > 0):
                raise HeadwayError("value-out-of-range", f"--{name} must be a number above 0, got {value}")
        for name, value, most in (
            ("size", self.size, 4096),
            ("patch", self.patch, 4096),
            ("seed", self.seed, 2**63 - 1),
        ):
            if not 0 <= value <= most:
                raise HeadwayError("value-out-of-range", f"--{name} must lie in 0..{most}, got {value}")
        check_workers(self.processes, self.threads)
        if self.init and self.continue_from:
            raise HeadwayError(
                "options-conflict",
                "--init and --continue-from exclude one another: a continued run brings its own weights",
            )
        if is_timm(self.init) and self.backbone != self.init:
            raise HeadwayError(
                "options-conflict", f"--init {self.init} brings its own network; leave out --backbone {self.backbone}"
            )
        for name in ("stem", "precision", "compile", "on_collapse"):
            allowed = get_args(type(self).__annotations__[name])
            if getattr(self, name) not in allowed:
                raise unknown_name_error(name, str(getattr(self, name)), allowed)


@dataclass(frozen=True)
class Plan:
    """How a run is carried out. It is fixed before the first step and recorded."""

    steps: int
    """Optimizer steps in all."""
    batch_size: int
    """Images per step, over all processes and micro-batches."""
    seed: int = 0
    """Seed of the augmentations and of the order of images."""
    grad_accum: int = 1
    """Micro-batches per step on each process; more of them once memory runs out."""
    precision: Literal["float32", "bf16", "float64"] = "float32"
    """Precision of the arithmetic; weights and losses stay at float32 or wider."""
    attention_impl: Literal["manual", "sdpa"] = "sdpa"
    """How attention is computed."""
    compile: bool = False
    """Whether the backbone is compiled."""
    processes: int = 1
    """Processes on this machine that share each step (``worker_team``), where no launcher has started several."""
    threads: int = 0
    """Torch's threads in each process; 0: as many as torch takes."""
    phase_seconds: tuple[float, ...] = ()
    """Measured seconds per step in each phase of the task; empty: not measured."""
    adapt_workers: Literal["never", "threads", "processes"] = "never"
    """What is chosen anew once steps take several times as long as measured: processes as well, or threads alone."""
    adapt_steps: bool = False
    """Whether the number of steps then becomes what fits into the time that was planned."""
    changes: tuple[dict[str, int], ...] = ()
    """Changes to repeat: the ``step`` after which ``processes``, ``threads`` and ``steps`` become these."""
    activation_checkpointing: bool = False
    """Whether blocks are computed again in the backward pass: less memory, about a third more time."""
    fsdp: bool = False
    """Whether weights, gradients and moments are sharded over the processes (FSDP2) or replicated (DDP)."""
    start_position: int = 0
    """Position of the first image in the sample stream: where the run that this one continues had arrived."""
    save_every: int = 0
    """Steps between checkpoints; 0: only at the beginning and the end."""
    log_every: int = 10
    """Steps between log lines."""
    probe_every: int = 0
    """Steps between probes, where there is a probe; 0: only at the end."""
    probe_at_start: bool = False
    """Whether the probe is also measured before the first step."""
    monitor_every: int = 0
    """Steps between checks of the features for collapse, where there is a feature monitor; 0: never."""
    on_collapse: Literal["warn", "stop", "rollback"] = "warn"
    """What follows a collapse: a note, the end of the run, or a return to the last checkpoint before it."""

    def __post_init__(self) -> None:
        counts = {"steps": 1, "batch_size": 1, "grad_accum": 1, "processes": 1, "threads": 0, "start_position": 0,
                  "save_every": 0, "log_every": 0, "probe_every": 0, "monitor_every": 0}  # fmt: skip
        for name, least in counts.items():
            if getattr(self, name) < least:
                raise HeadwayError(
                    "value-out-of-range", f"a plan's {name} must be {least} or more, got {getattr(self, name)}"
                )
        most = max(self.processes, *(change.get("processes", 1) for change in self.changes), 1)
        if most > self.batch_size:
            raise HeadwayError(
                "value-out-of-range",
                f"{most} processes cannot share a step of {self.batch_size} images; give --processes a smaller number",
            )


class FitResult(NamedTuple):
    """How a training ended.

    Attributes:
        steps: Steps in all, including those before a resume.
        seconds: Time of this process's training, without probes.
        loss: The last mean that was logged; NaN where no step was left to take.
        images_per_second: Over all processes.
        skipped_steps: Steps that changed nothing because the loss or the gradient was NaN or infinite.
        grad_accum: Micro-batches per step at the end; more than planned where memory ran out.
        changes: Changes of the plan on the way, as ``Plan.changes`` has them.
    """

    steps: int
    seconds: float
    loss: float
    images_per_second: float
    skipped_steps: int = 0
    grad_accum: int = 1
    changes: tuple[dict[str, int], ...] = ()
