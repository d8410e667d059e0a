"""A run.json with a missing or invalid key: one error that names the file and the key, or no effect."""

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
from headway.synthetic import DrawnAnimals
from headway.train.config import PretrainConfig
from headway.train.init.parent_run import read_parent_run
from headway.train.init.reload import read_trained_run, reload_train_module
from headway.train.run_dir.best_weights import BestWeights
from headway.train.run_dir.record import plan_of, read_record, recipe_for, reproduced_config, reproduction_differences

pytestmark = pytest.mark.usefixtures("unmeasured")

DATA = DrawnAnimals(12, 32)
WORDS = {"data": DATA, "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32", "steps": 1}
TASK = "simclr"
INVALID = (None, True, -1, 1.5, float("nan"), "x", [], [None], {}, {"type": "x"})


@pytest.fixture(scope="module")
def run(unmeasured, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    headway.pretrain(TASK, **WORDS, out=out)
    return out


def paths(content, path=()):
    """The path of every entry in nested dictionaries and lists."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from paths(value, (*path, key))


def damaged(record, path, value):
    """The record with one entry changed, or removed where the value is ``...``."""
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
    """Read everything that is ever read from a record."""
    record, own = read_record(folder), TASKS[TASK]
    recipe = recipe_for(TASK, own, str(folder))
    reproduced_config(record, PretrainConfig(task=TASK, recipe=recipe), own, folder / "run.json")
    reproduction_differences(record, plan_of(record))
    parent = read_parent_run(folder)
    assert parent.size and parent.stream_position and parent.record["data"]["fingerprint"]
    return read_trained_run(folder, TASK, own)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(drawn=st.data())
def test_every_reader_names_file_and_key(run, tmp_path, drawn):
    record = json.loads((run / "run.json").read_text())
    path = drawn.draw(st.sampled_from(list(paths(record))))
    value = drawn.draw(st.sampled_from((..., *INVALID)))
    (tmp_path / "state").exists() or shutil.copytree(run / "state", tmp_path / "state")
    changed = damaged(record, path, value)
    assume(changed != record)
    (tmp_path / "run.json").write_text(json.dumps(changed))
    try:
        past = read_everything(tmp_path)
        reload_train_module(past, torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    except HeadwayError as error:
        words = [*(key for key in path if isinstance(key, str)), "do not fit its record"]  # another valid architecture
        message = str(error).replace("-", "_")  # an error of a config names the option
        assert str(tmp_path) in str(error) and any(word in message for word in words), (path, value, str(error))


@pytest.mark.parametrize("content", ["[]", '{"start": 1.0}', '{"start": "x", "best": 1, "last": null}', "{"])
def test_damaged_probe_scores_are_named(tmp_path, content):
    (tmp_path / "best.json").write_text(content)
    with pytest.raises(HeadwayError, match=r"best\.json"):
        BestWeights(lambda backbone: 1.0, tmp_path)


VERBS = {
    "resume": lambda run, out: headway.pretrain(TASK, **WORDS, out=run, resume=True),
    "continue_from": lambda run, out: headway.pretrain(
        TASK, data=DATA, precision="float32", steps=1, continue_from=str(run), out=out
    ),
    "reproduce": lambda run, out: headway.pretrain(TASK, data=DATA, reproduce=str(run), out=out),
    "show": lambda run, out: headway.show(TASK, data=DATA, run=run, count=2, out=out.with_suffix(".png")),
    "transfer": lambda run, out: headway.transfer(run, data=DrawnAnimals(40, 32), head="knn", out=out),
    "rank": lambda run, out: headway.rank([run], data=DATA),
    "attend": lambda run, out: headway.attend(run, [str(out.parent / "a.png")], out=out.with_suffix(".html")),
}
DAMAGE = [
    (("config",), None), (("config", "recipe"), []), (("config", "recipe", "optim", "lr"), "x"),
    (("config", "steps"), ...),
    (("config", "recipe", "task", "temperature"), None), (("plan",), ...), (("plan", "batch_size"), -1),
    (("data",), "x"),
    (("data", "fingerprint"), 3), (("architecture", "embed_dim"), "x"), (("architecture", "input_spec"), ...),
    (("size",), None), (("measurements",), ...), (("result",), ...), (("segments",), []), (("schema",), "x"),
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_reports_a_damaged_record_in_one_line(run, tmp_path, verb):
    record = json.loads((run / "run.json").read_text())
    headway.synthetic.write_folder(tmp_path, 1, 32)
    next(tmp_path.rglob("*.png")).rename(tmp_path / "a.png")
    reads = verb in ("resume", "continue_from", "reproduce", "show")  # the others read only the weights
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
