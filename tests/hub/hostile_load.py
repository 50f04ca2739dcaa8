"""Checkpoints and dataset folders that lie in wait for `from_pretrained` and `load_dataset`."""

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path

from hostile_inputs import (
    INERT,
    REFUSED,
    Attempt,
    bad_safetensors,
    canary,
    deep_json,
    pickles,
    python_code,
    safetensors,
    small_png,
    write,
    yamls,
)


def attempts(folder: Path) -> list[Attempt]:
    """All of them; the checkpoint that they spoil lies in `HOSTILE_CHECKPOINT`."""
    import semihv_hf  # noqa: F401  registers the classes, so that the good checkpoint needs no trust

    # What is not spoiled loads: else everything would be refused, and nothing shown by it. It also imports everything
    # before time is taken and programs are watched.
    for number, load in enumerate((partial(_load_model, {}, ()), partial(_load_processor, {}, ()))):
        (folder / f"good{number}").mkdir()
        load(folder / f"good{number}")
    (folder / "good2").mkdir()
    assert _load_data({"data/train.csv": "a,b\n1,2\n"}, folder / "good2") == [{"a": 1, "b": 2}]
    (folder / "good3").mkdir()
    (row,) = _load_data({"data/t.parquet": _images({"bytes": small_png()})}, folder / "good3")
    assert row["image"].size == (2, 2)
    return [*_models(folder), *_datasets(folder)]


def _spoiled(place: Path, files: dict, gone: tuple[str, ...] = ()) -> None:
    for path in Path(os.environ["HOSTILE_CHECKPOINT"]).iterdir():
        if path.name not in gone:
            shutil.copyfile(path, place / path.name)
    for name, content in files.items():
        if callable(content):  # a change of the JSON that is there
            value = json.loads((place / name).read_text())
            content(value)
            content = value
        write(place / name, content)


def _load_model(files: dict, gone: tuple[str, ...], place: Path):
    from transformers import AutoModelForImageTextToText

    _spoiled(place, files, gone)
    return AutoModelForImageTextToText.from_pretrained(place)


def _load_processor(files: dict, gone: tuple[str, ...], place: Path):
    from transformers import AutoProcessor

    _spoiled(place, files, gone)
    processor = AutoProcessor.from_pretrained(place)
    return processor.apply_chat_template([{"role": "user", "content": [{"type": "text", "text": "x"}]}])


def _models(folder: Path):
    weights = ("model.safetensors",)
    for name, content in pickles().items():
        yield Attempt(f"weights: pickle as safetensors, {name}", partial(_load_model, {weights[0]: content}, ()))
        yield Attempt(f"weights: pickle, {name}", partial(_load_model, {"pytorch_model.bin": content}, weights))
    for name, content in bad_safetensors().items():
        if name != "metadata that are no texts":
            yield Attempt(f"weights: {name}", partial(_load_model, {weights[0]: content}, ()))
    for target in ("../../../outside/secret.txt", str(folder / "outside" / "secret.txt"), "/etc/passwd"):
        index = {"metadata": {}, "weight_map": {"model.connector.query": target}}
        yield Attempt(
            f"an index that names {target[-20:]}",
            partial(_load_model, {"model.safetensors.index.json": index}, weights),
        )

    def evil(config):
        config["model_type"] = "evil"
        config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}

    yield Attempt(
        "code beside the weights, not trusted",
        partial(_load_model, {"config.json": evil, "evil.py": python_code()}, ()),
    )

    def foreign(config):
        config["model_type"] = "evil"
        config["auto_map"] = {"AutoConfig": "evil/evil--evil.Evil"}

    yield Attempt("code of another repository, not trusted", partial(_load_model, {"config.json": foreign}, ()))
    for name, change in {
        "a kernel from elsewhere": {"_attn_implementation": "evil/kernel"},
        "a million layers": {"text_config": {"num_hidden_layers": 10**9}},
        "a width of 2**40": {"text_config": {"hidden_size": 2**40}},
        "a vocabulary of 2**50": {"text_config": {"vocab_size": 2**50}},
        "negative layers": {"text_config": {"num_hidden_layers": -5}},
        "a text for a number": {"text_config": {"hidden_size": "__import__('os')"}},
        "a tower of 2**40": {"siglip_config": {"image_size": 2**40}},
        "a query grid of 10**6": {"sva_config": {"query_side": 10**6}},
        "a million samplers": {"sva_config": {"num_samplers": 10**9}},
        "another model": {"model_type": "../../evil"},
    }.items():

        def changed(config, change=change):
            for key, value in change.items():
                config[key] = {**(config.get(key) or {}), **value} if isinstance(value, dict) else value

        expect = INERT if name == "a kernel from elsewhere" else REFUSED
        yield Attempt(f"config: {name}", partial(_load_model, {"config.json": changed}, ()), expect)
    for name, content in {"deep": deep_json(), "half": '{"a"', "a list": "[]", "no UTF-8": b"\xff"}.items():
        yield Attempt(f"config.json: {name}", partial(_load_model, {"config.json": content}, ()))
        yield Attempt(f"tokenizer.json: {name}", partial(_load_processor, {"tokenizer.json": content}, ()))
    for name, text in _templates().items():
        # Jinja's sandbox makes an undefined value, which prints as nothing, of what these two ask for.
        expect = INERT if name in ("attr filter", "raise_exception") else REFUSED
        yield Attempt(f"chat template: {name}", partial(_load_processor, {"chat_template.jinja": text}, ()), expect)

    def tokenizer(config):
        config["auto_map"] = {"AutoTokenizer": ["evil.Evil", None]}
        config["tokenizer_class"] = "Evil"

    files = {"tokenizer_config.json": tokenizer, "evil.py": python_code()}
    yield Attempt("a tokenizer with code", partial(_load_processor, files, ()), INERT)

    def processor(config):
        config["auto_map"] = {"AutoProcessor": "evil.Evil"}
        config["processor_class"] = "Evil"

    files = {"processor_config.json": processor, "evil.py": python_code()}
    yield Attempt("a processor with code", partial(_load_processor, files, ()), INERT)


def _templates() -> dict[str, str]:
    """What has got out of careless sandboxes."""
    command = f"touch {canary()}"
    return {
        "cycler": "{{ cycler.__init__.__globals__.os.popen('" + command + "').read() }}",
        "joiner": "{{ joiner.__init__.__globals__['os'].system('" + command + "') }}",
        "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "attr filter": "{{ ''|attr('__class__')|attr('__mro__') }}",
        "format": "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
        "messages": "{{ messages.append.__self__.__class__.__base__.__subclasses__() }}",
        "raise_exception": "{{ raise_exception.__globals__ }}",
        "include": "{% include '/etc/passwd' %}",
        "import": "{% import 'os' as os %}{{ os.system('x') }}",
        "changes its input": "{{ messages.clear() }}",
    }


# --- data ------------------------------------------------------------------------------------------------------------


def _load_data(files: dict, place: Path):
    from datasets import load_dataset

    for name, content in files.items():
        content(place / name) if callable(content) else write(place / name, content)
    data = load_dataset(str(place))
    return [row for split in data.values() for row in split]


def _bomb_png(side: int = 60_000) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * (1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _climbing_zip(member: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, "a,b\n1,2\n")
    return file.getvalue()


def _images(entry: dict, metadata: str | None = None):
    def make(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from datasets import Features, Image

        features = Features({"image": Image()})
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({"image": pa.array([entry], kind)})
        told = metadata or json.dumps({"info": {"features": features.to_dict()}})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({"huggingface": told}), path)

    return make


def _datasets(folder: Path):
    for name, content in pickles().items():
        for file in ("data/train-0.parquet", "data/train.json"):
            yield Attempt(f"data: pickle as {file[-8:]}, {name}", partial(_load_data, {file: content}))
    good = {"data/train.csv": "a,b\n1,2\n"}
    for name, text in yamls().items():
        card = f"---\nconfigs:\n- config_name: default\n  data_files: data/train.csv\n{text}---\n"
        yield Attempt(f"data: a card with {name}", partial(_load_data, good | {"README.md": card}), INERT)
    for target in ("../../../outside/secret.txt", "/etc/passwd"):
        card = f"---\nconfigs:\n- config_name: default\n  data_files: {target}\n---\n"
        yield Attempt(f"data: a card that reads {target}", partial(_load_data, good | {"README.md": card}), INERT)
    yield Attempt("data: a loading script", partial(_load_data, good | {"input.py": python_code()}), INERT)
    yield Attempt("data: a builder", partial(_load_data, {"builder.py": python_code()}))
    for member in ("../../../outside/x.csv", "/tmp/hostile/x.csv", "..\\..\\x.csv"):
        files = {"data/train.zip": _climbing_zip(member)}
        yield Attempt(f"data: a zip with {member}", partial(_load_data, files), INERT)
    yield Attempt("data: a table with NULs", partial(_load_data, {"data/train.csv": "a,b\n\0,\0\n"}), INERT)
    yield Attempt("data: deep JSON lines", partial(_load_data, {"data/train.jsonl": deep_json() + "\n"}))
    yield Attempt("data: an image bomb", partial(_load_data, {"data/t.parquet": _images({"bytes": _bomb_png()})}))
    files = {"data/t.parquet": _images({"bytes": None, "path": "/etc/passwd"})}
    yield Attempt("data: an image that is a system file", partial(_load_data, files))
    for name, told in {
        "an unknown type": '{"info": {"features": {"image": {"_type": "os.system"}}}}',
        "deep features": '{"info": {"features": ' + deep_json(5000) + "}}",
        "no JSON": "{",
    }.items():
        files = {"data/t.parquet": _images({"bytes": b"x"}, told)}
        yield Attempt(f"data: features with {name}", partial(_load_data, files))
    yield Attempt("data: weights", partial(_load_data, {"data/x.safetensors": safetensors({})}))
