"""The command line: ``main`` finds the verb, whose function defines its options, calls it and prints its result.

``headway --help`` and ``headway VERB --help`` import no torch.
"""

import io
import itertools
import os
import sys

from headway.cli.verbs import VERBS
from headway.utils.command import running_command


def usage() -> str:
    """The text of ``headway --help``."""
    lines = []
    for group, verbs in itertools.groupby(VERBS.items(), lambda item: item[1].group):
        lines += [f"{group}:", *(f"  {name:<10}{verb.help}" for name, verb in verbs), ""]
    return "\n".join([
        "usage: headway VERB ...", "",
        "Self-supervised pretraining on unlabeled images, and transfer to a classifier with few labels.", "",
        *lines,
        "headway VERB --help lists the options of a verb, with an example; --version prints the version.",
    ])  # fmt: skip


def _escape_unprintable() -> None:
    """Print characters that the terminal cannot encode, such as undecodable bytes of a file name, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a caller may have replaced the streams
            stream.reconfigure(errors="backslashreplace")


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0 done, 2 bad input (one line on standard error), 130 interrupted."""
    _escape_unprintable()
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from headway._version import __version__

        print(f"headway {__version__}")
        return 0
    from headway.cli.console import is_first_process
    from headway.errors import HeadwayError, unknown_name_error

    verb, *rest = argv
    try:
        if verb not in VERBS:
            raise unknown_name_error("verb", verb, VERBS, hint="(headway --help lists them)")
        from headway.cli.dispatch import run_verb

        with running_command():
            return run_verb(verb, rest)
    except HeadwayError as error:
        print(f"headway {verb}: {' '.join(str(error).split())} [{error.code}]", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:  # a saved run names its checkpoint and the signal's exit code
        if is_first_process():
            print(f"headway {verb}: interrupted; {stop}".rstrip("; "), file=sys.stderr)
        return int(getattr(stop, "exit_code", 130))
    except BrokenPipeError:  # the reader has closed its end, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush does not complain
        return 1
