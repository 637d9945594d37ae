#!/usr/bin/env python3
"""Writes `orientation/`: a picture of four colours, stored in each of EXIF's eight orientations.

When upright, each is 48 pixels wide and 32 high: red at the top left, green at the top right, blue at
the bottom left, white at the bottom right. The stored pixels follow the text of the specification. The
script checks that Pillow turns each file upright.

    pip install pillow
    tests/pictures/make-orientations.py
"""

import struct
from pathlib import Path

from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent / "orientation"
WIDTH, HEIGHT = 48, 32
COLOURS = {
    ("top", "left"): (255, 0, 0),
    ("top", "right"): (0, 255, 0),
    ("bottom", "left"): (0, 0, 255),
    ("bottom", "right"): (255, 255, 255),
}
# Exif 2.32, tag 0x0112: "The 0th row is at the visual ... of the image, and the 0th column is the
# visual ...".
SPECIFICATION = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}


def main():
    FOLDER.mkdir(exist_ok=True)
    for orientation in SPECIFICATION:
        picture = stored(orientation)
        for extension, options in [
            # No chroma subsampling, so that the colours do not blur at the edges.
            ("jpg", {"quality": 95, "subsampling": "4:4:4"}),
            ("png", {"optimize": True}),
            ("webp", {"lossless": True}),
        ]:
            path = FOLDER / f"{orientation}.{extension}"
            picture.save(path, exif=exif(orientation), **options)
            check(path)


def stored(orientation):
    """The rows and columns of the file: each of its quarters has the colour of a visual corner."""
    first_row, first_column = SPECIFICATION[orientation]
    is_sideways = first_row in ("left", "right")
    size = (HEIGHT, WIDTH) if is_sideways else (WIDTH, HEIGHT)
    picture = Image.new("RGB", size)
    half = (size[0] // 2, size[1] // 2)
    for row, row_side in enumerate((first_row, OPPOSITE[first_row])):
        for column, column_side in enumerate((first_column, OPPOSITE[first_column])):
            corner = (column_side, row_side) if is_sideways else (row_side, column_side)
            left, top = column * half[0], row * half[1]
            picture.paste(COLOURS[corner], (left, top, left + half[0], top + half[1]))
    return picture


def exif(orientation):
    """TIFF, big-endian, with one directory of one entry: orientation, a short."""
    header = b"MM\x00\x2a" + struct.pack(">L", 8)
    entry = struct.pack(">HHLHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\x00\x00" + header + struct.pack(">H", 1) + entry + struct.pack(">L", 0)


def check(path):
    with Image.open(path) as file:
        upright = ImageOps.exif_transpose(file).convert("RGB")
    assert upright.size == (WIDTH, HEIGHT), path
    for (vertical, horizontal), colour in COLOURS.items():
        x = 4 if horizontal == "left" else WIDTH - 5
        y = 4 if vertical == "top" else HEIGHT - 5
        found = upright.getpixel((x, y))
        assert all(abs(a - b) <= 4 for a, b in zip(found, colour)), (path, x, y, found)


if __name__ == "__main__":
    main()
