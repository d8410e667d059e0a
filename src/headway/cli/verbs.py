"""The verbs of the command line, in groups. A new verb is one entry here: its function, and what prints its result."""

from typing import NamedTuple


class Verb(NamedTuple):
    """One verb.

    Attributes:
        group: Under which ``headway --help`` lists it.
        help: What it does, in a line.
        function: module:name of its function, whose signature and docstring make the options. Importing it should be
            quick: heavy imports belong into the function.
        printer: Module with ``print_result(result)`` and, where it has an exit code of its own, ``exit_code(result)``.
        positional: The parameters that are given without an option's name.
        processes: Whether torchrun may start it in several processes.
    """

    group: str
    help: str
    function: str
    printer: str
    positional: tuple[str, ...] = ()
    processes: bool = False


def _own(name: str, group: str, text: str, *positional: str, processes: bool = False) -> tuple[str, Verb]:
    """A verb of the package: ``api/NAME.py`` has its function, ``cli/NAME.py`` its printer."""
    return name, Verb(group, text, f"headway.api.{name}:{name}", f"headway.cli.{name}", positional, processes)


VERBS = dict(
    (
        _own(
            "check",
            "inspect",
            "check a data set before training: unreadable files, duplicates, leakage, classes",
            "data",
        ),
        _own("show", "inspect", "show a pretext task: its views, its targets and a network's predictions", "task"),
        _own("pretrain", "learn", "train a backbone on unlabeled images", "task", processes=True),
        _own("transfer", "learn", "train a classifier on labeled images: a run's backbone, a new output layer", "run"),
        _own("predict", "use", "classify images", "model"),
        _own("embed", "use", "write the features of images", "run"),
        _own("export", "use", "write a classifier or a backbone as a file that runs without Headway", "model"),
        _own("compare", "evaluate", "compare pretext tasks with training from scratch, with an interval"),
        _own("curve", "evaluate", "plot accuracy against labels per class", "run"),
        _own("cluster", "evaluate", "cluster images on raw pixels, untrained and pretrained features", "run"),
        _own("rank", "evaluate", "order runs by their features, without labels", "runs"),
        _own(
            "attend", "understand", "show attention maps, and the importance of each attention head", "model", "images"
        ),
        _own("tasks", "understand", "list the pretext tasks"),
        _own("demo", "demo", "run everything on synthetic or labeled images, against training from scratch"),
    )
)
"""By name."""
