"""Folders that somebody might publish without knowing what is in them, and checkpoints from strangers."""

import os
from functools import partial
from pathlib import Path

from hostile_inputs import Attempt, bad_safetensors, canary, deep_json, pickles, python_code, safetensors, write

GOOD = {"README.md": "# A card\n", "config.json": "{}"}
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
# In pieces, so that no line of this file is itself a hit.
HUB_TOKEN, KEY = "hf" + "_" + "a" * 34, "sk" + "-proj-" + "b" * 30
HOME = "/ho" + "me/somebody/data"


def attempts(folder: Path) -> list[Attempt]:
    """All of them."""
    from semihv_hf.hub.allowed_files import check_upload
    from semihv_hf.hub.verify import verify

    def upload(files, kind, place):
        for name, content in (GOOD | files if kind == "model" else {"README.md": "# A card\n"} | files).items():
            content(place / name) if callable(content) else write(place / name, content)
        return check_upload(place, kind)

    def verified(files, place):
        for name, content in (GOOD | files).items():
            content(place / name) if callable(content) else write(place / name, content)
        found = verify(place)
        if not found.ok:
            raise ValueError("; ".join(f"{file.name} {file.said}" for file in found.wrong)[:300])

    made = [
        Attempt(f"upload: {name} ({kind})", partial(upload, files, kind)) for name, kind, files in _folders(folder)
    ]
    made += [Attempt(f"verify: {name}", partial(verified, files)) for name, files in _checkpoints(folder)]
    return made


def _link(target):
    return lambda path: (path.parent.mkdir(parents=True, exist_ok=True), os.symlink(target, path))


def _parquet(**columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    return make


def _dicom(path: Path, **values) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Modality = "CT"
    for name, value in values.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def _folders(folder: Path):
    outside = folder / "outside" / "secret.txt"
    for name, content in pickles().items():
        yield f"pickle as safetensors, {name}", "model", {"model.safetensors": content}
        yield f"pickle as parquet, {name}", "dataset", {"data/x/train-0.parquet": content}
        yield f"pickle as json, {name}", "model", {"tokenizer.json": content}
    for name, content in bad_safetensors().items():
        if name not in ("absurd shape", "dtype that does not exist"):  # nothing outside of the file is described
            yield f"safetensors, {name}", "model", {"model.safetensors": content}
    for name in (
        ".env", ".env.local", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin", ".netrc",
        "pytorch_model.bin", "__pycache__/x.pyc", ".cache/x.json", ".git/config", "checkpoint-10/config.json",
        "global_step5/zero_pp_rank_0_optim_states.pt", "id_rsa", "server.pem", "notes.docx", "run.sh", "lib.so",
        "deep/er/config.json", "config.json.bak", ".hidden.json", "token",
    ):  # fmt: skip
        yield f"a file named {name}", "model", {name: "x"}
    for name in ("..\\..\\config.json", "a\nb.json", "con\u202efig.json", " config.json", "a:b.json", "\udce4.json"):
        yield f"a name that climbs or hides, {name!a}", "space", {name: "{}"}
    for kind, name in (("model", "tokenizer_config.json"), ("metric", "notes.md"), ("space", "app.py")):
        yield f"an access token in {name}", kind, {name: f'x = "{HUB_TOKEN}"\n'}
        yield f"a secret key in {name}", kind, {name: f'x = "{KEY}"\n'}
        yield f"a home folder in {name}", kind, {name: f'x = "{HOME}"\n'}
    yield "a private key", "space", {"notes.md": "-----BEGIN RSA PRIVATE " + "KEY-----\n"}
    yield "a token behind 9 MB", "metric", {"notes.md": "x " * 4_500_000 + HUB_TOKEN}
    yield "a token across two pieces", "metric", {"notes.md": "x" * ((8 << 20) - 10) + " " + HUB_TOKEN}
    yield (
        "a home folder in metadata",
        "model",
        {"model.safetensors": safetensors({"__metadata__": {"from": HOME}, "a": ONE}, b"\0" * 4)},
    )
    yield (
        "optimizer states as safetensors",
        "model",
        {"model.safetensors": safetensors({"state.0.exp_avg": ONE}, b"\0" * 4)},
    )
    yield "a home folder in a column", "dataset", {"data/x/t.parquet": _parquet(text=["x", f"see {HOME}"])}
    yield "a token in a column", "dataset", {"data/x/t.parquet": _parquet(text=[["x", HUB_TOKEN]])}
    yield (
        "a path inside a column of images",
        "dataset",
        {"data/x/t.parquet": _parquet(images=[[{"bytes": b"x", "path": HOME + "/1.png"}]])},
    )
    torn = b"\0" * 128 + b"DICM\x02\0\0\0UL\xff\xff"
    yield "a DICOM", "dataset", {"images/1.dcm": partial(_dicom, PatientName="Doe^Jane")}
    yield "a DICOM as JSON", "model", {"tokenizer.json": partial(_dicom, PatientName="Doe^Jane")}
    yield "a DICOM in a column of images", "dataset", {"data/x/t.parquet": _parquet(images=[[{"bytes": torn}]])}
    yield "a pickle in a column", "dataset", {"data/x/t.parquet": _parquet(images=[b"x", pickles()["protocol 4"]])}
    yield "a token in a column of bytes", "dataset", {"data/x/t.parquet": _parquet(images=[HUB_TOKEN.encode()])}
    yield "rows beside the rows", "dataset", {"more.parquet": _parquet(text=["x"])}
    yield "a link out of the folder", "model", {"tokenizer.json": _link(outside)}
    yield "a link to a system file", "space", {"notes.md": _link("/etc/passwd")}
    yield "a broken link", "model", {"tokenizer.json": _link("nowhere")}
    yield "a circle of links", "model", {"tokenizer.json": _link("tokenizer.json")}
    yield "a link to a folder", "space", {"examples": _link("/etc")}
    yield "a link to the folder above", "space", {"examples": _link("..")}
    yield "a pipe", "model", {"tokenizer.json": lambda path: os.mkfifo(path)}
    yield "deep JSON", "model", {"tokenizer.json": deep_json()}
    yield "half a JSON", "model", {"tokenizer.json": '{"a": '}
    yield "JSON with a number of a million digits", "model", {"tokenizer.json": "9" * 1_000_000}
    yield "bytes as text", "space", {"notes.md": bytes(range(256))}
    yield "a picture that is none", "space", {"chart.png": b"<script>"}
    yield "half a Parquet", "dataset", {"data/x/t.parquet": b"PAR1" + b"\0" * 40 + b"PAR1"}
    yield "code without a manifest", "model", {"modeling_x.py": python_code()}
    yield "code that is no Python", "space", {"app.py": "import os; os.system('" + canary()}
    yield "deep Python", "space", {"app.py": "x = " + "(" * 5000 + ")" * 5000}


def _checkpoints(folder: Path):
    from semihv_hf.models.pmc_cambrian.saving_pmc_cambrian import MANIFEST

    def manifest(**digests):
        return {"format": 1, "semihv_hf": "0", "sha256": digests}

    for name, content in pickles().items():
        yield f"pickle as safetensors, {name}", {"model.safetensors": content}
        yield f"pickle as {name}.txt", {"vocab.txt": content}
    for name, content in bad_safetensors().items():
        if name not in ("absurd shape", "dtype that does not exist"):
            yield f"safetensors, {name}", {"model.safetensors": content}
    yield "code without a manifest", {"modeling_x.py": python_code()}
    yield "code that the manifest does not list", {"modeling_x.py": python_code(), MANIFEST: manifest()}
    yield "code with another sum", {"m.py": python_code(), MANIFEST: manifest(**{"m.py": "0" * 64})}
    yield "code in a folder", {"custom_generate/generate.py": python_code(), MANIFEST: manifest()}
    yield "code that is missing", {MANIFEST: manifest(**{"m.py": "0" * 64})}
    yield "a manifest of another format", {"m.py": "", MANIFEST: {"format": 9}}
    yield "a manifest that is deep", {"m.py": "", MANIFEST: deep_json()}
    yield "a manifest that climbs", {MANIFEST: manifest(**{"../../x.py": "0" * 64})}
    yield "a compiled library", {"lib.so": b"\x7fELF" + b"\0" * 60}
    yield "a library named vocab.txt", {"vocab.txt": b"\x7fELF" + b"\0" * 60}
    yield "compiled Python", {"x.pyc": b"\0" * 16}
    yield "a path file", {"x.pth": "import os"}
    yield "a shell script named LICENSE", {"LICENSE": "#!/bin/sh\n"}
    yield "code from another repository", {"config.json": {"auto_map": {"AutoModel": "evil/x--modeling.M"}}}
    yield "code from a path", {"config.json": {"auto_map": {"AutoModel": "../../x.M"}}}
    yield (
        "code from another repository, further down",
        {"config.json": {"text_config": {"auto_map": {"AutoTokenizer": [None, "evil/x--t.T"]}}}},
    )
    yield "a link to a system file", {"vocab.txt": _link("/etc/passwd")}
    yield "code by a link", {"m.py": _link(folder / "outside" / "secret.txt"), MANIFEST: manifest()}
    yield "a link to a folder", {"more": _link("/etc")}
    yield "a circle of links", {"vocab.txt": _link("vocab.txt")}
    yield "a pipe", {"vocab.txt": lambda path: os.mkfifo(path)}
    yield "deep JSON", {"tokenizer.json": deep_json()}
