"""``headway demo``: the whole job at once, on drawn animals or on labelled pictures of your own."""

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from headway import samples
from headway.backbones.load import architecture, from_architecture
from headway.backbones.weights import load_backbone
from headway.cli import command_started
from headway.cli.keepsakes import LEFT, commands, draw_sheets
from headway.cli.screen import counting, name_skipped, note
from headway.data.arrays import Arrays
from headway.data.open import open_source
from headway.data.picked import pick
from headway.data.source import Chosen, Source
from headway.data.split import stratified_split
from headway.data.store import build_store, groups_of, natural_size
from headway.downstream.transfer import FINE_TUNE, FROM_SCRATCH
from headway.downstream.tune import FineTune
from headway.draws import seeded
from headway.errors import HeadwayError
from headway.files import write_json
from headway.threads import threads
from headway.train.auto import Advice, Situation, advise, situation
from headway.train.job import Job, seconds_of, stored_side
from headway.train.log import Bar, Sink
from headway.train.planning import spread
from headway.train.pool import keep_pool
from headway.train.run import run_job
from headway.verdict.afford import BATCH, affordable
from headway.verdict.contest import LINEAR, Contest, probe_frozen
from headway.verdict.gain import TUNED, judge
from headway.verdict.trial import SCRATCH, UNTRAINED, at_rate

DRAWN, DRAWN_SIDE = 4500, 48
"""Pictures drawn where no data are given, and their side."""
PRETRAINING = 0.45
"""Share of the budget that goes into pretraining."""
DRAWN_CROP, DRAWN_GREY = (0.7, 1.0), 0.3
"""Area of a crop of drawn animals, whose scenery would tell small ones apart; how often they lose their colours."""
PER_CLASS, LABEL_DRAWS, TESTED = 5, 4, 2000
"""Labels a class, how often they are drawn, and test pictures looked at, at most."""
LAST = 4.0
"""Seconds kept for sheets and files."""


def setting(known: Situation, drawn: bool) -> Advice:
    """What ``auto`` would do with so many pictures in this time; drawn animals fill the picture, so crops keep most."""
    advice = advise(known)
    if not drawn:
        return advice
    task = advice.recipe.task
    views = replace(task.augment, scale=DRAWN_CROP, grey=DRAWN_GREY)
    return advice._replace(recipe=replace(advice.recipe, task=replace(task, augment=views)))


def demo(
    *,
    data: str | Path | Source | None = None,
    out: str | Path = "headway-demo",
    budget: str = "3m",
    seed: int = 0,
    shuffle_labels: bool = False,
) -> dict[str, Any]:
    """Do the whole job: pretrain without labels, change the head with few, and say what pretraining was worth.

    Example: headway demo --data 'train-{0..4}.tar.gz' --budget 5m

    Args:
        data: Labelled pictures whose labels are hidden from pretraining; none: animals drawn by program.
        out: Folder to write; where it exists, the next free number is taken.
        budget: Time for everything.
        seed: Of drawing, splits, weights and training.
        shuffle_labels: Deal the labels out at random first: an honest comparison must then find nothing.

    Returns:
        rows (name, accuracy, low, high), gain (points, low, high), out.
    """
    started, seconds = command_started(), seconds_of(budget)
    folder = _free(Path(out))
    source = open_source(data, labelled=True) if data is not None else _animals(seed)
    natural = natural_size(source)[0] if data is not None else DRAWN_SIDE
    chosen = setting(situation(len(source), natural, PRETRAINING * seconds), data is None)
    size, side = chosen.size, stored_side(natural, chosen.size, chosen.recipe.detail)
    with counting("reading") as progress:
        store = build_store(source, side, progress=progress)
    name_skipped(store.skipped)
    if store.labels is None:
        raise HeadwayError(
            "the demo needs labelled pictures to judge by: one folder a class, tars with .cls, or file,label"
        )
    images, labels = store.images, store.labels  # images may lie on the disk: what is chosen of them is not copied
    if shuffle_labels:
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    if (labels < 0).any():
        raise HeadwayError(
            f"{int((labels < 0).sum())} of {len(labels)} pictures have no label; the demo needs all of them"
        )
    groups = groups_of(store)
    pool, test = stratified_split(labels, seed=seed, groups=groups)
    if min(len(pool), len(test)) < 2 or len(store.classes) < 2:
        raise HeadwayError(
            f"{len(images)} pictures of {len(store.classes)} classes are too few to learn and to test on"
        )
    test = spread(test, TESTED)
    what = "drawn animals (drawn by program, not photographs)" if data is None else "pictures"
    note(
        f"{len(images):,} {what} of {len(store.classes)} kinds: "
        f"{len(pool):,} to learn from without labels, {len(test):,} to test on"
    )

    job = Job(
        task=chosen.task, recipe=chosen.recipe, backbone=chosen.backbone, stem=chosen.stem, patch=chosen.patch,
        size=size, seed=seed, precision=_precision(),
        budget=max(PRETRAINING * (seconds - (time.perf_counter() - started)), 1.0),
    )  # fmt: skip
    began: list[float] = []
    with Bar(f"pretraining ({chosen.task})") as bar:
        sinks: list[Sink] = [bar, lambda event: began.append(time.perf_counter() - started)]
        run_job(job, Chosen(Arrays(images, form=store.form), pool.tolist()), folder / "run", sinks=sinks)
    keep_pool(folder / "run", store.hashes[pool])  # of the pictures themselves; the run saw them brought to one size
    pretrained = load_backbone(folder / "run")
    untrained = _untrained(pretrained, seed)
    learnt: Any = pick(images, pool)  # reads like a tensor
    contest = Contest(
        pretrained, untrained, learnt, labels[pool], images[test], labels[test], store.classes, size, groups[pool],
        groups[test].numpy() if len(groups[test].unique()) < len(test) else None,
    )  # fmt: skip
    with counting("changing the head: linear probes") as progress:
        frozen = probe_frozen(contest, per_class_count=PER_CLASS, draws=LABEL_DRAWS, seed=seed, progress=progress)

    def left() -> float:
        return seconds - LAST - (time.perf_counter() - started)

    time_for = affordable(contest, PER_CLASS, LABEL_DRAWS, left(), seed)
    scratch, fine_tune = _short(FROM_SCRATCH, time_for.scratch), _short(FINE_TUNE, time_for.fine_tune)
    with counting("changing the head: training on labels") as progress, threads(time_for.threads):
        verdict = judge(
            contest, frozen, per_class_count=PER_CLASS, seed=seed, left=left, progress=progress,
            scratch=scratch, fine_tune=fine_tune,
        )  # fmt: skip
    verdict.classifier.save(folder / "model")
    looks = {"untrained": frozen.tests[UNTRAINED], "pretrained": frozen.tests[LINEAR]}
    draw_sheets(folder, chosen.task, source, store, test, labels[test], looks)
    gain = verdict.gain
    answer = {
        "rows": [row._asdict() for row in verdict.rows],
        "gain": {"points": gain.points, "low": gain.low, "high": gain.high},
        "out": str(folder),
    }
    labelled = PER_CLASS * len(store.classes)
    details = {
        "data": "drawn animals" if data is None else str(data), "generator": samples.VERSION if data is None else None,
        "task": chosen.task, "backbone": chosen.backbone, "contender": gain.contender, "labels_per_class": PER_CLASS,
        "label_draws": verdict.draws, "test_pictures": len(test), "pool": len(pool),
        "fine_tuning": {"steps": fine_tune.steps(labelled), "folds": str(verdict.choices[TUNED])},
        "from_scratch": {"steps": scratch.steps(labelled), "folds": str(verdict.choices[SCRATCH])},
        "temperature": verdict.classifier.temperature, "seed": seed, "shuffled_labels": shuffle_labels,
        "commands": commands(None if isinstance(data, Source) else data),
        "began_training": round(began[0], 1), "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    write_json(folder / "report.json", {**answer, **details})
    return {**answer, "details": details}


def show(answer: dict[str, Any]) -> None:
    """Print the table and one honest sentence."""
    console, details, gain = Console(highlight=False, markup=False), answer["details"], answer["gain"]
    table = Table("", "right, %", "95 %", title=f"{details['labels_per_class']} labels a class")
    for row in answer["rows"]:
        table.add_row(row["name"], f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}")
    console.print(table)
    console.print(sentence(gain, details))
    console.print(f"\nEverything is in {answer['out']}:")
    for name, what in LEFT.items():
        console.print(f"  {name:<16}{what}")
    console.print(
        "\nGo on with pictures of your own (photos: any; labelled: one folder a kind):"
        if details["data"] == "drawn animals" else "\nGo on with these pictures, and with others (photos):"
    )  # fmt: skip
    for command in details["commands"]:
        console.print(f"  {command}", soft_wrap=True)


def sentence(gain: dict[str, float], details: dict[str, Any]) -> str:
    """What the comparison found, and what its interval does and does not cover."""
    low, high = gain["low"], gain["high"]
    found = (
        f"Pretraining helped: {gain['points']:+.1f} points" if low > 0
        else f"Pretraining hurt: {gain['points']:+.1f} points" if high < 0
        else f"Cannot tell whether pretraining helped: {gain['points']:+.1f} points"
    )  # fmt: skip
    drawn = " The pictures are drawn by program." if details["data"] == "drawn animals" else ""
    shuffled = " The labels were shuffled, so there was nothing to gain." if details["shuffled_labels"] else ""
    steps = details["from_scratch"]["steps"]
    return (
        f"{found} (95 %: {low:+.1f} to {high:+.1f}), {details['contender']} against from scratch on the same "
        f"{details['labels_per_class']} labels a class. The interval covers label draws and test pictures of this one "
        f"run, not other pretrainings. From scratch had {steps} steps, as many as the time allows (what more would "
        f"bring: docs/results.md).{drawn}{shuffled}"
    )


def _precision() -> Literal["auto", "float32", "bf16"]:
    """What a processor is likely to be quickest in: measuring it, as other runs do, would delay the first step."""
    if torch.cuda.is_available():
        return "auto"
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # earlier versions of torch don't tell
    return "bf16" if known.get("amx_bf16") or known.get("avx512_bf16") else "float32"


def _short(recipe: FineTune, passes: int) -> FineTune:
    """So many passes in small steps, at the rate in force with the recipe's own batch: a lower one takes longer."""
    return at_rate(replace(recipe, epochs=passes, least=1, batch=BATCH), recipe.batch / BATCH)


def _free(out: Path) -> Path:
    """``out``, or the first of ``out-2``, ``out-3``, ... that is not there."""
    if not out.exists():
        return out
    return next(path for n in itertools.count(2) if not (path := out.with_name(f"{out.name}-{n}")).exists())


def _animals(seed: int) -> samples.DrawnAnimals:
    source = samples.DrawnAnimals(DRAWN, DRAWN_SIDE, seed)
    with counting("drawing animals") as progress:
        source.draw_ahead(progress)
    return source


def _untrained(pretrained: torch.nn.Module, seed: int) -> torch.nn.Module:
    with seeded(seed):
        return from_architecture(architecture(pretrained))
