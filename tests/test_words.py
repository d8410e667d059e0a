"""One vocabulary: the field's. Words that this project once used for things that have a standard name are refused."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
RETIRED = {
    r"pictures?": "image",
    r"games?": "pretext task",
    r"deals?|dealt|dealing": "make views",
    r"strangers?": "negatives",
    r"foretell|foretells|foretold|foretelling": "predict",
    r"yardsticks?": "metric",
    r"contenders?": "method",
    r"arenas?": "comparison runner",
    r"keepsakes?": "demo outputs",
    r"crews?": "parallel",
    r"likeness(es)?": "cosine similarity",
    r"picked": "subset",
    r"learner": "train module",
    r"workshop": "engine",
    r"whilst|learnt|spelt": "while, learned, spelled",
    r"(re|de)?colou?r(?<=our)\w*|\w*colour\w*": "color",
    r"gr[e]y(s|ed|ing|scale|er)?": "gray",
    r"cent(re)(s|d)?|\w+centred": "center",
    r"(un|re)?labell(ed|ing|er)": "labeled",
    r"(un)?normalis\w*|initialis\w*|optimis\w*|recognis\w*|summaris\w*|organis(e|ed|es|ing|ation)|"
    r"generalis\w*|regularis\w*|minimis\w*|maximis\w*|utilis\w*|serialis\w*|finalis\w*|visualis\w*|"
    r"equalis\w*|randomis\w*|standardis\w*|vectoris\w*|tokenis\w*|quantis\w*|specialis\w*|penalis\w*|"
    r"realis(e|ed|es|ing)|emphasis(e|ed|es|ing)|analys(e|ed|es(?! of)|ing)": "-ize",
    r"neighbour\w*|behaviour\w*|favour\w*|honour\w*|\w*flavour\w*|harbour\w*": "-or",
    r"modelling|modelled|cancelled|cancelling|travell\w*|signalled|signalling": "one l",
}
PATTERN = re.compile("|".join(f"(?P<w{i}>\\b(?:{word})\\b)" for i, word in enumerate(RETIRED)), re.IGNORECASE)
INSTEAD = list(RETIRED.values())
FOLDERS = ("src", "tests", "benchmarks", "examples", "docs")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (PROJECT / folder).rglob("*")
    if path.suffix in (".py", ".md", ".js", ".html", ".css") and path != Path(__file__)
)
FILES += [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")]


def words_of(identifier: str) -> str:
    """The words of an identifier, with spaces between them: ``dealtViews`` and ``dealt_views`` are "dealt views"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", identifier)


def retired_in(text: str) -> list[str]:
    found = []
    for match in PATTERN.finditer(text):
        found.append(f'"{match.group()}", say "{INSTEAD[int((match.lastgroup or "w0")[1:])]}"')
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_no_retired_word(path):
    faults = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        faults += [f"{path.relative_to(PROJECT)}:{number}: {word}" for word in retired_in(words_of(line))]
    assert not faults, "\n".join(faults[:20])


@pytest.mark.parametrize("word", ["picture", "dealt_views", "Colour", "labelled", "normalise", "GreyImage"])
def test_a_retired_word_is_found(word):
    assert retired_in(words_of(word))


@pytest.mark.parametrize(
    "word", ["image", "depicture_x"[:2], "color", "organisms", "analysis", "ideal", "gamma", "precise"]
)
def test_a_standard_word_is_not(word):
    assert not retired_in(words_of(word))
