"""Cells: what was measured, each a small JSON file that is written when it ends and isn't made again."""

import json
import platform
import resource
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headway.utils.files import write_json

FOLDER = Path(__file__).parent / "cells"


def make(file: Path, cell: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]], shown: str = "") -> None:
    """Write the cell with what ``measure`` finds, unless it is there; say so, with what it found under ``shown``."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = {**cell, **measure()}
        write_json(file, whole)
        print(file.name, json.dumps(whole[shown]) if shown else "", flush=True)


def read(folder: Path) -> list[dict[str, Any]]:
    """All cells of a folder."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def processor() -> str:
    """The processor's name, where the system tells: its seconds are no measure of another's."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def processor_seconds() -> float:
    """What the commands that were run from here took so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
