"""Releases that lie in wait for `semihv build`: names, links, archives, tables, pictures, volumes."""

import gzip
import io
import os
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path

from hostile_inputs import INERT, REFUSED, Attempt, canary, deep_json, pickles, small_png, write

OPTIONS = {"held_out": 0.0, "workers": 1, "progress": False}


def attempts(folder: Path) -> list[Attempt]:
    """All of them."""
    (folder / "good").mkdir()
    _clean(small_png(), folder / "good")  # imports what is needed before time is taken
    (folder / "good_build").mkdir()
    assert _build_pmc_vqa(lambda release: None, folder / "good_build")["kept"] == 3
    return [*_names(folder), *_archives(folder), *_pictures(), *_medical(folder), *_tables(folder)]


# --- whole builds ----------------------------------------------------------------------------------------------------


def _build_pmc_vqa(spoil, place: Path) -> dict:
    """A small release of PMC-VQA, spoiled, then built."""
    from semihv_hf.data.build import build

    release = place / "release"
    head = "index,Figure_path,Caption,Question,Choice A,Choice B,Choice C,Choice D,Answer,split\n"
    rows = "".join(f"{n},PMC{n}_1.jpg,A figure.,Where?,A: a,B: b,C: c,D: d,A,train\n" for n in range(3))
    write(release / "train_2.csv", head + rows)
    write(release / "test_2.csv", head)
    for number in range(3):
        write(release / "figures" / f"PMC{number}_1.jpg", small_png())
    spoil(release)
    return build("pmc_vqa", place / "out", data_dir=release, **OPTIONS)


def _table(release: Path, figure: str = "PMC0_1.jpg", question: str = "Where?") -> None:
    text = (release / "train_2.csv").read_text()
    text += f'9,"{figure}",A figure.,"{question}",A: a,B: b,C: c,D: d,A,train\n'
    (release / "train_2.csv").write_text(text)


def _names(folder: Path):
    secret = folder / "outside" / "secret.txt"
    climbing = (
        "../../../../outside/secret.txt", str(secret), "/etc/passwd", "figures/../../../../../outside/secret.txt",
        "..\\..\\..\\..\\outside\\secret.txt", "C:\\Windows\\win.ini", "\\\\server\\share\\x.jpg", "a/\0/b.jpg",
        "." * 300, "x" * 5000, "", "CON", "~/x.jpg", "file:///etc/passwd", "http://127.0.0.1:9/x.jpg",
    )  # fmt: skip
    for name in climbing:
        yield Attempt(f"a table that names {name[:40]!a}", partial(_build_pmc_vqa, partial(_table, figure=name)))
    links = {"a file": secret, "a system file": "/etc/passwd", "a folder": "/etc", "itself": "PMC0_1.jpg"}
    for name, target in links.items():

        def link(release, target=target):
            (release / "figures" / "PMC0_1.jpg").unlink()
            os.symlink(target, release / "figures" / "PMC0_1.jpg")

        yield Attempt(f"a picture that is a link to {name}", partial(_build_pmc_vqa, link))

    def linked_folder(release):
        for path in (release / "figures").iterdir():
            path.unlink()
        (release / "figures").rmdir()
        os.symlink(folder / "outside", release / "figures")

    yield Attempt("a folder of pictures that is a link", partial(_build_pmc_vqa, linked_folder))

    def pipe(release):
        (release / "figures" / "PMC0_1.jpg").unlink()
        os.mkfifo(release / "figures" / "PMC0_1.jpg")

    yield Attempt("a picture that is a pipe", partial(_build_pmc_vqa, pipe))
    for name, data in pickles().items():

        def picture(release, data=data):
            write(release / "figures" / "PMC0_1.jpg", data)

        run = partial(_build_pmc_vqa, picture) if name in ("protocol 0", "protocol 4") else partial(_clean, data)
        yield Attempt(f"a picture that is a pickle, {name}", run)
    for text in ("{{ cycler.__init__.__globals__.os.system('x') }}", "=cmd|'/c calc'!A1", "<script>alert(1)</script>"):
        yield Attempt(
            f"a question that says {text[:20]}", partial(_build_pmc_vqa, partial(_table, question=text)), INERT
        )


# --- archives --------------------------------------------------------------------------------------------------------


def _zip(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name in links:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, data)


def _read_member(members: dict, wanted: str, place: Path, links=(), spoil=None):
    from semihv_hf.data.release import Release

    _zip(place / "images.zip", members, links)
    if spoil:
        data = spoil((place / "images.zip").read_bytes())
        (place / "images.zip").write_bytes(data)
    return Release(place).read_bytes(wanted)


def _archives(folder: Path):
    for name in ("../../../outside/x.png", "/tmp/hostile.png", "a/../../../x.png"):
        yield Attempt(f"a member named {name}", partial(_read_member, {name: b"x"}, "x.png"))
    yield Attempt(
        "a member that is a link", partial(_read_member, {"x.png": b"/etc/passwd"}, "x.png", links=("x.png",))
    )
    yield Attempt("a bomb of 16 MB", partial(_read_member, {"x.png": b"\0" * (16 << 20)}, "x.png"))
    patched = {
        "a size of 4 GB": lambda data: data.replace(struct.pack("<L", 1000), struct.pack("<L", 2**32 - 2)),
        "a size of 10": lambda data: data.replace(struct.pack("<L", 1000), struct.pack("<L", 10)),
        "no directory": lambda data: data[: len(data) // 2],
        "no archive": lambda data: b"PK\x05\x06" + b"\xff" * 18,
        "a directory behind the end": lambda data: data[:-6] + b"\xff\xff\xff\x7f\0\0",
        "an encrypted member": lambda data: data.replace(
            b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"
        ),
        "an unknown method": lambda data: data.replace(
            b"PK\x01\x02\x14\x03\x14\0\0\0\x08", b"PK\x01\x02\x14\x03\x14\0\0\0\x63"
        ),
    }
    for name, spoil in patched.items():
        member = {"x.png": os.urandom(900) + b"\0" * 100}
        yield Attempt(f"an archive with {name}", partial(_read_member, member, "x.png", spoil=spoil))
    many = {f"{number}.png": b"" for number in range(2_000)}
    yield Attempt("an archive of 2,000 members", partial(_read_member, many, "none.png"))


# --- pictures --------------------------------------------------------------------------------------------------------


def _clean(data: bytes, place: Path) -> bytes:
    from semihv_hf.data.pictures import clean_picture

    return clean_picture(data, name="x")


def _png(width: int, height: int, body: bytes = b"", *, depth: int = 8, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _pictures():
    from PIL import Image

    flat = zlib.compress(b"\0" * (16 << 20), 9)
    ztxt = b"zTXt" + b"a\0\0" + zlib.compress(b"\0" * (8 << 20), 9)
    ztxt = struct.pack(">I", len(ztxt) - 4) + ztxt + struct.pack(">I", zlib.crc32(ztxt))
    gif = io.BytesIO()
    Image.new("P", (8, 8)).save(gif, "GIF")
    bomb_gif = bytearray(gif.getvalue())
    bomb_gif[6:10] = struct.pack("<HH", 65535, 65535)
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0)
    tiff = (
        struct.pack("<2sHIH", b"II", 42, 8, 2)
        + struct.pack("<HHII", 256, 4, 1, 2**31)
        + struct.pack("<HHII", 257, 4, 1, 2**31)
    )
    circle = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHII", 256, 4, 1, 8) + struct.pack("<I", 8)
    made = {
        "PNG of 2**31 squared": _png(2**31 - 1, 2**31 - 1, flat),
        "PNG of 60,000 squared": _png(60_000, 60_000, flat),
        "PNG of no pixels": _png(0, 0),
        "PNG that lacks rows": _png(5000, 5000, zlib.compress(b"\0" * 5001)),
        "PNG with a chunk of 4 GB": b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR",
        "PNG that is only a beginning": b"\x89PNG\r\n\x1a\n",
        "JPEG of 65,535 squared": b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00\xff\xd9",
        "JPEG with a segment behind the end": b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0",
        "JPEG that is only a beginning": b"\xff\xd8\xff",
        "GIF of 65,535 squared": bytes(bomb_gif),
        "BMP of 2**30 squared": bmp,
        "TIFF of 2**31 squared": tiff + b"\0" * 64,
        "TIFF whose pages go in a circle": circle,
        "SVG with a script": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "PostScript that runs a command": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch "
        + canary().encode() + b") (w) file closefile\n",
        "MVG that reads a file": b"push graphic-context\nimage over 0,0 0,0 '/etc/passwd'\npop graphic-context",
        "FLIF, which nobody reads": b"FLIF\x31\x31\x00",
        "gzip of zeros": gzip.compress(b"\0" * (16 << 20)),
        "empty": b"",
    }  # fmt: skip
    for name, data in made.items():
        yield Attempt(f"picture: {name}", partial(_clean, data))
    good = _png(2, 2, zlib.compress(b"\0\1\2" * 2), extra=ztxt)
    yield Attempt("picture: PNG with 8 MB of text", partial(_clean, good), INERT)
    for name, data in made.items():
        if name.startswith(("PNG", "JPEG of", "TIFF")):
            yield Attempt(f"16 bits: {name}", partial(_sixteen, data))


def _sixteen(data: bytes, place: Path):
    from semihv_hf.data.pictures import read_sixteen_bit

    return read_sixteen_bit(data, name="x")


# --- DICOM, NIfTI, NRRD, JATS ----------------------------------------------------------------------------------------


def _render(values: dict, place: Path, pixels: bytes = b"\0" * 64, syntax: str = "1.2.840.10008.1.2.1"):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import generate_uid

    from semihv_hf.data.imaging import render_dicom

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    given = {
        "Rows": 8, "Columns": 8, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelData": pixels, "Modality": "CT",
    }  # fmt: skip
    for name, value in (given | values).items():
        setattr(data, name, value)
    data.save_as(place / "x.dcm", enforce_file_format=True)
    return render_dicom(place / "x.dcm")


def _volume(reader: str, data: bytes, suffix: str, place: Path):
    from semihv_hf.data import imaging

    return getattr(imaging, reader)(write(place / f"x{suffix}", data))


def _nifti(*shape: int, datatype: int = 4, bits: int = 16) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *(1,) * (7 - len(shape)))
    struct.pack_into("<2h", header, 70, datatype, bits)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    return bytes(header)


def _nrrd(sizes: str, more: str = "", encoding: str = "raw", body: bytes = b"") -> bytes:
    return (
        f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nendian: little\n"
        f"encoding: {encoding}\nspace origin: (0,0,0)\n{more}\n"
    ).encode() + body


def _article(text: str, place: Path):
    from semihv_hf.data.sources.jats import parse_article

    return parse_article(text.encode())


def _medical(folder: Path):
    secret = folder / "outside" / "secret.txt"
    wide = {"Rows": 65535, "Columns": 65535}
    for name, values in {
        "65,535 squared": wide,
        "65,535 squared and a million frames": wide | {"NumberOfFrames": 10**6},
        "2**31 frames": {"NumberOfFrames": 2**31 - 1},
        "minus one frames": {"NumberOfFrames": -1},
        "no rows": {"Rows": 0},
        "64 bits": {"BitsAllocated": 64, "BitsStored": 64},
        "60,000 samples": {"SamplesPerPixel": 60_000},
        "an empty window": {"WindowCenter": [], "WindowWidth": [], "Rows": 9000},
    }.items():
        yield Attempt(f"DICOM: {name}", partial(_render, values))
    for name, syntax in {
        "JPEG": "1.2.840.10008.1.2.4.50",
        "JPEG 2000": "1.2.840.10008.1.2.4.90",
        "RLE": "1.2.840.10008.1.2.5",
    }.items():
        item = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + struct.pack("<I", 16) + b"\xff\xd8\xff" + b"\0" * 13
        pixels = item + b"\xfe\xff\xdd\xe0\0\0\0\0"

        def encapsulated(place, syntax=syntax, pixels=pixels):
            return _render({}, place, pixels, syntax)

        yield Attempt(f"DICOM: {name} of nothing", encapsulated)
    deflated = zlib.compressobj(1, zlib.DEFLATED, -15)
    bomb = deflated.compress(b"\0" * (8 << 20)) + deflated.flush()
    head = b"\0" * 128 + b"DICM" + bytes.fromhex("0200000055 4c0400 1e000000 02001000 5549 1600".replace(" ", ""))
    yield Attempt("DICOM: deflated zeros", partial(_dicom_bytes, head + b"1.2.840.10008.1.2.1.99" + bomb))
    yield Attempt(
        "DICOM: deep sequences",
        partial(
            _dicom_bytes,
            b"\0" * 128 + b"DICM" + b"\x40\0\x75\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 20_000,
        ),
    )
    for name, data in {
        "2**45 voxels": _nifti(32767, 32767, 32767),
        "negative sides": _nifti(-5, 5, 5),
        "seven dimensions": _nifti(2, 2, 2, 2, 2, 2, 32767),
        "an unknown type": _nifti(2, 2, 2, datatype=999),
        "no data": _nifti(200, 200, 200),
        "a bomb": gzip.compress(_nifti(32767, 32767, 1) + b"\0" * (4 << 20), 1),
        "nothing": b"",
    }.items():
        suffix = ".nii.gz" if data[:2] == b"\x1f\x8b" else ".nii"
        yield Attempt(f"NIfTI: {name}", partial(_volume, "read_nifti", data, suffix))
    for name, data in {
        "a data file elsewhere": _nrrd("2 2 2", f"data file: {secret}"),
        "a data file that climbs": _nrrd("2 2 2", "data file: ../../../outside/secret.txt"),
        "a list of data files": _nrrd("2 2 2", "data file: LIST\n/etc/passwd"),
        "a detached datafile": _nrrd("2 2 2", "datafile: /etc/passwd"),
        "2**60 voxels": _nrrd("1048576 1048576 1048576"),
        "an overflow": _nrrd("4294967296 4294967296 4294967296"),
        "negative sizes": _nrrd("-2 2 2"),
        "a bomb": _nrrd("64 64 64", encoding="gzip", body=gzip.compress(b"\0" * (8 << 20), 1)),
        "an unknown encoding": _nrrd("2 2 2", encoding="exec"),
        "lines to skip": _nrrd("2 2 2", "line skip: 100000"),
    }.items():
        yield Attempt(f"NRRD: {name}", partial(_volume, "read_nrrd", data, ".nrrd"))
    laughs = "".join(f'<!ENTITY {new} "{("&" + old + ";") * 10}">' for old, new in zip("abcdefghi", "bcdefghij"))
    for name, text in {
        "billion laughs": f'<!DOCTYPE article [<!ENTITY a "x">{laughs}]><article>&j;</article>',
        "a file of this machine": '<!DOCTYPE article [<!ENTITY a SYSTEM "file:///etc/passwd">]><article>&a;</article>',
        "an address": '<!DOCTYPE article [<!ENTITY a SYSTEM "http://127.0.0.1:9/x">]><article>&a;</article>',
        "a parameter entity": '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x">%x;]><article/>',
        "20,000 levels": "<article>" + "<p>" * 20_000 + "</p>" * 20_000 + "</article>",
    }.items():
        yield Attempt(f"JATS: {name}", partial(_article, text), INERT if "levels" in name else REFUSED)


def _dicom_bytes(data: bytes, place: Path):
    from semihv_hf.data.imaging import render_dicom

    return render_dicom(write(place / "x.dcm", data))


# --- tables ----------------------------------------------------------------------------------------------------------


def _tables(folder: Path):
    head = "index,Figure_path,Caption,Question,Choice A,Choice B,Choice C,Choice D,Answer,split\n"
    for name, text in {
        "NULs": head + "\0,\0,\0\n" * 5,
        "a field of 4 MB": head + '0,"' + "x" * (4 << 20) + '",c,q,A: a,B: b,C: c,D: d,A,train\n',
        "a quote that never ends": head + '0,"' + "PMC0_1.jpg,\n" * 1000,
        "bytes that are no UTF-8": (head + "0,").encode() + bytes(range(128, 256)) + b"\n",
        "no lines": "",
        "200,000 columns": ",".join(["x"] * 200_000) + "\n",
        "another header": "a,b\n1,2\n",
    }.items():

        def table(release, text=text):
            write(release / "train_2.csv", text)

        yield Attempt(f"CSV: {name}", partial(_build_pmc_vqa, table))
    for name, text in {
        "deep": deep_json(),
        "half": '[{"id": 1',
        "no list": "7",
        "rows that are no objects": "[1, [2], null]",
        "a number of a million digits": "[" + "9" * 200_000 + "]",
        "infinity": "[Infinity, -Infinity, NaN]",
        "surrogates": '[{"id": "\\ud800", "question": "\\udfff"}]',
        "200,000 keys": "[{" + ",".join(f'"{n}": 1' for n in range(200_000)) + "}]",
    }.items():
        for source, file in (("jama", "jama_raw.json"), ("llava_med", "llava_med_instruct_60k.json")):
            yield Attempt(f"JSON of {source}: {name}", partial(_build_json, source, file, text))
    for name, data in _sheets().items():
        yield Attempt(f"XLSX: {name}", partial(_sheet, data))
    for cell in ("[" * 100_000, "__import__('os').system('x')", "['a', " + "(" * 5000, "['\\x']", "[1e400, 'a'" * 999):
        yield Attempt(f"a cell with a list, {cell[:12]!r}", partial(_list_cell, cell))


def _build_json(source: str, file: str, text: str, place: Path):
    from semihv_hf.data.build import build

    write(place / "release" / file, text)
    (place / "release" / "images").mkdir()
    return build(source, place / "out", data_dir=place / "release", **OPTIONS)


def _sheets() -> dict[str, bytes]:
    laughs = "".join(f'<!ENTITY {new} "{("&" + old + ";") * 10}">' for old, new in zip("abcdefghi", "bcdefghij"))
    sheet = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "x">{laughs}]><worksheet>&j;</worksheet>'
    made = {}
    for name, members in {
        "no workbook": {"a.txt": b"x"},
        "billion laughs": {"xl/worksheets/sheet1.xml": sheet.encode(), "[Content_Types].xml": sheet.encode()},
        "a pickle": {"xl/workbook.xml": pickles()["protocol 4"]},
    }.items():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        made[name] = file.getvalue()
    return made


def _sheet(data: bytes, place: Path):
    from openpyxl import load_workbook

    return list(load_workbook(write(place / "x.xlsx", data), read_only=True, data_only=True).active.rows)


def _list_cell(cell: str, place: Path):
    from semihv_hf.data.list_columns import parse_list

    return parse_list(cell)
