"""The scripts behind the claims of speed: what they compare is checked by themselves, here only that they start."""

import subprocess
import sys

import pytest

SPEED = [
    *("sva_windows", "batched_generation", "many_questions", "preprocessing", "build_throughput", "build_memory"),
    *("first_row", "llm_client", "llm_cache", "medical_vqa_speed", "concept_linking"),
    *("near_duplicates", "retrieval_index", "retrieval_recall", "curation_overhead", "packing", "input_pipeline"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SPEED)
def test_a_benchmark_explains_itself_with_an_example(root, name):
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / f"{name}.py", "--help"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{name}.py --" in done.stdout
    for option in ("--rounds", "--threads", "--seed"):
        assert option in done.stdout
