"""Small tokenizers of both families, and processors on them."""

import pytest

TINY_TOWERS = {"siglip": {"size": 32}, "clip": {"size": 32}, "dino": {"size": 28}, "convnext": {"size": 48}}

LLAMA3_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]

# The special tokens of SmolLM2's vocabulary.
CHATML_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<repo_name>",
    "<reponame>",
    "<file_sep>",
    "<filename>",
    "<gh_stars>",
    "<issue_start>",
    "<issue_comment>",
    "<issue_closed>",
    "<jupyter_start>",
    "<jupyter_text>",
    "<jupyter_code>",
    "<jupyter_output>",
    "<jupyter_script>",
    "<empty_output>",
]


def train_tokenizer(special_tokens: list[str], bos_id: int | None):
    """A byte-level BPE tokenizer as both families use it; with `bos_id` it begins every text with that token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["user assistant system What modality is this image? It is an axial MRI."], trainer)
    if bos_id is not None:
        bos = special_tokens[bos_id]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, bos_id)])
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_dirs(tmp_path_factory) -> dict[str, str]:
    """Folders of a tokenizer with Llama 3's special tokens (adds a BOS by itself) and with SmolLM2's (does not)."""
    from transformers import PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("tokenizers")
    llama3 = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(LLAMA3_TOKENS, bos_id=0),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    )
    llama3.save_pretrained(root / "llama3")
    chatml = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(CHATML_TOKENS, bos_id=None),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    chatml.save_pretrained(root / "chatml")
    return {name: str(root / name) for name in ("llama3", "chatml")}


@pytest.fixture(scope="session", params=["llama3", "chatml"])
def family(request) -> str:
    """Name of a template and of the tokenizer family it belongs to."""
    return request.param


@pytest.fixture()
def processor(tokenizer_dirs, family):
    """A processor with four small towers and a 6x6 query grid, new for every test."""
    from semihv_hf.models.assemble import build_processor

    return build_processor(tokenizer_dirs[family], TINY_TOWERS, 6, chat_template=family)
