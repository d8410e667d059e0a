"""Signs of collapse in the numbers that a run logs, each with what it most likely comes from.

A collapsed network says the same of every picture and may have the lowest loss of all. Metrics are known by the last
part of their name, so that a game in a combination is watched as it is alone (``vicreg.deviation``).
"""

from collections.abc import Mapping, MutableMapping

HALF = 0.5
"""A spread below this share of the widest that the run has had is a sign."""
FILLED, LEAK = 0.95, 0.75
"""Where features have filled the sphere, as behind a batch norm, a spread below this share is one already."""
NARROW = 0.05
"""So is a mean deviation below this one, where 1 is asked for."""
SURE = 0.1
"""And an entropy of the mean answer below this one, in nats: all answers are one and the same prototype."""
ONE = 1.5
"""And an effective rank below this one: all features point one way."""
LASTING = 2
"""Readings in a row that show a sign before it counts: what passes is no collapse."""


def symptom(numbers: Mapping[str, float], memory: MutableMapping[str, float]) -> str | None:
    """What is wrong and why, likely; None where nothing is.

    Args:
        numbers: Metrics of a task, or features as ``train.eye`` sees them.
        memory: Of the readings before, empty at first: the widest of each spread, and signs that lasted.
    """
    for name, value in numbers.items():
        game, _, kind = name.rpartition(".")
        beside = {other.rpartition(".")[2] for other in numbers if other.rpartition(".")[0] == game}
        cause = _sign(name, kind, value, beside, memory)
        count = f"{name}: signs in a row"
        if cause is None:
            memory.pop(count, None)
            continue
        memory[count] = memory.get(count, 0) + 1
        if memory[count] >= LASTING:
            return cause
    return None


def _sign(name: str, kind: str, value: float, beside: set[str], memory: MutableMapping[str, float]) -> str | None:
    if kind.endswith("spread"):
        widest = memory[name] = max(value, memory.get(name, 0.0))
        if value < widest * (LEAK if kind == "spread" and widest > FILLED else HALF):
            return f"{name} fell from {widest:.2f} to {value:.2f}; likely {_binds_nothing(beside)}"
    if kind == "deviation" and value < NARROW:
        return f"{name} is {value:.3f} where 1 is asked for; likely the variance term is missing or weighs too little"
    if kind == "prototype_entropy" and value < SURE:
        why = "likely the centring is missing or too slow for this rate of learning"
        return f"{name} is {value:.2f}, so every picture gets the same prototype; {why}"
    if kind == "rank" and value < ONE:
        return f"the effective rank of the features is {value:.2f}, so all point one way; likely the rate is too high"
    return None


def _binds_nothing(beside: set[str]) -> str:
    """What should have kept the features of different pictures apart, by what is logged beside."""
    if "alignment" in beside:  # games that foretell: SimSiam, BYOL
        return "the gradient is not stopped at what is foretold, or the predictor is missing or too weak"
    if "deviation" in beside:
        return "the variance term is missing or weighs too little"
    return "what keeps pictures apart (negatives, a slow teacher) is missing or too weak, or the rate is too high"
