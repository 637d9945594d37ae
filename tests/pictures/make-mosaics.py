#!/usr/bin/env python3
"""Writes the pictures `mosaic_*.jpg` and `turned_*.jpg`, made from the photographs beside it.

A photograph of one thing gives a handful of boxes. The same photographs beside each other, small and
large, mirrored and turned, give some two hundred, which the comparison with the reference needs. The
JPEGs are stored as cameras and programs store them: with or without chroma subsampling, baseline or
progressive.

    pip install pillow
    tests/pictures/make-mosaics.py
    tests/pictures/make-reference.py
"""

from pathlib import Path

from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent


def photograph(name):
    return Image.open(FOLDER / name).convert("RGB")


def mosaic(rows, width, height):
    """Photographs in rows, each cut and scaled to fill a cell of this size."""
    whole = Image.new("RGB", (width * len(rows[0]), height * len(rows)))
    for row, photographs in enumerate(rows):
        for column, picture in enumerate(photographs):
            cell = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
            whole.paste(cell, (column * width, row * height))
    return whole


def save(picture, name, **options):
    picture.save(FOLDER / name, "JPEG", **{"quality": 85, "subsampling": "4:2:0", **options})


def main():
    astronaut = photograph("skimage_astronaut.png")
    camera = photograph("skimage_camera.png")
    cat = photograph("skimage_chelsea.png")
    coffee = photograph("skimage_coffee.png")
    turned = ImageOps.mirror(astronaut)
    all_four = [
        [astronaut, cat, coffee, camera],
        [coffee, astronaut, camera, cat],
        [cat, camera, astronaut, coffee],
    ]
    small = [[astronaut, cat, coffee], [coffee, astronaut, cat], [cat, coffee, astronaut]]
    # Smaller than the network's input, larger, and far larger.
    save(mosaic(small, 90, 90), "mosaic_small.jpg", quality=92, subsampling="4:4:4")
    save(mosaic(all_four, 160, 160), "mosaic_medium.jpg")
    save(mosaic(all_four, 250, 250), "mosaic_large.jpg", quality=80)
    save(mosaic([[coffee] * 3] * 3, 200, 140), "mosaic_cups.jpg")
    astronauts = [[astronaut, turned], [turned, astronaut]]
    save(mosaic(astronauts, 250, 250), "mosaic_astronauts.jpg", progressive=True)
    people = [[astronaut, camera], [camera, astronaut]]
    save(mosaic(people, 200, 260), "mosaic_people.jpg", subsampling="4:4:4")
    mixed = [[astronaut, camera, coffee], [coffee, astronaut, camera], [camera, coffee, astronaut]]
    save(mosaic(mixed, 160, 160), "mosaic_mixed.jpg")
    save(mosaic([[astronaut, coffee], [cat, camera]], 320, 240), "mosaic_four.jpg", subsampling="4:2:2")
    save(coffee.transpose(Image.Transpose.ROTATE_90), "turned_coffee.jpg", progressive=True)


if __name__ == "__main__":
    main()
