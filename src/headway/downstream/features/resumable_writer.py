"""Files that are written image by image, in order, so that an interrupted command can resume where it stopped.

Beside OUT there is the folder OUT.partial: the job (``job.json``: what is computed from what), the results so far, and
the progress (``progress.json``: the next image, and the length of each file at that point). The results are flushed to
disk before the progress file is replaced atomically. A resumed command truncates each file to its recorded length. So
an interruption at any moment costs a few hundred images, and the final files are the same bit for bit.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headway.errors import HeadwayError
from headway.utils.files import fsync_path, read_json, refuse_existing, write_json

JOB_FILE, PROGRESS_FILE = "job.json", "progress.json"
STATE = ("next_index", "num_written", "num_skipped", "skipped_examples", "user_state")
"""Attributes of the writer that are saved with its progress."""
MAX_SKIPPED_EXAMPLES = 5
"""The names of this many skipped images are kept; the others are only counted."""


class ResumableWriter:
    """Several files that are appended to together.

    Args:
        out: The final file or folder; it must not exist.
        job: Plain data (JSON) that says what is computed from what; another job is not resumed.
        files: Names of the files that are appended to.
        resume: Continue an interrupted job; where there is none, start.

    Attributes:
        next_index: The source's index of the first image without a result.
        num_written: How many images have a result.
        num_skipped: How many images could not be read.
        skipped_examples: (name, reason) of the first of them.
        user_state: Plain data of the caller that is saved with the progress.

    Raises:
        HeadwayError: ``out`` exists; or a part of it exists, and ``resume`` is not set or the job is another.
    """

    def __init__(self, out: Path, job: dict[str, Any], files: Sequence[str], *, resume: bool):
        refuse_existing(out)
        self.out, self.folder, self.files = out, out.with_name(out.name + ".partial"), files
        self.next_index = self.num_written = self.num_skipped = 0
        self.skipped_examples: list[list[str]] = []
        self.user_state: dict[str, Any] = {}
        job = json.loads(json.dumps(job))
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            self._with_write_errors(lambda: self._begin(job))
            return
        if not (self.folder / JOB_FILE).is_file():
            raise HeadwayError(
                "output-exists", f"'{self.folder}' is in the way and isn't Headway's; move it, or choose another --out"
            )
        if not resume:
            raise HeadwayError(
                "output-unfinished", f"'{self.folder}' is part of {out}: add --resume to continue it, or remove it"
            )
        before = read_json(self.folder / JOB_FILE)
        if before != job:
            other = ", ".join(sorted(key for key in {*before, *job} if before.get(key) != job.get(key)))
            raise HeadwayError(
                "resume-differs", f"'{self.folder}' was begun with another {other}; remove it, or choose another --out"
            )
        self._with_write_errors(self._resume)

    def _begin(self, job: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / JOB_FILE, job)  # it marks the folder as Headway's
        for name in self.files:
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(b"")
        self._save_progress()

    def _resume(self) -> None:
        if not (self.folder / PROGRESS_FILE).exists():  # interrupted before the first progress file
            self._begin(read_json(self.folder / JOB_FILE))
        state = read_json(self.folder / PROGRESS_FILE)
        for name, length in state["lengths"].items():
            if (self.folder / name).stat().st_size < length:
                raise HeadwayError(
                    "output-damaged",
                    f"'{self.folder / name}' is shorter than it was; remove '{self.folder}', start anew",
                )
            with (self.folder / name).open("r+b") as file:
                file.truncate(length)
        for name in STATE:
            setattr(self, name, state[name])

    def append(
        self, chunks: dict[str, bytes], next_index: int, count: int, skipped: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Write the results of some more images.

        Args:
            chunks: What is appended to each file.
            next_index: The source's index of the image after them.
            count: How many of them have results.
            skipped: (name, reason) of the others.
        """

        def write() -> None:
            for name, chunk in chunks.items():
                with (self.folder / name).open("ab") as file:
                    file.write(chunk)
                fsync_path(self.folder / name)
            self.next_index = next_index
            self.num_written += count
            self.num_skipped += len(skipped)
            self.skipped_examples = (self.skipped_examples + [list(row) for row in skipped])[:MAX_SKIPPED_EXAMPLES]
            self._save_progress()

        self._with_write_errors(write)

    def __enter__(self) -> "ResumableWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and not self.num_written:  # there is nothing to resume
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, assemble: Callable[[Path], Path]) -> None:
        """Turn the folder of files into one finished file or folder in it by ``assemble``, and move that to ``out``."""

        def write() -> None:
            assembled = assemble(self.folder)
            for file in assembled.rglob("*") if assembled.is_dir() else [assembled]:
                fsync_path(file)
            refuse_existing(self.out)
            assembled.replace(self.out)
            fsync_path(self.out.parent)
            shutil.rmtree(self.folder)

        self._with_write_errors(write)

    def _save_progress(self) -> None:
        lengths = {name: (self.folder / name).stat().st_size for name in self.files}
        write_json(self.folder / PROGRESS_FILE, {**{name: getattr(self, name) for name in STATE}, "lengths": lengths})

    def _with_write_errors(self, write: Callable[[], None]) -> None:
        """Call ``write``; an OSError becomes a HeadwayError with advice."""
        try:
            write()
        except OSError as error:
            reason = f"cannot write '{self.folder}': {error.strerror or error}"
            raise HeadwayError(
                "cannot-write", f"{reason}; make room and add --resume, or choose another --out"
            ) from error
