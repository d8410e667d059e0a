"""Errors that a user can act on: each message says what failed, what was given and what to do."""

import difflib
import errno
from collections.abc import Iterable

CODES = {
    "archive-damaged": "A tar file is incomplete or damaged.",
    "array-invalid": "An array, a tensor or a list is not a set of images or paths.",
    "backbone-unsupported": "The network cannot do what is asked of it.",
    "checkpoint-damaged": "A checkpoint is missing or damaged.",
    "checkpoint-mismatch": "A checkpoint is of another network or task.",
    "class-unknown": "Images are of classes that were not trained on.",
    "classifier-damaged": "The folder of a classifier is damaged.",
    "classifier-not-found": "There is no classifier in the folder.",
    "cannot-read": "A file cannot be read.",
    "cannot-write": "A file or folder cannot be written.",
    "config-invalid": "A configuration has a field of another type, or one that is unknown.",
    "data-not-found": "There is nothing at the path, or a data set cannot be fetched.",
    "data-unknown": "The data are of a kind that cannot be opened.",
    "export-failed": "A network cannot be written in the format, or gives other outputs afterward.",
    "group-unknown": "The groups are neither a column nor an expression that matches names.",
    "image-format": "Images have other channels or values than the network or the task takes.",
    "image-size": "The view does not fit the patches or the network.",
    "images-differ": "A run, or a process of it, has other images than another.",
    "label-ambiguous": "It is unclear of which image a label is.",
    "label-unknown": "A label is of an image or a class that the data do not have.",
    "labels-missing": "The images have no labels.",
    "logger-failed": "A dashboard's client cannot start.",
    "missing-argument": "A required argument is not given.",
    "missing-package": "An optional package is not installed.",
    "name-clash": "Two things have one name.",
    "no-images": "There are no images.",
    "one-class": "All labels are of one class.",
    "options-conflict": "Two options exclude one another, or one needs another.",
    "out-of-memory": "A step does not fit into memory.",
    "output-damaged": "An unfinished output is damaged.",
    "output-exists": "The output exists, and is not overwritten.",
    "output-format": "The name of the output does not select a format.",
    "output-unfinished": "There is an unfinished output: continue it by --resume, or remove it.",
    "own-object": "A task or target of a user's own cannot be loaded.",
    "process-lost": "A process of the run has ended.",
    "processes-unsupported": "Several processes cannot be started in this way.",
    "resume-differs": "A command is resumed with other settings, images or weights.",
    "run-damaged": "The record of a run is damaged.",
    "run-exists": "The run folder exists.",
    "run-in-use": "Another process uses the run folder.",
    "run-not-found": "There is no finished run in the folder.",
    "run-version": "The run was written by another version.",
    "split-folders": "The folders are splits, such as train and test, and not classes.",
    "table-invalid": "A table or its labels cannot be read.",
    "task-invalid": "A task or combination of tasks cannot be trained.",
    "test-set-differs": "The test images are not those that were set aside.",
    "too-few-images": "There are too few images to train or to test on.",
    "training-failed": "The training diverged or collapsed.",
    "unknown-name": "There is no task, head, backbone or other thing of this name.",
    "unreadable-image": "An image cannot be read.",
    "unreadable-images": "None of the images can be read.",
    "value-out-of-range": "A value lies outside its range.",
    "value-unreadable": "A value cannot be read, such as a duration.",
    "weights-damaged": "A file of weights is damaged or of another program.",
    "weights-mismatch": "Weights are of another network.",
    "weights-not-found": "There are no such weights.",
}
"""What each ``HeadwayError.code`` says, in a sentence."""


class HeadwayError(Exception):
    """An error that the user can correct. The command line prints its text as one line and exits with code 2.

    Args:
        code: One of ``CODES``, for programs: texts may change, codes do not.
        text: What failed, what was given and what to do.

    Raises:
        KeyError: There is no such code.
    """

    def __init__(self, code: str, text: str):
        CODES[code]
        super().__init__(text)
        self.code = code

    def __reduce__(self) -> tuple[type["HeadwayError"], tuple[str, str]]:
        return type(self), (self.code, str(self))


class UnreadableImageError(Exception):
    """One image cannot be read; the text is the reason. Callers skip, count and report the image, and go on."""


def unknown_name_error(kind: str, given: str, known: Iterable[str], hint: str = "") -> HeadwayError:
    """Make the error for an unknown name. Its text suggests the most similar known names.

    Args:
        kind: What the name stands for ("task", "backbone").
        given: The name as the user typed it.
        known: All valid names.
        hint: Advice to add at the end of the text.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return HeadwayError("unknown-name", f"unknown {kind} '{given}': {advice}{' ' + hint if hint else ''}")


def error_reason(error: Exception) -> str:
    """The reason why a file cannot be read, in plain words."""
    number = getattr(error, "errno", None)
    known = {
        errno.ENOENT: "no such file, or a link to nothing",
        errno.ELOOP: "a link that leads back to itself",
        errno.EACCES: "no permission to read it",
        errno.EPERM: "no permission to read it",
        errno.ENAMETOOLONG: "its name is too long",
    }
    return known.get(number or 0) or getattr(error, "strerror", None) or str(error) or type(error).__name__
