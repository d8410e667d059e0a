"""A run.json in which a key is missing, or holds what it cannot: one error that names file and key, or no harm."""

import copy
import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import headway
from headway.errors import HeadwayError
from headway.pretext import TASKS
from headway.samples import DrawnAnimals
from headway.train.best import Best
from headway.train.job import Job
from headway.train.origin import read_origin
from headway.train.record import differences, plan_of, read_record, recipe_for, repeated
from headway.train.reload import read_past, reload_learner

pytestmark = pytest.mark.usefixtures("unmeasured")

DATA = DrawnAnimals(12, 32)
WORDS = {"data": DATA, "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32", "steps": 1}
TASK = "simclr"
ODD = (None, True, -1, 1.5, float("nan"), "x", [], [None], {}, {"type": "x"})


@pytest.fixture(scope="module")
def run(unmeasured, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    headway.pretrain(TASK, **WORDS, out=out)
    return out


def places(content, path=()):
    """Every place in nested dictionaries and lists."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def damaged(record, path, value):
    """The record with one place changed, or left out where the value is ``...``."""
    record = copy.deepcopy(record)
    *way, last = path
    part = record
    for key in way:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return record


def read_everything(folder):
    """All that is ever read of a record."""
    record, own = read_record(folder), TASKS[TASK]
    recipe = recipe_for(TASK, own, str(folder))
    repeated(record, Job(task=TASK, recipe=recipe), own, folder / "run.json")
    differences(record, plan_of(record))
    origin = read_origin(folder)
    assert origin.size and origin.place and origin.record["data"]["fingerprint"]
    return read_past(folder, TASK, own)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(drawn=st.data())
def test_every_reader_names_file_and_key(run, tmp_path, drawn):
    record = json.loads((run / "run.json").read_text())
    path = drawn.draw(st.sampled_from(list(places(record))))
    value = drawn.draw(st.sampled_from((..., *ODD)))
    (tmp_path / "state").exists() or shutil.copytree(run / "state", tmp_path / "state")
    changed = damaged(record, path, value)
    assume(changed != record)
    (tmp_path / "run.json").write_text(json.dumps(changed))
    try:
        past = read_everything(tmp_path)
        reload_learner(past, torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    except HeadwayError as error:
        words = [*(key for key in path if isinstance(key, str)), "do not fit its record"]  # another sound architecture
        assert str(tmp_path) in str(error) and any(word in str(error) for word in words), (path, value, str(error))


@pytest.mark.parametrize("content", ["[]", '{"start": 1.0}', '{"start": "x", "best": 1, "last": null}', "{"])
def test_a_damaged_note_of_the_best_is_named(tmp_path, content):
    (tmp_path / "best.json").write_text(content)
    with pytest.raises(HeadwayError, match=r"best\.json"):
        Best(lambda backbone: 1.0, tmp_path)


VERBS = {
    "resume": lambda run, out: headway.pretrain(TASK, **WORDS, out=run, resume=True),
    "extend": lambda run, out: headway.pretrain(
        TASK, data=DATA, precision="float32", steps=1, extend=str(run), out=out
    ),
    "repeat": lambda run, out: headway.pretrain(TASK, data=DATA, repeat=str(run), out=out),
    "show": lambda run, out: headway.show(TASK, data=DATA, run=run, count=2, out=out.with_suffix(".png")),
    "transfer": lambda run, out: headway.transfer(run, data=DrawnAnimals(40, 32), head="knn", out=out),
    "rank": lambda run, out: headway.rank([run], data=DATA),
    "attend": lambda run, out: headway.attend(run, [str(out.parent / "a.png")], out=out.with_suffix(".html")),
}
DAMAGE = [
    (("job",), None), (("job", "recipe"), []), (("job", "recipe", "optim", "lr"), "x"), (("job", "steps"), ...),
    (("job", "recipe", "task", "temperature"), None), (("plan",), ...), (("plan", "batch"), -1), (("data",), "x"),
    (("data", "fingerprint"), 3), (("architecture", "width"), "x"), (("architecture", "inputs"), ...),
    (("size",), None), (("measured",), ...), (("result",), ...), (("stretches",), []), (("schema",), "x"),
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_ends_in_anything_but_a_line(run, tmp_path, verb):
    record = json.loads((run / "run.json").read_text())
    headway.samples.write_folder(tmp_path, 1, 32)
    next(tmp_path.rglob("*.png")).rename(tmp_path / "a.png")
    reads = verb in ("resume", "extend", "repeat", "show")  # the others want the weights alone
    for number, (path, value) in enumerate(DAMAGE if reads else DAMAGE[:1]):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder)
        (folder / "run.json").write_text(json.dumps(damaged(record, path, value)))
        try:
            VERBS[verb](folder, tmp_path / f"out{number}")
        except HeadwayError as error:
            assert str(path[-1]) in str(error), (path, value, str(error))
        else:
            assert not reads, (path, value)
