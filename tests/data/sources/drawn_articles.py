"""Invented articles in the layouts of PubMed Central, with drawn figures."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

from semihv_hf.data.schema import Case
from semihv_hf.data.sources.base import Skipped
from semihv_hf.data.sources.pmc_instruct import PmcInstruct

TWENTY = "This invented caption has exactly twenty words so that it is long enough to be kept by the usual rule."
NINETEEN = TWENTY.replace("usual ", "")
DOCTYPE = (
    '<!DOCTYPE article PUBLIC "-//NLM//DTD JATS (Z39.96) Journal Archiving DTD v1.2 20190208//EN"'
    ' "JATS-archivearticle1.dtd">'
)
CC_BY = (
    '<license license-type="open-access" xlink:href="https://creativecommons.org/licenses/by/4.0/">'
    "<license-p>Open access under the Creative Commons Attribution License.</license-p></license>"
)


def picture(seed: int, kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (18, 26, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def graphic(link: str) -> str:
    return f'<graphic xlink:href="{link}"/>'


def fig(*links: str, caption: str = TWENTY, label: str = "Figure 1.", title: str = "", more: str = "") -> str:
    head = f"<title>{title}</title>" if title else ""
    return (
        f'<fig id="f"><label>{label}</label><caption>{head}<p>{caption}</p></caption>'
        f"{''.join(graphic(link) for link in links)}{more}</fig>"
    )


def article(body: str, pmcid: str = "13900", rights: str = CC_BY, back: str = "", doctype: str = DOCTYPE) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}\n'
        '<article xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:mml="http://www.w3.org/1998/Math/MathML" '
        'xmlns:ali="http://www.niso.org/schemas/ali/1.0/" xml:lang="en"><front><article-meta>'
        f'<article-id pub-id-type="pmid">11250746</article-id><article-id pub-id-type="pmc">{pmcid}</article-id>'
        '<article-id pub-id-type="doi">10.9999/invented</article-id>'
        '<pub-date pub-type="ppub"><year>2001</year></pub-date>'
        '<pub-date pub-type="pmc-release"><day>9</day><month>9</month><year>2002</year></pub-date>'
        '<pub-date pub-type="epub"><day>2</day><month>3</month><year>2001</year></pub-date>'
        f"<permissions><copyright-statement>© Invented 2001</copyright-statement>{rights}</permissions>"
        f"</article-meta></front><body>{body}</body><back>{back}</back></article>"
    ).encode()


def write(root, pmcid: str, nxml: bytes, files: dict[str, bytes], name: str = "bcr-3-1-055.nxml"):
    folder = root / "oa" / pmcid
    folder.mkdir(parents=True)
    (folder / name).write_bytes(nxml)
    for file, data in files.items():
        (folder / file).write_bytes(data)


def pack(path, entries: dict[str, bytes], links: dict[str, str] | None = None):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)


def everything(source):
    kept, skipped = [], []
    for item in source.items():
        for entry in [item] if isinstance(item, Skipped) else source.read(item):
            (skipped if isinstance(entry, Skipped) else kept).append(entry)
    return kept, skipped


def only(root, **options) -> Case:
    (case,), skipped = everything(PmcInstruct(root, **options))
    assert not skipped
    return case


def conversation(root, pmcid: str, name: str, content) -> None:
    folder = root / "pmc_instruct" / pmcid
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(
        content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
    )


def turns(*pairs):
    return [{"image_id": "x.jpg", "conversations": [{"role": role, "value": value} for role, value in pairs]}]
