"""Results of any number of pictures, written as they come, in order, so that a killed command goes on where it was.

Beside OUT lies the folder OUT.partial: the job (``job.json``: what is made of what), the results so far, and a ledger
(``ledger.json``: up to which picture, and how long each file was then). The ledger is replaced whole after the files
were flushed to disk; what stands behind its lengths is cut off when the job is taken up again. So a kill at any instant
costs a few hundred pictures, and the end is the same to the bit.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headway.downstream.classifier import refuse_existing
from headway.errors import HeadwayError
from headway.files import read_json, sync, write_json

JOB, LEDGER = "job.json", "ledger.json"
NAMED = 5
"""So many skipped pictures are remembered by name; the others are counted."""


class Growing:
    """Files that grow together.

    Args:
        out: What there will be in the end; must not exist.
        job: Plain data (JSON) that says what is made of what: another job is not gone on with.
        files: Names of the files that grow.
        resume: Go on where a killed command was; where there is nothing, start.

    Attributes:
        next: The first picture (its position in the source) that is still to be done.
        count: Pictures whose results are written.
        skipped: How many could not be read.
        named: (name, reason) of the first of them.
        notes: Plain data of the user's own that goes into the ledger.

    Raises:
        HeadwayError: Where ``out`` exists, or its part does and ``resume`` wasn't asked for or the job is another.
    """

    def __init__(self, out: Path, job: dict[str, Any], files: Sequence[str], *, resume: bool):
        refuse_existing(out)
        self.out, self.folder, self.files = out, out.with_name(out.name + ".partial"), files
        self.next = self.count = self.skipped = 0
        self.named: list[list[str]] = []
        self.notes: dict[str, Any] = {}
        job = json.loads(json.dumps(job))
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            self._write(lambda: self._begin(job))
            return
        if not (self.folder / JOB).is_file():
            raise HeadwayError(f"'{self.folder}' is in the way and isn't Headway's; move it, or choose another --out")
        if not resume:
            raise HeadwayError(f"'{self.folder}' is part of {out}: add --resume to go on with it, or remove it")
        before = read_json(self.folder / JOB)
        if before != job:
            other = ", ".join(sorted(key for key in {*before, *job} if before.get(key) != job.get(key)))
            raise HeadwayError(f"'{self.folder}' was begun with another {other}; remove it, or choose another --out")
        self._write(self._go_on)

    def _begin(self, job: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / JOB, job)  # with it the folder is ours
        for name in self.files:
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(b"")
        self._enter()

    def _go_on(self) -> None:
        if not (self.folder / LEDGER).exists():  # killed before it began
            self._begin(read_json(self.folder / JOB))
        ledger = read_json(self.folder / LEDGER)
        for name, length in ledger["lengths"].items():
            if (self.folder / name).stat().st_size < length:
                raise HeadwayError(f"'{self.folder / name}' is shorter than it was; remove '{self.folder}', start anew")
            with (self.folder / name).open("r+b") as file:
                file.truncate(length)
        self.next, self.count, self.skipped = ledger["next"], ledger["count"], ledger["skipped"]
        self.named, self.notes = ledger["named"], ledger["notes"]

    def add(self, parts: dict[str, bytes], upto: int, count: int, skipped: Sequence[tuple[str, str]] = ()) -> None:
        """Write what came of some more pictures.

        Args:
            parts: What each file grows by.
            upto: The picture of the source that comes next.
            count: How many of these have results.
            skipped: (name, reason) of the others.
        """

        def write() -> None:
            for name, part in parts.items():
                with (self.folder / name).open("ab") as file:
                    file.write(part)
                sync(self.folder / name)
            self.next, self.count, self.skipped = upto, self.count + count, self.skipped + len(skipped)
            self.named = (self.named + [list(fault) for fault in skipped])[:NAMED]
            self._enter()

        self._write(write)

    def __enter__(self) -> "Growing":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and not self.count:  # nothing worth going on with
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, make: Callable[[Path], Path]) -> None:
        """``make`` turns the folder of files into one finished file or folder in it, which becomes ``out``."""

        def write() -> None:
            made = make(self.folder)
            for file in made.rglob("*") if made.is_dir() else [made]:
                sync(file)
            refuse_existing(self.out)
            made.replace(self.out)
            sync(self.out.parent)
            shutil.rmtree(self.folder)

        self._write(write)

    def _enter(self) -> None:
        lengths = {name: (self.folder / name).stat().st_size for name in self.files}
        state = {"next": self.next, "count": self.count, "skipped": self.skipped, "named": self.named}
        write_json(self.folder / LEDGER, {**state, "notes": self.notes, "lengths": lengths})

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            reason = f"cannot write '{self.folder}': {error.strerror or error}"
            raise HeadwayError(f"{reason}; make room and add --resume, or choose another --out") from error
