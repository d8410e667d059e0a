"""The command line: pick the verb, then let its own file say what it takes. ``headway --help`` imports no torch."""

import io
import sys
import time

VERBS = {
    "demo": "the main job on embedded data: pretrain, change the head, say what it was worth",
    "tasks": "what pretext tasks there are",
    "check": "look at pictures before anything is trained on them",
    "show": "see a pretext game: what is dealt, which labels are generated, what a network answers",
    "pretrain": "train a backbone on unlabelled pictures",
    "transfer": "change the output layer: from a run and labelled pictures to a classifier",
    "predict": "name what is in pictures, with a classifier",
    "export": "write a classifier or a backbone as one file that runs without Headway (ONNX, torch.export)",
    "embed": "write the features of pictures",
    "compare": "the verdict: which task helped, by how much, or that nobody can tell",
    "curve": "accuracy against labels a class, beside from scratch and untrained",
    "cluster": "k-means on raw pixels, untrained and pretrained features",
    "rank": "order runs without labels",
    "attend": "see what a vision transformer attends to, and what each attention head is worth",
}
_started: float | None = None


def command_started() -> float:
    """When the work began, by ``time.perf_counter``: the command's start, or now for a call from Python."""
    return time.perf_counter() if _started is None else _started


def usage() -> str:
    """What ``headway --help`` prints."""
    lines = [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join([
        "usage: headway VERB ...", "",
        "Learn from pictures that nobody labelled, then change the head.", "",
        "verbs:", *lines, "",
        "  headway VERB --help says what a verb takes, with an example; --version prints the version.",
    ])  # fmt: skip


def _print_anything() -> None:
    """Let what a terminal cannot show, bytes of a file's name that are no text among it, be printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a caller may have put others in their place
            stream.reconfigure(errors="backslashreplace")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0 done, 2 bad input (one line on standard error), 130 interrupted."""
    global _started
    _started = time.perf_counter()
    _print_anything()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from headway import __version__

        print(f"headway {__version__}")
        return 0
    from headway.errors import HeadwayError, unknown

    verb, *rest = arguments
    try:
        if verb not in VERBS:
            raise unknown("verb", verb, VERBS, hint="(headway --help lists them)")
        from headway.cli.run import run_verb

        return run_verb(verb, rest)
    except HeadwayError as error:
        print(f"headway {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:  # a run that was saved says where, and by which signal it ended
        from headway.distributed import rank

        if rank() == 0:
            print(f"headway {verb}: interrupted; {stop}".rstrip("; "), file=sys.stderr)
        return int(getattr(stop, "code", 130))
    finally:
        _started = None
