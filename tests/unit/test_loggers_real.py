"""Dashboards through their real clients, offline, where installed: logged numbers are read back from their files."""

import importlib.util
import json
import math
import struct
import warnings

import pytest

import headway
from headway.synthetic import DrawnAnimals
from headway.train.log.dashboards import open_loggers
from headway.train.log.events import Note, StepMetrics

pytestmark = [pytest.mark.usefixtures("unmeasured"), pytest.mark.filterwarnings("ignore")]  # warnings of their own

WORDS = {
    "data": DrawnAnimals(20, 32), "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32",
    "steps": 3, "probe": DrawnAnimals(40, 32),
}  # fmt: skip


def needs(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


def lines_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def expected(run):
    """Steps and losses that were logged, and the probe."""
    lines = lines_of(run)
    assert not [line["note"] for line in lines if "no more events" in line.get("note", "")]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    (probe,) = [line["value"] for line in lines if line.get("name") == "20-NN"]
    return losses, probe


@pytest.fixture
def isolated(monkeypatch, tmp_path):
    """No account, no server, and nothing outside the test's folder."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def journal(data):
    """Records of LevelDB's journal, as W&B writes it (https://github.com/google/leveldb/blob/main/doc/log_format.md)."""
    place, parts, block = 7, [], 1 << 15
    while place + 7 <= len(data):
        if block - place % block < 7:  # too little space in this block
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


@needs("wandb")
def test_wandb_stores_the_log_offline(isolated):
    from wandb.proto import wandb_internal_pb2

    headway.pretrain("rotation", **WORDS, out=isolated / "r", loggers="wandb")
    (file,) = (isolated / "r" / "wandb").glob("offline-run-*/run-*.wandb")
    rows, config = [], {}
    for data in journal(file.read_bytes()):
        record = wandb_internal_pb2.DecodeRecord()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item})
        for item in record.run.config.update:
            config[item.key] = json.loads(item.value_json)
    losses, probe = expected(isolated / "r")
    assert [(row["step"], row["loss"]) for row in rows if "loss" in row] == losses
    assert [row["probe/20-NN"] for row in rows if "probe/20-NN" in row] == [probe]
    assert config["task"] == "rotation" and config["plan"]["steps"] == 3
    assert {path.name for path in isolated.iterdir()} <= {"cache", "home", "r"}


@needs("mlflow")
def test_mlflow_stores_the_log_in_a_file(isolated):
    from mlflow import MlflowClient

    headway.pretrain("rotation", **WORDS, out=isolated / "r", loggers="mlflow")
    client = MlflowClient(f"sqlite:///{isolated / 'r' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("headway")
    (run,) = client.search_runs([experiment.experiment_id])
    losses, probe = expected(isolated / "r")
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [step for step, _ in losses]
    assert [point.value for point in history] == pytest.approx([loss for _, loss in losses])
    assert run.data.metrics["probe.20-NN"] == pytest.approx(probe)
    assert run.info.run_name == "r" and run.info.status == "FINISHED"
    assert [entry.path for entry in client.list_artifacts(run.info.run_id)] == ["run.json"]
    assert not (isolated / "mlruns").exists() and not (isolated / "mlartifacts").exists()


@needs("mlflow")
def test_a_second_run_in_one_process_is_separate(isolated):
    from mlflow import MlflowClient

    for name in "ab":
        headway.pretrain("rotation", **WORDS, out=isolated / name, loggers="mlflow")
    for name in "ab":
        client = MlflowClient(f"sqlite:///{isolated / name / 'mlflow.db'}")
        (run,) = client.search_runs([client.get_experiment_by_name("headway").experiment_id])
        assert run.info.run_name == name


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in ("wandb", "mlflow")])
def test_nan_does_not_end_a_run(isolated, name):
    told = []
    (isolated / "r").mkdir()
    (sink,) = open_loggers([name], isolated / "r", {"task": "rotation"}, told.append)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sink(StepMetrics(1, 3, 0.5, math.nan, 0.1, 9.0, {"a": math.inf}))
        sink(StepMetrics(2, 3, 0.5, 1.0, 0.1, 9.0, {"a": 0.0}))
    sink.close(True)
    assert not [event for event in told if isinstance(event, Note)], told
