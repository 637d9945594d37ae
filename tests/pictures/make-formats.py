#!/usr/bin/env python3
"""Writes `formats/`: one cat in the kinds of file that the tests' own encoders do not write.

All are made from `rgb.png`: the cat, 271x181 (odd, so that no row of bits and no pass of an interlaced
picture ends evenly), with four bits per colour so that the files stay small. This script itself writes
the files that Pillow cannot write (interlaced PNGs, and those with few bits), chunk by chunk. Pillow then
reads each file back, and the script checks the pixels.

    pip install pillow
    tests/pictures/make-formats.py
"""

import struct
import zlib
from pathlib import Path

from PIL import Image, ImageChops, ImageOps, ImageStat

FOLDER = Path(__file__).resolve().parent / "formats"
WIDTH, HEIGHT = 271, 181
# The columns from which files with transparency are half transparent, and fully transparent.
HALF, NONE = 250, 260
EXIF_TURN_RIGHT = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
GREY, RGB = 0, 2


def main():
    FOLDER.mkdir(exist_ok=True)
    cat = small_cat()
    cat.save(FOLDER / "rgb.png", optimize=True)
    pngs(cat)
    palettes(cat)
    webps(cat)
    jpegs(cat)
    for path in sorted(FOLDER.iterdir()):
        assert path.stat().st_size < 40_000, path


def small_cat():
    with Image.open(FOLDER.parent / "skimage_chelsea.png") as file:
        cat = file.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return cat.point(lambda value: round(value / 17) * 17)


def pngs(cat):
    write_png("rgb_interlaced.png", cat, 8, RGB, interlaced=True)
    check("rgb_interlaced.png", cat)
    # One colour, that of the top left corner, marks transparent pixels.
    key = cat.getpixel((0, 0))
    write_png("rgb_transparent_colour.png", cat, 8, RGB, transparent=struct.pack(">3H", *key))
    check("rgb_transparent_colour.png", recoloured(cat, key, (255, 255, 255)))
    for bits in (1, 2, 4):
        write_png(f"grey_{bits}.png", grey(cat), bits, GREY)
        check(f"grey_{bits}.png", few_bits(grey(cat), bits))
    write_png("grey_1_interlaced.png", grey(cat), 1, GREY, interlaced=True)
    check("grey_1_interlaced.png", few_bits(grey(cat), 1))
    turned = cat.transpose(Image.Transpose.ROTATE_90)
    turned.save(FOLDER / "rgb_turned.png", optimize=True, exif=EXIF_TURN_RIGHT)
    check("rgb_turned.png", cat)


def recoloured(picture, before, after):
    result = Image.new("RGB", picture.size)
    result.putdata([after if colour == before else colour for colour in colours_of(picture)])
    return result


def grey(cat):
    pixels = [(299 * r + 587 * g + 114 * b) // 1000 for r, g, b in colours_of(cat)]
    result = Image.new("L", cat.size)
    result.putdata(pixels)
    return result


def few_bits(picture, bits):
    return picture.point(lambda value: (value >> (8 - bits)) * 255 // ((1 << bits) - 1))


def colours_of(picture):
    data = picture.tobytes()
    return list(zip(data[0::3], data[1::3], data[2::3]))


def palettes(cat):
    # The cat has few enough colours for a palette.
    colours = len(set(colours_of(cat)))
    cat.quantize(colours).save(FOLDER / "palette.png", optimize=True)
    check("palette.png", cat)
    cat.quantize(16).save(FOLDER / "palette_16.png", bits=4)
    check("palette_16.png", cat, most=10)
    # Two further colours for the columns at the right: half-transparent red, and fully transparent.
    picture = cat.quantize(colours)
    picture.putpalette(picture.getpalette()[: colours * 3] + [255, 0, 0, 0, 0, 0])
    picture.paste(colours, (HALF, 0, NONE, HEIGHT))
    picture.paste(colours + 1, (NONE, 0, WIDTH, HEIGHT))
    opacity = bytes([255] * colours + [128, 0])
    picture.save(FOLDER / "palette_transparent.png", transparency=opacity)
    # Half-transparent red on white, and white.
    edge = cat.copy()
    edge.paste((255, 127, 127), (HALF, 0, NONE, HEIGHT))
    edge.paste((255, 255, 255), (NONE, 0, WIDTH, HEIGHT))
    check("palette_transparent.png", edge)


def webps(cat):
    cat.save(FOLDER / "lossy.webp", quality=80)
    see_through = cat.convert("RGBA")
    see_through.putalpha(Image.new("L", cat.size, 255))
    see_through.paste((0, 0, 0, 0), (NONE, 0, WIDTH, HEIGHT))
    see_through.save(FOLDER / "lossy_transparent.webp", quality=80)
    edge = cat.copy()
    edge.paste((255, 255, 255), (NONE, 0, WIDTH, HEIGHT))
    check("lossy_transparent.webp", edge, most=6)
    white = Image.new("RGB", cat.size, "white")
    options = {"save_all": True, "append_images": [white], "duration": 100, "quality": 80}
    cat.save(FOLDER / "animated.webp", **options)
    turned = cat.transpose(Image.Transpose.ROTATE_90)
    turned.save(FOLDER / "lossy_turned.webp", quality=80, exif=EXIF_TURN_RIGHT)
    path = FOLDER / "lossy_turned_as_jpeg.webp"
    path.write_bytes(with_jpegs_exif((FOLDER / "lossy_turned.webp").read_bytes()))
    for name in ("lossy.webp", "animated.webp", "lossy_turned.webp", path.name):
        check(name, cat, most=6)
    large_webps()


def large_webps():
    """Large enough that a decoder's memory grows with the area alone; of few colours, so that the files are small."""
    size = (1600, 1200)
    plain = Image.linear_gradient("L").resize(size).convert("RGB")
    plain.save(FOLDER / "large_lossy.webp", quality=10)
    see_through = plain.convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").rotate(90).resize(size))
    see_through.save(FOLDER / "large_lossy_transparent.webp", quality=10, alpha_quality=10)
    other = Image.new("RGB", size, "white")
    options = {"save_all": True, "append_images": [other], "duration": 100, "quality": 10}
    plain.save(FOLDER / "large_animated.webp", **options)


def with_jpegs_exif(webp):
    """The WebP with its EXIF as a JPEG has it: so Pillow wrote it before 9.3, and some telephones do."""
    start = webp.index(b"EXIF")
    assert webp[start + 8 :] == EXIF_TURN_RIGHT.removeprefix(b"Exif\0\0")
    exif = b"EXIF" + struct.pack("<L", len(EXIF_TURN_RIGHT)) + EXIF_TURN_RIGHT
    body = webp[8:start] + exif
    return b"RIFF" + struct.pack("<L", len(body)) + body


def jpegs(cat):
    grey(cat).save(FOLDER / "grey.jpg", quality=85)
    check("grey.jpg", grey(cat), most=6)
    inks = Image.new("CMYK", cat.size)
    inks.putdata([to_inks(*colour) for colour in colours_of(cat)])
    path = FOLDER / "cmyk_without_adobe.jpg"
    inks.save(path, quality=60)
    path.write_bytes(without_adobe(path.read_bytes()))
    # Pillow reads inks as Adobe stores them (0 is full ink), with or without Adobe's marker.
    check(path.name, cat, most=6)


def to_inks(red, green, blue):
    light = max(red, green, blue)
    return tuple((light - value) * 255 // max(light, 1) for value in (red, green, blue)) + (255 - light,)


def without_adobe(jpeg):
    start = jpeg.index(b"\xff\xee")
    length = struct.unpack(">H", jpeg[start + 2 : start + 4])[0]
    assert jpeg[start + 4 : start + 9] == b"Adobe"
    return jpeg[:start] + jpeg[start + 2 + length :]


def check(name, expected, most=0):
    """That Pillow sees this picture, on white, but for a mean difference of so many grey levels."""
    with Image.open(FOLDER / name) as file:
        upright = ImageOps.exif_transpose(file).convert("RGBA")
    seen = Image.new("RGBA", upright.size, "white")
    seen.alpha_composite(upright)
    difference = ImageChops.difference(seen.convert("RGB"), expected.convert("RGB"))
    mean = ImageStat.Stat(difference).mean
    assert max(mean) <= most, (name, mean)


def write_png(name, picture, bits, colour, interlaced=False, transparent=None):
    """A PNG (ISO/IEC 15948) of so many bits a sample, the highest of the picture's eight."""
    header = struct.pack(">2L5B", *picture.size, bits, colour, 0, 0, int(interlaced))
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    rows = b"".join(rows_of(picture, bits, *each) for each in passes)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    if transparent:
        chunks.insert(1, (b"tRNS", transparent))
    framed = (
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (FOLDER / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


# The first column and row of each pass, and the distances of its columns and rows.
ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]


def rows_of(picture, bits, left, top, across, down):
    """The rows of one pass, each with its filter before it."""
    width, height = picture.size
    channels = len(picture.getbands())
    data, stride = picture.tobytes(), width * channels
    result, above = b"", None
    for y in range(top, height, down):
        line = data[y * stride : (y + 1) * stride]
        samples = [line[x * channels + c] for x in range(left, width, across) for c in range(channels)]
        row = packed(samples, bits)
        result += filtered(row, above or bytes(len(row)), channels) if bits == 8 else b"\0" + row
        above = row
    return result


def packed(samples, bits):
    """Samples of so many bits, from the highest bit of each byte down."""
    per_byte = 8 // bits
    row = bytearray(-(-len(samples) // per_byte))
    for index, sample in enumerate(samples):
        shift = 8 - bits - index % per_byte * bits
        row[index // per_byte] |= sample >> (8 - bits) << shift
    return bytes(row)


def filtered(row, above, channels):
    """The row by the filter that leaves the smallest values, as libpng chooses it."""
    left = bytes(channels) + row[:-channels]
    corner = bytes(channels) + above[:-channels]
    guesses = [
        bytes(len(row)),
        left,
        above,
        bytes((a + b) // 2 for a, b in zip(left, above)),
        bytes(map(paeth, left, above, corner)),
    ]
    candidates = []
    for kind, guess in enumerate(guesses):
        rest = bytes((value - guessed) % 256 for value, guessed in zip(row, guess))
        candidates.append((sum(min(value, 256 - value) for value in rest), bytes([kind]) + rest))
    return min(candidates)[1]


def paeth(left, above, corner):
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


if __name__ == "__main__":
    main()
