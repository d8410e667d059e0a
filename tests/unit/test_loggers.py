"""Dashboards: the numbers that they receive, that they stay offline, and that none of them can end a run."""

import importlib.util
import json
import sys
import types
from unittest import mock

import pytest

import headway
from headway.errors import HeadwayError
from headway.synthetic import DrawnAnimals
from headway.train.log.dashboards import FaultTolerantSink, check_loggers, open_loggers
from headway.train.log.events import FeatureStats, Note, ProbeResult, StepMetrics
from tests.errors import raises

pytestmark = pytest.mark.usefixtures("unmeasured")

WORDS = {
    "data": DrawnAnimals(20, 32), "backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32",
    "steps": 2,
}  # fmt: skip
EVENTS = [
    StepMetrics(10, 20, 0.5, 1.25, 0.1, 99.0, {"accuracy": 0.5}),
    ProbeResult(10, "20-NN", 40.0),
    FeatureStats(10, {"effective_rank": 3.0}),
    Note("hello"),
]


class Calls(list):
    """Stands in for any client and records all calls."""

    def __getattr__(self, name):
        def call(*given, **named):
            self.append((name, given, named))
            return self

        return call


@pytest.fixture
def client(monkeypatch):
    def install(name):
        calls = Calls()
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: getattr(calls, attribute)
        monkeypatch.setitem(sys.modules, name, module)
        return calls

    return install


def open_one(name, run):
    (sink,) = open_loggers([name], run, {"schema": 1, "task": "rotation"}, lambda event: None)
    return sink


def test_wandb_stays_offline_unless_told_otherwise(client, tmp_path, monkeypatch):
    calls = client("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    sink = open_one("wandb", tmp_path / "r")
    for event in EVENTS:
        sink(event)
    (name, _, given), *logged = calls
    assert name == "init" and given["mode"] == "offline" and given["dir"] == str(tmp_path / "r")
    assert given["config"]["task"] == "rotation"
    assert [arguments[0] for _, arguments, _ in logged] == [
        {"loss": 1.25, "lr": 0.1, "epoch": 0.5, "images_per_second": 99.0, "accuracy": 0.5, "step": 10},
        {"probe/20-NN": 40.0, "step": 10},
        {"features/effective_rank": 3.0, "step": 10},
    ]
    monkeypatch.setenv("WANDB_MODE", "online")
    open_one("wandb", tmp_path / "r")
    assert calls[-1][2]["mode"] is None


def test_mlflow_writes_into_the_run_unless_a_server_is_named(tmp_path, monkeypatch):
    client = mock.MagicMock()
    client.entities.Metric = lambda *given: given
    monkeypatch.setitem(sys.modules, "mlflow", client)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sink = open_one("mlflow", tmp_path / "r")
    for event in EVENTS:
        sink(event)
    sink.close(True)
    assert client.MlflowClient.call_args == mock.call(f"sqlite:///{tmp_path / 'r' / 'mlflow.db'}")
    asked = client.MlflowClient.return_value
    points = [point for call in asked.log_batch.call_args_list for point in call.kwargs["metrics"]]
    numbers = {name: (value, step) for name, value, _, step in points}
    assert numbers["probe.20-NN"] == (40.0, 10) and numbers["loss"] == (1.25, 10)
    assert asked.set_terminated.call_args.args[1] == "FINISHED"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    open_one("mlflow", tmp_path / "r")
    assert client.MlflowClient.call_args == mock.call(None)


def test_tensorboard_purges_repeated_steps(client, tmp_path):
    calls = client("torch.utils.tensorboard")
    sink = open_one("tensorboard", tmp_path)
    sink(EVENTS[0])
    sink.rewind(4)
    assert ("add_scalar", ("loss", 1.25, 10), {}) in calls
    assert calls[-1] == ("SummaryWriter", (str(tmp_path / "tensorboard"),), {"purge_step": 5})


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_reads_its_event_files(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    headway.pretrain("rotation", **WORDS, out=tmp_path / "r", loggers="tensorboard")
    events = EventAccumulator(str(tmp_path / "r" / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)
    assert "features/effective_rank" in events.Tags()["scalars"]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_client_is_named_with_the_package_to_install(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    with pytest.raises(HeadwayError, match=f"pip install {name}"):
        check_loggers([name])


def test_unknown_loggers_are_refused_before_anything_is_written(tmp_path):
    with raises("unknown-name"):
        headway.pretrain("rotation", **WORDS, out=tmp_path / "r", loggers="wanbd")
    assert not (tmp_path / "r").exists()


def test_a_dashboard_that_fails_is_dropped_and_the_run_continues(client, tmp_path):
    calls = client("wandb")

    def gone(*_, **__):
        raise ConnectionError("no route to host")

    sys.modules["wandb"].init = lambda **named: types.SimpleNamespace(log=gone)
    assert not calls
    answer = headway.pretrain("rotation", **WORDS, out=tmp_path / "r", loggers="wandb")
    assert answer.steps == 2
    lines = [json.loads(line) for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    notes = [line["note"] for line in lines if "note" in line]
    assert (
        sum("wandb receives no more events, it failed: ConnectionError: no route to host" in note for note in notes)
        == 1
    )
    assert {line["step"] for line in lines if "loss" in line} == {2} or len(lines) > 2


def test_a_fault_tolerant_sink_passes_events_on(tmp_path):
    told, sink = [], Calls()
    careful = FaultTolerantSink("any", sink, told.append)
    careful.rewind(3)
    assert sink == [("rewind", (3,), {})] and not told
