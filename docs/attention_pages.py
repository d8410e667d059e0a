"""Draw the images of docs/attention.md with the present code: `python docs/attention_pages.py`.

It trains a small network on synthetic animals (minutes), runs the commands of that page, and takes screenshots of the
two HTML pages with the browser `chromium`. ``--run`` and ``--data`` skip the training: a run and its animals. The
numbers in docs/attention.md are those that it prints.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageChops

import headway
from headway.pretext import TASKS
from headway.synthetic import write_folder

FOLDER = Path(__file__).resolve().parent / "attention"
IMAGE, STEPS = "cat/00011.png", 120
MAPS_ALONE = "h2:not(.image h2), .tables, footer { display: none }"
FIFTH_STEP = "header, footer, section:not(:nth-of-type(6)) { display: none }"  # the first section has no number
MAX_HEIGHT = 2400
"""Height of a screenshot in pixels, before the empty rows at its top and bottom are cut off."""
MARGIN = 24
"""Empty rows that stay there."""


def main() -> None:
    """Train, run the commands of the page, and write the four images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder called animals")
    parser.add_argument("--data", type=Path, help="the folder of its animals")
    args = parser.parse_args()
    if (args.run is None) != (args.data is None):
        parser.error("--run and --data go together")
    if not shutil.which("chromium"):
        parser.error("no browser was found; install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, data = (args.run, args.data) if args.run else train(folder)
        draw(str(run), data, folder)


def train(folder: Path) -> tuple[Path, Path]:
    """Generate animals and pretrain a network on them: the run and the animals."""
    run, data = folder / "runs" / "animals", folder / "animals"
    write_folder(data, 5000, 64)
    headway.pretrain(
        "simclr", data=str(data), out=run, backbone="vit_nano", stem="conv", patch=8, size=64, steps=STEPS,
        recipe=replace(TASKS["simclr"], pooling="class"),
    )  # fmt: skip
    return run, data


def draw(run: str, data: Path, folder: Path) -> None:
    """Write the four images, and print the importance of the attention heads."""
    images = (str(data / IMAGE),)
    found = headway.attend(run, images, data=str(data), out=folder / "maps")
    print(f"{found.accuracy} % of {found.held_out} images\n{(folder / 'maps' / 'heads.csv').read_text()}")
    save(Image.open(folder / "maps" / "heads.png"), "heads.png")
    save(Image.open(next((folder / "maps").glob("*-*.png"))), "maps.png")
    headway.attend(run, images, out=folder / "attention.html")
    save(screenshot(folder / "attention.html", MAPS_ALONE, 900, "#1,3,4"), "page.png")
    headway.attend(run, images, explain=True, out=folder / "steps.html")
    save(screenshot(folder / "steps.html", FIFTH_STEP, 770), "steps.png")


def screenshot(page: Path, style: str, width: int, fragment: str = "") -> Image.Image:
    """A page in a browser without a network.

    Args:
        page: The page; the style is added to it.
        style: CSS that hides the parts that are not shown.
        width: Of the window, in pixels.
        fragment: The part of the address after the page, with its hash sign.
    """
    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub("</html>|$", f"<style>{style}</style>\\g<0>", text, count=1), encoding="utf-8")
    image = page.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},{MAX_HEIGHT}"]
    address = page.as_uri() + fragment
    subprocess.run(["chromium", *options, f"--screenshot={image}", address], check=True, stderr=subprocess.DEVNULL)
    return Image.open(image)


def save(image: Image.Image, name: str) -> None:
    """Write an image in 256 colors, with the empty rows at its top and bottom cut off but for a margin."""
    rgb = image.convert("RGB")
    empty = Image.new("RGB", rgb.size, rgb.getpixel((0, 0)))
    box = ImageChops.difference(rgb, empty).getbbox()
    if box is None:
        raise ValueError(f"{name} would be empty; has the browser drawn the page?")
    rows = max(0, box[1] - MARGIN), min(rgb.height, box[3] + MARGIN)
    rgb.crop((0, rows[0], rgb.width, rows[1])).quantize(256).save(FOLDER / name, optimize=True)


if __name__ == "__main__":
    main()
