"""Recognize files that are not supported images by their first bytes, and advise what to do."""

import re

_CAMERA_RAW_REASON = "a camera raw format; convert it to JPEG, PNG or TIFF"
_VIDEO_REASON = "a video; extract single images from it"
_SIGNATURES: tuple[tuple[bytes | tuple[bytes, ...], str], ...] = (
    (b"%PDF", "a PDF, not an image"),
    ((b"%!PS", b"\xc5\xd0\xd3\xc6"), "PostScript, which is a program"),
    (b"8BPS", "a Photoshop file; save it as PNG or TIFF"),
    (b"gimp xcf", "a GIMP file; save it as PNG or TIFF"),
    (b"PK\x03\x04", "a zip archive; extract it"),
    (b"Rar!", "a RAR archive; extract it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; extract it"),
    (b"\x1f\x8b", "a gzip archive; extract it"),
    (b"BZh", "a bzip2 archive; extract it"),
    (b"\xfd7zXZ\0", "an xz archive; extract it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive; extract it"),
    ((b"\xff\x0a", b"\0\0\0\x0cJXL "), "JPEG XL is not read; convert it to JPEG"),
    (b"v/1\x01", "OpenEXR is not read; convert it to TIFF of 32-bit floats"),
    (b"#?R", "Radiance HDR is not read; convert it to TIFF of 32-bit floats"),
    (b"SIMPLE  =", "FITS is not read; convert it to TIFF, or .npy"),
    (b"\x89HDF", "HDF5 holds arrays; save each image as TIFF or .npy"),
    ((b"\0\0\1\0", b"icns"), "an icon; convert it to PNG"),
    (b"\0\0\2\0\1", "a cursor; convert it to PNG"),
    (b"\x8aMNG", "MNG is not read; convert it to PNG"),
    (b"\x8bJNG", "JNG is not read; convert it to PNG"),
    (b"qoif", "QOI is not read; convert it to PNG"),
    (b"DDS ", "a texture (DDS); convert it to PNG"),
    (b"\x01\xda", "SGI is not read; convert it to PNG"),
    (b"P7\n", "PAM is not read; convert it to PNG"),
    (b"AT&TFORM", "DjVu is not read; convert it to PNG"),
    ((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0"), _CAMERA_RAW_REASON),
    ((b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"FLV"), _VIDEO_REASON),
    (b"SQLite format", "a database, not an image"),
    (b"PAR1", "a Parquet table; pass it as DATA, not among images"),
    ((b"\x7fELF", b"MZ"), "a program"),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a pickle, which is never read"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; fetch it with git lfs pull"),
)
_SIGNATURES_AT_OFFSET = (
    (128, b"DICM", "DICOM is not read; export it to PNG or TIFF of 16 bits"),
    (257, b"ustar", "a tar; extract it, or pass it as DATA"),
    (344, b"n+1\0", "NIfTI is not read; save each slice as TIFF or .npy"),
    (40, b" EMF", "a metafile is a vector format; convert it to PNG"),
    (8, b"CR\2\0", _CAMERA_RAW_REASON),
    (8, b"AVI ", _VIDEO_REASON),
    (8, b"WAVE", "an audio file"),
)
_ISO_BRANDS = (
    (b"heic heix heim heis hevc hevx hevm hevs heif mif1 msf1", "HEIC is not read; convert it to JPEG"),
    (b"avif avis", "AVIF is not read by this version of Pillow; update Pillow, or convert the file to JPEG"),
    (b"crx", _CAMERA_RAW_REASON),
    (b"isom iso2 mp41 mp42 avc1 qt M4V dash 3gp4 3gp5", _VIDEO_REASON),
)
"""Brands in the first box of ISO base media files (ISO/IEC 14496-12), such as HEIC and videos."""


def unsupported_reason(data: bytes) -> str:
    """The reason why these bytes are not a supported image, judged by their first bytes."""
    if data[4:8] == b"ftyp":
        brand = data[8:12].strip(b" \0")
        for brands, reason in _ISO_BRANDS:
            if brand in brands.split():
                return reason
    if re.search(rb"<svg[\s>]", data[:2048], re.IGNORECASE):
        return "SVG is a vector format; convert it to PNG"
    for offset, signature, reason in _SIGNATURES_AT_OFFSET:
        if data.startswith(signature, offset):
            return reason
    for signatures, reason in _SIGNATURES:
        if data.startswith(signatures):
            return reason
    if data.strip(b"\0") == b"":
        return "only zeros"
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"<(!doctype html|html|head|body|!--)", start, re.IGNORECASE):
        return "a web page, not an image"
    text = start.decode("utf-8", "ignore")
    if len(text) > 0.9 * len(start) and all(character.isprintable() or character.isspace() for character in text):
        return "a text, not an image"
    return "an unknown image format"
