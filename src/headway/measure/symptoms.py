"""Signs of collapse in the numbers that a run logs, each with what it most likely comes from.

A collapsed network says the same of every picture and may have the lowest loss of all. Metrics are known by the last
part of their name, so that a game in a combination is watched as it is alone (``vicreg.deviation``).
"""

from collections.abc import Mapping, MutableMapping

HALF = 0.5
"""A spread below this share of the widest that the run has had is a collapse."""
NARROW = 0.05
"""A mean deviation below this one is a collapse, where 1 is asked for."""
ONE = 1.5
"""An effective rank below this one: all features point one way."""
SURE = 0.1
"""Entropy in nats below which answers, and their mean, are one and the same prototype."""


def symptom(numbers: Mapping[str, float], widest: MutableMapping[str, float]) -> str | None:
    """What is wrong and why, likely; None where nothing is.

    Args:
        numbers: Metrics of a task, or features as ``train.eye`` sees them.
        widest: The widest of each spread so far in the run; kept up to date here.
    """
    for name, value in numbers.items():
        game, _, kind = name.rpartition(".")
        beside = {other.rpartition(".")[2] for other in numbers if other.rpartition(".")[0] == game}
        if kind.endswith("spread"):
            widest[name] = max(value, widest.get(name, 0.0))
            if value < HALF * widest[name]:
                return f"{name} fell from {widest[name]:.2f} to {value:.2f}; likely {_binds_nothing(beside)}"
        elif kind == "deviation" and value < NARROW:
            return (
                f"{name} is {value:.3f} where 1 is asked for; likely the variance term is missing or weighs too little"
            )
        elif kind == "prototype_entropy" and value < SURE:
            return (
                f"{name} is {value:.2f}, so every picture gets the same prototype; likely the centring is missing or "
                "too slow for this rate of learning"
            )
        elif kind == "rank" and value < ONE:
            return (
                f"the effective rank of the features is {value:.2f}, so all point one way; likely the rate is too high"
            )
    return None


def _binds_nothing(beside: set[str]) -> str:
    """What should have kept the features of different pictures apart."""
    if "alignment" in beside:  # games that foretell: SimSiam, BYOL
        return "the gradient is not stopped at what is foretold, or the predictor is missing or too weak"
    if {"deviation", "dimensions"} & beside:
        return "the variance term is missing or weighs too little"
    return "what keeps pictures apart (negatives, a slow teacher) is missing or too weak, or the rate is too high"
