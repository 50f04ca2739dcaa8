"""A stage on a stream, packed or not, and its evaluation: losses by token, the best checkpoint kept."""

import json

import pytest
import tiny_families
import torch
from numbered_rows import write_rows
from trl import SFTConfig

from semihv_hf.errors import SemiHVError
from semihv_hf.training.arguments import StageArguments
from semihv_hf.training.collation import take_report
from semihv_hf.training.sampling import EvaluationBatches
from semihv_hf.training.stage import Stage
from semihv_hf.training.stage_record import left_out

ROWS = 10
CONNECTOR = r"model\.multi_modal_projector\..*"


@pytest.fixture(scope="module")
def data(tmp_path_factory, picture):
    return write_rows(tmp_path_factory.mktemp("rows"), picture, ROWS, lambda number: "Yes." * (1 + number % 3))


@pytest.fixture(scope="module")
def other(tmp_path_factory, picture):
    """The same questions, other answers of many lengths."""
    return write_rows(
        tmp_path_factory.mktemp("other"), picture, ROWS, lambda number: "No, never " * (1 + 2 * (number % 4))
    )


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    folder, family = tmp_path_factory.mktemp("llava"), tiny_families.llava()
    family.model.save_pretrained(folder)
    family.processor.save_pretrained(folder)
    return folder


def make(llava, data, out, trainer: dict, **settings) -> Stage:
    given = {"model": str(llava), "stage": "2_test", "title": "Test", "dataset": str(data), "trainable": [CONNECTOR]}
    base = {"bf16": False, "activation_checkpointing": False, "use_cpu": True, "report_to": "none", "max_steps": 2}
    base |= {"per_device_train_batch_size": 1, "assistant_only_loss": True, "max_length": 512, "disable_tqdm": True}
    base |= {"save_strategy": "no", "logging_steps": 1, "learning_rate": 1e-3}
    config = SFTConfig(output_dir=str(out), **base | trainer)
    return Stage(StageArguments(**given | {"monitoring": False} | settings), config)


def loss_sum(stage, batch) -> tuple[float, int]:
    with torch.no_grad():
        scores = stage.model.eval()(**batch, fused_lm_head=True)
    return float(scores.log_probs.sum()), int(scores.label_mask.sum())


@pytest.mark.parametrize("packing", [False, True])
def test_a_streamed_row_has_the_loss_of_the_row_alone(packing, llava, data, tmp_path):
    trainer = {"packing": packing, "max_length": 150, "per_device_train_batch_size": 1 if packing else 3}
    stage = make(llava, data, tmp_path, trainer, streaming=True, stream_buffer=4)
    rows = {row["id"]: row for row in stage.dataset}
    alone = stage._vision_collator(packing=False)
    seen, sizes = [], []
    for batch in stage.trainer.get_train_dataloader():
        # Only the connector trains: a text-only batch gets a companion, whose name is empty.
        names = list(filter(None, take_report(batch).row_ids))
        seen += names
        sizes.append(len(names))
        total, tokens = loss_sum(stage, batch)
        parts = []
        for name in names:
            single = alone([rows[name]])
            take_report(single)
            parts.append(loss_sum(stage, single))
        assert tokens == sum(count for _, count in parts)
        assert total == pytest.approx(sum(part for part, _ in parts), abs=1e-4)
        if len(seen) >= ROWS:
            break
    assert set(seen[:ROWS]) == set(rows) and max(sizes) > 1
    record = stage.train()
    assert len(record["log"]) == 2 and record["rows"] is None and record["streamed"]


def test_rows_too_long_for_a_stream_are_counted_or_refused(llava, data, tmp_path):
    trainer = {"packing": True, "max_length": 50, "max_steps": 3}
    stage = make(llava, data, tmp_path, trainer, streaming=True)
    stage.train()
    assert left_out(stage)["too_long"] > 0 and left_out(stage)["refused"] == 0
    with pytest.raises(
        SemiHVError, match=r"^Row \d+: \d+ tokens, longer than 50\. Raise max_length, or set long_rows to drop\.$"
    ):
        make(llava, data, tmp_path / "refused", trainer, streaming=True, long_rows="refuse").train()
    with pytest.raises(SemiHVError, match="the length of a pack is unknown"):
        make(llava, data, tmp_path, {**trainer, "max_length": None}, streaming=True)


@pytest.mark.slow
def test_what_a_data_worker_refuses_is_one_line(llava, data, tmp_path):
    trainer = {"packing": True, "max_length": 4, "dataloader_num_workers": 1}
    with pytest.raises(SemiHVError, match=r"^The stream has no row that can be trained on, first row \d+: .*$"):
        make(llava, data, tmp_path, trainer, streaming=True).train()


def test_the_loss_of_an_evaluation_is_the_mean_over_its_tokens(llava, other, tmp_path):
    trainer = {"packing": True, "max_length": 200, "eval_strategy": "steps"}
    stage = make(llava, other, tmp_path, trainer, eval_split="train")
    collator = stage._vision_collator(packing=False)
    sums = []
    for row in stage.evaluation:
        batch = collator([row])
        take_report(batch)
        sums.append(loss_sum(stage, batch))
    tokens = sum(count for _, count in sums)
    expected = -sum(total for total, _ in sums) / tokens
    by_row = sum(-total / count for total, count in sums) / ROWS
    assert abs(expected - by_row) > 1e-3, "the rows have losses and lengths of one kind"
    for size in (1, 4, 16):
        stage.config.per_device_eval_batch_size = size
        metrics = stage.trainer.evaluate()
        assert metrics["eval_loss"] == pytest.approx(expected, abs=1e-5)
        assert (metrics["eval_tokens"], metrics["eval_left_out"]) == (tokens, 0)
    stage.trainer.eval_collator.max_length = 60
    metrics = stage.trainer.evaluate()
    assert 0 < metrics["eval_left_out"] < ROWS and metrics["eval_tokens"] < tokens
    stage.trainer.eval_collator.max_length = 4
    with pytest.raises(SemiHVError, match="no token with a label; 10 of them"):
        stage.trainer.evaluate()


def test_tokens_are_those_of_rows_and_a_resumed_run_counts_on(llava, data, tmp_path):
    trainer = {"packing": True, "max_length": 150, "pad_to_multiple_of": 64, "logging_steps": 2, "max_steps": 4}
    trainer |= {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 4}
    whole = make(llava, data, tmp_path / "whole", trainer, monitoring=True, eval_split="train")
    reports = [take_report(batch) for batch in whole.trainer.get_train_dataloader()]
    reports = (reports * 4)[:4] if len(reports) < 4 else reports[:4]
    assert any(report.computed_tokens > report.real_tokens for report in reports)
    record = whole.train()
    first, last = record["log"]
    assert first["num_tokens"] == sum(report.real_tokens for report in reports[:2])
    computed = sum(report.computed_tokens for report in reports[:2])
    assert first["real_token_share"] == pytest.approx(first["num_tokens"] / computed)
    assert not [key for entry in record["evaluations"] for key in entry if "num_tokens" in key]
    # The last two steps lie in two runs.
    resumed = make(
        llava,
        data,
        tmp_path / "more",
        trainer,
        monitoring=True,
        eval_split="train",
        resume=str(tmp_path / "whole/checkpoint-3"),
    )
    again = resumed.train()["log"][-1]
    assert {key: again[key] for key in ("num_tokens", "real_token_share")} == {
        key: last[key] for key in ("num_tokens", "real_token_share")
    }


def test_an_evaluation_needs_rows_and_a_time(llava, data, tmp_path):
    with pytest.raises(SemiHVError, match="eval_strategy is set, but no rows to evaluate on are named"):
        make(llava, data, tmp_path, {"eval_strategy": "steps"})
    with pytest.raises(SemiHVError, match="but eval_strategy is no"):
        make(llava, data, tmp_path, {}, eval_split="train")


@pytest.mark.parametrize(("rows", "size", "world"), [(10, 4, 2), (10, 5, 2), (3, 8, 4), (8, 2, 1)])
def test_an_evaluation_takes_every_row_once_and_every_process_as_many_steps(rows, size, world):
    parts = [EvaluationBatches(rows, size, world, rank) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    assert sorted(row for part in parts for batch in part for row in batch) == list(range(rows))
    assert all(len(batch) <= size for part in parts for batch in part)


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_and_is_what_the_stage_leaves(llava, data, other, tmp_path):
    from safetensors.torch import load_file

    trainer = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 6}
    trainer |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "save_total_limit": 1}
    trainer |= {"per_device_train_batch_size": 4, "learning_rate": 0.2, "lr_scheduler_type": "constant"}
    stage = make(
        llava, data, tmp_path, trainer, eval_dataset=str(other), eval_split="train", trainable=[".*language_model.*"]
    )
    record = stage.train()
    curve = {entry["step"]: entry["eval_loss"] for entry in record["evaluations"]}
    best = min(curve, key=curve.get)
    assert list(curve) == [1, 2, 3, 4, 5, 6] and best < 6, curve
    assert record["best"] == {"step": best, "metric": "eval_loss", "value": curve[best]}
    assert {folder.name for folder in tmp_path.glob("checkpoint-*")} == {f"checkpoint-{best}", "checkpoint-6"}
    kept, final = (load_file(folder / "model.safetensors") for folder in (tmp_path / f"checkpoint-{best}", tmp_path))
    assert kept.keys() == final.keys() and all(kept[name].equal(final[name]) for name in kept)
    assert json.loads((tmp_path / "stage.json").read_text()) == record
