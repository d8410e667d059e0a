"""Errors: their codes, and the plain words of their texts."""

import ast
import pickle
from pathlib import Path

import pytest

import headway
from headway.cli import main
from headway.errors import CODES, HeadwayError, unknown_name_error

SOURCE = Path(headway.__file__).parent


def raised():
    """The (code, text) of each error that the package makes; parts of a text that vary are "..."."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "HeadwayError":
                code, text = node.args
                assert isinstance(code, ast.Constant), f"{path}:{node.lineno}: write the code out"
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                yield code.value, "".join(p.value if isinstance(p, ast.Constant) else "..." for p in parts)


def test_every_code_is_listed_and_used():
    assert {code for code, _ in raised()} == set(CODES)
    with pytest.raises(KeyError):
        HeadwayError("no-such-code", "text")


def test_texts_are_plain_words():
    for code, text in raised():
        assert not any(word in text.lower() for word in ("oops", "sorry", "please", "!!", "invalid input")), (
            code,
            text,
        )
        assert text.endswith("...") or not text.endswith("."), f"{code}: one line without a full stop: {text}"


def test_an_error_crosses_processes_and_keeps_its_code():
    error = pickle.loads(pickle.dumps(HeadwayError("run-exists", "r exists")))
    assert (error.code, str(error)) == ("run-exists", "r exists")


def test_the_command_line_prints_the_text_and_the_code(capsys):
    assert main(["no-such-verb"]) == 2
    error = unknown_name_error("verb", "no-such-verb", headway.cli.verbs.VERBS, "(headway --help lists them)")
    assert capsys.readouterr().err == f"headway no-such-verb: {error} [unknown-name]\n"
