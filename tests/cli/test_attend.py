"""``headway attend``: self-contained pages, PNG files, numbers, and errors in one line."""

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest
import torch
from markupsafe import escape
from PIL import Image

import headway
from headway.attention_viz.attention_hooks import attention_maps
from headway.attention_viz.matrix_tables import TIMES
from headway.cli import main
from headway.data.decoding.decode import center_crop_resize, decode
from headway.synthetic import DrawnAnimals, write_folder
from headway.transforms.pixels import to_float01

EVIL = "a<b onclick=alert(1)>&\"'.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("photos"), 90, 32, seed=0)


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "r"
    headway.pretrain("rotation", data=photos, out=out, backbone="vit_nano", patch=8, steps=2)
    return out


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A photograph with EXIF position, under a file name with HTML in it."""
    file = tmp_path_factory.mktemp("images") / EVIL
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(DrawnAnimals(1, 48, seed=3).image(0).permute(1, 2, 0).numpy()).save(file, exif=exif)
    return file


def refused(capsys, *words):
    assert main([str(word) for word in words]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and not captured.out, captured
    return lines[0]


def unpacked(text, dtype):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def self_contained(page):
    """Assert that a page fetches nothing, runs only its own script, and holds nothing of the file but pixels."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    inlined = [text for tag in ("style", "script") for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inlined]
    assert re.findall(r"sha256-([^']*)'", policy) == hashes
    addresses = re.findall(r"""(?:src|srcset|href|action)=["']?([^"'>\s]+)""", page)
    assert all(address.startswith(("data:", "https://arxiv.org/")) for address in addresses)
    assert not re.findall(r"url\((?!data:)", page) and "@import" not in page
    assert "<b onclick" not in page and "SecretCamera" not in page
    for data in re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page):
        assert b"Exif" not in base64.b64decode(data) and b"Secret" not in base64.b64decode(data)
    return page


def test_a_page_holds_the_attention_maps(run, image, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["attend", str(run), str(image), "--out", str(out), "--query-patch", "2,3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (answer["images"], answer["layers"], answer["attention_heads"]) == (1, 4, 3)
    assert np.shape(answer["distance"]) == np.shape(answer["entropy"]) == (4, 3) and "importance" not in answer
    assert all(0 <= cell <= 4 for row in answer["entropy"] for cell in row)
    page = self_contained(out.read_text(encoding="utf-8"))
    assert str(escape(EVIL)) in page
    data = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)[0])
    assert data["initial"] == 6 and (data["rows"], data["columns"], data["prefix"]) == (4, 4, [])
    view = to_float01(center_crop_resize(decode(image.read_bytes()), 32)[None])
    maps = torch.cat([w[0] for w in attention_maps(headway.load_backbone(run), view).weights])  # L*h T T
    levels = unpacked(data["levels"], np.uint8).reshape(13, 17, 16)
    maximum = unpacked(data["maximum"], "<f4").reshape(13, 17, 1)
    assert np.abs(levels / 255 * maximum - np.pad(maps, ((0, 1), (0, 1), (0, 0))))[:12, :16].max() < 0.005
    assert np.abs((levels / 255 * maximum)[:12, 16] - maps.mean(1).numpy()).max() < 0.005


def test_explanation_walks_from_split_to_linear_transformation(run, image, tmp_path, capsys):
    out = tmp_path / "steps.html"
    assert main(["attend", str(run), str(image), "--explain", "--layer", "2", "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert answer["layer"] == 2 and answer["token"] == "patch 3,3" and 1 <= answer["attention_head"] <= 3
    page = self_contained(out.read_text(encoding="utf-8"))
    titles = re.findall(r"<h2>(\d)\. (.*?)[:<]", page)
    expected = ["Query, key and value", "Split into attention heads", "Scores", "Scale", "Softmax", "Weighted sum"]
    assert [name for _, name in titles] == [*expected, "Concatenate", "Linear transformation"]
    for shape in ((16, 96), (16, 32), (16, 16)):
        assert f" {TIMES} ".join(map(str, shape)) in page
    assert float(re.search(r"its output and Y differ by ([\d.]+) at most", " ".join(page.split()))[1]) < 1e-4
    assert not re.search(r"\bnan\b", re.sub(r'src="[^"]*"', "", page))


def test_the_explanation_can_be_worked_out_by_hand(run, image, tmp_path):
    out = tmp_path / "steps.html"
    headway.attend(run, str(image), out=out, explain=True)
    page = out.read_text(encoding="utf-8").replace("\N{MINUS SIGN}", "-")
    positions = re.findall(r"patch (\d+),(\d+)", page)
    assert positions and all(1 <= int(number) <= 4 for position in positions for number in position)
    cell = r"<td>(-?[\d.]+)</td>"
    worked = re.findall(rf"<tr><th>(patch \d,\d)</th>{cell * 4}</tr>", page)
    total = float(re.search(rf"<th>sum</th><td></td><td></td>{cell}", page)[1])
    score, less, power, share = np.array([row[1:] for row in worked], float).T
    assert np.abs(score - score.max() - less).max() < 0.0016 and np.abs(np.exp(less) - power).max() < 0.0011
    assert np.abs(power / total - share).max() < 0.0011
    weights = page[page.index("attention weights <span") :]
    header, followed = (
        re.search(r"<tr>(.*?)</tr>", weights)[1],
        re.search(r'<tr class="followed">(.*?)</tr>', weights)[1],
    )
    shown = dict(zip(re.findall(r"patch \d,\d", header), re.findall(r">(0\.\d+)<", followed), strict=True))
    assert {row[0]: row[4] for row in worked} == shown  # the same tokens in the worked row and in the matrix
    columns = [4 * (int(name[6]) - 1) + int(name[8]) - 1 for name in shown]
    gaps = sum(b != a + 1 for a, b in zip([-1, *columns], [*columns, 16], strict=True))
    assert header.count('class="gap"') == gaps  # dots wherever columns are left out


def test_a_folder_of_png_files_and_importance_by_neighbors(run, photos, image, tmp_path):
    answer = headway.attend(run, (str(image), str(image)), out=tmp_path / "maps", data=photos)
    assert 10 < answer.held_out < 30 and np.shape(answer.importance) == (4, 3) and 0 <= answer.accuracy <= 100
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names[2:] == ["heads.csv", "heads.png"] and all(re.fullmatch(r"0\d-[\w.-]+\.png", n) for n in names[:2])
    with Image.open(tmp_path / "maps" / names[0]) as png:
        assert png.width > 5 * 128 and not png.getexif() and not png.info
    rows = list(csv.DictReader((tmp_path / "maps" / "heads.csv").read_text().splitlines()))
    assert [(row["layer"], row["attention_head"]) for row in rows][:4] == [
        ("1", "1"),
        ("1", "2"),
        ("1", "3"),
        ("2", "1"),
    ]
    assert float(rows[5]["distance"]) == pytest.approx(answer.distance[1][2], abs=1e-3)
    assert all(float(row["low"]) <= float(row["accuracy_drop"]) <= float(row["high"]) for row in rows)


def test_a_classifier_predicts_the_images_that_transfer_set_aside(run, photos, image, tmp_path, capsys):
    transferred = headway.transfer(run, data=photos, out=tmp_path / "m", head="linear", seed=3)
    words = ["--data", str(photos), "--seed", "3", "--out", str(tmp_path / "page.html"), "--json"]
    assert main(["attend", str(tmp_path / "m"), str(image), *words]) == 0
    answer = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert answer["held_out"] == transferred.test_images and answer["accuracy"] == transferred.accuracy
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "own linear classifier are correct for" in page and "Importance for the downstream task" in page


def test_a_timm_vit_and_another_size(image, tmp_path):
    model = "timm:vit_tiny_patch16_224"
    answer = headway.attend(model, str(image), out=tmp_path / "t.html", size=64, pretrained=False)
    assert (answer.layers, answer.attention_heads) == (12, 3)
    page = self_contained((tmp_path / "t.html").read_text(encoding="utf-8"))
    assert '"prefix": ["class token"], "layers": 12' in page and '"rows": 4' in page
    headway.attend(model, str(image), out=tmp_path / "e.html", size=64, pretrained=False, explain=True)
    assert f"17 {TIMES} 192" in (tmp_path / "e.html").read_text(encoding="utf-8")


def test_refusals(run, photos, image, tmp_path, capsys):
    out = tmp_path / "p.html"
    given = ["attend", run, image, "--out", out]
    assert "no finished run" in refused(capsys, "attend", tmp_path / "no", image, "--out", out)
    assert "nothing at" in refused(capsys, "attend", run, tmp_path / "no.png", "--out", out)
    assert "no images" in refused(capsys, "attend", run, "--out", out)
    assert "24 are shown at most" in refused(capsys, "attend", run, photos, "--out", out)
    assert "neither a page" in refused(capsys, *given[:-1], tmp_path / "p.pdf")
    assert "in .html" in refused(capsys, *given[:-1], tmp_path / "p", "--explain")
    assert "ROW,COLUMN" in refused(capsys, *given, "--query-patch", "3")
    assert "4 rows and 4 columns" in refused(capsys, *given, "--query-patch", "5,1")
    assert "layers 1 to 4" in refused(capsys, *given, "--explain", "--layer", "5")
    assert "--layer goes with" in refused(capsys, *given, "--layer", "1")
    assert "got 2" in refused(capsys, "attend", run, image, image, "--explain", "--out", out)
    assert "exclude" in refused(capsys, *given, "--explain", "--data", photos)
    assert "--test goes with --data" in refused(capsys, *given, "--test", photos)
    assert "crop or resize them to 32 x 32" in refused(capsys, *given, "--size", "30")
    assert "or 0 for the network's own" in refused(capsys, *given, "--size", "-8")
    assert "no attention to show" in refused(capsys, "attend", "timm:resnet10t", image, "--out", out, "--no-pretrained")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    assert "cannot read 'broken.png'" in refused(capsys, "attend", run, broken, "--out", out)
    assert not out.exists()
    out.write_text("mine")
    assert "exists" in refused(capsys, *given) and out.read_text() == "mine"


STATUS = re.compile(r'class="status"[^>]*>([^<]*)<')


def rendered(address):
    """The DOM of the page in a browser without a network."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    command = ["chromium", *words, "--virtual-time-budget=3000", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium, which shows the page, is not installed")
def test_pointing_at_a_patch_shows_what_it_attends_to(run, image, tmp_path):
    out = tmp_path / "page.html"
    headway.attend(run, str(image), out=out)
    dom = rendered(f"{out.as_uri()}#1,2,4")
    status = STATUS.search(dom)[1]
    position = re.match(
        r"The patch in row 2, column 4 gives most to the patch in row (\d), column (\d): ([\d.]+) %", status
    )
    view = to_float01(center_crop_resize(decode(image.read_bytes()), 32)[None])
    row = attention_maps(headway.load_backbone(run), view).weights[-1][0, 0, 7]  # N
    named = row[4 * (int(position[1]) - 1) + int(position[2]) - 1]  # the brightest, to the 255 levels of a map
    assert float(named) > 0.99 * float(row.max())
    assert float(position[3]) == pytest.approx(100 * float(row.max()), abs=0.5)
    assert dom.count('<button class="map"') == 13 and 'aria-pressed="true"' in dom

    hand = """setTimeout(() => {
      const large = document.querySelector(".large"), box = large.getBoundingClientRect();
      const at = { clientX: box.left + 0.6 * box.width, clientY: box.top + 0.9 * box.height, bubbles: true };
      large.dispatchEvent(new PointerEvent("pointermove", at));
      document.querySelectorAll(".map")[4].click();
    }, 500)"""
    page = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", out.read_text(encoding="utf-8"))
    (tmp_path / "pointed.html").write_text(page.replace("</html>", f"<script>{hand}</script></html>"), encoding="utf-8")
    status = STATUS.search(rendered((tmp_path / "pointed.html").as_uri()))[1]
    assert status.startswith("The patch in row 4, column 3 gives most to") and "layer 2, attention head 2" in status


def test_another_split_than_that_of_transfer_is_refused(photos, run, image, tmp_path, capsys):
    by = r"(\d)\."
    headway.transfer(run, data=photos, out=tmp_path / "m", group_by=by)
    words = ["attend", tmp_path / "m", image, "--data", photos]
    capsys.readouterr()
    status = refused(capsys, *words, "--out", tmp_path / "a.html")
    assert "not those that transfer set aside" in status and "--group-by" in status
    answer = headway.attend(str(tmp_path / "m"), (str(image),), data=photos, group_by=by, out=tmp_path / "b.html")
    assert answer.held_out >= 2 and 0 <= answer.accuracy <= 100


def test_a_multilabel_classifier_must_predict_all_labels(photos, run, image, tmp_path):
    files = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    rows = [f"{file},{'even;pet' if i % 2 == 0 else 'pet' if i % 3 else ';'}" for i, file in enumerate(files)]
    (tmp_path / "l.csv").write_text("file,label\n" + "\n".join(rows))
    made = headway.transfer(run, data=photos, labels=tmp_path / "l.csv", multilabel=True, out=tmp_path / "m")
    answer = headway.attend(
        str(tmp_path / "m"), (str(image),), data=photos, labels=tmp_path / "l.csv", out=tmp_path / "a.html"
    )
    assert answer.accuracy == pytest.approx(made.accuracy, abs=0.01)
