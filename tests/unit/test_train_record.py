"""run.json: old ones are brought up to date, newer ones refused, and nothing that it names is imported or run."""

import json
import pickle
import sys

import pytest

import headway
from headway.errors import HeadwayError
from headway.plain import describe
from headway.pretext import TASKS
from headway.samples import DrawnAnimals
from headway.train.checkpoint import WEIGHTS, latest, steps
from headway.train.job import Job
from headway.train.record import MIGRATIONS, SCHEMA, job_of, plan_of, read_record, recipe_for, repeated

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


def as_schema_2(run, folder):
    """The record as version 2 of the schema wrote it."""
    record = json.loads((run / "run.json").read_text())
    (stretch,) = record.pop("stretches")
    machine = {name: stretch[name] for name in ("processor", "threads", "device", "processes")}
    record = {**record, "schema": 2, "machine": machine, "versions": stretch["versions"]}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def as_schema_1(run, folder):
    """The record as version 1 of the schema wrote it."""
    record = json.loads((as_schema_2(run, folder) / "run.json").read_text())
    for part, names in {
        "job": ("recompute", "weights", "extend", "on_collapse"),
        "plan": ("recompute", "shard", "first", "probe_start", "watch_every", "on_collapse"),
        "machine": ("processes",),
    }.items():
        for name in names:
            del record[part][name]
    return altered(folder, folder, schema=1, **{part: record[part] for part in ("job", "plan", "machine")})


def test_schema_2_is_brought_up_to_date(run, tmp_path):
    assert read_record(as_schema_2(run, tmp_path)) == read_record(run)


def test_what_was_written_reads_back(run):
    record = read_record(run)
    job = job_of(record, "rotation", TASKS["rotation"])
    assert record["schema"] == SCHEMA and describe(job) == record["job"] and plan_of(record).steps == 2
    assert job == Job(task="rotation", recipe=TASKS["rotation"], backbone="vit_nano", stem="conv", patch=8, steps=2,
                      precision="float32")  # fmt: skip


def test_schema_1_is_brought_up_to_date_and_can_be_resumed_and_repeated(run, tmp_path):
    old = as_schema_1(run, tmp_path)
    record = read_record(old)
    assert record["job"] == read_record(run)["job"] and record["plan"]["watch_every"] == 0
    assert set(MIGRATIONS) == set(range(1, SCHEMA))
    out = tmp_path / "again"
    out.mkdir()
    as_schema_1(run, out)
    assert headway.pretrain("rotation", **WORDS, out=out, steps=2, resume=True)["steps"] == 2
    assert json.loads((out / "run.json").read_text())["schema"] == SCHEMA
    assert latest(out)[0].state["step"] == 2


@pytest.mark.parametrize(
    ("schema", "says"),
    [(SCHEMA + 1, "bring headway up to date"), (None, "no record"), ("2", "no record"), (0, "no record")],
)
def test_other_schemas_are_refused(run, tmp_path, schema, says):
    with pytest.raises(HeadwayError, match=says):
        read_record(altered(run, tmp_path, schema=schema))


def test_damaged_records_are_refused(run, tmp_path):
    with pytest.raises(HeadwayError, match="damaged"):
        read_record(altered(run, tmp_path, schema=1, job=None))
    for part, change, says in (
        ("plan", {"unheard_of": 2}, "plan.unheard_of is not known"),
        ("plan", {"batch": 0}, "a plan's batch must be 1 or more, got 0"),
        ("job", {"seed": "x"}, "job.seed is 'x', not int"),
        ("job", {"accumulate": 0}, "--accumulate must be a number above 0"),
    ):
        file = altered(run, tmp_path, **{part: {**read_record(run)[part], **change}})
        with pytest.raises(HeadwayError, match=rf"run\.json is damaged: {says}"):
            record = read_record(file)
            plan_of(record), job_of(record, "rotation", TASKS["rotation"])
    with pytest.raises(HeadwayError, match="not of mae"):
        job_of(read_record(run), "mae", TASKS["mae"])


def test_nothing_that_a_record_names_is_imported(run, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    record = read_record(run)
    for name in ("planted:Recipe", "planted:Rotation"):
        job = json.loads(json.dumps(record["job"]))
        (job["recipe"] if name.endswith("Recipe") else job["recipe"]["task"])["type"] = name
        file = altered(run, tmp_path, job=job)
        with pytest.raises(HeadwayError, match="planted"):
            job_of(read_record(file), "rotation", TASKS["rotation"])
        with pytest.raises(HeadwayError):
            headway.pretrain("rotation", **WORDS, out=tmp_path / "x", repeat=str(file))
    altered(run, tmp_path, task="planted:RECIPE")
    assert recipe_for("rotation", TASKS["rotation"], str(tmp_path)) == TASKS["rotation"]
    assert "planted" not in sys.modules and not (tmp_path / "ran").exists()


class Payload:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("where", ["checkpoint", "model", "record", "weights"])
def test_a_planted_payload_never_runs(run, tmp_path, where):
    payload, mark = pickle.dumps(Payload(tmp_path / "ran")), tmp_path / "ran"
    out = tmp_path / "r"
    words = {**WORDS, "steps": 2}
    headway.pretrain("rotation", **words, out=out)
    files = {"checkpoint": steps(out)[-1] / WEIGHTS, "model": out / "model.safetensors", "record": out / "run.json"}
    file = files.get(where, tmp_path / "planted.safetensors")
    file.write_bytes(payload)
    if where == "checkpoint":
        assert headway.pretrain("rotation", **words, out=out, resume=True)["steps"] == 2
    else:
        with pytest.raises(HeadwayError):
            if where == "record":
                headway.pretrain("rotation", **words, out=out, resume=True)
            elif where == "model":
                headway.embed(out, data=DrawnAnimals(4, 32), out=tmp_path / "f.npz")
            else:
                headway.pretrain("rotation", **words, out=tmp_path / "n", weights=str(file))
    assert not mark.exists()
    pickle.loads(payload).close()
    assert mark.exists()  # it would have


def test_repeat_takes_no_other_choice_beside(run):
    record, own = read_record(run), TASKS["rotation"]
    plain = Job(task="rotation", recipe=own)
    assert repeated(record, plain, own) == job_of(record, "rotation", own)
    with pytest.raises(HeadwayError, match=r"leave out --size, --seed"):
        repeated(record, Job(task="rotation", recipe=own, seed=3, size=32), own)
    assert describe(plain)["seed"] == 0
