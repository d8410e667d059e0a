"""More animals, one function each: reptiles, insects and others. ``animals`` describes how they are drawn."""

import math

import numpy as np

from headway.synthetic.canvas import Pen, Uniform, smooth_curve


def turtle(pen: Pen, uniform: Uniform) -> None:
    """A turtle: a dome of plates on four short legs, the head stretched out."""
    stride, reach = uniform(-0.08, 0.08), uniform(-0.06, 0.14)
    pen.polygon([(-0.6, -0.5), (-0.92, -0.62), (-0.58, -0.68)], tone=0.9)
    for x in (-0.3 + stride, 0.26 - stride):
        pen.limb([(x, -0.5), (x + 0.04, -0.76)], 0.11, tone=0.7)
    pen.limb([(0.42, -0.45), (0.68, -0.34), (0.78, -0.16 + reach)], 0.12, 0.1)
    pen.ellipse(0.82, -0.1 + reach, 0.17, 0.14)
    pen.eye(0.87, -0.06 + reach, 0.055)
    for x in (-0.46 - stride, 0.4 + stride):
        pen.limb([(x, -0.5), (x + 0.05, -0.76)], 0.13, tone=0.95)
        pen.ellipse(x + 0.08, -0.8, 0.15, 0.06, tone=0.85)
    angle = np.linspace(0, math.pi, 20)
    dome = np.stack([0.66 * np.cos(angle) - 0.06, 0.72 * np.sin(angle) - 0.5], 1)  # 20 2
    pen.polygon(dome, "accent")
    for x, width in ((-0.4, 0.13), (-0.06, 0.17), (0.28, 0.13)):
        plate = [(x - width, -0.36), (x - width * 0.7, -0.06), (x + width * 0.7, -0.06), (x + width, -0.36)]
        pen.polygon(plate, "accent", 0.66)
    for x in (-0.24, 0.12):
        pen.polygon([(x - 0.1, 0.0), (x - 0.05, 0.14), (x + 0.05, 0.14), (x + 0.1, 0.0)], "accent", 0.66)
    pen.limb([(-0.74, -0.5), (0.62, -0.5)], 0.075, material="accent", tone=1.2)


def snake(pen: Pen, uniform: Uniform) -> None:
    """A snake: waves along the ground, head raised, tongue out."""
    wave, lift = uniform(0.13, 0.22), uniform(-0.1, 0.15)
    spine = [(-0.95, -0.55), (-0.72, -0.55 + wave), (-0.44, -0.55 - wave), (-0.14, -0.52 + wave), (0.16, -0.55 - wave)]
    spine += [(0.42, -0.42), (0.42, 0.0), (0.36, 0.22 + lift), (0.52, 0.36 + lift)]
    line = smooth_curve(spine, 8)
    for i, (x, y) in enumerate(line.tolist()):  # circles: a polygon along so curved a line would cross itself
        radius = min(0.03 + 0.11 * i / 20, 0.13)
        pen.ellipse(x, y, radius, radius, tone=1.0 if y > -0.55 else 0.9)
    pen.limb([(0.78, 0.36 + lift), (0.9, 0.36 + lift)], 0.018, material="accent")
    pen.polygon([(0.88, 0.37 + lift), (1.02, 0.45 + lift), (0.94, 0.36 + lift), (1.02, 0.27 + lift)], "accent")
    pen.ellipse(0.6, 0.38 + lift, 0.22, 0.15)
    pen.eye(0.64, 0.43 + lift, 0.065)


def butterfly(pen: Pen, uniform: Uniform) -> None:
    """A butterfly from above: two pairs of wings about a thin body, feelers."""
    wingspan, fall = uniform(0.75, 1.05), uniform(-0.08, 0.08)
    for side in (-1, 1):
        w = side * wingspan
        lower = [
            (w * 0.05, -0.05),
            (w * 0.6, -0.15),
            (w * 0.72, -0.5 + fall),
            (w * 0.42, -0.8 + fall),
            (w * 0.06, -0.3),
        ]
        upper = [
            (w * 0.05, 0.0),
            (w * 0.3, 0.6),
            (w * 0.8, 0.85 + fall),
            (w * 0.97, 0.5 + fall),
            (w * 0.72, 0.05),
            (w * 0.05, -0.08),
        ]
        pen.polygon(smooth_curve(lower, 5), tone=0.8)
        pen.polygon(smooth_curve(upper, 5))
        pen.ellipse(w * 0.7, 0.52 + fall, 0.16 * wingspan, 0.17, "accent")
        pen.ellipse(w * 0.7, 0.52 + fall, 0.07 * wingspan, 0.08, "dark")
        pen.ellipse(w * 0.45, -0.5 + fall, 0.12 * wingspan, 0.12, "accent")
        pen.limb([(0.02 * side, 0.4), (0.1 * side, 0.68), (0.24 * side, 0.82)], 0.02, material="dark")
        pen.ellipse(0.25 * side, 0.83, 0.04, 0.04, "dark")
    pen.limb([(0.0, 0.34), (0.0, -0.55)], 0.075, 0.04, "dark", 1.3)
    pen.ellipse(0.0, 0.4, 0.1, 0.1, "dark", 1.3)


def spider(pen: Pen, uniform: Uniform) -> None:
    """A spider: eight bent legs about a round body."""
    step = uniform(-0.08, 0.08)
    for side in (-1, 1):
        for i, (knee_x, knee_y, foot_x, foot_y) in enumerate(
            ((0.42, 0.62, 0.62, 0.9), (0.62, 0.42, 0.96, 0.2), (0.62, 0.06, 0.94, -0.5), (0.4, -0.1, 0.56, -0.84))
        ):
            shift = step if i % 2 else -step
            pen.limb([(side * 0.1, -0.02), (side * knee_x, knee_y + shift)], 0.05, 0.045, tone=0.7)
            pen.limb([(side * knee_x, knee_y + shift), (side * foot_x, foot_y + shift)], 0.045, 0.02, tone=0.7)
    pen.ellipse(0.0, -0.25, 0.34, 0.38)
    pen.ellipse(0.0, -0.3, 0.13, 0.17, "accent")
    pen.ellipse(0.0, 0.2, 0.22, 0.19, tone=0.9)
    for x in (-0.1, 0.1):
        pen.eye(x, 0.27, 0.07)


def frog(pen: Pen, uniform: Uniform) -> None:
    """A frog that faces the viewer: bulging eyes on top, a wide mouth, folded legs at its sides."""
    crouch, width = uniform(-0.06, 0.08), uniform(0.94, 1.06)
    for side in (-1, 1):
        pen.ellipse(side * 0.52 * width, -0.5, 0.34, 0.24, tone=0.82, rotation=side * 38)
        pen.limb([(side * 0.5 * width, -0.76), (side * 0.92 * width, -0.8)], 0.065, 0.05, tone=0.82)
    pen.ellipse(0.0, -0.42 + crouch, 0.46 * width, 0.4)
    pen.ellipse(0.0, -0.48 + crouch, 0.3 * width, 0.3, "light")
    for side in (-1, 1):
        pen.limb([(side * 0.3, -0.42), (side * 0.26, -0.76)], 0.08, 0.065, tone=0.93)
        for toe in (-0.12, 0.0, 0.12):
            pen.limb([(side * 0.26, -0.76), (side * 0.26 + toe, -0.85)], 0.035, tone=0.93)
    y = 0.12 + crouch
    for side in (-1, 1):
        pen.ellipse(side * 0.3 * width, y + 0.26, 0.2, 0.2)
    pen.ellipse(0.0, y, 0.54 * width, 0.31)
    for side in (-1, 1):
        pen.eye(side * 0.3 * width, y + 0.28, 0.14)
    pen.limb([(-0.42 * width, y - 0.02), (0.0, y - 0.17), (0.42 * width, y - 0.02)], 0.026, material="dark")


def snail(pen: Pen, uniform: Uniform) -> None:
    """A snail: a spiral shell on a long foot, two feelers with eyes."""
    turn, reach = uniform(0, 2 * math.pi), uniform(-0.08, 0.1)
    foot = smooth_curve(
        [(-0.98, -0.82), (-0.6, -0.62), (0.3, -0.62), (0.52, -0.4), (0.56, -0.08), (0.78, -0.02), (0.9, -0.16)]
    )
    sole = smooth_curve([(0.9, -0.16), (0.86, -0.6), (0.66, -0.84), (-0.98, -0.84)])
    pen.polygon(np.concatenate([foot, sole]))
    for x in (0.66, 0.84):
        pen.limb([(x, -0.06), (x + 0.04 + reach, 0.34)], 0.035, 0.028, tone=0.9)
        pen.eye(x + 0.04 + reach, 0.38, 0.075)
    pen.limb([(0.88, -0.36), (0.76, -0.38)], 0.02, material="dark")
    pen.ellipse(-0.16, -0.08, 0.58, 0.58, "accent")
    angle = np.linspace(0, 4.6 * math.pi, 40)
    radius = 0.53 * (1 - angle / angle[-1]) + 0.02
    spiral = np.stack([radius * np.cos(angle + turn) - 0.16, radius * np.sin(angle + turn) - 0.08], 1)  # 40 2
    pen.limb([tuple(point) for point in spiral[::2]], 0.045, 0.03, "accent", 0.5)
