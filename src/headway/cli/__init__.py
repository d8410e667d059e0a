"""The command line: ``main`` finds the verb, and the verb's file defines its options.

``headway --help`` imports no torch.
"""

import io
import os
import sys
import time

VERBS = {
    "demo": "run everything on synthetic or labeled images: pretrain, transfer, compare with training from scratch",
    "tasks": "list the pretext tasks",
    "check": "check a data set before training: unreadable files, duplicates, leakage, shapes, classes",
    "show": "show a pretext task: its views, its generated targets and a network's predictions",
    "pretrain": "train a backbone on unlabeled images",
    "transfer": "train a classifier on labeled images, from a run's backbone and a new output layer",
    "predict": "classify images",
    "export": "write a classifier or a backbone as one file that runs without Headway (ONNX, torch.export)",
    "embed": "write the features of images",
    "compare": "compare pretext tasks with training from scratch, with a confidence interval",
    "curve": "plot accuracy against labels per class, for pretrained, from scratch and untrained",
    "cluster": "cluster images by k-means on raw pixels, untrained and pretrained features",
    "rank": "order runs by their features, without labels",
    "attend": "show attention maps of a vision transformer, and the importance of each attention head",
}
_start_time: float | None = None


def command_start_time() -> float:
    """The time at which the command started, by ``time.perf_counter``; now for a call from Python."""
    return time.perf_counter() if _start_time is None else _start_time


def is_command() -> bool:
    """Whether a verb runs from the command line; calls from Python start no processes unless they are asked to."""
    return _start_time is not None


def usage() -> str:
    """The text of ``headway --help``."""
    lines = [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join([
        "usage: headway VERB ...", "",
        "Self-supervised pretraining on unlabeled images, and transfer to a classifier with few labels.", "",
        "verbs:", *lines, "",
        "  headway VERB --help lists the options of a verb, with an example; --version prints the version.",
    ])  # fmt: skip


def _escape_unprintable() -> None:
    """Print characters that the terminal cannot encode, such as undecodable bytes of a file name, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a caller may have replaced the streams
            stream.reconfigure(errors="backslashreplace")


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0 done, 2 bad input (one line on standard error), 130 interrupted."""
    global _start_time
    _start_time = time.perf_counter()
    _escape_unprintable()
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from headway._version import __version__

        print(f"headway {__version__}")
        return 0
    from headway.errors import HeadwayError, unknown_name_error

    verb, *rest = argv
    try:
        if verb not in VERBS:
            raise unknown_name_error("verb", verb, VERBS, hint="(headway --help lists them)")
        from headway.cli.dispatch import run_verb

        return run_verb(verb, rest)
    except HeadwayError as error:
        print(f"headway {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:  # a saved run names its checkpoint and the signal's exit code
        from headway.distributed import rank

        if rank() == 0:
            print(f"headway {verb}: interrupted; {stop}".rstrip("; "), file=sys.stderr)
        return int(getattr(stop, "exit_code", 130))
    except BrokenPipeError:  # the reader has closed its end, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush does not complain
        return 1
    finally:
        _start_time = None
