"""What all parts of the package exchange: types, and the base classes of backbones and pretext tasks."""

from headway.protocol.backbone import Backbone
from headway.protocol.task import PretextTask, TrainModule
from headway.protocol.types import (
    Batch,
    DataInfo,
    Features,
    InputSpec,
    Panel,
    TaskOutput,
    TrainingClock,
)

__all__ = [
    "Backbone", "Batch", "DataInfo", "Features", "InputSpec", "Panel", "PretextTask", "TaskOutput", "TrainModule",
    "TrainingClock",
]  # fmt: skip
