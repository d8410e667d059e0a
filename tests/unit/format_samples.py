"""Samples of many file formats, as bytes, with the expected pixels, notes or error. All are generated here."""

import bz2
import gzip
import io
import pickle
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageCms

ROWS, COLUMNS = np.mgrid[0:60, 0:80]
SCENE = np.stack([COLUMNS * 3, ROWS * 4, ROWS + COLUMNS], -1).astype(np.uint8)  # H W C
DEEP = SCENE.astype(np.uint16) * 257
IMAGE = Image.fromarray(SCENE)
RAMP = SCENE[..., 0]
HALF = (COLUMNS > 40).astype(np.uint8) * 255
CLEAR = np.where(HALF[..., None] > 0, SCENE, 255)
"""The scene with its transparent left half composited on white."""


def save(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def pages(*values):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for some, reduced in values:
            writer.write(some, photometric="rgb", subfiletype=int(reduced))
    return file.getvalue()


def npy(values, **options):
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def npz(values):
    file = io.BytesIO()
    np.savez(file, values=values)
    return file.getvalue()


def layered(colors, opacity, mode="RGBA"):
    return Image.merge(mode, (*colors.split(), Image.fromarray(opacity)))


def with_white(offset):
    image = SCENE.copy()
    image[offset] = 255
    return image


# ---- PNG, written chunk by chunk

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(tag, data=b""):
    return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))


def bits_of(row, bits):
    return np.packbits((row.reshape(-1, 1) >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)).tobytes()


END = chunk(b"IEND")


def png(values, bits, kind, *extra, interlaced=False, end=END):
    height, width = values.shape[:2]
    values = values[..., None] if values.ndim == 2 else values  # H W C

    def packed(row):
        return row.astype(">u2").tobytes() if bits == 16 else bits_of(row, bits)

    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(b"\0" + packed(row) for y, x, dy, dx in passes for row in values[y::dy, x::dx] if row.size)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + end


def bomb(tag):
    return chunk(tag, b"a\0" + (b"" if tag == b"iTXt" else b"\0") + zlib.compress(bytes(3_000_000)))


# ---- JPEG, by its segments

JPEG = save(IMAGE, "JPEG", quality=95, subsampling=0)


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def segments(jpeg):
    """Yield (marker, offset) of every segment up to the first scan."""
    offset = 2
    while True:
        yield jpeg[offset + 1], offset
        if jpeg[offset + 1] == 0xDA:
            return
        offset += 2 + int.from_bytes(jpeg[offset + 2 : offset + 4])


def inserted(data, jpeg=JPEG):
    return jpeg[:2] + data + jpeg[2:]


def frame_with(offset, *values, jpeg=JPEG):
    """Overwrite bytes of the frame's header: its marker is at 1, bit depth at 4, height at 5, channels at 9."""
    offset = offset + next(offset for marker, offset in segments(jpeg) if marker in (0xC0, 0xC1, 0xC2))
    return jpeg[:offset] + bytes(values) + jpeg[offset + len(values) :]


def without(marker, jpeg=JPEG):
    offsets = [offset for each, offset in segments(jpeg) if each == marker]
    for offset in reversed(offsets):
        jpeg = jpeg[:offset] + jpeg[offset + 2 + int.from_bytes(jpeg[offset + 2 : offset + 4]) :]
    return jpeg


def exif(value, kind=3, thumbnail=b""):
    """EXIF with an orientation of the given type, and a thumbnail in the second IFD."""
    value = struct.pack("<H", value) + b"\0\0" if kind == 3 else value
    after = 8 + 2 + 12 + 4
    body = b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x112, kind, 1) + value + struct.pack("<I", after if thumbnail else 0)
    if thumbnail:
        body += (
            struct.pack("<HHHIIHHII", 2, 0x201, 4, 1, after + 30, 0x202, 4, 1, len(thumbnail)) + bytes(4) + thumbnail
        )
    return segment(0xE1, b"Exif\0\0" + body)


RESTARTS = save(IMAGE, "JPEG", quality=95, subsampling=0, restart_marker_blocks=4)


def without_restarts(every=1):
    parts, number = RESTARTS.split(b"\xff\xda")[0], 0
    rest = RESTARTS[len(parts) :]
    for mark in range(0, 8, every):
        rest, number = rest.replace(bytes([0xFF, 0xD0 + mark]), b""), number + 1
    return parts + rest


def ycck():
    """CMYK as Adobe stores it: inverted, and in YCCK."""
    negative = Image.fromarray(255 - SCENE).convert("YCbCr")
    planes = [plane.point(lambda v: 255 - v) for plane in negative.split()]
    data = save(Image.merge("CMYK", [*planes, Image.new("L", IMAGE.size, 0)]), "JPEG", quality=95, subsampling=0)
    offset = data.find(b"Adobe") + 11
    return data[:offset] + b"\2" + data[offset + 1 :]


# ---- BMP, GIF, TGA


def bmp(bits, rows, width=80, height=60, palette=b"", compression=0, masks=b""):
    start = 54 + len(masks) + len(palette)
    info = (40, width, height, 1, bits, compression, len(rows), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", start + len(rows), 0, 0, start, *info) + masks + palette + rows


def padded(values, bits):
    rows = (bits_of(row, bits) if bits < 8 else row.tobytes() for row in values)
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


def rgb16(green):
    red, middle, blue = (SCENE[::-1, :, i].astype("<u2") >> (8 - width) for i, width in enumerate((5, green, 5)))
    return padded(red << (5 + green) | middle << 5 | blue, 16)


GRAYS = b"".join(bytes([v, v, v, 0]) for v in range(0, 256, 17))


def gif_with_a_small_first_frame():
    frame = Image.new("P", (40, 30), 1)
    frame.putpixel((0, 0), 0)  # both are used, so both stay
    whole = save(frame, "GIF")
    offset = whole.find(struct.pack("<BHHHH", 0x2C, 0, 0, 40, 30))
    head = b"GIF89a" + struct.pack("<HHBBB", 80, 60, 0x81, 0, 0) + bytes([0] * 3 + [200] * 3 + [9] * 6)
    return head + struct.pack("<BHHHH", 0x2C, 20, 15, 40, 30) + whole[offset + 9 :]


def small_first_frame():
    image = np.zeros((60, 80, 3), np.uint8)
    image[15:45, 20:60] = 200
    return image


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PALETTE = IMAGE.quantize(16)
INDICES, COLORS = np.asarray(PALETTE), np.asarray(PALETTE.convert("RGB"))
TRNS = chunk(b"tRNS", bytes([0]))

READ = {
    # PNG
    "palette with transparency": (lambda: save(PALETTE, "PNG", transparency=bytes([0] + [255] * 15)),
                                  np.where(INDICES[..., None] == 0, 255, COLORS)),
    "PNG of 1 bit": (lambda: png(HALF // 255, 1, 0), HALF),
    "PNG of 2 bits": (lambda: png(RAMP >> 6, 2, 0), (RAMP >> 6) * 85),
    "PNG of 4 bits": (lambda: png(RAMP >> 4, 4, 0), (RAMP >> 4) * 17),
    "palette of 4 bits, interlaced": (lambda: png(ROWS // 4, 4, 3, chunk(b"PLTE", bytes(range(48))), interlaced=True),
                                      np.stack([ROWS // 4 * 3 + i for i in range(3)], -1)),
    "gray with alpha": (lambda: save(layered(Image.fromarray(RAMP), HALF, "LA"), "PNG"), np.where(HALF, RAMP, 255)),
    "color with alpha": (lambda: save(layered(IMAGE, HALF), "PNG"), CLEAR),
    "PNG, interlaced": (lambda: png(SCENE, 8, 2, interlaced=True), SCENE),
    "PNG of 16 bits, interlaced": (lambda: png(DEEP, 16, 2, interlaced=True), SCENE),
    "PNG of 16 bits, 12 of them in use": (lambda: png(DEEP, 16, 2, chunk(b"sBIT", bytes([12, 12, 12]))), SCENE),
    "PNG of 16 bits with a transparent color": (
        lambda: png(DEEP, 16, 2, chunk(b"tRNS", struct.pack(">HHH", *DEEP[30, 40]))), with_white((30, 40))),
    "PNG of 16 bits with a transparent gray": (
        lambda: png(DEEP[..., 0], 16, 0, chunk(b"tRNS", struct.pack(">H", DEEP[0, 40, 0]))),
        np.where(COLUMNS == 40, 255, RAMP)),
    "PNG with trailing garbage": (lambda: png(SCENE, 8, 2) + b"garbage" * 50, SCENE),
    "PNG with a profile": (lambda: save(IMAGE, "PNG", icc_profile=SRGB), SCENE),
    "PNG with a damaged profile": (lambda: png(SCENE, 8, 2, chunk(b"iCCP", b"a\0\0garbage")), SCENE),
    "animated PNG": (lambda: save(IMAGE, "PNG", save_all=True, append_images=[IMAGE.rotate(90)]), SCENE),
    # JPEG
    "progressive JPEG": (lambda: save(IMAGE, "JPEG", quality=95, subsampling=0, progressive=True), SCENE),
    "JPEG of RGB": (lambda: save(IMAGE, "JPEG", quality=95, keep_rgb=True), SCENE),
    "JPEG of CMYK": (lambda: save(IMAGE.convert("CMYK"), "JPEG", quality=95), SCENE),
    "JPEG of YCCK": (ycck, SCENE),
    "JPEG with trailing garbage": (lambda: JPEG + b"garbage" * 50, SCENE),
    "JPEG with a thumbnail": (lambda: inserted(exif(1, thumbnail=save(IMAGE.resize((16, 12)), "JPEG"))), SCENE),
    "JPEG with restart markers": (lambda: RESTARTS, SCENE),
    "JPEG without Huffman tables, as in MJPEG": (lambda: without(0xC4), SCENE),
    "JPEG with a profile": (lambda: save(IMAGE, "JPEG", quality=95, subsampling=0, icc_profile=SRGB), SCENE),
    "JPEG with a damaged profile": (lambda: save(IMAGE, "JPEG", quality=95, icc_profile=b"x" * 9), SCENE),
    "JPEG under 13 MB of comments": (lambda: inserted(segment(0xFE, bytes(65_000)) * 200), SCENE),
    "two images in a JPEG": (
        lambda: save(IMAGE, "MPO", quality=95, subsampling=0, save_all=True, append_images=[IMAGE.rotate(180)]), SCENE),
    **{f"EXIF orientation {turn}": (lambda turn=turn: inserted(exif(turn)), SCENE) for turn in (0, 1, 9, 65535)},
    "EXIF orientation 3": (lambda: inserted(exif(3)), SCENE[::-1, ::-1]),
    "EXIF orientation 6": (lambda: inserted(exif(6)), np.rot90(SCENE, -1)),
    "EXIF orientation as a text": (lambda: inserted(exif(b"six\0", kind=2)), SCENE),
    "EXIF with an invalid offset": (lambda: inserted(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")), SCENE),
    # WebP, AVIF, JPEG 2000, GIF
    "WebP, lossless": (lambda: save(IMAGE, "WEBP", lossless=True), SCENE),
    "animated WebP": (
        lambda: save(IMAGE, "WEBP", lossless=True, save_all=True, append_images=[IMAGE.rotate(9)]), SCENE),
    "WebP with alpha": (lambda: save(layered(IMAGE, HALF), "WEBP", lossless=True, exact=True), CLEAR),
    "JPEG 2000": (lambda: save(IMAGE, "JPEG2000"), SCENE),
    "JPEG 2000 codestream": (lambda: save(IMAGE, "JPEG2000", no_jp2=True), SCENE),
    "GIF with a small first frame": (gif_with_a_small_first_frame, small_first_frame()),
    # BMP
    "BMP of 1 bit": (lambda: bmp(1, padded(HALF[::-1] // 255, 1), palette=bytes(4) + b"\xff\xff\xff\0"), HALF),
    "BMP of 4 bits": (lambda: bmp(4, padded(RAMP[::-1] >> 4, 4), palette=GRAYS), (RAMP >> 4) * 17),
    "BMP of 8 bits": (lambda: save(PALETTE, "BMP"), COLORS),
    "BMP of 15 bits": (lambda: bmp(16, rgb16(5)), SCENE >> 3 << 3),
    "BMP of 16 bits": (lambda: bmp(16, rgb16(6), compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 31)),
                       SCENE >> (3, 2, 3) << (3, 2, 3)),
    "top-down BMP": (lambda: bmp(24, padded(SCENE[..., ::-1], 24), height=-60), SCENE),
    "BMP of 32 bits": (lambda: bmp(32, np.dstack([SCENE[::-1, :, ::-1], 0 * HALF]).tobytes()), SCENE),
    # Netpbm
    "PPM": (lambda: b"P6 80 60 255\n" + SCENE.tobytes(), SCENE),
    "PPM as a text": (lambda: b"P3 80 60 255\n" + " ".join(map(str, SCENE.ravel())).encode(), SCENE),
    "PPM of 16 bits": (lambda: b"P6\n# by hand\n80 60\n65535\n" + DEEP.astype(">u2").tobytes(), SCENE),
    "PPM of 12 bits": (lambda: b"P6 80 60 4095\n" + (DEEP >> 4).astype(">u2").tobytes(), SCENE),
    "PGM of 16 bits": (lambda: b"P5 80 60 65535\n" + DEEP[..., 0].astype(">u2").tobytes(), RAMP),
    "PGM of 12 bits": (lambda: b"P5 80 60 4095\n" + (DEEP[..., 0] >> 4).astype(">u2").tobytes(), RAMP),
    "PBM": (lambda: b"P4 80 60\n" + np.packbits(HALF == 0, axis=1).tobytes(), HALF),
    "PFM of gray": (lambda: b"Pf\n80 60\n-1.0\n" + (RAMP[::-1] / 255).astype("<f4").tobytes(), RAMP),
    "PFM of color": (lambda: b"PF\n80 60\n1.0\n" + (SCENE[::-1] / 255).astype(">f4").tobytes(), SCENE),
    # TIFF
    "TIFF in tiles": (lambda: tiff(SCENE, photometric="rgb", tile=(32, 32)), SCENE),
    "planar TIFF": (lambda: tiff(np.moveaxis(SCENE, 2, 0), photometric="rgb", planarconfig=2), SCENE),
    "TIFF, LZW with predictor": (lambda: save(IMAGE, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), SCENE),
    "TIFF, deflate with predictor": (lambda: tiff(DEEP, photometric="rgb", compression="zlib", predictor=2), SCENE),
    "TIFF, PackBits": (lambda: save(IMAGE, "TIFF", compression="packbits"), SCENE),
    "TIFF with JPEG inside": (lambda: save(IMAGE, "TIFF", compression="jpeg", quality=95), SCENE),
    "TIFF, fax group 4": (lambda: save(Image.fromarray(HALF).convert("1"), "TIFF", compression="group4"), HALF),
    "TIFF with a palette": (lambda: save(PALETTE, "TIFF"), COLORS),
    "TIFF, big-endian": (lambda: tiff(DEEP[..., 0], byteorder=">"), RAMP),
    "TIFF of signed numbers": (lambda: tiff((RAMP.astype(int) - 100).astype(np.int16)), RAMP * (255 / 237)),
    "TIFF of half floats": (lambda: tiff((RAMP / 255).astype(np.float16)), RAMP),
    "TIFF of doubles": (lambda: tiff(RAMP / 255), RAMP),
    "TIFF where white is 0": (lambda: tiff(65535 - DEEP[..., 0], photometric="miniswhite"), RAMP),
    "TIFF with NaN": (lambda: tiff(np.where(ROWS < 3, np.nan, RAMP / 255).astype(np.float32)),
                                             np.where(ROWS < 3, 0, RAMP)),
    "TIFF of Lab": (
        lambda: save(ImageCms.profileToProfile(IMAGE, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
                                               outputMode="LAB"), "TIFF"), SCENE),
    "TIFF with its thumbnail first": (lambda: pages((SCENE[::4, ::4], True), (SCENE, False)), SCENE),
    "TIFF with smaller versions after it": (lambda: pages((SCENE, False), (SCENE[::2, ::2], True)), SCENE),
    "TIFF of three gray pages": (
        lambda: tiff(np.stack([RAMP, 255 - RAMP, RAMP // 2]), photometric="minisblack"), RAMP),
    "TIFF of three deep gray pages": (
        lambda: tiff(np.stack([RAMP, 255 - RAMP, RAMP // 2]).astype(np.uint16) * 257, photometric="minisblack"), RAMP),
    "TIFF with only a thumbnail": (lambda: tiff(SCENE[::4, ::4], photometric="rgb", subfiletype=1),
                                       SCENE[::4, ::4]),
    # NumPy
    "array in Fortran's order": (lambda: npy(np.asfortranarray(DEEP)), SCENE),
    "array of booleans": (lambda: npy(HALF > 0), HALF),
    "array of floats, big-endian": (lambda: npy((SCENE / 255).astype(">f4")), SCENE),
    "array of negative numbers": (lambda: npy(RAMP / -1.0), 255 - RAMP * (255 / 237)),
}  # fmt: skip
"""By name: a function that makes the file, and the expected pixels, H W or H W C of 8 bits."""

NOTED = {
    "palette with transparency": "transparent parts were composited on white",
    "PNG of 16 bits, interlaced": "0 became black and 65535 white",
    "animated PNG": "the first of several frames",
    "JPEG of CMYK": "CMYK was converted to RGB",
    "two images in a JPEG": "the first of several frames",
    "EXIF orientation 6": "turned upright by its EXIF orientation 6",
    "animated WebP": "the first of several frames",
    "PPM of 12 bits": "0 became black and 65535 white",
    "TIFF of signed numbers": "-100 became black and 137 white",
    "TIFF with NaN": "240 numbers that are not finite became black",
    "TIFF with its thumbnail first": "the first page that is not a thumbnail",
    "TIFF with smaller versions after it": "the first of several pages",
    "TIFF of three gray pages": "the first of several pages",
    "TIFF of three deep gray pages": "the first of several pages",
    "TIFF with only a thumbnail": "the file contains only a smaller version of the image",
    "array of negative numbers": "-237 became black and 0 white",
}
"""Expected notes on some of them."""

REFUSED = {
    "nothing": (b"", "empty file"),
    "one byte": (b"\xff", "an unknown image format"),
    "PNG without end": (png(SCENE, 8, 2, end=b""), "truncated"),
    "PNG without pixels": (SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 8, 2, 0, 0, 0)) + chunk(b"IEND"),
                           "truncated: a PNG without pixels"),
    "PNG of no width": (png(SCENE[:, :0], 8, 2), "damaged: a PNG of 0 x 60 pixels"),
    "PNG of 3 bits": (png(RAMP >> 5, 3, 0), "damaged: a PNG of 3 bits and color type 0"),
    "PNG of type 5": (png(SCENE, 8, 5), "damaged: a PNG of 8 bits and color type 5"),
    "PNG without its palette": (png(ROWS // 4, 8, 3), "damaged: a PNG without its palette"),
    "PNG with a text bomb": (png(SCENE, 8, 2, bomb(b"zTXt")), "decompresses to an excessive size"),
    "PNG with a profile bomb": (png(SCENE, 8, 2, bomb(b"iCCP")), "decompresses to an excessive size"),
    "beginning of a JPEG": (JPEG[:3], "truncated: a JPEG without pixels"),
    "JPEG of 12 bits": (frame_with(4, 12), "a JPEG of 12 bits is not read; convert"),
    "lossless JPEG": (frame_with(1, 0xC3), "lossless JPEG is not read; convert"),
    "JPEG-LS": (frame_with(1, 0xF7), "JPEG-LS is not read; convert"),
    "JPEG of no height": (frame_with(5, 0, 0), "or damaged: a JPEG without a size"),
    "JPEG of two channels": (frame_with(9, 2), "a JPEG of 2 channels is not read"),
    "JPEG without its restart markers": (without_restarts(), "damaged: 19 of 19 restart markers are missing"),
    "JPEG without half of them": (without_restarts(2), r"damaged: 10 of 19 restart markers are missing"),
    "truncated WebP": (save(IMAGE, "WEBP", quality=99)[:-200], "truncated|damaged|unknown image"),
    "truncated GIF": (save(PALETTE, "GIF")[:500], "truncated"),
    "GIF of no size": (b"GIF89a" + bytes(7) + b";", "unknown image format|damaged"),
    "truncated BMP": (save(IMAGE, "BMP")[:5000], "truncated"),
    "BMP of negative width": (bmp(24, padded(SCENE, 24), width=-80), "damaged: a BMP -80 pixels wide"),
    "BMP of run lengths that end too soon": (bmp(8, b"\x50\5\0\0" * 30, palette=GRAYS, compression=1), "damaged"),
    "truncated PPM": (b"P6 80 60 255\n" + SCENE.tobytes()[:999], "truncated"),
    "truncated PPM of 16 bits": (b"P6 80 60 65535\n" + DEEP.tobytes()[:999], "truncated"),
    "PPM of no size": (b"P6 0 60 65535\n", "damaged: an image of 0 x 60 pixels"),
    "huge PFM": (b"PF 99999 99999 1.0\n", "too many pixels: 99999 x 99999"),
    "TIFF of nothing": (b"II*\0\x08\0\0\0" + bytes(6), "damaged: a TIFF of 0 x 0 pixels"),
    "TIFF whose IFD links to itself": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "damaged: a TIFF of 0 x 0 pixels"),
    "truncated TIFF": (tiff(DEEP, photometric="rgb")[:9000], "damaged|truncated"),
    "TIFF of complex numbers": (tiff(SCENE[..., 0].astype(np.complex64)), "channels of 64 bits is not read"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC is not read; convert it to JPEG"),
    "HEIC of several": (b"\0\0\0\x18ftyphevx" + bytes(60), "HEIC is not read; convert it to JPEG"),
    "JPEG XL": (b"\xff\x0a" + bytes(60), "JPEG XL is not read; convert it to JPEG"),
    "JPEG XL in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL is not read; convert it to JPEG"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(60), "a video; extract single images from it"),
    "another video": (b"RIFF\0\0\0\0AVI " + bytes(60), "a video"),
    "raw data": (b"\0\0\0\x18ftypcrx " + bytes(60), "a camera raw format; convert it"),
    "other raw data": (b"II*\0\x10\0\0\0CR\2\0" + bytes(60), "a camera raw format; convert it"),
    "Photoshop's": (b"8BPS" + bytes(90), "a Photoshop file; save it as PNG or TIFF"),
    "icon": (save(IMAGE, "ICO", sizes=[(32, 32)]), "an icon; convert it to PNG"),
    "texture": (save(IMAGE, "DDS"), r"a texture \(DDS\)"),
    "QOI": (b"qoif" + bytes(60), "QOI is not read"),
    "PAM": (b"P7\nWIDTH 80\n", "PAM is not read"),
    "TGA": (struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 80, 60, 24, 32) + SCENE.tobytes(),
            "an unknown image format"),
    "OpenEXR": (b"v/1\x01" + bytes(60), "OpenEXR is not read; convert it to TIFF"),
    "Radiance": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60 +X 80\n", "Radiance HDR is not read"),
    "DICOM": (bytes(128) + b"DICM" + bytes(60), "DICOM is not read; export it to PNG or TIFF of 16 bits"),
    "FITS": (b"SIMPLE  =                    T" + bytes(60), "FITS is not read"),
    "NIfTI": (struct.pack("<i", 348) + bytes(340) + b"n+1\0", "NIfTI is not read"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5 holds arrays"),
    "SVG": (b"<?xml version='1.0'?>\n<!-- by hand -->\n<svg xmlns='http://www.w3.org/2000/svg'/>",
            "SVG is a vector format"),
    "SVG after a byte order mark": (b"\xef\xbb\xbf<svg></svg>", "SVG is a vector format"),
    "PDF": (b"%PDF-1.7\n" + bytes(60), "a PDF, not an image"),
    "PostScript": (b"\xc5\xd0\xd3\xc6" + bytes(60), "PostScript, which is a program"),
    "web page": (b"\n<!DOCTYPE html><title>404</title>", "a web page, not an image"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "fetch it with git lfs pull"),
    "zip": (npz(SCENE), "a zip archive; extract it"),
    "gzip": (gzip.compress(b"x"), "a gzip archive; extract it"),
    "bzip2": (bz2.compress(b"x"), "a bzip2 archive; extract it"),
    "tar": (b"a.jpg" + bytes(252) + b"ustar\x0000" + bytes(300), "a tar; extract it, or pass it as DATA"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle, which is never read"),
    "program": (b"MZ" + bytes(60), "a program"),
    "text": (b'{"a": 1}', "a text, not an image"),
    "array of objects": (npy(np.array([{}], object), allow_pickle=True), "an array of object, which is not a dtype"),
    "array of texts": (npy(np.array([["a"]])), "which is not a dtype of pixels"),
    "array of records": (npy(np.zeros((4, 4), [("r", "u1"), ("g", "u1")])), "which is not a dtype of pixels"),
    "array of complex numbers": (npy(SCENE[..., 0].astype(complex)), "an array of complex128"),
    "array of five axes": (npy(np.zeros((1, 2, 3, 4, 5))), "an image is H W, H W C or C H W"),
    "array of one axis": (npy(np.zeros(5)), "an image is H W, H W C or C H W"),
    "array of nothing": (npy(np.zeros((0, 4))), "an image is H W, H W C or C H W"),
    "array with a larger shape than data": (
        b"\x93NUMPY\1\0v\0" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999, 99999), }".ljust(118),
        "too many pixels: 99999 x 99999"),
    "array whose header is a program": (
        b"\x93NUMPY\1\0v\0" + b"__import__('os').mkdir('ran')".ljust(117) + b"\n",
        "damaged: an invalid header"),
}  # fmt: skip
"""By name: the file's bytes, and the expected reason, as a regular expression."""
