"""The comparison end to end, on images and networks that train within seconds."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import headway
from headway.backbones.weights import load_backbone
from headway.cli import compare as compare_command
from headway.data.dataset.image_store import build_store
from headway.data.sources.in_memory import ArraySource
from headway.downstream.finetuning import model_selection as model_selection_module
from headway.downstream.finetuning.supervised_workers import MeasuredWorkers
from headway.downstream.heads import frozen as frozen_module
from headway.downstream.heads.registry import HEADS
from headway.evaluation.comparison import compare as compare_module
from headway.evaluation.comparison import cost_estimate as cost_module
from headway.evaluation.comparison import pretrained_baselines as baselines_module
from headway.evaluation.comparison import runner as runner_module
from headway.evaluation.evaluator import Evaluator
from headway.evaluation.result_cache import ResultCache, pack_bits, safe_file_name, unpack_bits
from headway.pretext import find_recipe
from headway.reports import steps as steps_module
from headway.rng import seeded
from headway.train.config import PretrainConfig
from headway.train.engine.workers import Workers
from headway.train.init import initial_weights as initial_weights_module
from headway.train.run_dir.seen_images import count_seen_in_pretraining
from tests.errors import raises
from tests.small import make_images, max_difference

KINDS = ("a", "b", "c")
QUICK = {
    "backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 2, "finetune_steps": 1,
    "labels_per_class": 4, "draws": 1, "seeds": 2, "heads": "linear,finetune",
}  # fmt: skip

CONFIG = PretrainConfig(task="rotation", recipe=find_recipe("rotation"), size=32)


@pytest.fixture(scope="module", autouse=True)
def _no_measurements():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "headway.evaluation.comparison.cost_estimate.measure_workers",
            lambda *_: MeasuredWorkers(Workers(1, 1), 0.01, 0.01),
        )
        yield


def labeled_source(count, seed=0, shift=0):
    return ArraySource(make_images(count, seed=seed), [KINDS[(i + shift) % 3] for i in range(count)])


def by_brightness(count, seed):
    """Images whose class shows: three levels of brightness."""
    images = make_images(count, seed=seed) // 4 + 80 * (torch.arange(count) % 3)[:, None, None, None].to(torch.uint8)
    return ArraySource(images, [KINDS[i % 3] for i in range(count)])


def compare(out, **options):
    given = {
        "data": ArraySource(make_images(40)),
        "labeled": labeled_source(24, seed=1),
        "test": labeled_source(30, seed=2),
    }
    return headway.compare(**{**given, "tasks": "rotation,mae", "out": out, **QUICK, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "cmp"
    return out, compare(out)


def test_rows_gain_verdict_and_one_sentence(finished):
    out, result = finished
    names = {row["name"] for row in result.rows}
    tasks = {f"{task} {head}" for task in ("rotation", "mae") for head in ("linear", "fine-tuned")}
    assert names == {"raw pixels", "untrained", "from scratch"} | tasks
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in result.rows)
    assert result.verdict in ("helped", "hurt", "cannot tell") and result.gain["method"] in tasks
    assert result.verdict in result.sentence and "4 labels per class" in result.sentence
    assert "one pretraining" not in result.sentence, "two seeds are more than one"
    report = json.loads((out / "report.json").read_text())
    steps = report["steps"]
    assert [(run["name"], run["seed"], run["steps"]) for run in steps["pretraining"]] == [
        (task, seed, 2) for task in ("rotation", "mae") for seed in (0, 1)
    ]
    assert steps["on_labels"] == {"fine-tuned": 1, "from scratch": 2} and report["unequal"] is None
    assert report["rows"] == result.rows and len(list((out / "runs").iterdir())) == 4
    files = list((out / "results").iterdir())
    assert len(files) == 2 * 7  # two seeds of seven methods
    assert all(file.stat().st_size < 2000 for file in files)


def test_finished_results_are_not_computed_again(finished, monkeypatch):
    out, result = finished
    (out / "results" / "mae-linear-seed-1-draw-0.json").unlink()
    calls, score = [], Evaluator.score
    monkeypatch.setattr(Evaluator, "score", lambda *given: calls.append(given) or score(*given))
    monkeypatch.setattr(
        runner_module, "run_pretraining", lambda *_, **__: pytest.fail("a finished run was trained again")
    )
    again = compare(out, resume=True)
    assert len(calls) == 1
    assert again.rows == result.rows and again.sentence == result.sentence


def test_a_pretraining_that_was_slowed_down_is_named(finished, monkeypatch, capsys):
    _, result = finished
    compare_command.print_result(result)
    assert "on labels fine-tuned 1, from scratch 2." in capsys.readouterr().out
    honest = steps_module.pretraining_steps
    monkeypatch.setattr(
        steps_module, "pretraining_steps", lambda run: {**honest(run), "slowed": run.name.startswith("mae")}
    )
    again = compare(finished[0], resume=True)
    assert again.verdict == result.verdict and "mae (seed 1) ran at less than half" in again.unequal
    compare_command.print_result(again)
    assert again.unequal in capsys.readouterr().out


def borrow_runs(monkeypatch, out):
    """The same pretrainings, for a comparison on other labels."""
    for module in (runner_module, cost_module):
        monkeypatch.setattr(module, "run_folder", lambda cache, title, seed: out / "runs" / f"{title}-{seed}")


def test_nothing_is_claimed_where_no_fold_can_select_a_method(tmp_path):
    with raises("too-few-images", "--labels-per-class"):
        compare(tmp_path / "cmp", labels_per_class=1)
    one = compare(tmp_path / "one", labels_per_class=1, tasks="rotation", heads="linear", seeds=1)
    assert one.gain["method"] == "rotation linear"


def test_two_rows_never_share_a_name(tmp_path):
    with raises("name-clash", "--baselines"):
        compare(tmp_path / "cmp", baselines="mae")


def test_a_run_of_another_recipe_is_not_taken_for_this_one(finished, tmp_path, monkeypatch):
    out = tmp_path / "cmp"
    shutil.copytree(finished[0], out)
    record = json.loads((out / "runs" / "mae-0" / "run.json").read_text())
    record["config"]["recipe"]["task"]["ratio"] = 0.5
    (out / "runs" / "mae-0" / "run.json").write_text(json.dumps(record))
    with raises("resume-differs"):
        compare(out, resume=True)


def test_it_grows_by_a_draw_and_keeps_what_is_finished(finished, tmp_path, monkeypatch):
    out = tmp_path / "cmp"
    shutil.copytree(finished[0], out)
    calls, score = [], Evaluator.score
    monkeypatch.setattr(Evaluator, "score", lambda *given: calls.append(given) or score(*given))
    result = compare(out, resume=True, draws=2, heads="linear")
    assert len(calls) == 2 * 5 and result.details["draws"] == 2  # two seeds, five methods, one more draw


def test_runs_record_the_images_that_they_have_seen(finished):
    seen = count_seen_in_pretraining(
        finished[0] / "runs" / "mae-1", build_store(ArraySource(make_images(40)), 16).content_hashes
    )
    assert seen == 40


@pytest.mark.slow
def test_a_task_that_destroys_features_never_helps(tmp_path, monkeypatch):
    def destroyed(self, config, seed_offset):
        network = self.untrained_backbone(seed_offset)
        for parameter in network.parameters():
            parameter.data.zero_()
        return network

    monkeypatch.setattr(runner_module.ComparisonRunner, "pretrained_backbone", destroyed)
    result = compare(tmp_path / "cmp", labeled=by_brightness(60, 1), test=by_brightness(60, 2), heads="linear", seeds=3)
    assert result.verdict != "helped" and result.gain["points"] <= 0


def test_permuted_test_labels_change_no_selection(finished, tmp_path, monkeypatch):
    out, _ = finished
    shutil.copytree(out, tmp_path / "first")
    result = compare(tmp_path / "first", resume=True, heads="linear")
    borrow_runs(monkeypatch, out)
    other = compare(tmp_path / "other", heads="linear", test=labeled_source(30, seed=2, shift=1))
    assert other.gain["method"] == result.gain["method"]
    assert other.details["chosen_methods"] == result.details["chosen_methods"]
    first, second = (
        [
            json.loads((tmp_path / name / "results" / f"from-scratch-seed-{seed}-draw-0.json").read_text())
            for seed in (0, 1)
        ]
        for name in ("first", "other")
    )
    assert [result["fold_accuracy"] for result in first] == [result["fold_accuracy"] for result in second]
    assert {r["name"]: r["accuracy"] for r in other.rows} != {r["name"]: r["accuracy"] for r in result.rows}


def test_a_preview_writes_no_folder(tmp_path, caplog):
    cost = compare(tmp_path / "cmp", preview=True).preview
    assert cost["pretrainings"] == cost["remaining_pretrainings"] == 4 and not (tmp_path / "cmp").exists()
    # 2 tasks and from scratch x 2 seeds x (1 + 3 folds of 2 candidates)
    assert cost["supervised_trainings"] == 3 * 14 and cost["supervised_steps"] == 28 + 2 * 14
    assert "4 of 4 pretrainings" in " ".join(caplog.text.split())


def test_test_images_are_excluded_from_pretraining(tmp_path):
    test = labeled_source(30, seed=2)
    unlabeled = ArraySource(torch.cat([make_images(40), test.images[:7]]))
    result = compare(tmp_path / "cmp", data=unlabeled, test=test, tasks="rotation", heads="linear", seeds=1)
    assert result.details["excluded_test_images"] == 7 and result.details["unlabeled_images"] == 40


@pytest.mark.slow
def test_all_sources_have_the_value_range_of_the_unlabeled_images(tmp_path, monkeypatch):
    deep = make_images(40).to(torch.int32) * 16  # 12 bits
    dark = ArraySource(
        make_images(24, seed=1).to(torch.int32), [KINDS[i % 3] for i in range(24)]
    )  # 8 bits on their own
    runners = []
    run_comparison = compare_module.compare
    monkeypatch.setattr(compare_module, "compare", lambda runner: runners.append(runner) or run_comparison(runner))
    compare(tmp_path / "cmp", data=ArraySource(deep), labeled=dark, test=None, tasks="mae", heads="linear", seeds=1)
    spec = load_backbone(tmp_path / "cmp" / "runs" / "mae-0").input_spec
    assert spec.value_range == (0.0, 4095.0), "files are read alike wherever the run is used"
    assert float(runners[0].data.split.images[torch.arange(9)].max()) < 256 / 4095


@pytest.mark.slow
def test_shuffled_labels_end_in_cannot_tell(finished, tmp_path, monkeypatch):
    borrow_runs(monkeypatch, finished[0])
    result = compare(tmp_path / "cmp", shuffle_labels=True, heads="linear")
    assert result.verdict == "cannot tell" and result.sentence.startswith("cannot tell below")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """A public backbone whose weights are in a file."""
    import timm

    with seeded(0):
        network = timm.create_model("resnet10t")
    file = tmp_path_factory.mktemp("baseline") / "resnet10t.safetensors"
    save_file(network.state_dict(), file)
    return f"timm:resnet10t={file}"


@pytest.mark.slow
def test_a_public_backbone_unchanged_and_with_continued_pretraining(baseline, tmp_path, caplog):
    options = {"tasks": "rotation,mae", "heads": "linear,knn", "baselines": baseline, "size": 32, "seeds": 1}
    result = compare(tmp_path / "cmp", **options)
    rows = {row["name"]: row["accuracy"] for row in result.rows}
    assert {f"{baseline} linear", f"{baseline} k-NN", f"rotation from {baseline} linear", "mae k-NN"} <= set(rows)
    assert not any(name.startswith(f"mae from {baseline}") for name in rows), "mae needs a ViT"
    messages = " ".join(caplog.text.split())
    assert "mae can't continue from timm:resnet10t" in messages and "3 of 3 pretrainings" in messages
    assert result.gain["method"].split()[0] in ("rotation", "mae") and "from" not in result.gain["method"]
    found = result.continued_baselines[baseline]
    assert found["gain"]["method"].startswith(f"rotation from {baseline}") and "as published" in found["sentence"]
    folder = next(run for run in (tmp_path / "cmp" / "runs").iterdir() if "from" in run.name)
    networks = load_backbone(folder), baselines_module.load_baseline(baseline, CONFIG)
    continued, published = (dict(network.requires_grad_(False).named_parameters()) for network in networks)
    assert 0 < max_difference(continued, published) < 0.1, "two steps from there"
    again = compare(tmp_path / "cmp", **options, resume=True, continue_baselines=False)
    assert again.continued_baselines == {} and again.gain == result.gain
    assert compare(tmp_path / "cmp", **options, resume=True).continued_baselines == result.continued_baselines


@pytest.mark.slow
def test_the_pretraining_of_a_run_can_be_continued(finished, tmp_path):
    run = str(finished[0] / "runs" / "mae-0")
    result = compare(tmp_path / "cmp", tasks="rotation", heads="linear", baselines=run)
    assert {f"{run} linear", f"rotation from {run} linear"} <= {row["name"] for row in result.rows}
    with raises("image-format", "24", "32", "--size"):
        compare(tmp_path / "other", tasks="rotation", heads="linear", baselines=run, size=32)


def test_a_baseline_whose_file_has_changed_is_refused(baseline, tmp_path):
    file = tmp_path / "own.safetensors"
    save_file(load_file(baseline.partition("=")[2]), file)
    options = {"tasks": "rotation", "heads": "knn", "baselines": f"timm:resnet10t={file}", "size": 32, "seeds": 1}
    first = compare(tmp_path / "cmp", **options, continue_baselines=False)
    assert compare(tmp_path / "cmp", **options, continue_baselines=False, resume=True).rows == first.rows
    state = load_file(file)
    state["layer4.0.conv1.weight"][0] += 0.01
    save_file(state, file)
    with raises("resume-differs"):
        compare(tmp_path / "cmp", **options, continue_baselines=False, resume=True)


def test_cached_weights_are_used(monkeypatch):
    pretrained_args, build = [], initial_weights_module.build_backbone
    monkeypatch.setattr(
        initial_weights_module,
        "build_backbone",
        lambda *a, pretrained=False, **k: pretrained_args.append(pretrained) or build(*a, **k),
    )
    network = baselines_module.load_baseline("timm:resnet10t", CONFIG)
    assert pretrained_args == [True] and not network.training


def test_a_baseline_of_other_channels_is_refused_before_anything_is_trained(baseline, tmp_path):
    bands = ArraySource(torch.cat([make_images(40), make_images(40, seed=1)], 1)[:, :5])
    with raises("image-format"):
        compare(tmp_path / "cmp", data=bands, baselines=baseline, size=32)


def test_every_head_of_transfer(finished, tmp_path, monkeypatch):
    borrow_runs(monkeypatch, finished[0])
    heads = ",".join([*HEADS, "last-2"])
    result = compare(tmp_path / "cmp", tasks="mae", heads=heads, seeds=1, labeled=by_brightness(24, 1))
    ends = [*(head.title for head in HEADS.values()), "last 2 fine-tuned"]
    assert {f"mae {end}" for end in ends} <= {row["name"] for row in result.rows}
    for path in (tmp_path / "cmp" / "results").glob("mae-*.json"):
        assert 0 <= json.loads(path.read_text())["fold_accuracy"] <= 1, "folds select the method, whatever its head"


def test_folds_separate_no_group(tmp_path, monkeypatch, finished):
    """Two images of each animal: they are both held out, or both used for training."""
    borrow_runs(monkeypatch, finished[0])
    lines = ["file,label,animal"]
    for index, image in enumerate(make_images(36, seed=3)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
        lines.append(f"{index}.png,{KINDS[index // 2 % 3]},{index // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    calls, selection_folds = [], model_selection_module.selection_folds
    monkeypatch.setattr(
        model_selection_module, "selection_folds", lambda *given: calls.append(given) or selection_folds(*given)
    )
    probed, fit = [], frozen_module.fit_probe
    monkeypatch.setattr(
        frozen_module, "fit_probe", lambda *a, groups, **k: probed.append(groups) or fit(*a, groups=groups, **k)
    )
    compare(
        tmp_path / "cmp", tasks="mae", seeds=1, labeled=tmp_path / "labels.csv", group_by="animal", labels_per_class=8,
        test=None,
    )  # fmt: skip
    assert calls and all(len(groups.unique()) < len(groups) for _, _, _, groups in calls)
    # raw pixels, untrained, linear on all images and on three folds, the head of fine-tuning likewise
    assert len(probed) == 1 + 1 + 4 + 4 and all(len(groups.unique()) < len(groups) for groups in probed)


def test_refusals(finished, tmp_path):
    out, _ = finished
    for options, message in (
        ({"out": out}, "add --resume"),
        ({"out": out, "resume": True, "labels_per_class": 3}, "another labels_per_class"),
        ({"out": out, "resume": True, "test": labeled_source(30, seed=2, shift=1)}, "another labeled"),
        ({"heads": "lineal"}, "did you mean linear"),
        ({"heads": "last-0"}, "last-N: fine-tuning of the last N blocks"),
        ({"heads": "last-9"}, "--blocks must be in 0..4"),
        ({"tasks": "rotatoin"}, "did you mean rotation"),
        ({"seeds": 0}, "--seeds must be 1"),
        ({"tasks": ""}, "needs a task"),
        ({"baselines": "resnet18"}, "write timm:NAME"),
        ({"baselines": "timm:resnet10t", "size": 32}, "not on this machine; fetch them first"),
    ):
        with pytest.raises(headway.HeadwayError, match=message):
            compare(**{"out": tmp_path / "new", **options})
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    with raises("output-exists"):
        compare(tmp_path / "taken", resume=True)


def test_the_cache_returns_what_was_computed_first(tmp_path):
    table = np.random.default_rng(0).integers(0, 2, (2, 3, 11)).astype(bool)
    np.testing.assert_array_equal(unpack_bits(json.loads(json.dumps(pack_bits(table)))), table)
    cache = ResultCache(tmp_path / "c", {"a": [1, 2]})
    cache.begin()
    assert cache.get_or_compute("x y", lambda: {"n": 1}) == cache.get_or_compute("x y", lambda: {"n": 2}) == {"n": 1}
    assert safe_file_name("timm:resnet18 linear, seed 0") == "timm-resnet18-linear-seed-0"
    with raises("resume-differs"):
        ResultCache(tmp_path / "c", {"a": [1, 3]}, resume=True)
