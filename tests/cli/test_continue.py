"""Continuing a run, starting from given weights, and reproducing a run."""

import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import headway
from headway.backbones.weights import load_backbone
from headway.cli import main
from headway.data.sources.in_memory import ArraySource
from headway.errors import HeadwayError
from headway.pretext import find_recipe
from headway.synthetic import DrawnAnimals, write_folder
from headway.train.engine import workers
from headway.train.plan import autotune, make_plan
from headway.train.run_dir import checkpoint
from headway.train.run_dir.checkpoint import load_latest
from tests.errors import raises

pytestmark = pytest.mark.usefixtures("unmeasured")

FEW, MORE = DrawnAnimals(30, 32), DrawnAnimals(40, 32)
WORDS = {"backbone": "vit_nano", "stem": "conv", "patch": 8, "precision": "float32"}


def noted(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["note"] for line in lines if "note" in line]


def record_of(run):
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def run(unmeasured, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    headway.pretrain("diet", data=FEW, out=out, steps=4, **WORDS)
    return out


def test_a_continued_run_starts_at_the_next_sample_with_all_weights(run, tmp_path):
    out = tmp_path / "e"
    headway.pretrain("diet", data=FEW, out=out, steps=3, continue_from=str(run), precision="float32")
    record = record_of(out)
    assert record["plan"]["start_position"] == 4 * record_of(run)["plan"]["batch_size"] and record["config"][
        "continue_from"
    ] == str(run)
    assert record["architecture"] == record_of(run)["architecture"] and record["size"] == record_of(run)["size"]
    assert any(note.endswith("a new warm-up and a new cosine schedule") for note in noted(out))
    assert (
        load_latest(out)[0].state["stream_position"]
        == record["plan"]["start_position"] + 3 * record["plan"]["batch_size"]
    )
    one, two = (load_file(folder / "model.safetensors")["norm.weight"] for folder in (run, out))
    assert not torch.equal(one, two)
    began = load_file(checkpoint.step_folders(out)[0] / checkpoint.WEIGHTS_FILE)  # of step 0: the last two are kept
    assert all(torch.equal(tensor, load_latest(run)[0].weights[name]) for name, tensor in began.items())


def test_more_images_may_be_added(run, tmp_path):
    out = tmp_path / "e"
    headway.pretrain("diet", data=MORE, out=out, steps=2, continue_from=str(run), precision="float32")
    assert record_of(out)["plan"]["start_position"] == 120  # 4 steps of 30 images are 120 positions: three epochs of 40
    assert any("of the task are initialized anew" in note for note in noted(out))  # DIET has a class per image
    other = tmp_path / "o"
    headway.pretrain("rotation", data=MORE, out=other, steps=2, continue_from=str(run), precision="float32")
    assert any("task.head.weight among them" in note or "task.head.bias among them" in note for note in noted(other))


@pytest.mark.parametrize("task", ["data2vec", "byol"])
def test_an_ema_teacher_starts_from_the_continued_student(run, task, tmp_path):
    headway.pretrain(task, data=FEW, out=tmp_path / "e", steps=2, continue_from=str(run), precision="float32")
    began, its = (
        load_file(checkpoint.step_folders(tmp_path / "e")[0] / checkpoint.WEIGHTS_FILE),
        load_latest(run)[0].weights,
    )
    copied = [name for name in began if name.startswith("task.teacher.network.")]
    assert copied and all(
        torch.equal(began[name], its[name.replace("task.teacher.network.", "backbone.")]) for name in copied
    )


def test_a_continued_run_takes_the_recipe_of_its_parent(tmp_path, capsys):
    write_folder(tmp_path / "photos", 20, 32)
    words = ["simclr", "--data", str(tmp_path / "photos"), "--steps", "2", "--precision", "float32", "--json"]
    first = ["--backbone", "vit_nano", "--patch", "8", "--recipe.task.projection-dim", "24", "--recipe.batch-size", "8"]
    assert main(["pretrain", *words, *first, "--out", str(tmp_path / "a")]) == 0
    more = ["--continue-from", str(tmp_path / "a"), "--recipe.optim.lr", "1e-4", "--out", str(tmp_path / "b")]
    assert main(["pretrain", *words, *more]) == 0
    recipe = record_of(tmp_path / "b")["config"]["recipe"]
    assert recipe["task"]["projection_dim"] == 24 and recipe["batch_size"] == 8 and recipe["optim"]["lr"] == 1e-4
    capsys.readouterr()


def test_a_continued_run_can_be_resumed_and_reproduced(run, tmp_path):
    words = {"data": FEW, "continue_from": str(run), "precision": "float32"}
    headway.pretrain("diet", out=tmp_path / "a", steps=3, **words)
    headway.pretrain("diet", out=tmp_path / "b", reproduce=str(tmp_path / "a"), data=FEW)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert one == two
    assert headway.pretrain("diet", out=tmp_path / "a", steps=3, **words, resume=True).steps == 3


def test_runs_that_cannot_be_continued(run, tmp_path):
    with raises("run-not-found"):
        headway.pretrain("diet", data=FEW, out=tmp_path / "x", steps=1, continue_from=str(tmp_path / "nowhere"))
    with raises("options-conflict"):
        headway.pretrain("diet", data=FEW, out=tmp_path / "x", steps=1, continue_from=str(run), init="b")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("backbone", ["vit_base", "timm:resnet10t"])
@pytest.mark.parametrize("word", ["continue_from", "init"])
def test_another_backbone_than_that_of_the_weights_is_refused(run, word, backbone, tmp_path):
    words = {"data": FEW, "steps": 1, "precision": "float32", word: str(run)}
    with pytest.raises(HeadwayError, match=rf"are of vit_nano, not of {backbone}; leave out --backbone"):
        headway.pretrain("diet", out=tmp_path / "x", backbone=backbone, **words)
    assert not (tmp_path / "x").exists()
    headway.pretrain("diet", out=tmp_path / "y", backbone="vit_nano", **words)


def test_a_reproduced_run_has_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(make_plan, "select_fastest", autotune.select_fastest)  # this one measures
    monkeypatch.setattr(make_plan, "select_workers", workers.select_workers)
    words = {**WORDS, "precision": "auto", "budget": "3s", "seed": 5}
    headway.pretrain("rotation", data=FEW, out=tmp_path / "a", **words)
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "another"))  # an empty cache
    headway.pretrain("rotation", data=FEW, out=tmp_path / "b", reproduce=str(tmp_path / "a" / "run.json"))
    one, two = (tmp_path / name for name in "ab")
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert record_of(one)["plan"] == record_of(two)["plan"] and record_of(one)["config"] == record_of(two)["config"]
    with raises("resume-differs"):
        headway.pretrain("rotation", data=MORE, out=tmp_path / "c", reproduce=str(one))


def test_a_reproduced_run_says_where_bits_may_differ(tmp_path):
    headway.pretrain("rotation", data=FEW, out=tmp_path / "a", steps=1, **WORDS)
    record = record_of(tmp_path / "a")
    record["segments"][0]["threads"] = 99
    (tmp_path / "a" / "run.json").write_text(json.dumps(record))
    headway.pretrain("rotation", data=FEW, out=tmp_path / "b", reproduce=str(tmp_path / "a"))
    assert any("threads 99 then, 1 now" in note for note in noted(tmp_path / "b"))


@pytest.fixture(scope="module")
def kinds():
    """Images of two classes that any network separates unless its weights are damaged."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 90, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images[::2, 0] += 150
    return ArraySource(images, ["red" if i % 2 == 0 else "dark" for i in range(40)])


def test_timm_weights_from_a_file_are_probed_first_and_unchanged(kinds, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model("resnet10t", num_classes=7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    out = tmp_path / "r"
    headway.pretrain(
        "rotation", data=kinds, out=out, backbone="timm:resnet10t", init=str(tmp_path / "w.safetensors"), steps=1,
        precision="float32", size=32, probe=kinds, recipe=recipe_with_lr("rotation", 0.0),
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    probes = [(line["step"], line["value"]) for line in lines if line.get("name") == "20-NN"]
    assert [step for step, _ in probes] == [0, 1] and probes[0][1] > 50
    backbone = load_backbone(out)
    assert torch.equal(backbone.network.conv1[0].weight, model.conv1[0].weight)
    assert backbone.input_spec.mean == tuple(model.pretrained_cfg["mean"])


def recipe_with_lr(task, lr):
    from dataclasses import replace

    from headway.pretext import TASKS

    recipe = TASKS[task]
    return replace(recipe, optim=replace(recipe.optim, lr=lr))


def test_a_run_that_ends_below_its_start_says_so_and_keeps_the_best(kinds, tmp_path, caplog, monkeypatch):
    headway.pretrain("rotation", data=kinds, out=tmp_path / "a", steps=1, **WORDS)
    answers = iter([80.0, 90.0, 60.0])
    kept = {}

    def probe(backbone):
        value = next(answers)
        kept[value] = backbone.norm.weight.detach().clone()
        return value

    monkeypatch.setattr("headway.downstream.knn_probe.knn_probe", lambda *_, **__: probe)
    words = {"data": kinds, "init": str(tmp_path / "a"), "steps": 4, "probe": kinds, "probe_every": 2}
    headway.pretrain("rotation", out=tmp_path / "b", precision="float32", **words)
    assert torch.equal(load_backbone(tmp_path / "b").norm.weight, kept[90.0])
    assert not torch.equal(kept[90.0], kept[60.0])
    note = noted(tmp_path / "b")[-1]
    assert "ends below its start: 20-NN 60.0 % after 80.0 %" in note and "(90.0 %)" in note
    assert "ends below its start" in caplog.text


def test_without_labels_a_note_says_what_is_tracked_instead(tmp_path):
    headway.pretrain("rotation", data=FEW, out=tmp_path / "a", steps=1, **WORDS)
    headway.pretrain("rotation", data=FEW, out=tmp_path / "b", steps=1, init=str(tmp_path / "a"), precision="float32")
    assert any("RankMe" in note and "--probe" in note for note in noted(tmp_path / "b"))


@pytest.mark.parametrize("word", [{"probe_every": 2}, {"probe_every": -1}, {"save_every": -1}])
def test_intervals_without_effect_are_refused(word, tmp_path):
    with raises("options-conflict", "--probe"):
        headway.pretrain("rotation", data=FEW, out=tmp_path / "x", steps=1, **WORDS, **word)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("init", "backbone", "says"),
    [
        ("timm:resnet10t", "vit_nano", "brings its own network; leave out --backbone vit_nano"),
        ("nowhere.safetensors", "vit_nano", "cannot read weights"),
        ("nowhere.safetensors", "timm:resnet10t", "cannot read weights"),
    ],
)
def test_invalid_init_is_refused(init, backbone, says, tmp_path):
    with pytest.raises(HeadwayError, match=says):
        headway.pretrain("rotation", data=FEW, out=tmp_path / "x", backbone=backbone, init=init, steps=1)
    assert not (tmp_path / "x").exists()


def test_incomplete_metadata_of_weights_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"headway": '{"size": 32}'})
    with raises("weights-damaged", "w.safetensors", "input_spec"):
        headway.pretrain("rotation", data=FEW, out=tmp_path / "x", init=str(tmp_path / "w.safetensors"), steps=1)


def test_the_view_size_is_that_of_the_initial_weights(tmp_path):
    headway.pretrain("rotation", data=FEW, out=tmp_path / "a", steps=1, size=16, **{**WORDS, "patch": 4})
    words = {"data": FEW, "steps": 1, "init": str(tmp_path / "a"), "precision": "float32"}
    headway.pretrain("rotation", out=tmp_path / "b", **words)
    assert record_of(tmp_path / "b")["size"] == 16
    with raises("options-conflict", "16", "32"):
        headway.pretrain("rotation", out=tmp_path / "c", size=32, **words)


def test_weights_of_another_network(tmp_path):
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    with raises("weights-mismatch"):
        headway.pretrain(
            "rotation", data=FEW, out=tmp_path / "x", backbone="timm:resnet18", steps=1,
            init=str(tmp_path / "w.safetensors"),
        )  # fmt: skip


def test_position_embeddings_of_a_timm_vit_are_interpolated(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    headway.pretrain(
        "rotation", data=FEW, out=tmp_path / "r", backbone="timm:vit_tiny_patch16_224", size=32, steps=1,
        init=str(tmp_path / "w.safetensors"), precision="float32",
    )  # fmt: skip
    assert load_backbone(tmp_path / "r").network.pos_embed.shape[1] == 5


def interrupted(run, monkeypatch, step, **words):
    """Train up to a step, as if the run had been stopped there."""

    class Stopped(Exception):
        pass

    def finish(*_):
        raise Stopped

    from headway.train import pretrain as module

    honest = module.fit
    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", lambda *given, **named: honest(*given, **{**named, "stop_after": step}))
        patch.setattr(module, "finish", finish)
        with pytest.raises(Stopped):
            headway.pretrain("rotation", data=FEW, out=run, **words)


@pytest.mark.parametrize("word", ["continue_from", "init"])
def test_a_resumed_run_no_longer_needs_the_run_that_it_started_from(word, tmp_path, monkeypatch):
    parent, out = tmp_path / "parent", tmp_path / "e"
    recipe = recipe_with_lr("rotation", 1e-4)
    headway.pretrain("rotation", data=FEW, out=parent, steps=2, recipe=recipe, **WORDS)
    words = {word: str(parent), "precision": "float32", "steps": 4}
    whole = headway.pretrain("rotation", data=FEW, out=tmp_path / "whole", **words)
    interrupted(out, monkeypatch, 2, **words)
    notes = noted(out)
    parent.rename(tmp_path / "elsewhere")
    assert headway.pretrain("rotation", data=FEW, out=out, resume=True, **words).steps == whole.steps == 4
    one, two = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", out))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert noted(out) == notes and record_of(out)["config"]["recipe"]["optim"]["lr"] == (
        1e-4 if word == "continue_from" else find_recipe("rotation").optim.lr
    )


def test_without_a_checkpoint_of_its_own_a_run_needs_its_parent(run, tmp_path, monkeypatch):
    parent, out = tmp_path / "parent", tmp_path / "e"
    headway.pretrain("rotation", data=FEW, out=parent, steps=1, **WORDS)
    words = {"continue_from": str(parent), "precision": "float32", "steps": 4}
    interrupted(out, monkeypatch, 2, **words)
    for folder in checkpoint.step_folders(out):
        (folder / checkpoint.STATE_FILE).unlink()
    parent.rename(tmp_path / "elsewhere")
    with raises("checkpoint-damaged"):
        headway.pretrain("rotation", data=FEW, out=out, resume=True, **words)
    (tmp_path / "elsewhere").rename(parent)
    assert headway.pretrain("rotation", data=FEW, out=out, resume=True, **words).steps == 4


def test_settings_changed_on_resume_are_recorded_and_reported_on_reproduce(tmp_path, monkeypatch):
    out, words = tmp_path / "r", {**WORDS, "steps": 4}
    interrupted(out, monkeypatch, 2, **words)
    free = {"grad_accum": 2, "on_collapse": "stop"}
    headway.pretrain("rotation", data=FEW, out=out, resume=True, **words, **free)
    record = record_of(out)
    used = [(segment["step"], segment["grad_accum"], segment["on_collapse"]) for segment in record["segments"]]
    assert used == [(0, 1, "warn"), (2, 2, "stop")]
    assert {name: record["config"][name] for name in free} == {name: record["plan"][name] for name in free} == free
    headway.pretrain("rotation", data=FEW, out=tmp_path / "again", reproduce=str(out))
    assert record_of(tmp_path / "again")["config"] == record["config"]
    note = next(note for note in noted(tmp_path / "again") if "last bits may differ" in note)
    assert "grad_accum 1 up to step 2 of that run, 2 from there on" in note
    headway.pretrain("rotation", data=FEW, out=out, resume=True, **words)
    assert record_of(out)["segments"] == record["segments"] and record_of(out)["config"] == record["config"]


def test_repeated_steps_are_not_recorded(tmp_path, monkeypatch):
    out, words = tmp_path / "r", {**WORDS, "steps": 3}
    interrupted(out, monkeypatch, 2, **words)
    for folder in checkpoint.step_folders(out)[1:]:
        (folder / checkpoint.STATE_FILE).unlink()
    headway.pretrain("rotation", data=FEW, out=out, resume=True, grad_accum=2, **words)
    assert [(s["step"], s["grad_accum"]) for s in record_of(out)["segments"]] == [(0, 2)]
    headway.pretrain("rotation", data=FEW, out=tmp_path / "again", reproduce=str(out))
    one, two = ((folder / "model.safetensors").read_bytes() for folder in (out, tmp_path / "again"))
    assert one == two and not any("last bits" in note for note in noted(tmp_path / "again"))


def everything_in(run):
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("state", ["there", "gone", "damaged"])
def test_a_finished_run_stays_as_it_is(state, tmp_path, caplog):
    parent, out = tmp_path / "parent", tmp_path / "r"
    headway.pretrain("rotation", data=FEW, out=parent, steps=1, **WORDS)
    words = {"data": FEW, "continue_from": str(parent), "steps": 3, "precision": "float32"}
    answer = headway.pretrain("rotation", out=out, **words)
    if state == "gone":
        shutil.rmtree(out / "state")
        shutil.rmtree(parent)
    for folder in checkpoint.step_folders(out) if state == "damaged" else ():
        (folder / checkpoint.WEIGHTS_FILE).write_bytes(b"rubbish")
    before = everything_in(out)
    assert headway.pretrain("rotation", out=out, resume=True, **words) == answer
    assert everything_in(out) == before and "stays as it is" in caplog.text


def test_a_finished_run_keeps_its_best_weights_without_the_probe(kinds, tmp_path, monkeypatch):
    headway.pretrain("rotation", data=kinds, out=tmp_path / "a", steps=1, **WORDS)
    answers = iter([80.0, 60.0])
    words = {"data": kinds, "init": str(tmp_path / "a"), "steps": 2, "precision": "float32", "out": tmp_path / "b"}
    with monkeypatch.context() as patch:
        patch.setattr("headway.downstream.knn_probe.knn_probe", lambda *_, **__: lambda backbone: next(answers))
        answer = headway.pretrain("rotation", probe=kinds, **words)
    before = everything_in(tmp_path / "b")
    assert headway.pretrain("rotation", resume=True, **words) == answer
    assert everything_in(tmp_path / "b") == before


def test_a_probe_that_fails_at_the_end_loses_nothing(kinds, tmp_path, monkeypatch):
    def fails(backbone):
        raise RuntimeError("no answer")

    asked = []
    words = {"data": kinds, "out": tmp_path / "r", "steps": 3, "probe": kinds, **WORDS}
    monkeypatch.setattr("headway.downstream.knn_probe.knn_probe", lambda *_, **__: fails)
    with pytest.raises(RuntimeError, match="no answer"):
        headway.pretrain("rotation", **words)
    assert load_latest(tmp_path / "r")[0].state["step"] == 3
    monkeypatch.setattr("headway.train.loop.loop.train_step", lambda *_: pytest.fail("a step was taken again"))
    monkeypatch.setattr(
        "headway.downstream.knn_probe.knn_probe", lambda *_, **__: lambda backbone: asked.append(1) or 50.0
    )
    assert headway.pretrain("rotation", resume=True, **words).steps == 3
    assert asked == [1] and (tmp_path / "r" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("word", "contradicting", "says"),
    [
        ("continue_from", {"size": 16}, "take views of 32 pixels, not 16; leave out --size"),
        ("continue_from", {"stem": "residual"}, "stem is conv, not residual; leave out --stem"),
        ("init", {"stem": "residual"}, "stem is conv, not residual; leave out --stem"),
        ("continue_from", {"patch": 4}, "patch is 8, not 4; leave out --patch"),
        ("init", {"patch": 4}, "patch is 8, not 4; leave out --patch"),
    ],
)
def test_options_that_contradict_the_weights_are_refused(run, word, contradicting, says, tmp_path):
    words = {"data": FEW, "steps": 1, "precision": "float32", word: str(run)}
    with pytest.raises(HeadwayError, match=says):
        headway.pretrain("diet", out=tmp_path / "x", **words, **contradicting)
    assert not (tmp_path / "x").exists()
    headway.pretrain("diet", out=tmp_path / "y", size=32, stem="conv", patch=8, **words)


def test_a_stem_for_timm_weights_is_refused(tmp_path):
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    with raises("options-conflict", "--stem"):
        headway.pretrain(
            "rotation", data=FEW, out=tmp_path / "x", backbone="timm:resnet10t", stem="conv", steps=1,
            init=str(tmp_path / "w.safetensors"),
        )  # fmt: skip


def test_a_finished_run_with_a_nan_loss_is_shown(tmp_path, capsys):
    write_folder(tmp_path / "photos", 20, 32)
    words = ["pretrain", "rotation", "--data", str(tmp_path / "photos"), "--steps", "1", "--backbone", "vit_nano"]
    words += ["--patch", "8", "--precision", "float32", "--out", str(tmp_path / "r")]
    assert main(words) == 0
    record = record_of(tmp_path / "r")
    record["result"]["loss"] = None
    (tmp_path / "r" / "run.json").write_text(json.dumps(record))
    assert main([*words, "--resume"]) == 0 and "loss nan" in capsys.readouterr().out
    assert main([*words, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["loss"] is None


def test_micro_batches_forced_by_memory_are_recorded(tmp_path, monkeypatch):
    from headway.train.loop import loop

    honest, short = loop.train_step, []

    def train_step(engine, optim, plan, batch, *rest):
        if plan.grad_accum == 1 and rest[-1].step == 1:
            short.append(plan)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest(engine, optim, plan, batch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", train_step)
        headway.pretrain("rotation", data=FEW, out=tmp_path / "r", steps=3, **WORDS)
    record = record_of(tmp_path / "r")
    assert len(short) == 1 and record["plan"]["grad_accum"] == 1 and record["segments"][-1]["grad_accum"] == 2
    headway.pretrain("rotation", data=FEW, out=tmp_path / "again", reproduce=str(tmp_path / "r"))
    assert any("grad_accum 2 then, 1 now" in note for note in noted(tmp_path / "again"))
