"""Combination: one backbone is trained on several tasks at once, with losses on a common scale.

    loss = sum_i w_i L_i / s_i,   s_i = mean of |L_i| over the first hundredth of the run

Each loss is divided by its value at the start of the run. So a task with a large loss does not dominate the others, and
a task that is nearly solved loses influence. Until its first value is known, s_i is 1. Each task has a random stream of
its own.

Training one network on several tasks: Doersch and Zisserman, "Multi-task self-supervised visual learning", 2017
(https://arxiv.org/abs/1708.07860). The scale of each loss is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Recipe, TaskConfig
from headway.distributed import global_mean
from headway.errors import HeadwayError
from headway.protocol import Backbone, Batch, DataInfo, Panel, PretextTask, TaskOutput, TrainingClock
from headway.rng import SampleRNG

NORMALIZATION_FRACTION = 0.01
"""Share of the run, from its start, over which losses are measured; at least one step."""
MIN_LOSS_SCALE = 1e-3
"""The least scale s_i of a loss."""


class CombinedViews(NamedTuple):
    """The views of each task, in the order of the tasks, and the number of images."""

    views: tuple[Any, ...]
    num_images: int


@dataclass(frozen=True)
class Combined:
    """Configuration of a combination. ``combine`` adds a field for each task, under its name."""

    weights: tuple[float, ...] = ()
    """w, one per task in the order named. Empty: all 1."""

    def __post_init__(self) -> None:
        count = len(self.parts)
        if self.weights and (len(self.weights) != count or min(self.weights) < 0 or sum(self.weights) == 0):
            raise HeadwayError(
                "value-out-of-range",
                f"a combination of {count} tasks needs {count} weights of 0 or more, got {self.weights}",
            )

    @property
    def parts(self) -> dict[str, TaskConfig]:
        """The configuration of each task, by name."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "weights"}

    def build(self, backbone: Backbone, data_info: DataInfo) -> "CombinedTask":
        """Build every task for the same backbone."""
        tasks = {name: config.build(backbone, data_info) for name, config in self.parts.items()}
        return CombinedTask(tasks, self.weights or (1.0,) * len(tasks))


class CombinedTask(PretextTask):
    """Train one backbone on several tasks at once."""

    def __init__(self, tasks: dict[str, PretextTask], weights: Sequence[float]):
        super().__init__()
        self.weights = tuple(weights)
        self.tasks: Any = nn.ModuleDict(tasks)  # torch types its values as modules without the methods of a task
        self.loss_scales = nn.Buffer(torch.ones(len(tasks)))
        self.num_measured: Tensor = nn.Buffer(torch.zeros((), dtype=torch.int64))  # skipped steps don't count
        # These are class attributes of other tasks; those of a combination depend on its parts.
        self.requires = frozenset().union(*(task.requires for task in tasks.values()))  # type: ignore[misc]
        self.batch_coupled = any(task.batch_coupled for task in tasks.values())  # type: ignore[misc]
        self.min_batch_size = max(task.min_batch_size for task in tasks.values())  # type: ignore[misc]
        self.cost_milestones = tuple(sorted({start for task in tasks.values() for start in task.cost_milestones}))

    def make_views(self, batch: Batch, rng: SampleRNG) -> CombinedViews:
        """The views of each task, with a random stream per task."""
        views = tuple(task.make_views(batch, rng.fold_in(name)) for name, task in self.tasks.items())
        return CombinedViews(views, len(batch.images))

    def forward(self, backbone: Backbone, views: CombinedViews, clock: TrainingClock) -> TaskOutput:
        """The weighted sum of the tasks' losses, each divided by its scale."""
        pairs = zip(self.tasks.values(), views.views, strict=True)
        outputs = [task(backbone, task_views, clock) for task, task_views in pairs]
        losses = torch.stack([output.loss for output in outputs])  # one per task
        weights = torch.tensor(self.weights, dtype=losses.dtype, device=losses.device)
        metrics = {}
        for name, output in zip(self.tasks, outputs, strict=True):
            metrics[f"{name}.loss"] = output.loss.detach()
            metrics.update({f"{name}.{metric}": value for metric, value in output.metrics.items()})
        sums = (losses.detach() * views.num_images, torch.tensor(views.num_images, device=losses.device))
        step_stats = ([output.step_stats for output in outputs], sums)
        return TaskOutput((weights * losses / self.loss_scales.to(losses.dtype)).sum(), metrics, step_stats)

    def after_step(self, backbone: Backbone, step_stats: Sequence[Any], clock: TrainingClock) -> None:
        """Call each task's ``after_step``, and measure its loss at the start of the run."""
        for i, task in enumerate(self.tasks.values()):
            task.after_step(backbone, [parts[i] for parts, _ in step_stats], clock)
        if clock.step <= clock.total_steps * NORMALIZATION_FRACTION or not self.num_measured:
            scales = global_mean([sums for _, sums in step_stats]).abs().clamp_min(MIN_LOSS_SCALE)  # one per task
            self.num_measured += 1
            # The running mean of all measured steps.
            self.loss_scales.lerp_(scales.to(self.loss_scales.dtype), 1 / float(self.num_measured))

    def visualize(self, batch: Batch, views: CombinedViews, backbone: Backbone | None = None) -> list[Panel]:
        """The panels of every task, under its name."""
        return [
            panel._replace(title=f"{name}: {panel.title}")
            for (name, task), task_views in zip(self.tasks.items(), views.views, strict=True)
            for panel in task.visualize(batch, task_views, backbone)
        ]


def combine(recipes: dict[str, Recipe]) -> Recipe:
    """One recipe for several tasks on one backbone.

    Optimizer and batch size are those of the task named first. Epochs and storage scale are the largest of any task.
    The backbone pools its class token, or sees gray images, if any task's recipe says so.

    Args:
        recipes: Recipes by name. The names become fields of the task's configuration (``--recipe.task.mae.ratio``).

    Raises:
        HeadwayError: For fewer than two tasks, or for a name that is no valid field name.
    """
    if len(recipes) < 2:
        raise HeadwayError(
            "value-out-of-range", f"a combination needs two different tasks or more, got {', '.join(recipes) or 'none'}"
        )
    for name in recipes:
        if not name.isidentifier() or name in ("weights", "parts", "build"):
            raise HeadwayError("name-clash", f"a task in a combination cannot be called '{name}': rename its file")
    parts: list[Any] = [(name, type(recipe.task), field(default=recipe.task)) for name, recipe in recipes.items()]
    config_class = make_dataclass("Combined", parts, bases=(Combined,), frozen=True, namespace={"__module__": __name__})
    every, first = recipes.values(), next(iter(recipes.values()))
    return Recipe(
        task=config_class(),
        optim=first.optim,
        batch_size=first.batch_size,
        epochs=max(recipe.epochs for recipe in every),
        storage_scale=max(recipe.storage_scale for recipe in every),
        pooling="class" if any(recipe.pooling == "class" for recipe in every) else "mean",
        grayscale=any(recipe.grayscale for recipe in every),
    )
