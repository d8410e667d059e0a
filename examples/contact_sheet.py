"""Draw a contact sheet of the synthetic animals, one column per class, in few colors so that the file is small.

python examples/contact_sheet.py sheet.png
"""

import sys

from PIL import Image

from headway.synthetic import CLASSES, class_index, draw_animal

ROWS, SIDE, SEED, COLORS = 5, 80, 0, 32


def main(path: str) -> None:
    """Write the sheet to ``path``."""
    sheet = Image.new("RGB", (len(CLASSES) * SIDE, ROWS * SIDE))
    for index in range(ROWS * len(CLASSES)):  # every block of len(CLASSES) images has each class once
        corner = (class_index(SEED, index) * SIDE, index // len(CLASSES) * SIDE)
        image = Image.fromarray(draw_animal(SEED, index, SIDE)).quantize(COLORS, dither=Image.Dither.NONE)
        sheet.paste(image.convert("RGB"), corner)
    sheet.save(path, optimize=True)
    print(f"{path}: {', '.join(CLASSES)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "contact-sheet.png")
