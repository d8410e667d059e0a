"""The loss of the tasks whose target is a class."""

import torch.nn.functional as F
from torch import Tensor

from headway.protocol import TaskOutput


def classification_output(logits: Tensor, targets: Tensor) -> TaskOutput:
    """Cross-entropy and accuracy: logits M K and targets M (int64)."""
    accuracy = (logits.argmax(1) == targets).float().mean()
    return TaskOutput(F.cross_entropy(logits, targets), {"accuracy": accuracy})
