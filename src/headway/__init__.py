"""Headway: self-supervised pretraining on unlabeled images, and transfer to a classifier with few labels.

Each verb of the command line is a function here with the same names and defaults: ``headway.pretrain("rotation",
data="photos", out="runs/r")``. Importing the package does not import torch; a name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from headway._version import __version__
from headway.cli.verbs import VERBS

_EXPORTS = {
    **{name: verb.function.partition(":")[0] for name, verb in VERBS.items()},
    "ProgressBar": "headway.cli.progress_bar",
    "ProgressEvent": "headway.utils.progress",
    **dict.fromkeys(("Optim", "Recipe", "Rule"), "headway.config"),
    **dict.fromkeys(
        ("Backbone", "Batch", "DataInfo", "Features", "PretextTask", "TaskOutput", "TrainingClock"), "headway.protocol"
    ),
    "Source": "headway.data.sources.base",
    "HeadwayError": "headway.errors",
    "load_backbone": "headway.backbones.weights",
    "Encoder": "headway.estimator",
    "Target": "headway.downstream.targets",
    **dict.fromkeys(("Classifier", "load_classifier"), "headway.downstream.classifier"),
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'headway' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from headway.api.attend import attend as attend
    from headway.api.check import check as check
    from headway.api.cluster import cluster as cluster
    from headway.api.compare import compare as compare
    from headway.api.curve import curve as curve
    from headway.api.demo import demo as demo
    from headway.api.embed import embed as embed
    from headway.api.export import export as export
    from headway.api.predict import predict as predict
    from headway.api.pretrain import pretrain as pretrain
    from headway.api.rank import rank as rank
    from headway.api.show import show as show
    from headway.api.tasks import tasks as tasks
    from headway.api.transfer import transfer as transfer
    from headway.backbones.weights import load_backbone as load_backbone
    from headway.cli.progress_bar import ProgressBar as ProgressBar
    from headway.config import Optim as Optim
    from headway.config import Recipe as Recipe
    from headway.config import Rule as Rule
    from headway.data.sources.base import Source as Source
    from headway.downstream.classifier import Classifier as Classifier
    from headway.downstream.classifier import load_classifier as load_classifier
    from headway.downstream.targets import Target as Target
    from headway.errors import HeadwayError as HeadwayError
    from headway.estimator import Encoder as Encoder
    from headway.protocol import Backbone as Backbone
    from headway.protocol import Batch as Batch
    from headway.protocol import DataInfo as DataInfo
    from headway.protocol import Features as Features
    from headway.protocol import PretextTask as PretextTask
    from headway.protocol import TaskOutput as TaskOutput
    from headway.protocol import TrainingClock as TrainingClock
    from headway.utils.progress import ProgressEvent as ProgressEvent
