"""Combination: one backbone plays several games at once, and none may drown the others.

    loss = sum_i w_i L_i / s_i,   s_i = mean of |L_i| over the first hundredth of the run

So every game counts in units of its own beginning: one whose loss is large by nature doesn't drown the others, and one
that is soon solved falls silent. Until its first value is known, s_i is 1. Every game deals from chance of its own.

Several games on one network: Doersch and Zisserman, "Multi-task self-supervised visual learning", 2017
(https://arxiv.org/abs/1708.07860); the scale of each loss is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headway.config import Recipe, TaskConfig
from headway.distributed import carried_mean
from headway.draws import Draws
from headway.errors import HeadwayError
from headway.protocol import Backbone, Batch, Clock, Facts, Outcome, Panel, PretextTask

BEGINNING = 0.01
"""Share of the run over which losses are measured; one step that was taken at least."""
TINY = 1e-3
"""A loss that begins below this one counts as this one."""


class Hands(NamedTuple):
    """The deal: what each game dealt, in the order of the games, and the number of pictures."""

    dealt: tuple[Any, ...]
    pictures: int


@dataclass(frozen=True)
class Combined:
    """Choices of a combination; ``combine`` adds a field for each game, under its name."""

    weights: tuple[float, ...] = ()
    """w, one a game in the order named; none: all 1."""

    def __post_init__(self) -> None:
        count = len(self.parts)
        if self.weights and (len(self.weights) != count or min(self.weights) < 0 or sum(self.weights) == 0):
            raise HeadwayError(f"a combination of {count} games wants {count} weights of 0 or more, got {self.weights}")

    @property
    def parts(self) -> dict[str, TaskConfig]:
        """Each game's choices by name."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "weights"}

    def build(self, backbone: Backbone, facts: Facts) -> "CombinedTask":
        """Make every game on the same backbone."""
        games = {name: config.build(backbone, facts) for name, config in self.parts.items()}
        return CombinedTask(games, self.weights or (1.0,) * len(games))


class CombinedTask(PretextTask):
    """Play several games at once."""

    def __init__(self, games: dict[str, PretextTask], weights: Sequence[float]):
        super().__init__()
        self.names, self.weights = tuple(games), tuple(weights)
        self.games = nn.ModuleDict(games)
        self.scales: Tensor
        self.register_buffer("scales", torch.ones(len(games)))
        self.measured: Tensor  # how often: steps that were skipped don't count
        self.register_buffer("measured", torch.zeros((), dtype=torch.int64))
        # What other games say of their kind, a combination can only say of itself.
        self.needs = frozenset().union(*(game.needs for game in games.values()))  # type: ignore[misc]
        self.couples_batch = any(game.couples_batch for game in games.values())  # type: ignore[misc]
        self.minimum_batch = max(game.minimum_batch for game in games.values())  # type: ignore[misc]
        self.phases = tuple(sorted({start for game in games.values() for start in game.phases}))

    def views(self, batch: Batch, draws: Draws) -> Hands:
        """What each game deals, by draws of its own."""
        dealt = tuple(game.views(batch, draws.fork(name)) for name, game in self._games())
        return Hands(dealt, len(batch.images))

    def forward(self, backbone: Backbone, views: Hands, clock: Clock) -> Outcome:
        """The weighted sum of the games' losses, each in units of its own beginning."""
        played = [game(backbone, hand, clock) for (_, game), hand in zip(self._games(), views.dealt, strict=True)]
        losses = torch.stack([outcome.loss for outcome in played])  # one a game
        weights = torch.tensor(self.weights, dtype=losses.dtype, device=losses.device)
        metrics = {}
        for name, outcome in zip(self.names, played, strict=True):
            metrics[f"{name}.loss"] = outcome.loss.detach()
            metrics.update({f"{name}.{metric}": value for metric, value in outcome.metrics.items()})
        sums = (losses.detach() * views.pictures, torch.tensor(views.pictures, device=losses.device))
        carry = ([outcome.carry for outcome in played], sums)
        return Outcome((weights * losses / self.scales.to(losses.dtype)).sum(), metrics, carry)

    def after_step(self, backbone: Backbone, carries: Sequence[Any], clock: Clock) -> None:
        """Let each game do what it does after a step, and measure its loss while the run begins."""
        for number, (_, game) in enumerate(self._games()):
            game.after_step(backbone, [parts[number] for parts, _ in carries], clock)
        if clock.step <= clock.total * BEGINNING or not self.measured:
            size = carried_mean([sums for _, sums in carries]).abs().clamp_min(TINY)  # one a game
            self.measured += 1
            self.scales.lerp_(size.to(self.scales.dtype), 1 / float(self.measured))  # the mean of all steps so far

    def panels(self, batch: Batch, views: Hands, backbone: Backbone | None = None) -> list[Panel]:
        """The panels of every game, under its name."""
        return [
            panel._replace(title=f"{name}: {panel.title}")
            for (name, game), hand in zip(self._games(), views.dealt, strict=True)
            for panel in game.panels(batch, hand, backbone)
        ]

    def _games(self) -> list[tuple[str, Any]]:
        return [(name, self.games[name]) for name in self.names]


def combine(recipes: dict[str, Recipe]) -> Recipe:
    """One recipe for several games on one backbone.

    Optimiser and batch are those of the game named first, epochs and detail the most that any asks for; the backbone
    pools its class token, or sees lightness alone, where any game wants it so.

    Args:
        recipes: By name; names become fields of the task (``--recipe.task.mae.ratio``).

    Raises:
        HeadwayError: For fewer than two games, or for a name that can be no field.
    """
    if len(recipes) < 2:
        raise HeadwayError(f"a combination wants two different games at least, got {', '.join(recipes) or 'none'}")
    for name in recipes:
        if not name.isidentifier() or name in ("weights", "parts", "build"):
            raise HeadwayError(f"a game in a combination cannot be called '{name}': rename its file")
    parts: list[Any] = [(name, type(recipe.task), field(default=recipe.task)) for name, recipe in recipes.items()]
    kind = make_dataclass("Combined", parts, bases=(Combined,), frozen=True, namespace={"__module__": __name__})
    every, first = recipes.values(), next(iter(recipes.values()))
    return Recipe(
        task=kind(),
        optim=first.optim,
        batch=first.batch,
        epochs=max(recipe.epochs for recipe in every),
        detail=max(recipe.detail for recipe in every),
        pool="class" if any(recipe.pool == "class" for recipe in every) else "mean",
        grey=any(recipe.grey for recipe in every),
    )
