"""Signs of collapse in the numbers that a run logs, each with what it most likely comes from.

A collapsed network says the same of every picture and may have the lowest loss of all. Metrics are known by the last
part of their name (``measure.health`` says what each means), so that a game in a combination is watched as it is alone
(``vicreg.deviation``).
"""

import math
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

HALF, FIFTH = 0.5, 0.2
"""Shares of the widest that the run has had below which a spread is a sign: of what is to be foretold or found, and of
features, which healthy games let point more and more one way. What all features share, a probe takes off.
"""
FILLED, LEAK = 0.95, 0.6
"""Where projections have filled the sphere, as behind a batch norm, a spread below the second is a sign already."""
NARROW = 0.05
"""So is a mean deviation below this one, where 1 is asked for."""
SURE = 0.1
"""And an entropy of the mean answer below this one, in nats: all answers are one and the same prototype."""
DULL, FEW = 0.01, 1.0
"""And answers that tell less of the picture than the first, in nats: where the mean answer's entropy is below the
second, a prototype or two take all; above, if they once told three times as much, all prototypes have become alike."""
WORDY, MORE = 0.4, 1.5
"""And a correlation of different coordinates above the first, if it has risen by this factor from its lowest."""
ONE, FLAT = 1.5, 0.02
"""And an effective rank of the features below the first, or a deviation below the second that was twice as much."""
LASTING, LONG = 2, 5
"""Readings in a row that show a sign before it counts, for what passes is no collapse; more where answers have become
alike, or projections leave a sphere that they had filled, as those of a young network may for a while.
"""
IN_A_ROW = ": signs in a row"
"""What the memory of readings calls their number, behind the name of what was read."""
SOFT = "labels are too soft: the teacher's temperature is too high beside the student's"
"""Why all prototypes become alike."""


class Sign(NamedTuple):
    """What is wrong and why, likely, and how many readings in a row must show it."""

    text: str
    lasting: int = LASTING


def symptom(numbers: Mapping[str, float], memory: MutableMapping[str, float]) -> str | None:
    """What is wrong and why, likely; None where nothing is.

    Args:
        numbers: Metrics of a task, or features as ``train.eye`` sees them.
        memory: Of the readings before, empty at first: extremes of the run, and signs that lasted.
    """
    for name, value in numbers.items():
        game, _, kind = name.rpartition(".")
        beside = {
            other.rpartition(".")[2]: number for other, number in numbers.items() if other.rpartition(".")[0] == game
        }
        sign = _sign(name, kind, value, beside, memory)
        count = name + IN_A_ROW
        if sign is None:
            memory.pop(count, None)
            continue
        memory[count] = memory.get(count, 0) + 1
        if memory[count] >= sign.lasting:
            return sign.text
    return None


def pending(memory: Mapping[str, float]) -> bool:
    """Whether anything showed a sign at its last reading, be it the first one or one of many."""
    return any(name.endswith(IN_A_ROW) for name in memory)


def _sign(
    name: str, kind: str, value: float, beside: Mapping[str, float], memory: MutableMapping[str, float]
) -> Sign | None:
    """What this number says by itself, with the likely cause."""
    if kind in ("spread", "target_spread"):
        widest = memory[name] = max(value, memory.get(name, 0.0))
        filled = kind == "target_spread" and widest > FILLED and beside.keys() & {"likeness", "agreement"}
        if kind == "spread" and _tells(name, beside, memory):
            return None
        if value < widest * (FIFTH if kind == "spread" else LEAK if filled else HALF):
            said = f"{name} fell from {widest:.2f} to {value:.2f}; likely {_lost(beside)}"
            return Sign(said, LONG if filled else LASTING)
    if kind == "deviation" and value < NARROW:
        return Sign(f"{name} is {value:.3f} where 1 is asked for; likely {_lost(beside)}")
    if kind == "redundancy":
        lowest = memory[name] = min(value, memory.get(name, value))
        if value > max(WORDY, MORE * lowest):
            rise = f"{name} rose from {lowest:.2f} to {value:.2f}"
            return Sign(f"{rise}, so all coordinates say one thing; likely {_lost(beside)}")
    if kind.endswith("prototype_entropy"):
        told = value - beside.get(kind.replace("prototype", "answer"), 0.0)
        most = memory[name] = max(told, memory.get(name, 0.0))
        if value < SURE or (told < DULL and value < FEW):
            return Sign(f"{name} is {value:.2f}, so every picture gets the same prototype; likely {_unequal(beside)}")
        if told < DULL and most > 3 * DULL:
            alike = f"{name} is {value:.2f} and every answer as undecided, so all prototypes are alike to every picture"
            return Sign(f"{alike}; likely {SOFT}", LONG)
    if kind == "rank" and value < ONE:
        return Sign(f"the effective rank of the features is {value:.2f}, so all point one way; likely {_lost(beside)}")
    if kind == "std":
        widest = memory[name] = max(value, memory.get(name, 0.0))
        if value < min(FLAT, HALF * widest):
            return Sign(f"the deviation of the features fell from {widest:.2f} to {value:.2f}; likely {_lost(beside)}")
    return None


def _tells(name: str, beside: Mapping[str, float], memory: Mapping[str, float]) -> bool:
    """Whether the game's own numbers, which are made of the features, still tell pictures apart: then features that
    point ever more one way merely share a large part, which projections take off, as any probe does.
    """
    target = beside.get("target_spread", 0.0)
    apart = target > LEAK * memory.get(name.replace("spread", "target_spread"), target)
    told = beside.get("prototype_entropy", 0.0) - beside.get("answer_entropy", math.inf)
    asked = beside.get("deviation", 0.0) > 2 * NARROW or beside.get("redundancy", 1.0) < WORDY
    return apart or told > DULL or asked


def _lost(beside: Mapping[str, float]) -> str:
    """What should have kept different pictures apart, known by what else the game logs."""
    if "likeness" in beside:  # SimSiam, BYOL
        return "the gradient is not stopped at what is foretold, or the predictor is missing or too weak"
    if "gaussian" in beside:  # LeJEPA
        return "the test for a Gaussian is missing or weighs too little"
    if "deviation" in beside:  # VICReg
        return "the variance term is missing or weighs too little"
    if "redundancy" in beside:  # Barlow Twins
        return "the redundancy term is missing or weighs too little"
    if "agreement" in beside:  # SimCLR, MoCo v3
        return "the other pictures don't count: the negatives are missing, or the temperature is far too high"
    if "prototype_entropy" in beside:  # SwAV, DINO, iBOT, DINOv2
        dull = beside["prototype_entropy"] - beside.get("answer_entropy", 0.0) < DULL
        return SOFT if dull else "the rate is too high, or the teacher follows too fast"
    if "target_spread" in beside:  # I-JEPA, data2vec
        return "the teacher is no slow one: its momentum or memory is too low, or the gradient is not stopped at it"
    return "the rate is too high"


def _unequal(beside: Mapping[str, float]) -> str:
    """What should have given every prototype its share."""
    if "label_entropy" in beside:  # SwAV, DINOv2
        return "the balance over the batch (Sinkhorn) is missing"
    return "the centring is missing or too slow for this rate of learning"
