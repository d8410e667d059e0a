"""The animals, one function each. Classes differ in shape, never in color.

Every function draws with a ``Pen`` (the animal faces right, feet at y = -0.85) and takes the pose from ``uniform``,
which draws a number from a range.
"""

from headway.synthetic.canvas import Pen, Uniform, smooth_curve


def cat(pen: Pen, uniform: Uniform) -> None:
    """A cat that sits: pointed ears, whiskers, a tail that curls up behind."""
    curl, lean = uniform(-0.2, 0.2), uniform(-0.06, 0.06)
    pen.limb(
        [(-0.2, -0.72), (-0.62, -0.7), (-0.8, -0.3 + curl), (-0.62, 0.1 + curl), (-0.78, 0.3)], 0.1, 0.06, tone=0.85
    )
    pen.ellipse(0.0, -0.38, 0.36, 0.5)
    pen.ellipse(-0.16, -0.62, 0.3, 0.24, tone=0.93)
    for x in (0.06, 0.24):
        pen.limb([(x, -0.3), (x + 0.01, -0.78)], 0.085, tone=1.04)
        pen.ellipse(x + 0.04, -0.8, 0.11, 0.07, "light")
    x, y = 0.12 + lean, 0.36
    for side in (-1, 1):
        pen.polygon([(x + side * 0.39, y + 0.55), (x + side * 0.36, y + 0.02), (x + side * 0.05, y + 0.3)])
        pen.polygon(
            [(x + side * 0.33, y + 0.43), (x + side * 0.3, y + 0.14), (x + side * 0.13, y + 0.27)], "accent", 0.9
        )
    pen.ellipse(x, y, 0.4, 0.34)
    pen.ellipse(x + 0.02, y - 0.15, 0.2, 0.13, "light")
    for side in (-1, 1):
        pen.ellipse(x + side * 0.17, y + 0.05, 0.08, 0.1, "accent", 1.3)
        pen.ellipse(x + side * 0.17, y + 0.05, 0.035, 0.09, "dark")
        for rise in (-0.08, 0.02):
            pen.limb([(x + side * 0.16, y - 0.13), (x + side * 0.5, y - 0.14 + rise)], 0.014, material="dark")
    pen.polygon([(x - 0.05, y - 0.07), (x + 0.07, y - 0.07), (x + 0.01, y - 0.14)], "dark")


def rabbit(pen: Pen, uniform: Uniform) -> None:
    """A rabbit at rest: long ears, a round back, a tuft of a tail."""
    back, droop = uniform(0.0, 0.16), uniform(-0.12, 0.12)
    pen.ellipse(-0.68, -0.45, 0.15, 0.15, "light", 1.1)
    pen.ellipse(-0.14, -0.4, 0.52, 0.43)
    pen.limb([(0.22, -0.4), (0.3, -0.75)], 0.1, 0.08, tone=0.9)
    pen.ellipse(0.33, -0.79, 0.15, 0.06, tone=0.9)
    pen.ellipse(-0.3, -0.5, 0.3, 0.3, tone=0.9)
    pen.ellipse(-0.14, -0.8, 0.32, 0.08, tone=0.95)
    for shift, tone in ((-0.17, 0.85), (0.0, 1.0)):
        tip = (0.2 + shift - back + droop, 0.93)
        pen.limb([(0.34 + shift / 2, 0.1), (0.27 + shift - back / 2, 0.55), tip], 0.1, 0.08, tone=tone)
        pen.limb([(0.34 + shift / 2, 0.2), (0.27 + shift - back / 2, 0.55), tip], 0.045, 0.035, "accent", tone)
    pen.ellipse(0.4, 0.0, 0.3, 0.25)
    pen.ellipse(0.58, -0.09, 0.14, 0.12, "light")
    pen.eye(0.45, 0.06, 0.075)
    pen.ellipse(0.7, -0.04, 0.045, 0.035, "dark")


def elephant(pen: Pen, uniform: Uniform) -> None:
    """An elephant: thick legs, a wide ear, the trunk hanging or raised."""
    stride, raised = uniform(-0.1, 0.1), uniform(0, 1) < 0.4
    pen.limb([(-0.68, 0.15), (-0.82, -0.1), (-0.8, -0.35)], 0.035, 0.025, tone=0.75)
    for x in (-0.28 + stride, 0.3 - stride):
        pen.limb([(x, -0.2), (x, -0.74)], 0.14, 0.13, tone=0.72)
    pen.ellipse(-0.12, 0.0, 0.6, 0.43)
    for x in (-0.5 - stride, 0.1 + stride):
        pen.limb([(x, -0.15), (x, -0.73)], 0.15, 0.14, tone=0.95)
        pen.ellipse(x + 0.02, -0.83, 0.15, 0.05, "light", 0.9)
    trunk = [(0.62, 0.15), (0.86, 0.0), (0.86, -0.3)]
    pen.limb(trunk + ([(0.98, -0.1), (0.97, 0.2)] if raised else [(0.8, -0.6), (0.92, -0.74)]), 0.17, 0.06)
    pen.ellipse(0.5, 0.25, 0.3, 0.3)
    pen.limb([(0.66, -0.02), (0.78, -0.22), (0.98, -0.26)], 0.05, 0.02, "light", 1.1)
    flap = uniform(0.85, 1.15)
    pen.ellipse(0.3, 0.2, 0.24 * flap, 0.34, tone=0.75, rotation=12)
    pen.ellipse(0.3, 0.19, 0.17 * flap, 0.26, "accent", 0.85, rotation=12)
    pen.eye(0.6, 0.3, 0.06)


def giraffe(pen: Pen, uniform: Uniform) -> None:
    """A giraffe: a neck as long as its legs, two little horns."""
    stride, stretch = uniform(-0.1, 0.1), uniform(-0.12, 0.1)
    x, y = 0.46 + stretch, 0.72
    pen.limb([(-0.58, 0.05), (-0.68, -0.2), (-0.66, -0.4)], 0.03, 0.045, tone=0.8)
    for foot in (-0.32 + stride, 0.1 - stride):
        pen.limb([(foot * 0.8, -0.1), (foot, -0.82)], 0.06, 0.05, tone=0.75)
    pen.ellipse(-0.22, -0.06, 0.42, 0.23, rotation=12)
    for foot in (-0.48 - stride, 0.0 + stride):
        pen.limb([(foot * 0.85, -0.1), (foot, -0.8)], 0.07, 0.05)
        pen.ellipse(foot + 0.01, -0.84, 0.07, 0.045, "dark")
    pen.limb([(0.0, 0.0), (0.2, 0.35), (x - 0.08, y)], 0.17, 0.085)
    for shift in (-0.07, 0.03):
        pen.limb([(x + shift, y + 0.08), (x + shift - 0.03, y + 0.24)], 0.025, material="dark")
        pen.ellipse(x + shift - 0.03, y + 0.24, 0.04, 0.04, "dark")
    pen.ellipse(x - 0.14, y + 0.06, 0.12, 0.05, tone=0.8, rotation=160)
    pen.ellipse(x + 0.06, y + 0.02, 0.22, 0.12, rotation=-18)
    pen.ellipse(x + 0.2, y - 0.04, 0.1, 0.08, "light", rotation=-18)
    pen.eye(x + 0.02, y + 0.06, 0.05)


def bird(pen: Pen, uniform: Uniform) -> None:
    """A bird on two thin legs: beak, fanned tail, the wing folded or raised."""
    raised, fan = uniform(0, 1) < 0.5, uniform(-0.1, 0.15)
    for x in (-0.06, 0.12):
        pen.limb([(x, -0.3), (x + 0.05, -0.8)], 0.025, material="dark")
        pen.limb([(x - 0.05, -0.83), (x + 0.16, -0.83)], 0.022, material="dark")
    pen.polygon(
        [(-0.25, 0.05), (-0.95, 0.2 + fan), (-0.98, -0.02 + fan), (-0.86, -0.2 + fan), (-0.25, -0.22)], tone=0.75
    )
    if raised:
        pen.polygon([(0.1, 0.0), (-0.08, 0.9), (-0.3, 0.82), (-0.46, 0.62), (-0.52, 0.4), (-0.3, -0.05)], tone=0.65)
    pen.ellipse(0.0, -0.08, 0.45, 0.3, rotation=14)
    pen.ellipse(0.1, -0.18, 0.28, 0.17, "light", rotation=14)
    pen.polygon([(0.54, 0.38), (0.86, 0.24), (0.54, 0.2)], "accent", 1.1)
    pen.polygon([(0.54, 0.26), (0.78, 0.2), (0.54, 0.16)], "accent", 0.8)
    pen.ellipse(0.4, 0.28, 0.22, 0.21)
    wing = [(0.16, 0.1), (-0.02, 0.98), (-0.2, 0.86), (-0.34, 0.66), (-0.38, 0.4), (-0.22, 0.0)]
    folded = [(0.2, 0.1), (-0.1, 0.14), (-0.6, -0.12), (-0.3, -0.22), (0.0, -0.2)]
    pen.polygon(smooth_curve((wing if raised else folded) + [(0.16, 0.05)], 4), tone=0.82)
    pen.eye(0.46, 0.33, 0.065)


def fish(pen: Pen, uniform: Uniform) -> None:
    """A fish: forked tail, fins, gills, a round eye."""
    sweep, plump = uniform(-0.14, 0.14), uniform(0.9, 1.12)
    fork = [(-0.42, 0.06), (-0.95, 0.46 + sweep), (-0.76, sweep / 2), (-0.92, -0.42 + sweep), (-0.42, -0.06)]
    pen.polygon(fork, "accent", 0.9)
    pen.polygon(smooth_curve([(-0.3, 0.25), (-0.12, 0.62 * plump), (0.12, 0.56 * plump), (0.4, 0.22)], 4), "accent")
    pen.polygon([(-0.15, -0.25), (-0.22, -0.58 * plump), (0.15, -0.3)], "accent", 0.85)
    top = smooth_curve([(-0.6, 0.05), (-0.2, 0.27 * plump), (0.3, 0.38 * plump), (0.74, 0.16), (0.86, -0.02)])
    bottom = smooth_curve([(0.86, -0.02), (0.68, -0.2), (0.25, -0.37 * plump), (-0.25, -0.24 * plump), (-0.6, -0.05)])
    pen.polygon([*map(tuple, top), *map(tuple, bottom)])
    pen.limb([(0.36, 0.24), (0.27, 0.0), (0.36, -0.24)], 0.022, material="dark")
    pen.polygon([(0.18, -0.03), (-0.14, 0.04 - sweep), (-0.08, -0.2 - sweep)], "accent", 0.75)
    pen.limb([(0.86, -0.06), (0.7, -0.1)], 0.02, material="dark")
    pen.eye(0.58, 0.1, 0.1)
