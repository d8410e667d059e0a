"""Cells: the result of one measurement, a small JSON file that is written when the measurement ends."""

import json
import platform
import resource
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from headway.utils.files import write_json

CELLS = Path(__file__).parent / "cells"


def make_cell(file: Path, key: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]], printed: str = "") -> None:
    """Measure and write a cell, unless its file exists.

    Args:
        file: The JSON file.
        key: What identifies the cell: task, data, seed and so on.
        measure: Called without arguments; returns the measured values.
        printed: The key whose value is printed; empty: only the name of the file is.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        cell = {**key, **measure()}
        write_json(file, cell)
        print(file.name, json.dumps(cell[printed]) if printed else "", flush=True)


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """All cells of a folder, in order of their file names."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


def processor_name() -> str:
    """The name of the processor where the system knows it; times on different processors cannot be compared."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def child_cpu_seconds() -> float:
    """CPU seconds of all finished child processes of this process."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
