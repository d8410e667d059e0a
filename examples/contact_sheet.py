"""Draw a contact sheet of the sample animals, a column a kind.

python examples/contact_sheet.py sheet.png
"""

import sys

from PIL import Image

from headway.samples import KINDS, draw, kind_of

ROWS, SIDE, SEED = 8, 64, 0


def main(path: str) -> None:
    """Write the sheet to ``path``."""
    sheet = Image.new("RGB", (len(KINDS) * SIDE, ROWS * SIDE))
    for index in range(ROWS * len(KINDS)):  # every block of len(KINDS) pictures holds each kind once
        corner = (kind_of(SEED, index) * SIDE, index // len(KINDS) * SIDE)
        sheet.paste(Image.fromarray(draw(SEED, index, SIDE)), corner)
    sheet.save(path)
    print(f"{path}: {', '.join(KINDS)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "contact-sheet.png")
