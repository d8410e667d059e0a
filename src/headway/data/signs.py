"""What a file is that holds no picture that is read, by how it begins, and what to do about it."""

import re
from collections.abc import Iterable

_DEVELOP = "a camera's raw data; develop it to JPEG, PNG or TIFF"
_FILM = "a film; take single pictures out of it"
_UNPACK = "; unpack it"
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF, which is no picture"),
    (b"%!PS", "PostScript, which is a program"),
    (b"\xc5\xd0\xd3\xc6", "PostScript, which is a program"),
    (b"8BPS", "a Photoshop file; save it as PNG or TIFF"),
    (b"gimp xcf", "a GIMP file; save it as PNG or TIFF"),
    (b"PK\x03\x04", f"a zip archive{_UNPACK}"),
    (b"Rar!", f"a RAR archive{_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive{_UNPACK}"),
    (b"\x1f\x8b", f"gzipped{_UNPACK}"),
    (b"BZh", f"a bzip2 archive{_UNPACK}"),
    (b"\xfd7zXZ\0", f"an xz archive{_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"a Zstandard archive{_UNPACK}"),
    (b"\xff\x0a", "JPEG XL is not read; convert it to JPEG"),
    (b"\0\0\0\x0cJXL ", "JPEG XL is not read; convert it to JPEG"),
    (b"v/1\x01", "OpenEXR is not read; convert it to TIFF of 32-bit floats"),
    (b"#?R", "Radiance HDR is not read; convert it to TIFF of 32-bit floats"),
    (b"SIMPLE  =", "FITS is not read; convert it to TIFF, or .npy"),
    (b"\x89HDF", "HDF5 holds arrays; save each picture as TIFF or .npy"),
    (b"\0\0\1\0", "an icon; convert it to PNG"),
    (b"\0\0\2\0\1", "a cursor; convert it to PNG"),
    (b"icns", "an icon; convert it to PNG"),
    (b"\x8aMNG", "MNG is not read; convert it to PNG"),
    (b"\x8bJNG", "JNG is not read; convert it to PNG"),
    (b"qoif", "QOI is not read; convert it to PNG"),
    (b"DDS ", "a texture (DDS); convert it to PNG"),
    (b"\x01\xda", "SGI is not read; convert it to PNG"),
    (b"P7\n", "PAM is not read; convert it to PNG"),
    (b"AT&TFORM", "DjVu is not read; convert it to PNG"),
    (b"FUJIFILMCCD-RAW", _DEVELOP),
    (b"IIRO", _DEVELOP),
    (b"IIRS", _DEVELOP),
    (b"IIU\0", _DEVELOP),
    (b"\x1aE\xdf\xa3", _FILM),
    (b"\0\0\1\xba", _FILM),
    (b"FLV", _FILM),
    (b"SQLite format", "a data base, no picture"),
    (b"PAR1", "a Parquet table; give it as DATA, not among pictures"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x80\x02", "a pickle, which is never read"),
    (b"\x80\x03", "a pickle, which is never read"),
    (b"\x80\x04", "a pickle, which is never read"),
    (b"\x80\x05", "a pickle, which is never read"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file; fetch it with git lfs pull"),
)
_INSIDE = (
    (128, b"DICM", "DICOM is not read; export it to PNG or TIFF of 16 bits"),
    (257, b"ustar", f"a tar{_UNPACK}, or give it as DATA"),
    (344, b"n+1\0", "NIfTI is not read; save each slice as TIFF or .npy"),
    (40, b" EMF", "a metafile draws with lines; convert it to PNG"),
    (8, b"CR\2\0", _DEVELOP),
    (8, b"AVI ", _FILM),
    (8, b"WAVE", "a sound"),
)
_BOXES = (
    (b"heic heix heim heis hevc hevx hevm hevs heif mif1 msf1", "HEIC is not read; convert it to JPEG"),
    (b"avif avis", "AVIF is not read by this Pillow; bring it up to date, or convert the file to JPEG"),
    (b"crx", _DEVELOP),
    (b"isom iso2 mp41 mp42 avc1 qt M4V dash 3gp4 3gp5", _FILM),
)
"""Kinds in the first box of ISO files (ISO/IEC 14496-12), which HEIC and films are."""


def what_it_is(data: bytes) -> str:
    """Why there is no picture in these bytes, as far as their beginning tells."""
    if data[4:8] == b"ftyp":
        kind = data[8:12].strip(b" \0")
        for kinds, reason in _BOXES:
            if kind in kinds.split():
                return reason
    if re.search(rb"<svg[\s>]", data[:2048], re.IGNORECASE):
        return "SVG draws with lines; convert it to PNG"
    for reason in _matches(data):
        return reason
    if data.strip(b"\0") == b"":
        return "nothing but zeros"
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"<(!doctype html|html|head|body|!--)", start, re.IGNORECASE):
        return "a web page, no picture"
    text = start.decode("utf-8", "ignore")
    if len(text) > 0.9 * len(start) and all(letter.isprintable() or letter.isspace() for letter in text):
        return "a text, no picture"
    return "no picture format that is known"


def _matches(data: bytes) -> Iterable[str]:
    for place, sign, reason in _INSIDE:
        if data[place : place + len(sign)] == sign:
            yield reason
    for sign, reason in _STARTS:
        if data.startswith(sign):
            yield reason
