"""Draw a contact sheet of the sample animals, a column a kind, each in few colours so that the sheet loads quickly.

python examples/contact_sheet.py sheet.png
"""

import sys

from PIL import Image

from headway.samples import KINDS, draw, kind_of

ROWS, SIDE, SEED, COLOURS = 5, 80, 0, 32


def main(path: str) -> None:
    """Write the sheet to ``path``."""
    sheet = Image.new("RGB", (len(KINDS) * SIDE, ROWS * SIDE))
    for index in range(ROWS * len(KINDS)):  # every block of len(KINDS) pictures holds each kind once
        corner = (kind_of(SEED, index) * SIDE, index // len(KINDS) * SIDE)
        picture = Image.fromarray(draw(SEED, index, SIDE)).quantize(COLOURS, dither=Image.Dither.NONE)
        sheet.paste(picture.convert("RGB"), corner)
    sheet.save(path, optimize=True)
    print(f"{path}: {', '.join(KINDS)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "contact-sheet.png")
