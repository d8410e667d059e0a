"""The verbs as Python functions: results, silence, progress; and the list of verbs of the command line."""

import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import headway
from headway.api.result import Result
from headway.cli import main
from headway.cli.dispatch import load_function
from headway.cli.verbs import VERBS, Verb
from headway.synthetic import write_folder

SMALL = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "size": 32, "steps": 2}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder of labeled images, a run and a classifier."""
    folder = tmp_path_factory.mktemp("api")
    write_folder(folder / "photos", 60, 32, seed=0)
    headway.pretrain("mae", data=folder / "photos", out=folder / "run", **SMALL)
    headway.transfer(folder / "run", data=folder / "photos", out=folder / "model")
    return folder


def calls(here, out):
    """A call of every verb: positional arguments, then options."""
    photos, run = str(here / "photos"), str(here / "run")
    image = str(next((here / "photos").rglob("*.png")))
    quick = {"finetune_steps": 1, "labels_per_class": 2, "draws": 1, "heads": "linear"}
    network = {name: value for name, value in SMALL.items() if name != "steps"}
    return {
        "check": ((photos,), {}),
        "show": (("rotation",), {"data": photos, "out": f"{out}.png", "count": 2}),
        "pretrain": (("rotation",), {"data": photos, "out": out, **SMALL}),
        "transfer": ((run,), {"data": photos, "out": out, "head": "finetune", "epochs": 1, "folds": 2}),
        "predict": ((str(here / "model"),), {"data": photos, "out": f"{out}.csv"}),
        "embed": ((run,), {"data": photos, "out": f"{out}.npz"}),
        "export": ((run,), {"out": f"{out}.pt2"}),
        "compare": ((), {"data": photos, "labeled": photos, "out": out, "tasks": "rotation", "seeds": 1, "steps": 1,
                         **quick, **network}),
        "curve": ((run,), {"data": photos, "labels_per_class": "2", "draws": 1, "finetune_steps": 1}),
        "cluster": ((run,), {"data": photos, "repeats": 1}),
        "rank": (([run],), {"data": photos}),
        "attend": ((run, (image,)), {"out": f"{out}.html"}),
        "tasks": ((), {}),
        "demo": ((), {"data": photos, "out": out, "budget": "1s"}),
    }  # fmt: skip


def test_every_verb_is_called_here(here, tmp_path):
    assert set(calls(here, "out")) == set(VERBS)


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_verb_returns_what_its_command_prints_and_prints_nothing(verb, here, tmp_path, capfd):
    events = []
    positional, options = calls(here, str(tmp_path / "python"))[verb]
    progress = {} if verb == "tasks" else {"progress": events.append}
    result = getattr(headway, verb)(*positional, **options, **progress)
    assert capfd.readouterr() == ("", ""), "the library is silent"
    assert isinstance(result, Result) and dataclasses.is_dataclass(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.out = "elsewhere"
    assert len(repr(result)) < 1200 and "\n" not in repr(result) and repr(result).startswith(type(result).__name__)
    for name, value in result.to_dict().items():
        assert getattr(result, name) == value
    stages = {}
    for event in events:
        assert 0 <= stages.get(event.stage, 0) <= event.done <= event.total
        stages[event.stage] = event.done if event.done < event.total else 0
    assert all(done == 0 for done in stages.values()), "every stage ends with done == total"
    assert stages or verb in ("tasks", "attend"), "attention maps of an image take no time"

    positional, options = calls(here, str(tmp_path / "command"))[verb]
    words = [str(word) for part in positional for word in (part if isinstance(part, (list, tuple)) else [part])]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    assert main([verb, *words, "--json"]) in (0, 1)
    printed = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
    assert printed.keys() == json.loads(json.dumps(result.to_dict())).keys()
    if verb in ("check", "tasks", "predict", "embed", "cluster", "rank", "curve"):
        own = json.dumps(result.to_dict()).replace(str(tmp_path / "python"), str(tmp_path / "command"))
        assert printed == json.loads(own)
    assert main([verb, *calls_words(here, tmp_path / "text", verb)]) in (0, 1)
    assert capfd.readouterr().out.strip(), "the result is printed for people, too"


def calls_words(here, out, verb):
    positional, options = calls(here, str(out))[verb]
    words = [str(word) for part in positional for word in (part if isinstance(part, (list, tuple)) else [part])]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def test_messages_go_to_the_logger(here, tmp_path, caplog):
    with caplog.at_level("INFO", logger="headway"):
        headway.transfer(here / "run", data=here / "photos", out=tmp_path / "m")
    assert any("held out for testing" in record.getMessage() for record in caplog.records)


def test_objects_beside_the_numbers(here, tmp_path):
    made = headway.transfer(here / "run", data=here / "photos", out=tmp_path / "m")
    image = next((here / "photos").rglob("*.png"))
    assert made.classifier.predict([image]) == headway.load_classifier(made.model).predict([image])
    assert headway.pretrain("mae", data=here / "photos", out=tmp_path / "r", **SMALL).backbone.embed_dim > 0


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_has_an_example_and_imports_no_torch(verb):
    code = f"""
import sys
from headway.cli import main
try:
    main(['{verb}', '--help'])
finally:
    assert 'torch' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Example: headway {verb}" in done.stdout and "--json" in done.stdout


def test_exports_for_type_checkers_are_those_of_the_list():
    source = Path(headway.__file__).read_text().splitlines()
    lines = [line.strip() for line in source if line.strip().startswith("from headway.api.")]
    assert {line.split()[-1] for line in lines} == set(VERBS)
    assert all(load_function(verb).__name__ == name for name, verb in VERBS.items())


VERB_OF_ONES_OWN = '''
    """Counts the images of a folder."""

    from dataclasses import dataclass

    from headway.api.result import Result


    @dataclass(frozen=True, repr=False)
    class CountResult(Result):
        images: int


    def count(data: str, *, at_least: int = 0) -> CountResult:
        """Count images.

        Example: headway count photos

        Args:
            data: A folder.
            at_least: Refuse fewer.
        """
        from headway.data.open import open_source
        from headway.errors import HeadwayError

        images = len(open_source(data))
        if images < at_least:
            raise HeadwayError("too-few-images", f"{images} images are too few; give more")
        return CountResult(images)


    def print_result(result: CountResult) -> None:
        print(f"{result.images} images")
'''


def test_a_verb_of_ones_own_is_one_file_and_one_line(here, tmp_path, monkeypatch, capsys):
    (tmp_path / "counting.py").write_text(textwrap.dedent(VERB_OF_ONES_OWN))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(VERBS, "count", Verb("inspect", "count images", "counting:count", "counting", ("data",)))
    photos = str(here / "photos")
    assert main(["count", photos]) == 0 and capsys.readouterr().out == "60 images\n"
    assert main(["count", photos, "--json"]) == 0 and json.loads(capsys.readouterr().out) == {"images": 60}
    assert main(["count", photos, "--at-least", "61"]) == 2
    assert "60 images are too few" in capsys.readouterr().err
    assert main(["--help"]) == 0 and "count images" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["count", "--help"])
    assert "Refuse fewer" in capsys.readouterr().out


class Handle:
    def __init__(self, shown):
        self.shown = shown

    def update(self, data, raw):
        self.shown[-1] = data["text/plain"]


def test_a_notebook_gets_one_output_per_stage(monkeypatch):
    shown = []

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return Handle(shown)

    class Shell:
        kernel = object()

    ipython = type(sys)("IPython")
    ipython.get_ipython, ipython.display = lambda: Shell(), type(sys)("IPython.display")
    ipython.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    with headway.ProgressBar() as bar:
        for stage in ("decoding", "training"):
            for done in range(1001):
                bar(headway.ProgressEvent(stage, done, 1000, "loss 0.1" if stage == "training" else ""))
    assert shown == ["decoding " + 20 * "█" + " 1,000/1,000", "training " + 20 * "█" + " 1,000/1,000 loss 0.1"]


def test_nothing_is_drawn_where_there_is_no_terminal(capfd):
    with headway.ProgressBar() as bar:
        bar(headway.ProgressEvent("decoding", 1, 2))
    assert capfd.readouterr() == ("", "")
