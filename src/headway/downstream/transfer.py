"""From a backbone and labelled pictures to a classifier: change the output layer, in six ways."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from headway.data.picked import Pictures
from headway.downstream.calibrate import knn_temperature
from headway.downstream.choose import choose
from headway.downstream.classifier import Classifier
from headway.downstream.features import extract
from headway.downstream.heads import FRESH, NearestNeighbours, fresh_head
from headway.downstream.layers import hold_first, layer_rules
from headway.downstream.tune import FINE_TUNE as FINE_TUNE
from headway.downstream.tune import FROM_SCRATCH as FROM_SCRATCH
from headway.downstream.tune import RECIPES, calibrated_head, scaled_head
from headway.downstream.tune import FineTune as FineTune
from headway.downstream.tune import linear_head as linear_head
from headway.downstream.tune import new_head as new_head
from headway.downstream.tune import supervise as supervise
from headway.draws import seeded
from headway.errors import HeadwayError, unknown
from headway.nn.lora import adapt
from headway.train.log import Sink

Head = Literal["knn", "linear", "attentive", "mlp", "finetune", "lora"]


def transfer(
    backbone: nn.Module,
    images: Pictures,
    labels: Tensor,
    classes: tuple[str, ...],
    size: int,
    *,
    head: Head,
    seed: int = 0,
    fine_tune: FineTune | None = None,
    folds: int = 0,
    groups: Tensor | None = None,
    sinks: Sequence[Sink] = (),
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Classifier:
    """Change the output layer: join a head for K classes and train it. The backbone given is left as it was.

    Fine-tuning and LoRA start from the linear probe (head first, then all), which keeps the first steps from spoiling
    the features (Kumar et al., "Fine-tuning can distort pretrained features", 2022, https://arxiv.org/abs/2202.10054).

    Args:
        backbone: The network that is kept.
        images: N C H W, labelled pictures as stored.
        labels: N, int64 in 0..K-1; or N K of 0 and 1, where a picture may have several.
        classes: K names.
        size: Side of the view in pixels.
        head: knn, linear, attentive or mlp (backbone frozen), finetune (it moves), lora (low-rank changes of it).
        seed: Of folds, order and augmentation.
        fine_tune: Choices of heads that are trained by steps; none: those of ``RECIPES``.
        folds: Parts of the labelled pictures on which regularisation, the moment to stop and the temperature are
            chosen; 0: the recipe as it is, and probabilities as they come.
        groups: N, int64: pictures of equal group are in one fold; none: each stands for itself.
        sinks: Take the events of training.
        progress: Told how many trainings on folds of how many are done.
        say: Told what was chosen.

    Raises:
        HeadwayError: A head that there isn't, or what it can't do.
    """
    several = labels.dim() == 2
    choices = fine_tune or RECIPES.get(head, FINE_TUNE)
    check(backbone, head, choices, several, folds)
    network: Any = backbone
    features = None if head in FRESH else extract(backbone, images, size)  # N D

    def start(rows: Tensor | None = None) -> nn.Module:
        """The head that training on some rows starts from."""
        if features is None:
            return fresh_head(head, network.embed_dim, len(classes), seed)
        x, y = (features, labels) if rows is None else (features[rows], labels[rows])
        together = groups if rows is None or groups is None else groups[rows]
        return scaled_head(x, y, len(classes), seed, choices.task.balance, together)

    if head == "knn":
        assert features is not None
        temperature = knn_temperature(features, labels, len(classes), folds, seed, groups) if folds else 1.0
        neighbours = NearestNeighbours(features, labels, len(classes))
        return Classifier(backbone, neighbours, classes, size, head, temperature)
    if head == "linear":
        assert features is not None
        linear, temperature = calibrated_head(features, labels, len(classes), seed, choices.task.balance, groups)
        return Classifier(backbone, linear, classes, size, head, temperature if folds else 1.0, several)
    first, stop, temperature = start(), None, 1.0
    if folds:
        chosen = choose(
            backbone, start, images, labels, classes, size,
            recipe=choices, folds=folds, seed=seed, from_probe=features is not None, groups=groups,
            progress=progress,
        )  # fmt: skip
        say(str(chosen))
        choices, temperature = chosen.choices, chosen.temperature
        stop = chosen.steps(len(images))
    if stop == 0:  # nothing beat the linear probe
        return Classifier(backbone, first, classes, size, head, temperature, several)
    trained = supervise(
        backbone, first, images, labels, classes, size, seed=seed, choices=choices, sinks=sinks, stop=stop, kind=head
    )
    return trained._replace(temperature=temperature)


def check(backbone: nn.Module, head: str, choices: FineTune, several: bool, folds: int) -> None:
    """Refuse what can't be done before anything is decoded. Raises HeadwayError; arguments as for ``transfer``."""
    if head not in get_args(Head):
        raise unknown("head", head, get_args(Head))
    if folds < 0 or folds == 1:
        raise HeadwayError(f"--folds must be 2 or more, or 0 for none, got {folds}")
    if head == "knn" and (several or choices.task.balance):
        raise HeadwayError("knn counts votes for one class each, all alike; take another head, linear say")
    network = copy.deepcopy(backbone)
    if choices.moves == "lora":
        with seeded(0):
            adapt(network, choices.rank, choices.alpha)
    elif choices.moves == "all" and head in RECIPES:  # the others leave the backbone as it is
        hold_first(network, choices.blocks)
        layer_rules(network, choices.layer_decay)
