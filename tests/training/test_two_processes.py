"""Two processes on CPUs, image and text-only rows on different ones: the loss curve is that of one process."""

import shutil

import pytest
from two_processes import RECIPE, STEPS, accelerate, launch, losses, torchrun, write_inputs

from semihv_hf.training.checkpoints import verify

pytestmark = pytest.mark.slow

# A batch of five leaves one process without a row at the end.
EVALUATION = (
    "--eval_strategy",
    "steps",
    "--eval_steps",
    10,
    "--eval_split",
    "train",
    "--per_device_eval_batch_size",
    5,
    "--max_bad_rows",
    2,
)
STRATEGIES = {
    "ddp": (torchrun(), {}),
    "zero2": (accelerate("zero2"), {"DS_ACCELERATOR": "cpu"}),
    "zero3": (accelerate("zero3"), {"DS_ACCELERATOR": "cpu"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_text_model, picture):
    folder = tmp_path_factory.mktemp("two-processes")
    write_inputs(folder, tiny_text_model, picture, harder=True)
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    """One process with the global batch."""
    return launch(folder, "alone", [], "--per_device_train_batch_size", 4, "--max_steps", STEPS, *EVALUATION)


def evaluations(record) -> list[float]:
    return [entry["eval_loss"] for entry in record["evaluations"]]


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_the_processes_do_meet_rows_of_different_kinds(folder):
    """What the other tests rest on: images on one process, on both, on none, and a damaged row that both meet."""
    from datasets import Dataset
    from transformers import AutoProcessor

    from semihv_hf.training.lengths import measure_rows
    from semihv_hf.training.row_images import undecoded
    from semihv_hf.training.sampling import LengthGroupedSampler

    rows = undecoded(Dataset.from_parquet(str(folder / "data" / "train.parquet")))
    lengths = measure_rows(rows, AutoProcessor.from_pretrained(folder / "model")).lengths
    pictured = [bool(images) for images in rows["images"]]
    processes = [LengthGroupedSampler(lengths, 4, seed=3, world_size=2, rank=rank) for rank in (0, 1)]
    met, kinds = [set(), set()], set()
    for epoch in range(4):
        for step in processes[0].steps(epoch):
            kinds.add(tuple(any(pictured[row] for row in micro) for micro in step))
            for rank, micro in enumerate(step):
                met[rank] |= {row for row in micro if row in (22, 23)}
    assert kinds == {(True, False), (True, True), (False, False)} and met == [{22}, {22, 23}]


def test_frozen_groups_are_bit_identical_and_all_trained_ones_changed(folder, alone):
    record, out = alone
    before, after = tensors(folder / "model"), tensors(out)
    assert before.keys() == after.keys()
    trained = set(record["trainable"]["names"])
    changed = {name for name in after if not before[name].equal(after[name])}
    assert len(losses(record)) == STEPS and losses(record)[-1] < losses(record)[0]
    # A tensor that two names share is saved under one of them.
    assert changed == trained & after.keys()
    assert any("vision_towers" in name for name in after.keys() - changed)


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_the_curve_is_that_of_one_process_and_the_checkpoint_loads(strategy, folder, alone):
    launcher, environment = STRATEGIES[strategy]
    options = ("--per_device_train_batch_size", 2, "--max_steps", STEPS, *EVALUATION)
    options += ("--save_strategy", "steps", "--save_steps", 10)
    record, out = launch(folder, strategy, launcher, *options, **environment)
    assert record["strategy"] == {"name": strategy, "processes": 2}
    assert record["left_out"] == alone[0]["left_out"] and record["left_out"]["refused"] == 2
    assert losses(record) == pytest.approx(losses(alone[0]), abs=1e-3)
    assert evaluations(record) == pytest.approx(evaluations(alone[0]), abs=1e-3)
    assert {entry["eval_tokens"] for entry in record["evaluations"]} == {alone[0]["evaluations"][0]["eval_tokens"]}
    # What cannot be had is absent and says why, in place of a 0.
    norms = {key for entry in record["log"] for key in entry if key.startswith("grad_norm/")}
    assert bool(norms) is (strategy == "ddp") and bool(record["not_logged"]) is (strategy != "ddp")
    assert {"learning_rate/text", "learning_rate/samplers"} <= record["log"][-1].keys()

    from transformers import AutoModelForImageTextToText

    loaded = AutoModelForImageTextToText.from_pretrained(out).state_dict()
    reference = AutoModelForImageTextToText.from_pretrained(alone[1]).state_dict()
    assert loaded.keys() == reference.keys()
    for name, value in reference.items():
        assert loaded[name].sub(value).abs().max() < 2e-3, name
    # Sharded runs save some tensors under the names of this version of transformers, which loading turns back.
    before = AutoModelForImageTextToText.from_pretrained(folder / "model").state_dict()
    frozen = [name for name in loaded if "vision_towers" in name]
    assert frozen and all(loaded[name].equal(before[name]) for name in frozen)

    # Another start from the checkpoint in the middle: the same curve, the same weights.
    manifest = verify(out / "checkpoint-10")
    assert manifest["run"]["world_size"] == 2 and manifest["resumable"]
    if strategy == "ddp":  # see test_script_resume.py
        return
    shutil.copytree(out / "checkpoint-10", folder / f"{strategy}-resumed" / "checkpoint-10")
    again, resumed = launch(folder, f"{strategy}-resumed", launcher, *options, **environment)
    assert losses(again)[-STEPS // 2 :] == losses(record)[-STEPS // 2 :]
    assert len(losses(again)) == STEPS and evaluations(again) == evaluations(record)
    ours, theirs = tensors(resumed), tensors(out)
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


FILES = {
    # accelerate starts one process of the two, and says nothing.
    "multi-cpu": (
        "distributed_type: MULTI_CPU\nnum_machines: 1\nuse_cpu: true\n",
        "processes, but each process sees 1: the processes did not meet",
    ),
    # Plain data parallelism comes of it.
    "fsdp": (
        "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\nnum_machines: 1\nuse_cpu: true\n",
        "asks for fsdp2 on 2 processes, but the run got ddp",
    ),
    "accumulation": (
        "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2, gradient_accumulation_steps: 4}\n"
        "num_machines: 1\nuse_cpu: false\n",
        "say gradient_accumulation_steps 4, but the recipe says gradient_accumulation_steps 1",
    ),
    "precision": (
        'distributed_type: "NO"\nmixed_precision: bf16\nnum_machines: 1\nuse_cpu: true\n',
        "says mixed_precision bf16, but the recipe says no",
    ),
}


@pytest.mark.parametrize("kind", list(FILES))
def test_an_accelerate_file_that_got_something_else_stops_with_one_line(kind, tmp_path):
    content, message = FILES[kind]
    (tmp_path / "file.yaml").write_text(f"compute_environment: LOCAL_MACHINE\n{content}")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    processes = 1 if kind in ("precision", "accumulation") else 2
    launcher = accelerate(str(tmp_path / "file.yaml"), processes)
    done = launch(tmp_path, "out", launcher, "--max_steps", 1, check=False, timeout=600)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(lines) == 1, done.stderr[-3000:]
    assert message in lines[0]


def test_two_processes_that_never_meet_are_refused(tmp_path):
    """Without a GPU and without use_cpu each process would train a copy of its own."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("here the processes would meet on GPUs")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = launch(tmp_path, "out", torchrun(), "--use_cpu", "false", check=False, timeout=600)
    assert done.returncode != 0
    assert "torchrun asks for ddp on 2 processes, but each process sees 1" in done.stderr
