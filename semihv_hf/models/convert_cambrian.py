"""Released Cambrian and PMC-Cambrian checkpoints into ours, one shard in memory at a time."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json
from semihv_hf.progress import progress_bar
from semihv_hf.snapshots import hub_snapshot

from .cambrian_layout import convert_config, convert_key
from .checkpoint_files import CheckpointFile, CheckpointFolder

if TYPE_CHECKING:
    import torch

PROJECTOR_FILE = "mm_projector.bin"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
TOWERS = "model.vision_towers."
DTYPES = ("float32", "bfloat16", "float16")


def convert_checkpoint(
    src_dir: str | os.PathLike,
    dst_dir: str | os.PathLike,
    *,
    base_model: str | os.PathLike | None = None,
    tokenizer: str | os.PathLike | None = None,
    siglip: str | os.PathLike | None = None,
    clip: str | os.PathLike | None = None,
    dinov2: str | os.PathLike | None = None,
    convnext: str | os.PathLike | None = None,
    dtype: str | None = None,
    legacy_image_position: int | None = None,
    image_token_id: int | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    progress: bool = False,
) -> dict:
    """
    Converts a checkpoint in the released layout: weights, configuration, processor, chat template and remote code.

    Everything is checked on shapes before the first weight is read. The folder appears under its name when it is
    complete; a conversion that fails leaves nothing behind.

    Args:
        src_dir (`str` or `os.PathLike`): `config.json` with safetensors (or `pytorch_model.bin`) shards, or with the
            `mm_projector.bin` of a connector that was trained on its own.
        dst_dir (`str` or `os.PathLike`): folder to write, new or empty.
        base_model (`str` or `os.PathLike`, *optional*): folder of the Llama model below `mm_projector.bin`.
        tokenizer (`str` or `os.PathLike`, *optional*): folder or Hub id; by default the checkpoint's own, then the
            base model's. Without any, only the processor's image part and the chat template are written.
        siglip (`str` or `os.PathLike`, *optional*): folder or Hub id of the tower to attach.
        clip (`str` or `os.PathLike`, *optional*): see `siglip`.
        dinov2 (`str` or `os.PathLike`, *optional*): see `siglip`.
        convnext (`str` or `os.PathLike`, *optional*): see `siglip`.
        dtype (`str`, *optional*): `float32`, `bfloat16` or `float16`; by default each tensor keeps its own.
        legacy_image_position (`int`, *optional*): see [`PMCCambrianConfig`]; the released `image_position` is dropped.
        image_token_id (`int`, *optional*): by default the processor's image token, else 128003.
        max_shard_size (`int` or `str`, *optional*, defaults to `"5GB"`): largest file, and the memory it takes.
        overwrite (`bool`, *optional*, defaults to `False`): whether a folder that is not empty is replaced.
        progress (`bool`, *optional*, defaults to `False`): whether a progress bar is shown.

    Returns:
        `dict`: what was done, also written as `conversion.json`: `keys` (used of the source), `ignored`, `parameters`
        (`total`, `language_model`, `connector`, `vision_towers`), `towers`, `tokenizer`, `files`, and the source's
        `image_position`.

    Raises:
        `SemiHVError`: for a source that cannot be converted as a whole, naming the key, file or number.
    """
    import torch

    from .convert_towers import TowerCheckpoint

    src, dst = Path(src_dir), Path(dst_dir)
    if not overwrite and dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise SemiHVError(f"{dst} exists and is not empty.", "Choose another folder, or overwrite it.")
    if dtype is not None and dtype not in DTYPES:
        raise SemiHVError(f"Unknown dtype {dtype!r}.", f"Choose one of {', '.join(DTYPES)}.")
    config_file = src / "config.json"
    if not config_file.is_file():
        raise SemiHVError(f"{src} has no config.json.", "Point to the folder of a Cambrian checkpoint.")
    source_config = json.loads(config_file.read_text(encoding="utf-8"))

    base = None if base_model is None else _base_folder(base_model)
    readers, shapes = _open(src, base)
    settings = convert_config(source_config, shapes)
    sources = {"siglip": siglip, "clip": clip, "dino": dinov2, "convnext": convnext}
    towers = {}
    for name, place in sources.items():
        if place is None:
            continue
        if name not in settings["sva_config"]["tower_names"]:
            raise SemiHVError(f"A {name} tower was given, but config.json lists no such tower.", "Leave it out.")
        towers[name] = TowerCheckpoint(name, place)
        settings[f"{name}_config"] = towers[name].config

    tokenizer = _tokenizer(src, tokenizer, base)
    processor = _processor(settings, tokenizer)
    if image_token_id is None:
        image_token_id = getattr(processor, "image_token_id", 128003)
    model = _empty_model(settings, image_token_id, legacy_image_position)

    tensors, ignored = _assign(readers, shapes, model)
    for name, tower in towers.items():
        for key, shape in tower.shapes.items():
            tensors[f"{TOWERS}{name}.{key}"] = (torch.empty(shape, device="meta"), partial(tower.get, key))
    _check(tensors, model)

    dst.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{dst.name}-", dir=dst.parent))
    try:
        files = _write_weights(tensors, staging, dtype, max_shard_size, progress)
        _write_settings(model, processor, staging, source_config, src, dtype)
        report = {
            "source": src.name,
            "keys": len(shapes) - len(ignored),
            "ignored": ignored,
            "parameters": _count(tensors),
            "towers": {name: tower.source for name, tower in towers.items()},
            "tokenizer": tokenizer,
            "image_position": source_config.get("image_position"),
            "legacy_image_position": legacy_image_position,
            "files": files,
        }
        write_json(staging / "conversion.json", report)
        os.chmod(staging, 0o755)
        if dst.exists():
            shutil.rmtree(dst)
        os.rename(staging, dst)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return report


def _open(src: Path, base_model: Path | None) -> tuple[dict, dict]:
    """Who reads which released key, and all shapes."""
    projector = src / PROJECTOR_FILE
    if base_model is None and projector.is_file() and not list(src.glob("*.safetensors")):
        raise SemiHVError(
            f"{src} holds a connector ({PROJECTOR_FILE}) without its language model.",
            "Name the folder of the Llama model with base_model.",
        )
    if base_model is None:
        parts = [CheckpointFolder(src)]
    else:
        if not projector.is_file():
            raise SemiHVError(f"A base model was given, but {src} has no {PROJECTOR_FILE}.", "Leave base_model out.")
        parts = [CheckpointFolder(base_model), CheckpointFile(projector)]
    readers, shapes = {}, {}
    for part in parts:
        for key, shape in part.shapes.items():
            if key in shapes:
                raise SemiHVError(f"{key} stands in the base model and in {PROJECTOR_FILE}.")
            readers[key], shapes[key] = part, shape
    return readers, shapes


def _base_folder(place: str | os.PathLike) -> Path:
    if Path(place).is_dir():
        return Path(place)
    return hub_snapshot(
        str(place),
        what="base model",
        do="Give a folder, or a Hub id you can reach.",
        patterns=["*.json", "*.safetensors"],
    )


def _tokenizer(src: Path, tokenizer: str | os.PathLike | None, base_model: Path | None) -> str | None:
    if tokenizer is not None:
        return str(tokenizer)
    for folder in (src, *([] if base_model is None else [base_model])):
        if any((folder / name).is_file() for name in TOKENIZER_FILES):
            return str(folder)
    return None


def _processor(settings: dict, tokenizer: str | None):
    """The processor; only its image part where no tokenizer is known."""
    from .assemble import build_processor
    from .pmc_cambrian.image_processing_pil_pmc_cambrian import PMCCambrianImageProcessorPil

    towers = {name: {} for name in settings["sva_config"]["tower_names"]}
    for name in towers:
        if (config := settings.get(f"{name}_config")) is not None:
            towers[name] = {"size": config.image_size}
    if tokenizer is None:
        return PMCCambrianImageProcessorPil(towers=towers)
    return build_processor(tokenizer, towers, settings["sva_config"]["query_side"])


def _empty_model(settings: dict, image_token_id: int, legacy_image_position: int | None):
    """The model without memory for its weights: names, shapes and code to save."""
    import torch
    from huggingface_hub.errors import StrictDataclassError

    from .pmc_cambrian.configuration_pmc_cambrian import PMCCambrianConfig
    from .pmc_cambrian.modeling_pmc_cambrian import PMCCambrianForConditionalGeneration

    try:
        config = PMCCambrianConfig(
            **settings, image_token_id=image_token_id, legacy_image_position=legacy_image_position
        )
    except (ValueError, StrictDataclassError) as error:
        raise SemiHVError(f"The configuration does not fit together: {error}") from error
    with torch.device("meta"):
        return PMCCambrianForConditionalGeneration(config)


def _assign(readers: dict, shapes: dict, model) -> tuple[dict, list[str]]:
    """Our name to shape and reader of every released tensor; two sources for one name are an error."""
    import torch

    tensors: dict[str, tuple[torch.Tensor, Callable]] = {}
    origin, ignored = {}, []
    for key, shape in shapes.items():
        name = convert_key(key)
        if name is None:
            ignored.append(key)
            continue
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            ignored.append(key)
            continue
        if name in origin:
            raise SemiHVError(f"{key} and {origin[name]} both give {name}.")
        origin[name] = key
        if name == "model.connector.query" and len(shape) == 1:
            shape = (1, *shape)
        meta = torch.empty(shape, device="meta")
        tensors[name] = (meta, lambda key=key, shape=shape: readers[key].get(key).view(shape))
    return tensors, ignored


def _check(tensors: dict, model) -> None:
    """Every parameter of the model has a tensor of its shape, and every tensor a parameter."""
    # Towers were checked where they were read; their names on disk are not always those in memory.
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items() if not name.startswith(TOWERS)}
    given = {name: tuple(meta.shape) for name, (meta, _) in tensors.items() if not name.startswith(TOWERS)}
    if model.config.tie_word_embeddings:
        wanted.pop("lm_head.weight", None)
    missing = sorted(set(wanted) - set(given))
    if missing:
        raise SemiHVError(f"The checkpoint lacks {len(missing)} of {len(wanted)} tensors: {_some(missing)}.")
    extra = sorted(set(given) - set(wanted))
    if extra:
        raise SemiHVError(f"The checkpoint has {len(extra)} tensors that the model does not know: {_some(extra)}.")
    for name, shape in given.items():
        if shape != wanted[name]:
            raise SemiHVError(f"{name} has shape {shape}, the configuration asks for {wanted[name]}.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _write_weights(
    tensors: dict, folder: Path, dtype: str | None, max_shard_size: int | str, progress: bool
) -> list[str]:
    """Safetensors files as transformers writes them: one, or shards and an index."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    plan = split_torch_state_dict_into_shards(
        {name: meta for name, (meta, _) in tensors.items()}, max_shard_size=max_shard_size
    )
    total = 0
    with progress_bar("converting", len(tensors), shown=progress) as bar:
        for file, names in plan.filename_to_tensors.items():
            shard = {}
            for name in names:
                value = tensors[name][1]()
                if dtype is not None and value.is_floating_point():
                    value = value.to(getattr(torch, dtype))
                # Two names may be views of one storage in the source; a file keeps each on its own.
                shard[name] = value.clone() if value.untyped_storage().nbytes() != value.nbytes else value.contiguous()
                total += shard[name].nbytes
                bar.advance()
            save_file(shard, folder / file, metadata={"format": "pt"})
            (folder / file).chmod(0o644)  # as every other file of the folder, which others are to read
    if plan.is_sharded:
        index = {"metadata": {"total_size": total}, "weight_map": plan.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
    return sorted(plan.filename_to_tensors)


def _write_settings(model, processor, folder: Path, source: dict, src: Path, dtype: str | None) -> None:
    """Everything of a checkpoint folder but its weights."""
    import torch
    from transformers import GenerationConfig

    from .assemble import read_chat_template
    from .export import save_settings

    text = model.config.text_config
    stated = src / "generation_config.json"
    stops = json.loads(stated.read_text(encoding="utf-8")).get("eos_token_id") if stated.is_file() else None
    generation = GenerationConfig(
        bos_token_id=text.bos_token_id,
        eos_token_id=stops if stops is not None else text.eos_token_id,
        pad_token_id=text.pad_token_id,
        do_sample=False,
    )
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is not None:
        generation.pad_token_id = tokenizer.pad_token_id
        end_of_turn = tokenizer.convert_tokens_to_ids("<|eot_id|>")
        listed = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
        generation.eos_token_id = list(dict.fromkeys([*(stop for stop in listed if stop is not None), end_of_turn]))
    model.generation_config = generation
    model.config.dtype = getattr(torch, dtype or source.get("torch_dtype") or "float32")
    save_settings(model, processor, folder)
    if tokenizer is None:
        (folder / "chat_template.jinja").write_text(read_chat_template("llama3"), encoding="utf-8")


def _count(tensors: dict) -> dict[str, int]:
    counts = {"total": 0, "language_model": 0, "connector": 0, "vision_towers": 0}
    for name, (meta, _) in tensors.items():
        counts["total"] += meta.numel()
        if name.startswith(TOWERS):
            counts["vision_towers"] += meta.numel()
        # The samplers stand in the language model, but they belong to the connector's weights.
        elif name.startswith("model.connector.") or ".vision_samplers." in name:
            counts["connector"] += meta.numel()
        else:
            counts["language_model"] += meta.numel()
    return counts
