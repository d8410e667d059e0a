"""run.json: other schemas are refused, and nothing that a record names is imported or run."""

import json
import pickle
import sys

import pytest

import headway
from headway.errors import HeadwayError
from headway.pretext import TASKS
from headway.synthetic import DrawnAnimals
from headway.train.config import PretrainConfig
from headway.train.run_dir.checkpoint import WEIGHTS_FILE, step_folders
from headway.train.run_dir.record import (
    SCHEMA_VERSION,
    config_of,
    plan_of,
    read_record,
    recipe_for,
    reproduced_config,
)
from headway.utils.serialize import serialize
from tests.errors import raises

pytestmark = pytest.mark.usefixtures("unmeasured")

WORDS = {"data": DrawnAnimals(20, 32), "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32"}


@pytest.fixture(scope="module")
def run(unmeasured, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    headway.pretrain("rotation", **WORDS, out=out, steps=2)
    return out


def altered(run, folder, **changes):
    record = json.loads((run / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, **changes}))
    return folder / "run.json"


def test_a_record_reads_back(run):
    record = read_record(run)
    config = config_of(record, "rotation", TASKS["rotation"])
    assert record["schema"] == SCHEMA_VERSION and serialize(config) == record["config"] and plan_of(record).steps == 2
    assert config == PretrainConfig(task="rotation", recipe=TASKS["rotation"], backbone="vit_nano", stem="conv",
                                    patch=8, steps=2, precision="float32")  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "says"),
    [(SCHEMA_VERSION + 1, "update headway"), (None, "no record"), ("2", "no record"), (0, "no record")],
)
def test_other_schemas_are_refused(run, tmp_path, schema, says):
    with pytest.raises(HeadwayError, match=says):
        read_record(altered(run, tmp_path, schema=schema))


def test_damaged_records_are_refused(run, tmp_path):
    with raises("run-damaged"):
        read_record(altered(run, tmp_path, config=None))
    for part, change, says in (
        ("plan", {"unheard_of": 2}, "plan.unheard_of is not known"),
        ("plan", {"batch_size": 0}, "a plan's batch_size must be 1 or more, got 0"),
        ("config", {"seed": "x"}, "config.seed is 'x', not int"),
        ("config", {"grad_accum": 0}, "--grad-accum must be a number above 0"),
    ):
        file = altered(run, tmp_path, **{part: {**read_record(run)[part], **change}})
        with pytest.raises(HeadwayError, match=rf"run\.json is damaged: {says}"):
            record = read_record(file)
            plan_of(record), config_of(record, "rotation", TASKS["rotation"])
    with raises("resume-differs"):
        config_of(read_record(run), "mae", TASKS["mae"])


def test_names_in_a_record_are_not_imported(run, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    record = read_record(run)
    for name in ("planted:Recipe", "planted:Rotation"):
        config = json.loads(json.dumps(record["config"]))
        (config["recipe"] if name.endswith("Recipe") else config["recipe"]["task"])["type"] = name
        file = altered(run, tmp_path, config=config)
        with raises("run-damaged"):
            config_of(read_record(file), "rotation", TASKS["rotation"])
        with raises("run-damaged"):
            headway.pretrain("rotation", **WORDS, out=tmp_path / "x", reproduce=str(file))
    altered(run, tmp_path, task="planted:RECIPE")
    assert recipe_for("rotation", TASKS["rotation"], str(tmp_path)) == TASKS["rotation"]
    assert "planted" not in sys.modules and not (tmp_path / "ran").exists()


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("where", ["checkpoint", "model", "record", "init"])
def test_a_pickled_payload_never_runs(run, tmp_path, where):
    payload, mark = pickle.dumps(Payload(tmp_path / "ran")), tmp_path / "ran"
    out = tmp_path / "r"
    words = {**WORDS, "steps": 2}
    headway.pretrain("rotation", **words, out=out)
    files = {
        "checkpoint": step_folders(out)[-1] / WEIGHTS_FILE,
        "model": out / "model.safetensors",
        "record": out / "run.json",
    }
    file = files.get(where, tmp_path / "planted.safetensors")
    file.write_bytes(payload)
    if where == "checkpoint":
        assert headway.pretrain("rotation", **words, out=out, resume=True).steps == 2
    else:
        with pytest.raises(HeadwayError):
            if where == "record":
                headway.pretrain("rotation", **words, out=out, resume=True)
            elif where == "model":
                headway.embed(out, data=DrawnAnimals(4, 32), out=tmp_path / "f.npz")
            else:
                headway.pretrain("rotation", **words, out=tmp_path / "n", init=str(file))
    assert not mark.exists()
    pickle.loads(payload).close()
    assert mark.exists()  # the payload works


def test_reproduce_takes_no_other_option(run):
    record, own = read_record(run), TASKS["rotation"]
    plain = PretrainConfig(task="rotation", recipe=own)
    assert reproduced_config(record, plain, own) == config_of(record, "rotation", own)
    with raises("options-conflict", "--size", "--seed"):
        reproduced_config(record, PretrainConfig(task="rotation", recipe=own, seed=3, size=32), own)
    assert serialize(plain)["seed"] == 0
