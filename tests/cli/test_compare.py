"""The comparison end to end, on pictures that train in moments."""

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
from headway.data.arrays import Arrays
from headway.data.store import build_store
from headway.downstream import tune as tune_module
from headway.draws import seeded
from headway.errors import HeadwayError
from headway.pretext import find_recipe
from headway.train import start as start_module
from headway.train.job import Job
from headway.train.pool import seen_in_pretraining
from headway.verdict import arena as arena_module
from headway.verdict import cost as cost_module
from headway.verdict import public as public_module
from headway.verdict import trial as trial_module
from headway.verdict.cells import Cells, pack, plain_name, unpack
from tests.small import farthest, pictures

KINDS = ("a", "b", "c")
QUICK = {
    "backbone": "vit_nano", "stem": "conv", "patch": 8, "steps": 2, "label_steps": 1, "per_class": 4, "draws": 1,
    "seeds": 2, "heads": "linear,finetune",
}  # fmt: skip

JOB = Job(task="rotation", recipe=find_recipe("rotation"), size=32)


@pytest.fixture(scope="module", autouse=True)
def _few_rates():
    """Two learning rates to choose from, and no time spent on measuring a step."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("trial", "cost"):
            patch.setattr(f"headway.verdict.{module}.RATES", (1.0, 0.3))
        patch.setattr("headway.verdict.cost.measure_step", lambda *_, **__: 0.01)
        yield


def labelled(count, seed=0, shift=0):
    return Arrays(pictures(count, seed=seed), [KINDS[(i + shift) % 3] for i in range(count)])


def by_brightness(count, seed):
    """Pictures whose class shows: three levels of brightness."""
    images = pictures(count, seed=seed) // 4 + 80 * (torch.arange(count) % 3)[:, None, None, None].to(torch.uint8)
    return Arrays(images, [KINDS[i % 3] for i in range(count)])


def compare(out, **words):
    given = {"data": Arrays(pictures(40)), "labels": labelled(24, seed=1), "test": labelled(30, seed=2)}
    return headway.compare(**{**given, "tasks": "rotation,mae", "out": out, **QUICK, **words})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "cmp"
    return out, compare(out)


def test_rows_gain_verdict_and_one_sentence(finished):
    out, answer = finished
    names = {row["name"] for row in answer["rows"]}
    tasks = {f"{task} {head}" for task in ("rotation", "mae") for head in ("linear", "fine-tuned")}
    assert names == {"raw pixels", "untrained", "from scratch"} | tasks
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in answer["rows"])
    assert answer["verdict"] in ("helped", "hurt", "cannot tell") and answer["gain"]["contender"] in tasks
    assert answer["verdict"] in answer["sentence"] and "4 labels a class" in answer["sentence"]
    assert "one pretraining" not in answer["sentence"], "two seeds are more than one"
    report = json.loads((out / "report.json").read_text())
    assert report["rows"] == answer["rows"] and len(list((out / "runs").iterdir())) == 4
    cells = list((out / "cells").iterdir())
    assert len(cells) == 2 * 7 + 3  # two seeds of seven contenders; three learning rates chosen
    assert all(cell.stat().st_size < 2000 for cell in cells)


def test_finished_cells_are_not_run_again(finished, monkeypatch):
    out, answer = finished
    (out / "cells" / "mae-linear-seed-1-draw-0.json").unlink()
    asked = []
    honest = arena_module.score
    monkeypatch.setattr(arena_module, "score", lambda *given: asked.append(given) or honest(*given))
    monkeypatch.setattr(arena_module, "run_job", lambda *_, **__: pytest.fail("a finished run was trained again"))
    again = compare(out, resume=True)
    assert len(asked) == 1
    assert again["rows"] == answer["rows"] and again["sentence"] == answer["sentence"]


def borrow_runs(monkeypatch, out):
    """The same pretrainings, for a comparison on other labels."""
    for module in (arena_module, cost_module):
        monkeypatch.setattr(module, "run_folder", lambda cells, task, seed: out / "runs" / f"{task}-{seed}")


def test_nothing_is_claimed_of_the_best_where_nothing_can_choose_it(tmp_path):
    with pytest.raises(HeadwayError, match="nothing can choose among tasks and heads; give --per-class 2"):
        compare(tmp_path / "cmp", per_class=1)
    one = compare(tmp_path / "one", per_class=1, tasks="rotation", heads="linear", seeds=1)
    assert one["gain"]["contender"] == "rotation linear"


def test_two_rows_never_share_a_name(tmp_path):
    with pytest.raises(HeadwayError, match=r"--public mae has the name of another row; write \./mae"):
        compare(tmp_path / "cmp", public="mae")


def test_a_run_of_another_recipe_is_not_taken_for_this_one(finished, tmp_path, monkeypatch):
    out = tmp_path / "cmp"
    shutil.copytree(finished[0], out)
    record = json.loads((out / "runs" / "mae-0" / "run.json").read_text())
    record["job"]["recipe"]["task"]["ratio"] = 0.5
    (out / "runs" / "mae-0" / "run.json").write_text(json.dumps(record))
    with pytest.raises(HeadwayError, match="mae-0 was trained by another recipe than mae has now"):
        compare(out, resume=True)


def test_it_grows_by_a_draw_and_keeps_what_is_finished(finished, tmp_path, monkeypatch):
    out = tmp_path / "cmp"
    shutil.copytree(finished[0], out)
    asked = []
    honest = arena_module.score
    monkeypatch.setattr(arena_module, "score", lambda *given: asked.append(given) or honest(*given))
    answer = compare(out, resume=True, draws=2, heads="linear")
    assert len(asked) == 2 * 5 and answer["details"]["draws"] == 2  # two seeds, five contenders, one more draw


def test_runs_know_their_pool(finished):
    seen = seen_in_pretraining(finished[0] / "runs" / "mae-1", build_store(Arrays(pictures(40)), 16).hashes)
    assert seen == 40


def test_a_task_that_destroys_features_never_helps(tmp_path, monkeypatch):
    def destroyed(self, job, number):
        network = self.untrained(number)
        for parameter in network.parameters():
            parameter.data.zero_()
        return network

    monkeypatch.setattr(arena_module.Arena, "pretrained", destroyed)
    answer = compare(tmp_path / "cmp", labels=by_brightness(60, 1), test=by_brightness(60, 2), heads="linear", seeds=3)
    assert answer["verdict"] != "helped" and answer["gain"]["points"] <= 0


def test_permuted_test_labels_change_no_choice(finished, tmp_path, monkeypatch):
    out, _ = finished
    shutil.copytree(out, tmp_path / "first")
    answer = compare(tmp_path / "first", resume=True, heads="linear")
    borrow_runs(monkeypatch, out)
    other = compare(tmp_path / "other", heads="linear", test=labelled(30, seed=2, shift=1))
    assert other["gain"]["contender"] == answer["gain"]["contender"]
    assert other["details"]["chosen"] == answer["details"]["chosen"]
    rates = [json.loads((tmp_path / x / "cells" / "rate-of-from-scratch.json").read_text()) for x in ("first", "other")]
    assert rates[0] == rates[1]
    assert {r["name"]: r["accuracy"] for r in other["rows"]} != {r["name"]: r["accuracy"] for r in answer["rows"]}


def test_a_preview_costs_nothing_and_takes_no_folder(tmp_path, capsys):
    answer = compare(tmp_path / "cmp", preview=True)
    assert answer["preview"]["pretrainings"] == answer["preview"]["left"] == 4 and not (tmp_path / "cmp").exists()
    # 2 tasks x (2 seeds x (1 test + 3 folds) + 6 to tune) and from scratch: 2 + 6
    assert answer["preview"]["trainings"] == 28 + 8 and answer["preview"]["steps"] == 28 + 2 * 8
    assert "4 of 4 pretrainings" in " ".join(capsys.readouterr().err.split())


def test_test_pictures_leave_the_pool(tmp_path):
    test = labelled(30, seed=2)
    pool = Arrays(torch.cat([pictures(40), test.images[:7]]))
    answer = compare(tmp_path / "cmp", data=pool, test=test, tasks="rotation", heads="linear", seeds=1)
    assert answer["details"]["left_out"] == 7 and answer["details"]["pool"] == 40


def test_deep_pictures_mean_the_same_everywhere(tmp_path, monkeypatch):
    deep = pictures(40).to(torch.int32) * 16  # 12 bits
    dark = Arrays(pictures(24, seed=1).to(torch.int32), [KINDS[i % 3] for i in range(24)])  # by themselves 8
    arenas = []
    run_comparison = compare_command.run_comparison
    monkeypatch.setattr(compare_command, "run_comparison", lambda arena: arenas.append(arena) or run_comparison(arena))
    compare(tmp_path / "cmp", data=Arrays(deep), labels=dark, test=None, tasks="mae", heads="linear", seeds=1)
    inputs = load_backbone(tmp_path / "cmp" / "runs" / "mae-0").inputs
    assert inputs.span == (0.0, 4095.0), "whoever goes on with the run reads files as it did"
    assert float(arenas[0].pictures.images[torch.arange(9)].max()) < 256 / 4095


def test_shuffled_labels_end_in_cannot_tell(finished, tmp_path, monkeypatch):
    borrow_runs(monkeypatch, finished[0])
    answer = compare(tmp_path / "cmp", shuffle_labels=True, heads="linear")
    assert answer["verdict"] == "cannot tell" and answer["sentence"].startswith("cannot tell below")


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A public backbone whose weights lie in a file."""
    import timm

    with seeded(0):
        network = timm.create_model("resnet10t")
    file = tmp_path_factory.mktemp("public") / "resnet10t.safetensors"
    save_file(network.state_dict(), file)
    return f"timm:resnet10t={file}"


def test_a_public_backbone_as_it_comes_and_trained_on(public, tmp_path, capsys):
    words = {"tasks": "rotation,mae", "heads": "linear,knn", "public": public, "size": 32, "seeds": 1}
    answer = compare(tmp_path / "cmp", **words)
    rows = {row["name"]: row["accuracy"] for row in answer["rows"]}
    assert {f"{public} linear", f"{public} k-NN", f"rotation from {public} linear", "mae k-NN"} <= set(rows)
    assert not any(name.startswith(f"mae from {public}") for name in rows), "mae needs a ViT"
    said = " ".join(capsys.readouterr().err.split())
    assert "mae can't go on from timm:resnet10t" in said and "3 of 3 pretrainings" in said
    assert answer["gain"]["contender"].split()[0] in ("rotation", "mae") and "from" not in answer["gain"]["contender"]
    found = answer["continued"][public]
    assert found["gain"]["contender"].startswith(f"rotation from {public}") and "as it comes" in found["sentence"]
    folder = next(run for run in (tmp_path / "cmp" / "runs").iterdir() if "from" in run.name)
    networks = load_backbone(folder), public_module.public_backbone(public, JOB)
    moved, first = (dict(network.requires_grad_(False).named_parameters()) for network in networks)
    assert 0 < farthest(moved, first) < 0.1, "two steps from there"
    again = compare(tmp_path / "cmp", **words, resume=True, continued=False)
    assert again["continued"] == {} and again["gain"] == answer["gain"]
    assert compare(tmp_path / "cmp", **words, resume=True)["continued"] == answer["continued"]


def test_a_run_of_ones_own_may_be_trained_on(finished, tmp_path):
    run = str(finished[0] / "runs" / "mae-0")
    answer = compare(tmp_path / "cmp", tasks="rotation", heads="linear", public=run)
    assert {f"{run} linear", f"rotation from {run} linear"} <= {row["name"] for row in answer["rows"]}
    with pytest.raises(HeadwayError, match="sees 24 pixels a side, not 32; give --size 24"):
        compare(tmp_path / "other", tasks="rotation", heads="linear", public=run, size=32)


def test_a_public_backbone_whose_file_has_other_weights_now_is_refused(public, tmp_path):
    file = tmp_path / "own.safetensors"
    save_file(load_file(public.partition("=")[2]), file)
    words = {"tasks": "rotation", "heads": "knn", "public": f"timm:resnet10t={file}", "size": 32, "seeds": 1}
    first = compare(tmp_path / "cmp", **words, continued=False)
    assert compare(tmp_path / "cmp", **words, continued=False, resume=True)["rows"] == first["rows"]
    state = load_file(file)
    state["layer4.0.conv1.weight"][0] += 0.01
    save_file(state, file)
    with pytest.raises(HeadwayError, match="has other weights than when"):
        compare(tmp_path / "cmp", **words, continued=False, resume=True)


def test_weights_in_the_cache_are_taken_from_there(monkeypatch):
    asked, build = [], start_module.build_backbone
    monkeypatch.setattr(
        start_module, "build_backbone", lambda *a, pretrained=False, **k: asked.append(pretrained) or build(*a, **k)
    )
    network = public_module.public_backbone("timm:resnet10t", JOB)
    assert asked == [True] and not network.training


def test_a_public_backbone_of_other_channels_is_refused_before_anything_is_trained(public, tmp_path):
    bands = Arrays(torch.cat([pictures(40), pictures(40, seed=1)], 1)[:, :5])
    with pytest.raises(HeadwayError, match="takes pictures of 3 channels, and these have 5"):
        compare(tmp_path / "cmp", data=bands, public=public, size=32)


def test_every_head_that_transfer_knows(finished, tmp_path, monkeypatch):
    borrow_runs(monkeypatch, finished[0])
    heads = "knn,linear,attentive,mlp,finetune,lora,last-2"
    answer = compare(tmp_path / "cmp", tasks="mae", heads=heads, seeds=1, labels=by_brightness(24, 1))
    ends = ("k-NN", "linear", "attentive", "MLP", "fine-tuned", "LoRA", "last 2 fine-tuned")
    assert {f"mae {end}" for end in ends} <= {row["name"] for row in answer["rows"]}
    rates = [path.name for path in (tmp_path / "cmp" / "cells").iterdir() if path.name.startswith("rate")]
    assert len(rates) == 1 + 5, "whoever is trained by steps chooses a rate on folds"


def test_folds_part_no_group(tmp_path, monkeypatch, finished):
    """Two pictures of each animal: whoever is held out has no twin among those that are learnt from."""
    borrow_runs(monkeypatch, finished[0])
    lines = ["file,label,animal"]
    for number, image in enumerate(pictures(36, seed=3)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{KINDS[number // 2 % 3]},{number // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    parts, honest = [], trial_module.folds
    monkeypatch.setattr(trial_module, "folds", lambda *given: parts.append(given) or honest(*given))
    probed, fit = [], tune_module.fit_probe
    monkeypatch.setattr(
        tune_module, "fit_probe", lambda *a, groups, **k: probed.append(groups) or fit(*a, groups=groups, **k)
    )
    compare(
        tmp_path / "cmp", tasks="mae", seeds=1, labels=tmp_path / "labels.csv", group_by="animal", per_class=8,
        test=None,
    )  # fmt: skip
    assert parts and all(len(groups.unique()) < len(groups) for _, _, _, groups in parts)
    assert len(probed) > 10 and sum(len(groups.unique()) < len(groups) for groups in probed) > 10


def test_refusals(finished, tmp_path):
    out, _ = finished
    for words, message in (
        ({"out": out}, "add --resume"),
        ({"out": out, "resume": True, "per_class": 3}, "another per_class"),
        ({"out": out, "resume": True, "test": labelled(30, seed=2, shift=1)}, "another labels"),
        ({"heads": "lineal"}, "did you mean linear"),
        ({"heads": "last-0"}, "last-N: fine-tuning of the last N blocks"),
        ({"heads": "last-9"}, "--blocks lies in 0..4"),
        ({"tasks": "rotatoin"}, "did you mean rotation"),
        ({"seeds": 0}, "--seeds must be 1"),
        ({"tasks": ""}, "needs a task"),
        ({"public": "resnet18"}, "write timm:NAME"),
        ({"public": "timm:resnet10t", "size": 32}, "not on this machine; fetch them first"),
    ):
        with pytest.raises(headway.HeadwayError, match=message):
            compare(**{"out": tmp_path / "new", **words})
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    with pytest.raises(headway.HeadwayError, match="something else"):
        compare(tmp_path / "taken", resume=True)


def test_cells_hold_what_was_put_in(tmp_path):
    table = np.random.default_rng(0).integers(0, 2, (2, 3, 11)).astype(bool)
    np.testing.assert_array_equal(unpack(json.loads(json.dumps(pack(table)))), table)
    cells = Cells(tmp_path / "c", {"a": [1, 2]})
    cells.begin()
    assert cells.get("x y", lambda: {"n": 1}) == cells.get("x y", lambda: {"n": 2}) == {"n": 1}
    assert plain_name("timm:resnet18 linear, seed 0") == "timm-resnet18-linear-seed-0"
    with pytest.raises(headway.HeadwayError, match="another a"):
        Cells(tmp_path / "c", {"a": [1, 3]}, resume=True)
