"""The tokens that a response format allows: whatever a model would rather say, what it writes has the shape."""

import json
import re
from functools import lru_cache
from typing import Annotated, Literal

import pytest

pytest.importorskip("pydantic")
pytest.importorskip("llguidance")

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

from semihv_hf.serving.shapes import Shapes

MOST_TOKENS = 3000
# An answer that cannot go on for ever: texts and lists have an end.
texts = st.builds(lambda least, more: Annotated[str, Field(min_length=least, max_length=least + more)],
                  st.integers(0, 3), st.integers(0, 5))  # fmt: skip
choices = st.lists(st.text(max_size=6), min_size=1, max_size=4, unique=True).map(lambda some: Literal[tuple(some)])
numbers = st.builds(lambda least, more: Annotated[int, Field(ge=least, le=least + more)],
                    st.integers(-20, 20), st.integers(0, 200))  # fmt: skip
leaves = st.one_of(texts, choices, numbers, st.just(bool), st.just(None))


def lists(inner):
    return st.builds(lambda kind, least, more: Annotated[list[kind], Field(min_length=least, max_length=least + more)],
                     inner, st.integers(0, 2), st.integers(0, 2))  # fmt: skip


def objects(inner):
    fields = st.dictionaries(st.sampled_from(["report", "a b", "größe", "q1", '"']), inner, min_size=1, max_size=3)
    return fields.map(closed)


def closed(kinds: dict):
    """An object of these fields and of no other, which random tokens would never come to the end of."""
    fields = {f"f{number}": (kind, Field(alias=name)) for number, (name, kind) in enumerate(kinds.items())}
    return create_model("Shape", __config__=ConfigDict(extra="forbid"), **fields)


shapes_of_any_kind = objects(st.recursive(leaves, lambda inner: lists(inner) | objects(inner), max_leaves=4))


@pytest.fixture(scope="module")
def tokenizer(tiny_text_model):
    return AutoTokenizer.from_pretrained(tiny_text_model)


@pytest.fixture(scope="module")
def shapes(tokenizer):
    return Shapes(tokenizer)


@pytest.fixture(scope="module")
def model(tiny_text_model):
    return AutoModelForCausalLM.from_pretrained(tiny_text_model).eval()


def wanted(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "shape", "schema": schema, "strict": True}}


def at_random(keeper, tokenizer, seed: int) -> str:
    """An answer of tokens that are all as likely as chance has it."""
    chance = torch.Generator().manual_seed(seed)
    ids = [5, 6, 7]  # a prompt, which is no part of the shape
    for _ in range(MOST_TOKENS):
        scores = torch.randn(1, len(tokenizer) + 24, generator=chance)  # more logits than tokens, as many models have
        kept = keeper(torch.tensor([ids]), scores)
        assert torch.equal(kept[kept.isfinite()], scores[kept.isfinite()])
        ids.append(int(kept.argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            return tokenizer.decode(ids[3:-1])
    raise AssertionError(f"no end after {MOST_TOKENS} tokens: {tokenizer.decode(ids)[:500]}")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(shape=shapes_of_any_kind, seed=st.integers(0, 2**32))
def test_random_tokens_have_every_shape(shape, seed, shapes, tokenizer):
    kind = TypeAdapter(shape)
    text = at_random(shapes.keeper(wanted(kind.json_schema())), tokenizer, seed)
    kind.validate_json(text, strict=True)


def test_no_token_that_says_more_than_text_gets_into_a_text(shapes, tokenizer):
    schema = {"type": "string", "maxLength": 40}
    for seed in range(20):
        text = at_random(shapes.keeper(wanted(schema)), tokenizer, seed)
        assert len(json.loads(text)) <= 40
        text.encode()  # no half of a character
        assert not any(special in text for special in tokenizer.all_special_tokens)


SCHEMA = {
    "type": "object",
    "properties": {
        "plane": {"enum": ["axial", "sagittal"]},
        "findings": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 2},
    },
    "required": ["plane", "findings"],
    "additionalProperties": False,
}


class Found(BaseModel):
    plane: Literal["axial", "sagittal"]
    findings: Annotated[list[Annotated[str, Field(max_length=5)]], Field(min_length=1, max_length=2)]


def read(tokenizer, ids) -> list:
    return [Found.model_validate_json(tokenizer.decode(row, skip_special_tokens=True)) for row in ids]


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"do_sample": True, "temperature": 1.7},
        {"do_sample": True, "temperature": 0.01, "min_new_tokens": 90},
        {"do_sample": False, "use_cache": False},
        {"do_sample": False, "num_beams": 3, "num_return_sequences": 3},
        {"do_sample": False, "prompt_lookup_num_tokens": 4},
        {"do_sample": True, "suppress_tokens": [40, 41, 42, 43]},
    ],
    ids=lambda options: "-".join(options),
)
def test_generate_keeps_the_shape_however_it_searches(options, model, tokenizer, shapes):
    drafts = "prompt_lookup_num_tokens" in options
    prompts = ['{"plane": "axial", "findings": ["x"]} {"plane":'] if drafts else ["What is it?", "Is it?"]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    torch.manual_seed(0)
    keeper = shapes.keeper(wanted(SCHEMA))
    out = model.generate(**inputs, max_new_tokens=120, logits_processor=LogitsProcessorList([keeper]), **options)
    answers = read(tokenizer, out[:, inputs["input_ids"].shape[1] :])
    assert len(answers) == len(prompts) * options.get("num_return_sequences", 1)


def test_a_grammar_is_compiled_once_and_states_are_not_shared(shapes, tokenizer):
    first, second = shapes.keeper(wanted(SCHEMA)), shapes.keeper(wanted(json.loads(json.dumps(SCHEMA))))
    assert first is not second and shapes._grammar.cache_info().hits >= 1
    texts = [at_random(keeper, tokenizer, seed) for keeper, seed in ((first, 1), (second, 2), (first, 3))]
    assert len(set(texts)) == 3 and all(Found.model_validate_json(text) for text in texts)
    # As json.dumps writes it: where blanks are free, a weak model writes nothing else.
    assert all(re.fullmatch(r'\{"plane": "[a-z]+", "findings": \[".*"\]\}', text, re.S) for text in texts)


def test_plain_text_is_no_shape_and_an_object_is_any_object(shapes, tokenizer):
    assert shapes.keeper(None) is None and shapes.keeper({"type": "text"}) is None
    keeper = shapes.keeper({"type": "json_object"})
    scores = keeper(torch.tensor([[5]]), torch.zeros(1, len(tokenizer)))
    assert all(tokenizer.decode([i]).startswith("{") for i in scores.isfinite().nonzero()[:, 1])


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"$ref": "#"}, "."),
        ({"$ref": "file:///etc/hostname"}, "does not fetch"),
        ({"$ref": "https://example.org/schema.json"}, "does not fetch"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength"),
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_kept_is_one_line_with_its_reason(schema, reason, shapes):
    with pytest.raises(ValueError, match=f"Invalid schema for response_format: .*{reason}") as error:
        shapes.keeper(wanted(schema))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    ["json_object", 7, [], {"type": "grammar"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": []},
     {"type": "json_schema", "json_schema": {"name": "x"}}, {"type": "json_schema", "json_schema": {"schema": True}}],
    ids=str,
)  # fmt: skip
def test_what_is_no_format_is_named(given, shapes):
    with pytest.raises(ValueError, match="response_format.*json_schema"):
        shapes.keeper(given)


@lru_cache
def byte_level_llama3():
    """A tokenizer that splits as Llama 3's does, with its special tokens and two ends."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator(['{"plane": "axial", "findings": ["größer als 12", "naïve"]}'] * 9, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", pad_token="<|end_of_text|>"
    )


def test_a_tokenizer_like_llama_3_ends_with_either_of_its_ends():
    tokenizer = byte_level_llama3()
    ends = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    shapes = Shapes(tokenizer, ends)
    for seed in range(5):
        keeper = shapes.keeper(wanted(SCHEMA))
        ids, chance = [0], torch.Generator().manual_seed(seed)
        while ids[-1] not in ends:
            kept = keeper(torch.tensor([ids]), torch.randn(1, len(tokenizer), generator=chance))
            ids.append(int(kept.argmax()))
        Found.model_validate_json(tokenizer.decode(ids[1:-1]))
        assert kept.isfinite().nonzero()[:, 1].tolist() == ends
