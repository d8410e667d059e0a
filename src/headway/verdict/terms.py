"""On what terms contenders meet: everything, beside the pictures, that a comparison's result depends on."""

from dataclasses import dataclass

from headway.downstream.tune import FineTune
from headway.train.job import Job
from headway.verdict.heads import recipe_of
from headway.verdict.trial import LONGER, SCRATCH, SCRATCH_LONG, for_steps


@dataclass(frozen=True)
class Terms:
    """Everything that a comparison's result depends on, beside the pictures."""

    jobs: tuple[Job, ...]
    """One pretraining a task; their seeds are counted up from here."""
    heads: tuple[str, ...] = ("linear", "finetune")
    """What tasks and public backbones are passed on with, of ``verdict.heads``."""
    public: tuple[str, ...] = ()
    """Public backbones, as ``verdict.public`` takes them."""
    continued: bool = True
    """Whether each task also trains the public backbones on."""
    per_class: int = 10
    """Labels a class."""
    seeds: int = 3
    """Pretrainings of each task."""
    draws: int = 2
    """Draws of labels for each seed."""
    seed: int = 0
    """The first."""
    label_steps: int = 0
    """Steps of one training on labels (from scratch: ``LONGER`` times as many); 0: as the head's recipe has it."""

    def recipe(self, head: str) -> FineTune | None:
        """How a head, or all of it from scratch, is trained by steps, but for the rate; none where it isn't."""
        if head == SCRATCH:
            return for_steps(SCRATCH_LONG, LONGER * self.label_steps) if self.label_steps else SCRATCH_LONG
        found = recipe_of(head)
        return for_steps(found, self.label_steps) if found and self.label_steps else found
