"""What all tests share: no network, caches of their own, and small models made on the spot.

Packages that tests fetch stay in the user's cache (`SEMIHV_CACHE`, else `~/.cache/semihv-hf`), as in a real run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]


# The same examples at every run, and none refused because the machine is busy; `--hypothesis-profile search` looks
# for new ones.
STEADY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("search", **STEADY)
settings.register_profile("steady", derandomize=True, **STEADY)
settings.load_profile("steady")


def pytest_configure(config):
    """Set before any test module, and so any Hugging Face library, is imported: they read these at import."""
    config.hf_home = tempfile.mkdtemp(prefix="semihv-tests-hf-")
    os.environ.update(
        HF_HOME=config.hf_home,
        HF_HUB_OFFLINE="1",
        HF_DATASETS_OFFLINE="1",
        HF_EVALUATE_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        TOKENIZERS_PARALLELISM="false",
    )
    # A judge configured on the machine must not be called by a test.
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        os.environ.pop(name, None)


def pytest_unconfigure(config):
    shutil.rmtree(config.hf_home, ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def run_python():
    """Runs code in a fresh interpreter: `run_python(code, *arguments, cwd=..., check=True, **environment)`."""

    def run(code: str, *arguments, cwd=None, check: bool = True, **environment) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=cwd or ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert not check or done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def semihv():
    """Runs the command line in a process of its own: `semihv("doctor", cwd=..., timeout=600)`."""

    def run(*arguments, cwd=None, timeout: int = 600, **environment) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "semihv_hf.cli", *map(str, arguments)],
            cwd=cwd or ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def picture():
    """Makes an image of random pixels: `picture(width, height, seed=0)`."""

    import numpy as np
    from PIL import Image

    def make(width: int, height: int, seed: int = 0):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return make


@pytest.fixture(scope="session")
def tiny_text_model(tmp_path_factory) -> Path:
    """A folder with a two-layer Llama of random weights and a byte-level tokenizer with SmolLM2's special tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("text-model") / "tiny-llama"
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator(["Describe the image. Is this an axial MRI? Yes. No. What plane is shown?"], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_text_model, semihv) -> Path:
    """A folder in which the quickstart was run at its tiny size; the run itself lies in `runs/quickstart` there."""
    folder = tmp_path_factory.mktemp("quickstart")
    done = semihv("quickstart", "--size", "tiny", "--text-model", tiny_text_model, cwd=folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return folder
