"""Bad input: one line that says what failed, what was given and what to do; exit code 2; nothing overwritten."""

import os
import subprocess
import sys
import time

import pytest
from PIL import Image

import headway
from headway.cli import main
from tests.errors import raises

FAST = ["--backbone", "vit_nano", "--stem", "conv", "--patch", "8", "--steps", "1"]


def save(path, color=(200, 10, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), color).save(path)


def refused(capsys, *words):
    """The one line of the error message."""
    assert main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and not captured.out, captured
    return lines[0]


@pytest.fixture
def two(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        for i in range(6):
            save(tmp_path / "two" / name / f"{i}.png", (40 * i, 100 * label, 5))
    return tmp_path / "two"


def test_empty_folder_missing_path_one_image(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "one" / "a.png")
    out = tmp_path / "r"
    assert "empty" in refused(capsys, "pretrain", "rotation", "--data", tmp_path / "empty", "--out", out, *FAST)
    assert "nothing at" in refused(capsys, "pretrain", "rotation", "--data", tmp_path / "on", "--out", out, *FAST)
    assert "at least 2" in refused(capsys, "pretrain", "rotation", "--data", tmp_path / "one", "--out", out, *FAST)
    assert not out.exists()


def test_unknown_names_suggest_the_nearest(two, tmp_path, capsys):
    words = ["--data", two, "--out", tmp_path / "r", "--steps", "1"]
    assert "did you mean rotation" in refused(capsys, "pretrain", "rotatoin", *words)
    assert "did you mean vit_tiny" in refused(capsys, "pretrain", "rotation", *words, "--backbone", "vit_tinny")
    assert "resnet18" in refused(capsys, "pretrain", "rotation", *words, "--backbone", "timm:resnet19")
    assert "did you mean pretrain" in refused(capsys, "pretrian", "rotation")
    assert "auto is no task" in refused(capsys, "show", "auto", "--data", two, "--out", tmp_path / "s.png")
    assert "auto is no task" in refused(capsys, "pretrain", "auto+mae", *words)
    words = ["--data", two, "--labeled", two, "--out", tmp_path / "r"]
    assert "as --baselines RUN" in refused(capsys, "compare", *words, "--tasks", "auto,simclr")
    assert not (tmp_path / "r").exists()


def test_invalid_numbers(two, tmp_path, capsys):
    words = ["--data", two, "--out", tmp_path / "r", *FAST]
    assert "lr" in refused(capsys, "pretrain", "rotation", *words, "--recipe.optim.lr", "nan")
    assert "exclude" in refused(capsys, "pretrain", "rotation", *words, "--budget", "1m")
    assert "duration" in refused(capsys, "pretrain", "rotation", "--data", two, "--out", "x", "--budget", "soon")
    assert "cannot accumulate" in refused(capsys, "pretrain", "simclr", *words, "--grad-accum", "2")
    assert "epochs" in refused(capsys, "pretrain", "rotation", *words[:-2], "--recipe.epochs", "0")
    assert "seed" in refused(capsys, "pretrain", "rotation", *words, "--seed", str(2**64))
    assert "size" in refused(capsys, "pretrain", "rotation", *words, "--size", "-5")
    assert "ratio" in refused(capsys, "pretrain", "mae", *words, "--recipe.task.mask-ratio", "0")
    assert "cannot open" in refused(capsys, "pretrain", "rotation", "--data", "x" * 300, "--out", "y", *FAST)
    assert "multiple" in refused(capsys, "pretrain", "rotation", *words, "--size", "30")
    assert not (tmp_path / "r").exists()


def test_a_backbone_without_a_required_feature_is_refused(two, tmp_path, capsys):
    words = ["--data", two, "--out", tmp_path / "r", "--backbone", "timm:resnet10t", "--steps", "1"]
    line = refused(capsys, "pretrain", "mae", *words)
    assert "mae" in line and "keep_indices" in line and "resnet10t" in line and not (tmp_path / "r").exists()


def test_an_existing_folder_is_not_changed(two, tmp_path, capsys):
    out = tmp_path / "r"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    assert "--resume" in refused(capsys, "pretrain", "rotation", "--data", two, "--out", out, *FAST)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_python_calls_are_checked_like_command_lines(two, tmp_path):
    run = tmp_path / "r"
    headway.pretrain("rotation", data=two, out=run, backbone="vit_nano", stem="conv", patch=8, steps=1)
    with raises("unknown-name"):
        headway.transfer(run, data=two, out=tmp_path / "m", head="lore")
    with raises("unknown-name"):
        headway.pretrain("rotation", data=two, out=tmp_path / "q", precision="float16")


def test_a_folder_that_is_no_run_is_not_resumed(two, tmp_path, capsys):
    (tmp_path / "mine" / "cache").mkdir(parents=True)
    (tmp_path / "mine" / "cache" / "precious").write_text("x")
    (tmp_path / "mine" / "log.jsonl").write_text("not yours")
    words = ["--data", two, "--out", tmp_path / "mine", *FAST, "--resume"]
    assert "is no run" in refused(capsys, "pretrain", "rotation", *words)
    assert (tmp_path / "mine" / "cache" / "precious").exists()
    assert (tmp_path / "mine" / "log.jsonl").read_text() == "not yours"


def test_transfer_predict_embed_refuse(two, tmp_path, capsys):
    run, model = tmp_path / "r", tmp_path / "m"
    headway.pretrain("rotation", data=two, out=run, backbone="vit_nano", stem="conv", patch=8, steps=1)
    capsys.readouterr()
    save(tmp_path / "one-class" / "cat" / "a.png")
    save(tmp_path / "one-class" / "cat" / "b.png")
    assert "two" in refused(capsys, "transfer", run, "--data", tmp_path / "one-class", "--out", model)
    assert "no finished run" in refused(capsys, "transfer", tmp_path / "nothing", "--data", two, "--out", model)
    assert "--labels-per-class" in refused(
        capsys, "transfer", run, "--data", two, "--out", model, "--labels-per-class", "0"
    )
    assert "exists" in refused(capsys, "transfer", run, "--data", two, "--out", run)
    assert "headway transfer" in refused(capsys, "predict", run, "--data", two, "--out", tmp_path / "x.csv")
    assert "exists" in refused(capsys, "embed", run, "--data", two, "--out", run)
    assert ".npz" in refused(capsys, "embed", run, "--data", two, "--out", tmp_path / "x.txt")
    for words, message in [
        (["--head", "linear", "--blocks", "2"], "finetune"),
        (["--head", "finetune", "--lora-rank", "4"], "lora"),
        (["--head", "finetune", "--blocks", "99"], "0..4"),
        (["--head", "finetune", "--layer-decay", "0"], "(0, 1]"),
        (["--head", "mlp", "--epochs", "0"], "--epochs"),
        (["--head", "lora", "--lora-rank", "0"], "rank"),
        (["--folds", "1"], "--folds"),
        (["--head", "knn", "--class-weights", "balanced"], "another head"),
    ]:
        assert message in refused(capsys, "transfer", run, "--data", two, "--out", model, *words, "--seed", "3"), words
    linear = tmp_path / "linear"
    headway.transfer(run, data=two, out=linear)
    capsys.readouterr()
    words = ["--data", two, "--out", tmp_path / "x.csv"]
    assert "--min-confidence" in refused(capsys, "predict", linear, *words, "--min-confidence", "1.5")
    words = ["--data", two, "--out", tmp_path / "x.npz"]
    assert "0..3" in refused(capsys, "embed", run, *words, "--layer", "4")
    assert "no prefix tokens" in refused(capsys, "embed", run, *words, "--features", "prefix")
    assert not model.exists() and not list(tmp_path.glob("x*"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full to simulate a full disk")
def test_no_space_left(two, tmp_path, capsys, monkeypatch):
    from headway.utils import files

    def full(path):
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(files, "fsync_path", full)
    line = refused(capsys, "pretrain", "rotation", "--data", two, "--out", tmp_path / "r", *FAST)
    assert "No space left" in line and "free some space" in line
    assert not list((tmp_path / "r").rglob("*.tmp"))


def test_an_unknown_option(two, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["pretrain", "rotation", "--data", str(two), "--out", str(tmp_path / "r"), "--bakbone", "x"])
    assert stop.value.code == 2


def test_help_and_import_need_neither_torch_nor_much_time():
    code = "import sys, headway, headway.cli; headway.cli.main(['--help']); print('torch' in sys.modules)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False" and "pretrain" in done.stdout
    assert time.perf_counter() - start < 5  # a loose bound: about 0.05 s are normal, and torch alone takes seconds


@pytest.mark.parametrize("verb", ["demo", "tasks", "check", "pretrain", "transfer", "predict", "embed"])
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and f"Example: headway {verb}" in printed and "--json" in printed


def test_help_of_a_task_shows_its_settings(capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "simclr", "--help"])
    printed = capsys.readouterr().out
    assert "--recipe.task.temperature" in printed and "--recipe.optim.lr" in printed


def test_a_closed_pipe_ends_without_a_traceback():
    command = [sys.executable, "-m", "headway.cli", "tasks"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # as `headway tasks | head -0` does
        assert process.stderr.read() == "" and process.wait() == 1
