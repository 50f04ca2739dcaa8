"""The processor under the library's common processor tests, with a tokenizer and template of either family."""

import tempfile
import unittest

from source import models_conftest, upstream
from transformers import PreTrainedTokenizerFast

from semihv_hf.models.assemble import build_processor, read_chat_template
from semihv_hf.models.pmc_cambrian.processing_pmc_cambrian import PMCCambrianProcessor

ProcessorTesterMixin = upstream("test_processing_common").ProcessorTesterMixin
QUERY_SIDE = 6


class SmallProcessor(ProcessorTesterMixin):
    """What the tests need to make the small processor of one family."""

    processor_class = PMCCambrianProcessor
    family: str
    bos_id: int | None
    special_tokens: dict[str, str]

    @classmethod
    def _setup_from_components(cls):
        models = models_conftest()
        vocabulary = models[f"{cls.family.upper()}_TOKENS"]
        tokenizer = models["train_tokenizer"](vocabulary, cls.bos_id)
        with tempfile.TemporaryDirectory() as folder:
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, **cls.special_tokens).save_pretrained(folder)
            return build_processor(folder, models["TINY_TOWERS"], QUERY_SIDE, chat_template=cls.family)

    @classmethod
    def prepare_processor_dict(cls):
        return {"query_side": QUERY_SIDE, "chat_template": read_chat_template(cls.family)}


class PMCCambrianLlama3ProcessorTest(SmallProcessor, unittest.TestCase):
    family = "llama3"
    bos_id = 0
    special_tokens = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}


class PMCCambrianChatmlProcessorTest(SmallProcessor, unittest.TestCase):
    family = "chatml"
    bos_id = None
    special_tokens = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
    }
