"""A small dataset folder with real pixels, and a small real image-text model with random weights."""

import json

import pytest
from drawn import drawn_cases, jama_record, records_of, save_tiny_model, write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """A dataset folder with the configs that evaluation reads."""
    folder = tmp_path_factory.mktemp("drawn") / "data_folder"
    folder.mkdir()
    train, test = drawn_cases(12, seed=1), drawn_cases(9, seed=2)
    write_dataset(
        folder,
        {
            "instruction": {"train": [row for case in train for row in records_of(case)]},
            "benchmark": {
                "validation": [row for case in train[:3] for row in records_of(case)],
                "test": [row for case in test for row in records_of(case)],
            },
            "jama_style": {"test": [jama_record(case, number) for number, case in enumerate(test[:4])]},
        },
    )
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A native LLaVA of a few thousand weights: real classes, random weights, its own tokenizer and template."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny_llava") / "tiny-llava", seed=0)


@pytest.fixture
def read_rows():
    """Reads a JSONL file."""
    return lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
