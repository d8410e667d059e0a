"""``headway compare``: which task helped, by how much, and whether that can be told at all."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from headway.backbones.load import build_backbone
from headway.cli import command_started
from headway.cli.screen import counting, errors, name_skipped, note
from headway.data.arrays import Arrays
from headway.data.open import open_source, open_test
from headway.data.picked import pick
from headway.data.source import Chosen, Source, in_form
from headway.data.store import build_store, natural_size
from headway.data.survey import surveyed
from headway.downstream.labelled import Labelled, gather_labelled
from headway.downstream.tune import RECIPES
from headway.draws import hashed
from headway.errors import HeadwayError
from headway.files import write_json
from headway.plain import describe
from headway.pretext import find_recipe
from headway.reports.leaderboard import conditions, leaderboard_table, remarks
from headway.train.job import Job, main_size, seconds_of, stored_side
from headway.train.log import Bar, Sink
from headway.train.planning import spread
from headway.verdict.arena import Arena
from headway.verdict.cells import Cells, check_free
from headway.verdict.claim import Claim, sentence
from headway.verdict.compare import compare as run_comparison
from headway.verdict.cost import preview as preview_of
from headway.verdict.heads import check_heads
from headway.verdict.public import public_backbone
from headway.verdict.terms import Terms
from headway.verdict.trial import PIXEL, SCRATCH, SCRATCH_LONG, UNTRAINED, can_hold_out, draw_labels

TESTED = 5000
"""Test pictures looked at, at most, evenly spread: beyond them seeds and draws decide how much can be told."""
GROWS = ("jobs", "heads", "public", "continued", "seeds", "draws")
"""Terms in which a comparison may grow when it is gone on with: finished cells stay as they are."""


def compare(
    *,
    data: str | Path | Source,
    labels: str | Path | Source,
    out: str | Path,
    test: str | Path | Source | None = None,
    tasks: str = "rotation,simclr",
    budget: str | None = None,
    steps: int | None = None,
    per_class: int = 10,
    seeds: int = 3,
    draws: int = 2,
    heads: str = "linear,finetune",
    public: str = "",
    continued: bool = True,
    group_by: str = "",
    backbone: str = "vit_tiny",
    stem: Literal["linear", "conv", "residual"] = "linear",
    patch: int = 0,
    size: int = 0,
    label_steps: int = 0,
    seed: int = 0,
    shuffle_labels: bool = False,
    preview: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Train tasks on equal terms, change their heads, and say which helped, by how much, or that nobody can tell.

    Example: headway compare --data photos --labels labelled --tasks rotation,simclr --budget 3m --out cmp

    Args:
        data: Pictures to pretrain on; those that are in the test set are left out.
        labels: Labelled pictures: a folder with one folder a class, tars with .cls, or a CSV with file,label.
        out: The folder to write. What is finished in it isn't done again.
        test: Pictures to test on; none: a stratified fifth of the labelled ones is set aside.
        tasks: Names, with commas between.
        budget: Time of ONE pretraining; without budget and steps 3m.
        steps: Optimiser steps of one pretraining, in place of a budget.
        per_class: Labels a class to learn from.
        seeds: Pretrainings of each task. With one, nothing is said about other pretrainings; with two, little.
        draws: Draws of labels for each seed.
        heads: Of knn, linear, attentive, mlp, finetune, lora and last-N (fine-tuning of the last N blocks), with commas
            between.
        public: Public backbones to compare with, with commas between: timm:NAME, where its weights are on this machine
            (nothing is downloaded), timm:NAME=FILE, or a file or run of Headway's own.
        continued: Whether the tasks also train these public backbones on, on your pictures.
        group_by: What keeps labelled pictures of one animal, patient or camera on one side of the split and of every
            fold: a column of the table, or a regular expression on names, whose first parentheses are the group.
        backbone: As for pretrain.
        stem: As for pretrain: linear, conv or residual.
        patch: As for pretrain.
        size: Side in pixels of the square main view; 0: the median short side, at most 224.
        label_steps: Steps of one training on labels (from scratch: twice as many); 0: 50 passes, 150 steps at least.
        seed: The first seed.
        shuffle_labels: Deal the labels out at random first: an honest comparison must then end in "cannot tell".
        preview: Say what it would cost, and stop.
        resume: Go on with a comparison that was begun, with more tasks, heads, seeds or draws if you like. Choose their
            number before you look: who adds seeds until the verdict pleases is wrong more often than 5 % of the time.

    Returns:
        rows (name, accuracy, low, high, gain), gain (points, low, high, contender), verdict, sentence, continued (of
        each public backbone that was trained on: gain, verdict and sentence against it as it comes), out, details.
    """
    started = command_started()
    names, chosen_heads, others = _listed(tasks), _listed(heads), _listed(public)
    check_heads(chosen_heads, ())
    if not names or not chosen_heads:
        raise HeadwayError("compare needs a task and a head at least, such as --tasks rotation,simclr --heads linear")
    for option, value, least in (
        ("seeds", seeds, 1), ("draws", draws, 1), ("per-class", per_class, 1), ("label-steps", label_steps, 0)
    ):  # fmt: skip
        if value < least:
            raise HeadwayError(f"--{option} must be {least} or more, got {value}")
    if clash := next((name for name in others if name in (*names, PIXEL, UNTRAINED, SCRATCH)), None):
        raise HeadwayError(f"--public {clash} has the name of another row; write ./{clash}, or its whole path")
    folder = Path(out)
    check_free(folder, resume)
    seconds = seconds_of(budget) if budget else None if steps is not None else seconds_of("3m")
    jobs = [
        Job(task=name, recipe=find_recipe(name), backbone=backbone, stem=stem, patch=patch, size=size,
            budget=seconds, steps=steps, seed=seed)
        for name in names
    ]  # fmt: skip
    source, labelled = open_source(data), open_source(labels, labelled=True, group_by=group_by)
    held = open_test(test, group_by=group_by)
    natural = natural_size(source)[0]
    size, patch = main_size(natural, jobs[0])
    channels = surveyed(source).form.channels
    jobs = [replace(job, size=size, patch=patch) for job in jobs]
    backbones: list[Any] = [build_backbone(backbone, size=size, stem=stem, patch_size=patch)]
    for name in others:  # hours later is too late to hear that it isn't there, or of no use
        backbones.append(public_backbone(name, jobs[0]))
        if (wanted := backbones[-1].inputs.channels) != channels:
            raise HeadwayError(f"{name} takes pictures of {wanted} channels, and these have {channels}; leave it out")
    check_heads(chosen_heads, backbones)
    side = max(stored_side(natural, size, job.recipe.detail) for job in jobs)
    with counting("decoding") as progress:
        pool = build_store(source, side, progress=progress)
    with counting("decoding labelled pictures") as progress:
        pictures = gather_labelled(
            in_form(labelled, pool.form), None if held is None else in_form(held, pool.form), side, seed=seed,
            progress=progress,
        )  # fmt: skip
    name_skipped([*pool.skipped, *pictures.skipped])
    kept = (~torch.isin(pool.hashes, pictures.test_hashes)).nonzero().flatten()  # N
    left_out = len(pool.images) - len(kept)
    pictures = _tested(pictures, seed, shuffle_labels)
    images = pick(pool.images, kept)  # not copied: they may lie on the disk
    if len(images) < 2 or len(pictures.test_labels) < 2:
        raise HeadwayError(
            f"{len(images)} pictures to pretrain on (without {left_out} that are in the test set) and "
            f"{len(pictures.test_labels)} to test on are too few; give more, or another --test"
        )
    drawn = draw_labels(pictures.labels, per_class, seed, 0)
    if len(jobs) * len(chosen_heads) > 1 and not can_hold_out(pictures, drawn):
        raise HeadwayError(
            "no class has a second label (of another group) to hold out, so nothing can choose among tasks and heads; "
            "give --per-class 2 or more, or one task and one head"
        )
    terms = Terms(
        jobs=tuple(jobs), heads=chosen_heads, public=others, continued=continued, per_class=per_class, seeds=seeds,
        draws=draws, seed=seed, label_steps=label_steps,
    )  # fmt: skip
    cells = Cells(folder, _record(terms, pool.fingerprint, pictures, shuffle_labels), resume)
    note(
        f"{len(images):,} pictures to pretrain on ({left_out:,} that are in the test set left out), "
        f"{len(pictures.labels):,} labelled, {len(pictures.test_labels):,} to test on, {len(pictures.classes)} classes"
    )
    unlabelled = Chosen(Arrays(pool.images, form=pool.form), kept.tolist())
    arena = Arena(terms, unlabelled, images, pool.hashes[kept], pictures, cells, _bar, note)
    for found in arena.continued.values():
        for reason in found.refused:
            note(reason)
    expected = preview_of(arena)
    note(expected["text"])
    if preview:
        return {"preview": expected, "out": str(folder)}
    whole = run_comparison(arena)
    held_for = conditions(per_class, seeds)
    answer: dict[str, Any] = {
        "rows": whole.rows, **_said(whole.claim, "training from scratch", held_for),
        "continued": {name: _said(found, f"{name} as it comes", held_for) for name, found in whole.continued.items()},
        "out": str(folder),
    }  # fmt: skip
    details = {
        "below": whole.claim.below, "chosen": whole.claim.chosen, "seeds": seeds, "draws": draws,
        "per_class": per_class, "drawn_share": expected["drawn_share"], "test_pictures": len(pictures.test_labels),
        "pool": len(images), "left_out": left_out, "shuffled_labels": shuffle_labels,
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    write_json(folder / "report.json", {**answer, "details": details})
    return {**answer, "details": details}


def show(answer: dict[str, Any]) -> None:
    """Print the leaderboard and the verdict."""
    if "preview" in answer:
        return  # it has been said
    console = Console(highlight=False, markup=False)
    console.print(leaderboard_table(answer))
    further = [found["sentence"] for found in answer["continued"].values()]
    for line in (*remarks(answer), *further, answer["sentence"]):
        console.print(line, soft_wrap=True)
    console.print(f"Everything is in {answer['out']}: runs/, cells/, report.json.", soft_wrap=True)


def _said(found: Claim, baseline: str, held_for: str) -> dict[str, Any]:
    """A claim as plain data."""
    return {
        "gain": {"points": found.points, "low": found.low, "high": found.high, "contender": found.contender},
        "verdict": found.verdict,
        "sentence": sentence(found, baseline, held_for),
    }


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


@contextmanager
def _bar(title: str) -> Iterator[Sequence[Sink]]:
    with Bar(title, errors) as bar:
        yield [bar]


def _record(terms: Terms, fingerprint: str, pictures: Labelled, shuffled: bool) -> dict[str, Any]:
    """Everything that must be as it was for a comparison to be gone on with."""
    plain = {name: value for name, value in describe(terms).items() if name not in GROWS}
    network = {name: getattr(terms.jobs[0], name) for name in ("backbone", "stem", "patch", "size", "budget", "steps")}
    assert pictures.groups is not None
    contents = (pictures.labels, pictures.test_labels, pictures.test_hashes)
    recipes = {name: describe(recipe) for name, recipe in {**RECIPES, SCRATCH: SCRATCH_LONG}.items()}
    return {
        **plain, **network, "recipes": recipes, "group_by": hashed(*pictures.groups.tolist()),
        "data": fingerprint, "side": pictures.images.shape[-1],
        "labels": hashed(*(x.tolist() for x in contents)),
        "shuffle_labels": shuffled,
    }  # fmt: skip


def _tested(pictures: Labelled, seed: int, shuffle: bool) -> Labelled:
    """At most ``TESTED`` test pictures; where asked, with labels dealt out at random."""
    pictures = pictures._replace(
        test_images=spread(pictures.test_images, TESTED), test_labels=spread(pictures.test_labels, TESTED),
        test_hashes=spread(pictures.test_hashes, TESTED),
        test_groups=None if pictures.test_groups is None else spread(pictures.test_groups, TESTED),
    )  # fmt: skip
    if not shuffle:
        return pictures
    chance = torch.Generator().manual_seed(seed)
    labels, tested = (x[torch.randperm(len(x), generator=chance)] for x in (pictures.labels, pictures.test_labels))
    return pictures._replace(labels=labels, test_labels=tested)
