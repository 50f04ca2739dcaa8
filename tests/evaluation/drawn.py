"""Small cases whose pixels, facts and questions belong together, and a small real model to ask about them."""

import io
import random

from semihv_hf.data.messages import message

MODALITIES = ("CT", "MRI", "X-ray")
PLANES = ("axial", "coronal")


def draw(modality: str, plane: str, seed: int, size: tuple[int, int]) -> bytes:
    """Draws a PNG in which modality and plane can really be seen."""
    from PIL import Image, ImageDraw

    generator = random.Random(f"{modality} {plane} {seed}")
    image = Image.new("RGB", size, {"CT": (20, 20, 20), "MRI": (90, 90, 90), "X-ray": (180, 180, 180)}[modality])
    pen = ImageDraw.Draw(image)
    box = (4 + generator.randrange(6), 4, size[0] - 4 - generator.randrange(6), size[1] - 4)
    pen.ellipse(box, fill=(200, 40, 40)) if plane == "axial" else pen.rectangle(box, fill=(40, 40, 200))
    for _ in range(20):
        pen.point((generator.randrange(size[0]), generator.randrange(size[1])), fill=(255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def record(case: dict, question: str, answer: str, template: str, options: list[str], number: int) -> dict:
    """One single-question record."""
    return {
        "id": f"{case['id']}-{number}",
        "case_id": case["id"],
        "source": "drawn",
        "source_id": case["source_id"],
        "licence": "CC0-1.0",
        "images": [{"bytes": case["image"], "path": None}],
        "messages": [message("user", question, 1), message("assistant", answer)],
        "annotation": ["rule", "rule"],
        "task": "vqa",
        "modality": case["modality"],
        "facts": [{"name": "modality", "value": case["modality"], "source": "drawn so"}],
        "questions": [
            {
                "turn": 0,
                "template": template,
                "answer_type": "closed" if options else "open",
                "options": options,
                "fact": template,
                "fact_source": "drawn so",
            }
        ],
        "provenance": [{"field": "messages[1]", "model": "", "prompt_version": "1", "evidence": ["drawn so"]}],
        "evidence": [],
    }


def records_of(case: dict) -> list[dict]:
    """The questions of one drawn case: two closed with options, one yes/no, one open."""
    modality, plane = case["modality"], case["plane"]
    return [
        record(case, f"Which modality: {', '.join(MODALITIES)}?", modality, "modality", list(MODALITIES), 0),
        record(case, "Is this plane axial or coronal?", plane, "plane", list(PLANES), 1),
        record(case, "Is this an MRI?", "yes" if modality == "MRI" else "no", "modality_yes_no", ["yes", "no"], 2),
        record(case, "What does the image show?", f"{modality} in the {plane} plane", "show", [], 3),
    ]


def jama_record(case: dict, number: int) -> dict:
    """One case in the JAMA style, as the dataset build writes it."""
    options = [f"{letter}. a {m} film" for letter, m in zip("ABC", MODALITIES, strict=True)] + ["D. none of these"]
    letter = "ABC"[MODALITIES.index(case["modality"])]
    text = f"A reader is shown a film (case {number}). What is it?\n" + "\n".join(options)
    answer = f"Answer: {letter}. a {case['modality']} film. The background has the grey of that kind of film."
    row = record(case, text, answer, "jama_style", [], 9)
    row["task"] = "case"
    row["questions"] = []
    return row


def write_dataset(folder, rows_of_config: dict[str, dict[str, list[dict]]]) -> None:
    """Writes Parquet shards and a card in the layout of `semihv build`."""
    from datasets import Dataset

    from semihv_hf.data.features import record_features

    card = ["---", "configs:"]
    for config, splits in rows_of_config.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            name = f"data/{config}/{split}-00000-of-00001.parquet"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_list(rows, features=record_features()).to_parquet(folder / name)
            card += [f"  - split: {split}", f"    path: {name}"]
    (folder / "README.md").write_text("\n".join([*card, "---", "# Drawn images", ""]), encoding="utf-8")


def drawn_cases(count: int, seed: int) -> list[dict]:
    """Cases of every modality and plane in turn, of several image sizes."""
    cases = []
    for number in range(count):
        modality, plane = MODALITIES[number % 3], PLANES[(number // 3) % 2]
        size = [(40, 40), (48, 32), (32, 48)][number % 3]
        cases.append(
            {
                "id": f"{seed:02d}{number:030d}",
                "source_id": f"drawing {seed}-{number}",
                "modality": modality,
                "plane": plane,
                "image": draw(modality, plane, seed * 1000 + number, size),
            }
        )
    return cases


def save_tiny_model(folder, seed: int):
    """Makes and saves the model."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    raw = Tokenizer(models.BPE(unk_token=None))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<s>", "</s>", "<image>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join([*MODALITIES, *PLANES, "yes no Which modality plane image"])], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    image_processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    processor = LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    )
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_id)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
        # Large weights, so that what is written depends visibly on what is shown.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
