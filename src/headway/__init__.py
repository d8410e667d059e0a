"""Headway: learn from pictures that nobody labelled, then change the head.

Each verb of the command line is a function here with the same names and defaults: ``headway.pretrain("rotation",
data="photos", out="runs/r")``. Importing this imports no torch; a name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "attend": "headway.cli.attend",
    "check": "headway.cli.check",
    "cluster": "headway.cli.cluster",
    "compare": "headway.cli.compare",
    "curve": "headway.cli.curve",
    "demo": "headway.cli.demo",
    "embed": "headway.cli.embed",
    "export": "headway.cli.export",
    "predict": "headway.cli.predict",
    "pretrain": "headway.cli.pretrain",
    "rank": "headway.cli.rank",
    "show": "headway.cli.show",
    "tasks": "headway.cli.tasks",
    "transfer": "headway.cli.transfer",
    "Batch": "headway.protocol",
    "Clock": "headway.protocol",
    "Facts": "headway.protocol",
    "Features": "headway.protocol",
    "HeadwayError": "headway.errors",
    "Optim": "headway.config",
    "Outcome": "headway.protocol",
    "PretextTask": "headway.protocol",
    "Recipe": "headway.config",
    "Rule": "headway.config",
    "load_backbone": "headway.backbones.weights",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'headway' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from headway.backbones.weights import load_backbone as load_backbone
    from headway.cli.attend import attend as attend
    from headway.cli.check import check as check
    from headway.cli.cluster import cluster as cluster
    from headway.cli.compare import compare as compare
    from headway.cli.curve import curve as curve
    from headway.cli.demo import demo as demo
    from headway.cli.embed import embed as embed
    from headway.cli.export import export as export
    from headway.cli.predict import predict as predict
    from headway.cli.pretrain import pretrain as pretrain
    from headway.cli.rank import rank as rank
    from headway.cli.show import show as show
    from headway.cli.tasks import tasks as tasks
    from headway.cli.transfer import transfer as transfer
    from headway.config import Optim as Optim
    from headway.config import Recipe as Recipe
    from headway.config import Rule as Rule
    from headway.errors import HeadwayError as HeadwayError
    from headway.protocol import Batch as Batch
    from headway.protocol import Clock as Clock
    from headway.protocol import Facts as Facts
    from headway.protocol import Features as Features
    from headway.protocol import Outcome as Outcome
    from headway.protocol import PretextTask as PretextTask
