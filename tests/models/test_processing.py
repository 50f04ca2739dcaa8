"""The processor: token counts, batches, one BOS, masks, TRL's collator, saving, loading without the package."""

import base64
import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_cambrian import TOKEN_COUNTS

from semihv_hf.errors import SemiHVError
from semihv_hf.models.assemble import build_processor
from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import PMCCambrianImageProcessorPil
from semihv_hf.models.pmc_cambrian.image_processing_pmc_cambrian import PMCCambrianImageProcessor
from semihv_hf.models.pmc_cambrian.processing_pmc_cambrian import PMCCambrianProcessor

IMAGE_KEYS = {"pixel_values", "pixel_values_clip", "pixel_values_dino", "pixel_values_convnext", "image_sizes"}
END = {"llama3": "<|eot_id|>", "chatml": "<|im_end|>"}
SMALL = {"siglip": {"size": 16}}


def user(text, *images):
    return {"role": "user", "content": [*({"type": "image", "image": image} for image in images), text_part(text)]}


def text_part(text):
    return {"type": "text", "text": text}


def encode(processor, conversations, **kwargs):
    padding = {"padding": True} if isinstance(conversations[0], list) else {}
    return processor.apply_chat_template(
        conversations, tokenize=True, return_dict=True, return_tensors="pt", processor_kwargs=padding, **kwargs
    )


def count_image_tokens(processor, encoded) -> list[int]:
    return (encoded["input_ids"] == processor.image_token_id).sum(dim=1).tolist()


@pytest.fixture()
def conversations(picture):
    """One image; text only; two images of different shape at a later place; several turns."""
    return [
        [user("What is this?", picture(40, 30))],
        [{"role": "user", "content": "Hello there"}],
        [
            {
                "role": "user",
                "content": [
                    text_part("Compare"),
                    {"type": "image", "image": picture(90, 30)},
                    text_part("with"),
                    {"type": "image", "image": picture(20, 70)},
                ],
            }
        ],
        [
            user("Which plane?", picture(33, 33)),
            {"role": "assistant", "content": "Axial."},
            {"role": "user", "content": "Sure?"},
        ],
    ]


# numbers of image tokens


@pytest.mark.parametrize(("width", "height", "tokens"), TOKEN_COUNTS)
def test_token_counts_of_the_specification(tokenizer_dirs, width, height, tokens):
    processor = build_processor(tokenizer_dirs["llama3"], SMALL)
    assert processor.query_side == 24
    counts = processor._get_num_multimodal_tokens([[height, width]])
    assert counts.num_image_tokens == [tokens]
    assert counts.num_image_patches == [1]
    encoded = encode(processor, [user("?", Image.new("RGB", (width, height)))])
    assert count_image_tokens(processor, encoded) == [tokens]
    assert encoded["image_sizes"].tolist() == [[height, width]]


def test_no_sizes_no_counts(processor):
    assert processor._get_num_multimodal_tokens().num_image_tokens is None


# batches


def test_batch_equals_single_conversations(processor, conversations):
    batch = encode(processor, conversations, add_generation_prompt=True)
    assert set(batch) == {"input_ids", "attention_mask", *IMAGE_KEYS}
    assert batch["pixel_values"].shape == (4, 3, 32, 32)
    assert batch["image_sizes"].tolist() == [[30, 40], [30, 90], [70, 20], [33, 33]]
    done = 0
    for row, conversation in enumerate(conversations):
        single = encode(processor, conversation, add_generation_prompt=True)
        kept = batch["attention_mask"][row].bool()
        length = int(kept.sum())
        assert kept[-length:].all(), "padding must be on the left"
        assert torch.equal(batch["input_ids"][row][kept], single["input_ids"][0])
        images = 0 if "pixel_values" not in single else len(single["pixel_values"])
        for key in IMAGE_KEYS if images else ():
            assert torch.equal(batch[key][done : done + images], single[key]), key
        done += images
    assert count_image_tokens(processor, batch)[1] == 0


def test_text_only_has_no_image_keys(processor, conversations):
    for one in (conversations[1], [conversations[1], conversations[1]]):
        assert set(encode(processor, one)) == {"input_ids", "attention_mask"}
    output = processor(text=["a", "b"], images=[[], None], padding=True, return_tensors="pt")
    assert set(output) == {"input_ids", "attention_mask"}


def test_images_by_path_and_data_uri(processor, picture, tmp_path):
    picture(40, 30).save(tmp_path / "image.png")
    uri = "data:image/png;base64," + base64.b64encode((tmp_path / "image.png").read_bytes()).decode()
    reference = encode(processor, [user("?", picture(40, 30))])
    for part in (
        {"type": "image", "path": str(tmp_path / "image.png")},
        {"type": "image", "url": uri},
        {"type": "image_url", "image_url": {"url": uri}},
    ):
        encoded = encode(processor, [{"role": "user", "content": [part, text_part("?")]}])
        for key in reference:
            assert torch.equal(encoded[key], reference[key]), key


def test_grey_arrays_pass_through_the_call(processor):
    grey = np.random.default_rng(0).integers(0, 4096, (30, 40)).astype(np.uint16)
    output = processor(text=processor.image_token, images=grey, return_tensors="pt")
    assert output["image_sizes"].tolist() == [[30, 40]]


# special tokens


def test_exactly_one_bos(processor, family, conversations):
    bos = processor.tokenizer.bos_token_id
    batch = encode(processor, conversations)
    rendered = processor.apply_chat_template(conversations[1])
    for ids in (*batch["input_ids"], processor(text=rendered, return_tensors="pt")["input_ids"][0]):
        ids = ids.tolist()
        if family == "llama3":
            assert ids.count(bos) == 1
        else:  # <|im_start|> is named BOS there: one for each turn, none in front
            assert ids.count(bos) == sum(processor.tokenizer.decode(ids).count(f"<|im_start|>{r}") for r in ("u", "a"))


def test_raw_text_is_tokenised_as_the_tokenizer_does(processor):
    assert processor(text="plain").input_ids[0] == processor.tokenizer("plain").input_ids


def test_texts_with_and_without_bos_do_not_mix(tokenizer_dirs):
    processor = build_processor(tokenizer_dirs["llama3"], SMALL, 6)
    with pytest.raises(ValueError, match="1 of 2 texts begin with"):
        processor(text=["<|begin_of_text|>a", "b"])


def test_chatml_adds_no_superfluous_token(tokenizer_dirs):
    processor = build_processor(tokenizer_dirs["chatml"], SMALL, 6, chat_template="chatml")
    encoded = encode(processor, [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}])
    assert processor.tokenizer.decode(encoded["input_ids"][0]) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"
    )


def test_vocabulary_does_not_grow(processor, family, tokenizer_dirs):
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tokenizer_dirs[family])
    assert len(processor.tokenizer) == len(plain)
    assert processor.image_token == {"llama3": "<|reserved_special_token_1|>", "chatml": "<filename>"}[family]
    assert processor.image_token_id == plain.convert_tokens_to_ids(processor.image_token)
    assert processor.tokenizer.image_token_id == processor.image_token_id
    assert processor.tokenizer.pad_token_id != processor.tokenizer.eos_token_id
    assert processor.tokenizer.pad_token_id != processor.image_token_id
    assert processor.tokenizer.padding_side == "left"


def test_skipping_special_tokens_hides_image_and_padding(processor, conversations):
    batch = encode(processor, conversations)
    for text in processor.batch_decode(batch["input_ids"], skip_special_tokens=True):
        assert "<" not in text


# masks


def test_assistant_mask_is_answer_and_end_of_turn(processor, family, picture):
    conversations = [
        [
            user("Compare", picture(40, 30), picture(20, 70)),
            {"role": "assistant", "content": "They differ."},
            user("And this?", picture(33, 33)),
            {"role": "assistant", "content": [text_part("Alike.")]},
        ],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}],
    ]
    encoded = encode(processor, conversations, return_assistant_tokens_mask=True)
    masks = torch.as_tensor(encoded["assistant_masks"]).bool()
    answers = [processor.tokenizer.decode(ids[mask]) for ids, mask in zip(encoded["input_ids"], masks, strict=True)]
    assert answers == [f"They differ.{END[family]}Alike.{END[family]}", f"Hello.{END[family]}"]


# bad input


def test_per_text_numbers_of_images_are_checked(processor, picture):
    token = processor.image_token
    with pytest.raises(ValueError, match="Text 0 has 1 image tokens .*but 2 images"):
        processor(text=[token, token], images=[[picture(8, 8), picture(8, 8)], []])
    with pytest.raises(ValueError, match="1 lists of images were given for 2 texts"):
        processor(text=[token, token], images=[[picture(8, 8), picture(8, 8)]])
    with pytest.raises(ValueError, match="Found total 2 .* and 1 images"):
        processor(text=[token, token], images=[picture(8, 8)])
    with pytest.raises(ValueError, match="Found 1 .* no images were passed"):
        processor(text=[token])


def test_defect_b7_truncation_never_cuts_image_tokens_in_silence(processor, picture):
    conversation = [user("What is this?", picture(40, 30))]
    with pytest.raises(ValueError, match="Mismatch in `image` token count"):
        processor.apply_chat_template(
            conversation, tokenize=True, return_dict=True, processor_kwargs={"truncation": True, "max_length": 20}
        )
    length = encode(processor, conversation)["input_ids"].shape[1]
    shorter = processor.apply_chat_template(
        conversation, tokenize=True, return_dict=True, processor_kwargs={"truncation": True, "max_length": length - 3}
    )
    assert len(shorter["input_ids"][0]) == length - 3


def test_wrong_image_token_or_side_raises(processor):
    image_processor, tokenizer = processor.image_processor, processor.tokenizer
    with pytest.raises(ValueError, match="must be one token"):
        PMCCambrianProcessor(image_processor, tokenizer, image_token="<no such token>")
    with pytest.raises(ValueError, match="query_side"):
        PMCCambrianProcessor(image_processor, tokenizer, query_side=0)


def test_a_tokenizer_without_image_token_raises(tokenizer_dirs):
    from transformers import AutoTokenizer

    with pytest.raises(ValueError, match="names no image token"):
        PMCCambrianProcessor(PMCCambrianImageProcessorPil(), AutoTokenizer.from_pretrained(tokenizer_dirs["chatml"]))


def test_build_processor_names_what_is_missing(tokenizer_dirs):
    with pytest.raises(SemiHVError, match=re.escape("lacks <|im_start|>")):
        build_processor(tokenizer_dirs["llama3"], chat_template="chatml")
    with pytest.raises(SemiHVError, match="vicuna"):
        build_processor(tokenizer_dirs["llama3"], chat_template="vicuna")
    with pytest.raises(SemiHVError, match="<image>"):
        build_processor(tokenizer_dirs["llama3"], image_token="<image>")
    assert build_processor(tokenizer_dirs["chatml"], chat_template="chatml", image_token="<gh_stars>").image_token == (
        "<gh_stars>"
    )


# TRL


@pytest.fixture()
def rows(picture):
    return [
        {
            "images": [picture(40, 30)],
            "messages": [
                {"role": "user", "content": "What modality?"},
                {"role": "assistant", "content": "MRI"},
                {"role": "user", "content": "Which plane?"},
                {"role": "assistant", "content": "axial"},
            ],
        },
        {
            "images": [],
            "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "It is 4."}],
        },
        {
            "images": [picture(20, 70), picture(33, 33)],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Compare."},
                {"role": "assistant", "content": "They differ."},
            ],
        },
    ]


@pytest.fixture()
def collator(processor):
    sft_trainer = pytest.importorskip("trl.trainer.sft_trainer")
    return sft_trainer.DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)


def test_trl_collator_trains_answers_and_ends_only(processor, family, rows, collator):
    batch = collator(rows)
    assert set(batch) == {"input_ids", "attention_mask", "labels", *IMAGE_KEYS}
    assert {key: len(batch[key]) for key in IMAGE_KEYS} == dict.fromkeys(IMAGE_KEYS, 3)
    assert batch["image_sizes"].tolist() == [[30, 40], [70, 20], [33, 33]]
    trained = [processor.tokenizer.decode(labels[labels != -100]) for labels in batch["labels"]]
    end = END[family]
    assert trained == [f"MRI{end}axial{end}", f"It is 4.{end}", f"They differ.{end}"]
    assert (batch["labels"] != processor.image_token_id).all()
    # TRL puts the images in front of the first user turn, as the original training did
    text = processor.tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0].bool()])
    assert f"{processor.image_token}\nWhat modality?" in text
    counts = processor._get_num_multimodal_tokens([[30, 40], [70, 20], [33, 33]]).num_image_tokens
    assert count_image_tokens(processor, batch) == [counts[0], 0, counts[1] + counts[2]]


def test_trl_collator_on_text_only_rows(processor, rows, collator):
    assert set(collator([rows[1], dict(rows[1])])) == {"input_ids", "attention_mask", "labels"}
    rows[1]["images"] = None
    assert "pixel_values" in collator(rows[:2])


def test_trl_sees_that_the_end_of_turn_is_trained(processor):
    utils = pytest.importorskip("trl.chat_template_utils")
    assert utils.has_generation_markers(processor.chat_template)
    assert utils.is_chat_template_stop_token_trained(processor)


def test_trl_collator_on_prompt_and_completion(processor, family, rows):
    sft_trainer = pytest.importorskip("trl.trainer.sft_trainer")
    collator = sft_trainer.DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    rows = [
        {"images": row["images"], "prompt": row["messages"][-2:-1], "completion": row["messages"][-1:]}
        for row in (rows[2], rows[1])
    ]
    batch = collator(rows)
    trained = [processor.tokenizer.decode(labels[labels != -100]).rstrip("\n") for labels in batch["labels"]]
    assert trained == [f"They differ.{END[family]}", f"It is 4.{END[family]}"]


# saving and loading


def test_save_and_load(processor, conversations, tmp_path):
    processor.save_pretrained(tmp_path)
    again = PMCCambrianProcessor.from_pretrained(tmp_path)
    assert again.query_side == 6
    assert (again.image_token, again.image_token_id) == (processor.image_token, processor.image_token_id)
    assert again.chat_template == processor.chat_template
    assert again.tokenizer.padding_side == "left"
    assert again.image_processor.towers == processor.image_processor.towers
    first, second = encode(processor, conversations), encode(again, conversations)
    for key in first:
        assert torch.equal(first[key], second[key]), key
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["auto_map"] == {"AutoProcessor": "processing_pmc_cambrian.PMCCambrianProcessor"}
    assert (tmp_path / "chat_template.jinja").read_text() == processor.chat_template


def test_backend_is_exact_unless_asked_or_saved_otherwise(processor, tmp_path):
    processor.save_pretrained(tmp_path / "exact")
    load = PMCCambrianProcessor.from_pretrained
    assert type(load(tmp_path / "exact").image_processor) is PMCCambrianImageProcessorPil
    fast = load(tmp_path / "exact", backend="torchvision")
    assert type(fast.image_processor) is PMCCambrianImageProcessor
    fast.save_pretrained(tmp_path / "fast")
    assert type(load(tmp_path / "fast").image_processor) is PMCCambrianImageProcessor
    assert type(load(tmp_path / "fast", backend="pil").image_processor) is PMCCambrianImageProcessorPil
    with pytest.raises(ValueError, match="'opencv'"):
        load(tmp_path / "exact", backend="opencv")


def test_folder_loads_where_the_package_is_not_installed(tokenizer_dirs, conversations, tmp_path):
    processor = build_processor(tokenizer_dirs["chatml"], SMALL, 6, chat_template="chatml")
    processor.save_pretrained(tmp_path / "model")
    encoded = encode(processor, conversations[0])
    torch.save(dict(encoded), tmp_path / "encoded.pt")
    conversations[0][0]["content"][0]["image"].save(tmp_path / "image.png")
    script = """
        import sys

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "semihv_hf":
                    raise ImportError("semihv_hf must not be needed")

        sys.meta_path.insert(0, Blocker())
        import torch
        from transformers import AutoImageProcessor, AutoProcessor

        processor = AutoProcessor.from_pretrained("model", trust_remote_code=True)
        assert type(processor).__name__ == "PMCCambrianProcessor", type(processor)
        assert type(processor.image_processor).__name__ == "PMCCambrianImageProcessorPil"
        messages = [{"role": "user", "content": [
            {"type": "image", "path": "image.png"}, {"type": "text", "text": "What is this?"}]}]
        encoded = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
        expected = torch.load("encoded.pt")
        assert set(encoded) == set(expected)
        assert all(torch.equal(encoded[key], expected[key]) for key in expected)
        for backend, name in ((None, "Pil"), ("pil", "Pil"), ("fast", "")):
            found = AutoImageProcessor.from_pretrained("model", trust_remote_code=True, backend=backend)
            assert type(found).__name__ == "PMCCambrianImageProcessor" + name, (backend, type(found))
        fast = AutoProcessor.from_pretrained("model", trust_remote_code=True, backend="torchvision")
        assert type(fast.image_processor).__name__ == "PMCCambrianImageProcessor"
        processor.save_pretrained("again")
        again = AutoProcessor.from_pretrained("again", trust_remote_code=True)
        assert again.query_side == 6
        assert not any(name.startswith("semihv_hf") for name in sys.modules)
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment.update(HF_MODULES_CACHE=str(tmp_path / "modules"), HF_HUB_OFFLINE="1")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
