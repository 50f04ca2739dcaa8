"""The model of a stage: loaded with its processor, and written whole where no trainer holds it."""

from __future__ import annotations

from pathlib import Path

from semihv_hf.errors import SemiHVError, first_line

from .arguments import StageArguments

OUR_MODEL_TYPE = "pmc_cambrian"


def load_model(settings: StageArguments, config):
    """
    The model of a stage and its processor; a checkpoint that is an adapter is merged into its base model.

    Args:
        settings ([`StageArguments`]): `model`, `revision` and `load_in_4bit` are read.
        config (`trl.SFTConfig`): `model_init_kwargs` and `trust_remote_code` are read.

    Returns:
        `tuple`: model and processor.

    Raises:
        `SemiHVError`: if there is no such model, it is no image-text model, or its weights are not all there.
    """
    from transformers import AutoConfig, AutoProcessor

    import semihv_hf  # noqa: F401  registers the model's Auto classes

    from .adapters import four_bit_settings, is_adapter, load_merged
    from .strict_loading import load_start

    load = {"revision": settings.revision, "trust_remote_code": config.trust_remote_code}
    extra = {"dtype": "float32", **(config.model_init_kwargs or {})}
    try:
        if is_adapter(settings.model):
            model = load_merged(settings.model, **load, **extra)
        else:
            if settings.load_in_4bit:
                extra["quantization_config"] = four_bit_settings(AutoConfig.from_pretrained(settings.model, **load))
            model = load_start(settings.model, **load, **extra)
        processor = AutoProcessor.from_pretrained(settings.model, **load)
    except (OSError, ValueError, RuntimeError) as error:
        raise SemiHVError(
            f"{settings.model} is no image-text model that can be trained: {first_line(error)}.",
            "Give the folder or Hub id of a checkpoint with weights and processor.",
        ) from error
    template = config.chat_template_path
    if template is not None and Path(template).is_file():
        processor.chat_template = Path(template).read_text(encoding="utf-8")
    if getattr(processor, "image_processor", None) is None:
        raise SemiHVError(f"{settings.model} has no image processor.", "A text model cannot be trained on images.")
    return model, processor


def save_whole(model, processor, folder: str | Path) -> None:
    """Writes a model that no trainer holds, such as a merged one, with its processor; ours also with its code."""
    from semihv_hf.models.export import save_checkpoint

    if model.config.model_type == OUR_MODEL_TYPE:
        save_checkpoint(model, processor, folder)
        return
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
