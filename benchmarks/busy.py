"""What training makes of the cores, alone and beside programs that spin: `python benchmarks/busy.py`.

The network is that of `auto` at full resolution, in batches of 128 drawn animals. Each repeat times a step on one
thread, on k threads and on k processes, beside each number of spinning processes in turn, and what Headway chooses
there. Rates are medians over the repeats; ratios are to one thread, alone, of the same run. Leave the machine alone
meanwhile. `python benchmarks/busy.py --budget 60s` trains with `headway pretrain auto --budget 60s` instead, alone and
beside one spinning process, and compares its time with its budget.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from headway.data.dataset.image_store import build_store
from headway.data.dataset.subset import Images
from headway.protocol import TrainModule
from headway.synthetic import DrawnAnimals, write_folder
from headway.train.config import Plan, PretrainConfig
from headway.train.engine.timing import measure_phases
from headway.train.engine.workers import Workers, select_workers, worker_options
from headway.train.init.train_module import build_train_module
from headway.train.plan.auto import AutoInputs, choose_settings
from headway.utils.duration import parse_duration
from headway.utils.threads import available_threads
from headway.worker_team import CAN_FORK

SIDE, IMAGES, TIMED_IMAGES, BUDGET_S, BATCH_SIZE = 48, 4500, 300, 80.0, 128
"""The run that is imitated, much like the demo's: side of the images in pixels, their number, how many of them a timed
step sees, its budget and its batch size."""
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6):\n        pass"
"""Keeps a core busy until it is killed, or the process that started it has ended."""
ONE_THREAD, CHOSEN = "1 thread", "chosen"


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Run the block beside this many processes that spin."""
    with ExitStack() as stack:
        for _ in range(count):
            spinner = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN]))
            stack.callback(spinner.kill)
        yield


def auto_module() -> tuple[TrainModule, Images, PretrainConfig]:
    """The module that `auto` trains on drawn animals, their images, and the settings."""
    choice = choose_settings(AutoInputs(IMAGES, SIDE, BUDGET_S, available_threads()))
    store = build_store(DrawnAnimals(TIMED_IMAGES, SIDE, 0), SIDE)
    config = PretrainConfig(choice.task, choice.recipe, choice.backbone, choice.stem, choice.patch, choice.size)
    return build_train_module(config, store, choice.size, choice.patch), store.images, config


def measure_rates(args: argparse.Namespace) -> dict[str, Any]:
    """Images per second by way of training and number of spinning processes, each the median of the repeats."""
    module, images, config = auto_module()
    optim, cores = config.recipe.optim, available_threads()
    plan, counts = Plan(steps=1, batch_size=BATCH_SIZE), sorted({0, *args.spinners})
    ways = {ONE_THREAD: replace(plan, threads=1), f"{cores} threads": replace(plan, threads=cores)}
    ways |= {f"{cores} processes": replace(plan, processes=cores, threads=1)} if CAN_FORK else {}
    rates: dict[str, dict[int, list[float]]] = {way: {n: [] for n in counts} for way in (*ways, CHOSEN)}
    choices: dict[int, list[str]] = {n: [] for n in counts}
    for n in counts * args.repeats:
        with spinning(n):
            options = worker_options(plan, torch.device("cpu"))
            choice = select_workers(module, images, plan, optim, options, time_limit_s=args.seconds).plan
            choices[n].append(str(Workers(choice.processes, choice.threads)))
            for way, how in {**ways, CHOSEN: choice}.items():
                (seconds,) = measure_phases(
                    module, images, how, optim, time_limit_s=args.seconds, min_steps=1, max_steps=30, last_only=True
                )
                rates[way][n].append(BATCH_SIZE / seconds)
    medians = {way: {n: statistics.median(found) for n, found in by_n.items()} for way, by_n in rates.items()}
    result: dict[str, Any] = {"images_per_second": medians, "choices": choices, "aims": aims(medians, cores)}
    print_rates(f"{config.task}, {config.backbone}, {config.size} px", **result)
    return result


def aims(rates: dict[str, dict[int, float]], cores: int) -> dict[str, tuple[float, float]]:
    """What is aimed at on two cores: the ratio by name, and the least that it should be."""
    one_thread, chosen = rates[ONE_THREAD][0], rates[CHOSEN]
    all_cores = rates.get(f"{cores} processes", rates[f"{cores} threads"])[0]
    found = {f"{cores} processes / 1 thread, both alone": (all_cores / one_thread, 1.7)}
    if 1 in chosen:
        found["chosen beside 1 / 1 thread alone"] = (chosen[1] / one_thread, 0.9)
    if 8 in chosen:
        fair = cores / (cores + 8)
        found[f"chosen beside 8 / {fair:.2f} of {cores} processes alone"] = (chosen[8] / (fair * all_cores), 0.8)
    return found


def print_rates(network: str, images_per_second: Any, choices: Any, aims: Any) -> None:
    """A table of ratios to one thread alone, and the aims."""
    unit = images_per_second[ONE_THREAD][0]
    table = Table("", *map("beside {}".format, choices), title=f"{network}; 1 thread alone = 1 ({unit:.0f} images/s)")
    for way, by_n in images_per_second.items():
        table.add_row(way, *(f"{rate / unit:.2f}" for rate in by_n.values()))
    table.add_row("choices", *(", ".join(names) for names in choices.values()))
    Console().print(table)
    for name, (ratio, least) in aims.items():
        print(f"{name}: {ratio:.2f} (aim {least} or more)")


def measure_budget(budget: str) -> dict[str, Any]:
    """Time / budget, and the steps, of a pretraining alone and beside one spinning process."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_folder(f"{scratch}/animals", IMAGES, SIDE)
        for count, name in enumerate(("alone", "beside 1")):
            out, environment = f"{scratch}/run{count}", {**os.environ, "HEADWAY_CACHE": f"{scratch}/cache{count}"}
            words = ["pretrain", "auto", "--data", f"{scratch}/animals", "--out", out, "--budget", budget]
            with spinning(count):
                start = time.perf_counter()
                subprocess.run([sys.executable, "-m", "headway.cli", *words], check=True, env=environment)
                ratio = (time.perf_counter() - start) / parse_duration(budget)
            found[name] = {"ratio": ratio, "steps": json.loads(Path(out, "run.json").read_text())["result"]["steps"]}
            print(f"{name}: {ratio:.2f} of the budget (aim 0.8 to 1.2), {found[name]['steps']:,} steps")
    return found


def main() -> None:
    """Print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spinners", type=int, nargs="+", default=[0, 1, 8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="least time of each measurement")
    parser.add_argument("--budget", default="", help="train under this budget instead")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    args = parser.parse_args()
    result = measure_budget(args.budget) if args.budget else measure_rates(args)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
