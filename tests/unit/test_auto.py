"""The rules of ``auto``: each choice depends only on images, budget and machine."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given
from PIL import Image

import headway
from headway.backbones.build import build_backbone
from headway.cli import main
from headway.data.sources.in_memory import ArraySource
from headway.train.plan.auto import (
    BACKBONE_OPTIONS,
    BATCH_SIZE,
    DEFAULT_BUDGET_S,
    LOW_RES_FRACTION,
    MIN_CROP_AREA,
    MUON_LR,
    TEMPERATURE,
    AutoInputs,
    choose_settings,
    ms_per_image,
)
from tests.errors import raises
from tests.small import make_images

CIFAR = AutoInputs(50_000, 32, 600.0, 2.0)


@given(
    st.integers(2, 10**9), st.integers(16, 5000), st.floats(1, 1e7), st.floats(1, 1e5)
)  # every combination gives a network that can be built
def test_all_inputs_give_a_backbone_that_fits(count, side, seconds, cores):
    advice = choose_settings(AutoInputs(count, side, seconds, cores))
    assert 16 <= advice.size <= min(side, 224) and advice.size % advice.patch == 0
    assert advice.size // advice.patch >= 2 and advice.patch & (advice.patch - 1) == 0
    assert advice.notes[0].startswith("auto: simclr on ")


@pytest.mark.parametrize("side", [16, 31, 32, 64, 100, 224, 3000])
@pytest.mark.parametrize("seconds", [10.0, 600.0, 1e6])
def test_the_chosen_backbone_can_be_built(side, seconds):
    advice = choose_settings(AutoInputs(50_000, side, seconds, 2.0))
    backbone = build_backbone(advice.backbone, size=advice.size, stem=advice.stem, patch_size=advice.patch)
    assert backbone.patch_size == advice.patch


def test_more_time_never_chooses_a_smaller_backbone():
    names = [network.backbone for network in BACKBONE_OPTIONS]
    chosen = [choose_settings(CIFAR._replace(budget_s=60.0 * 4**power)) for power in range(10)]
    places = [(names.index(advice.backbone), -advice.size) for advice in chosen]
    assert places == sorted(places, reverse=True) and places[0] > places[-1]


def test_cost_grows_with_patches_and_pixels():
    tiny, micro, pico = BACKBONE_OPTIONS
    assert ms_per_image(pico, 32) == pytest.approx(0.069 * 16 + 7e-5 * 1024)
    assert ms_per_image(pico, 224) == pytest.approx(0.069 * 49 + 7e-5 * 50_176)  # a grid of 7
    assert ms_per_image(tiny, 64) > 2 * ms_per_image(micro, 64) > 6 * ms_per_image(pico, 64)


@pytest.mark.parametrize("side, view", [(32, 32), (63, 32), (64, 64), (100, 64), (2000, 64)])
def test_views_have_64_pixels_at_least_where_images_have_them(side, view):
    assert choose_settings(AutoInputs(50_000, side, 60.0, 1.0)).size == view


def test_every_rule_is_in_the_recipe():
    recipe = choose_settings(CIFAR).recipe
    assert (recipe.batch_size, recipe.optim.method, recipe.optim.lr) == (BATCH_SIZE, "muon", MUON_LR)
    assert (recipe.task.low_res_fraction, recipe.task.temperature) == (LOW_RES_FRACTION, TEMPERATURE)
    assert recipe.task.augment.scale == (MIN_CROP_AREA, 1.0) and recipe.task.augment.blur_prob == 0.0


def test_notes_name_what_is_too_little():
    assert not any("few" in note or "short" in note for note in choose_settings(CIFAR).notes)
    assert "500 images are few" in choose_settings(CIFAR._replace(num_images=500)).notes[1]
    assert "20 s are short" in choose_settings(CIFAR._replace(budget_s=20.0)).notes[1]
    assert "passes over the images are few" in choose_settings(CIFAR._replace(num_images=10**7)).notes[1]
    with raises("image-size", "12"):
        choose_settings(CIFAR._replace(short_side=12))


def test_auto_trains_resumes_and_is_recorded(tmp_path, caplog):
    photos = ArraySource(make_images(12, side=32))
    with raises("options-conflict", "--backbone", "--size"):
        headway.pretrain("auto", data=photos, out=tmp_path / "run", backbone="vit_nano", size=32)
    answer = headway.pretrain("auto", data=photos, out=tmp_path / "run", steps=2)
    said = " ".join(caplog.text.split())
    assert "auto: simclr on vit_" in said and "12 images are few" in said
    assert "to do: 2 steps of 12 images, 2.0 passes over 12" in said
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["task"] == answer.task == "simclr" and record["config"]["recipe"]["batch_size"] == BATCH_SIZE
    assert record["config"]["stem"] == "residual" and record["config"]["budget"] is None
    assert headway.pretrain("auto", data=photos, out=tmp_path / "run", steps=2, resume=True) == answer
    with raises("resume-differs"):
        headway.pretrain("auto", data=photos, out=tmp_path / "run", steps=3, resume=True)


@pytest.mark.slow
def test_auto_never_imports_names_from_a_record(tmp_path):
    photos = ArraySource(make_images(12, side=32))
    headway.pretrain("auto", data=photos, out=tmp_path / "run", steps=1)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "task": "os:system"}))
    with raises("resume-differs"):
        headway.pretrain("auto", data=photos, out=tmp_path / "run", steps=1, resume=True)


RESULT = {"run": "r", "task": "t", "steps": 1, "seconds": 1.0, "images_per_second": 1.0, "loss": 1.0}


def test_the_default_budget_is_an_hour(monkeypatch, tmp_path):
    budgets = []

    def record_budget(config, *rest, **named):
        budgets.append(config.budget)
        return RESULT

    monkeypatch.setattr("headway.train.pretrain.run_pretraining", record_budget)
    photos = ArraySource(make_images(12, side=32))
    headway.pretrain("auto", data=photos, out=tmp_path / "run")
    headway.pretrain("auto", data=photos, out=tmp_path / "run", epochs=2)
    assert budgets == [DEFAULT_BUDGET_S, None]


@pytest.mark.slow
def test_the_default_budget_also_holds_on_resume(monkeypatch, tmp_path):
    photos, budgets = ArraySource(make_images(12, side=32)), []
    headway.pretrain("auto", data=photos, out=tmp_path / "run", steps=1)
    monkeypatch.setattr(
        "headway.train.pretrain.run_pretraining", lambda config, *rest, **named: budgets.append(config.budget) or RESULT
    )
    headway.pretrain("auto", data=photos, out=tmp_path / "run", resume=True)
    assert budgets == [DEFAULT_BUDGET_S]


def test_auto_on_the_command_line(tmp_path, capsys):
    for i, image in enumerate(make_images(12, side=32)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    assert main(["pretrain", "auto", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--steps", "1"]) == 0
    assert "simclr: 1 steps" in capsys.readouterr().out
    assert main(["pretrain", "auto", "--data", str(tmp_path), "--out", str(tmp_path / "r"), "--patch", "8"]) == 2
    assert "auto sets --patch itself" in " ".join(capsys.readouterr().err.split())
