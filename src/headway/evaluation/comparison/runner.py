"""The engine of a comparison: its methods, the pretrainings behind them, and the cache of finished results.

Every task trains the same network, with the same budget and from the same seeds, and gets the same heads on the same
labels. The baselines get those labels too: raw pixels, the untrained network, training from scratch (which selects how
to train on folds from as many candidates as any head, and takes twice the steps), and public backbones, whose
pretraining the tasks also continue.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headway.backbones.build import build_backbone
from headway.backbones.weights import load_backbone, weights_sha256
from headway.data.dataset.channel_statistics import channel_statistics
from headway.errors import HeadwayError
from headway.evaluation.comparison.config import ComparisonConfig
from headway.evaluation.comparison.data import ComparisonData
from headway.evaluation.comparison.pretrained_baselines import (
    continue_pretraining,
    hub_offline,
    load_baseline,
    pretrain_title,
)
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.methods import (
    BackboneFn,
    Method,
    baseline_methods,
    draw_labels,
)
from headway.evaluation.result_cache import ResultCache, is_finished, pack_bits, run_folder, unpack_bits
from headway.protocol import Backbone
from headway.rng import seeded
from headway.train.config import PretrainConfig
from headway.train.init.initial_weights import initial_seen_images
from headway.train.log.events import Sink
from headway.train.pretrain import run_pretraining
from headway.train.run_context import RunOptions
from headway.train.run_dir.seen_images import write_seen_images
from headway.utils.files import read_json
from headway.utils.hashing import stable_hash
from headway.utils.serialize import serialize

TASK_GROUP = "tasks"


@dataclass(eq=False)
class ComparisonRunner:
    """The images, the configuration and the finished results of a comparison.

    Args:
        config: What is compared.
        data: The images.
        result_cache: Keeps the results.
        open_sinks: From the name of a pretraining to a context with the sinks of its log events.
        notify: Called with one line for each finished result.
        auto_processes: As in ``RunOptions``.
    """

    config: ComparisonConfig
    data: ComparisonData
    result_cache: ResultCache
    open_sinks: Callable[[str], AbstractContextManager[Sequence[Sink]]]
    notify: Callable[[str], None]
    auto_processes: bool = False

    def __post_init__(self) -> None:
        config, first = self.config, self.config.pretrain_configs[0]
        self.size = first.size
        self.evaluator = Evaluator(self.data.split, processes=0 if self.auto_processes else 1)
        self.baselines = {name: cache(partial(load_baseline, name, first)) for name in config.baselines}
        continued = self.baselines.items() if config.continue_baselines else ()
        self.continued_baselines = {
            name: continue_pretraining(name, load(), config.pretrain_configs, self.data.images)
            for name, load in continued
        }

    @property
    def pretrain_configs(self) -> list[PretrainConfig]:
        """Every pretraining of one seed."""
        continued = (config for found in self.continued_baselines.values() for config in found.configs)
        return [*self.config.pretrain_configs, *continued]

    def run_of(self, config: PretrainConfig, seed_offset: int) -> Path:
        """The run folder of one task and seed."""
        return run_folder(self.result_cache, pretrain_title(config), self.config.seed + seed_offset)

    def pretrained_backbone(self, config: PretrainConfig, seed_offset: int) -> Backbone:
        """The backbone of one task and seed, which is pretrained unless it is already.

        Raises:
            HeadwayError: It was pretrained with another recipe than the task has now.
        """
        run, name = self.run_of(config, seed_offset), pretrain_title(config)
        config = replace(config, seed=self.config.seed + seed_offset)
        title = f"{name}, seed {config.seed}"
        if not is_finished(run):
            with self.open_sinks(title) as sinks, hub_offline() if config.init else nullcontext():
                options = RunOptions(auto_processes=self.auto_processes)
                result = run_pretraining(config, self.data.unlabeled, run, resume=True, options=options, sinks=sinks)
            if (seen := initial_seen_images(config, None)) is not None:
                write_seen_images(run, torch.cat([seen, self.data.hashes]))
            self.notify(f"{title}: pretrained, {result['steps']:,} steps in {result['seconds']:.0f} s")
        elif read_json(run / "run.json")["config"]["recipe"] != serialize(config.recipe):
            raise HeadwayError(
                "resume-differs", f"{run} was trained by another recipe than {name} has now; choose another --out"
            )
        return load_backbone(run).float()

    def untrained_backbone(self, seed_offset: int) -> Backbone:
        """The initial network of a pretraining with this seed."""
        config = self.config.pretrain_configs[0]
        with seeded(self.config.seed + seed_offset):
            return build_backbone(
                config.backbone,
                size=self.size,
                input_spec=channel_statistics(self.data.images),
                stem=config.stem,
                patch_size=config.patch,
            )

    def check_baseline_weights(self) -> None:
        """Record the hashes of the baselines' weights.

        Raises:
            HeadwayError: A baseline has other weights than when this comparison was begun.
        """
        for name, load in self.baselines.items():
            digest = weights_sha256(load())
            recorded = self.result_cache.get_or_compute(f"weights of {name}", partial(dict, digest=digest))
            if recorded["digest"] != digest:
                raise HeadwayError(
                    "resume-differs",
                    f"{name} has other weights than when {self.result_cache.folder} was begun; choose another --out",
                )

    def methods(self) -> list[Method]:
        """Every method of the comparison."""
        untrained = _of_pretraining(self.untrained_backbone)
        rows = baseline_methods(self.data.images.shape[1], untrained, self.config.scratch_head)
        for name, load in self.baselines.items():
            rows += self._methods_of_backbone(name, partial(_ignore_seeds, load), name)
            for config in self.continued_baselines[name].configs if name in self.continued_baselines else ():
                continued = _of_pretraining(partial(self.pretrained_backbone, config))
                rows += self._methods_of_backbone(pretrain_title(config), continued, f"from {name}")
        for config in self.config.pretrain_configs:
            pretrained = _of_pretraining(partial(self.pretrained_backbone, config))
            rows += self._methods_of_backbone(config.task, pretrained, TASK_GROUP)
        return rows

    def _methods_of_backbone(self, name: str, backbone: BackboneFn, selection_group: str) -> list[Method]:
        """A backbone with each of the heads."""
        heads = self.config.head_kinds
        return [Method(f"{name} {head.title}", backbone, head, selection_group) for head in heads]

    def evaluate(self, method: Method, seed_offset: int) -> tuple[np.ndarray, list[float]]:
        """The results of a method with one seed, each computed once.

        Returns:
            Draws n: whether each test image was classified correctly; and the accuracy on folds of each draw (0 where
            nothing could be held out).
        """
        config, seed = self.config, self.config.seed + seed_offset

        def compute(draw: int) -> dict[str, Any]:
            indices = draw_labels(self.data.split.labels, config.labels_per_class, seed, draw)
            score = self.evaluator.score(method, indices, stable_hash("training", seed, draw), seed_offset)
            on_folds = "" if score.fold_accuracy is None else f": {100 * score.fold_accuracy:.1f} % correct on folds"
            self.notify(f"{method.name}, seed {seed}, draw {draw} done{on_folds}")
            return {"correct": pack_bits(score.correct.numpy()), "fold_accuracy": score.fold_accuracy}

        results = [
            self.result_cache.get_or_compute(f"{method.name}, seed {seed}, draw {draw}", partial(compute, draw))
            for draw in range(config.draws)
        ]
        correct = np.stack([unpack_bits(result["correct"]) for result in results])
        return correct, [result["fold_accuracy"] or 0.0 for result in results]


def _of_pretraining(load: Callable[[int], Backbone]) -> BackboneFn:
    """The backbones of a pretraining, by its seed; the last one is kept, since several heads and draws use it."""
    kept = lru_cache(maxsize=1)(load)
    return lambda seed_offset, seed: kept(seed_offset)


def _ignore_seeds(load: Callable[[], Backbone], seed_offset: int, seed: int) -> Backbone:
    """A public backbone, which is the same with every seed."""
    return load()
