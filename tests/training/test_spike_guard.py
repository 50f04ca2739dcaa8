"""A run stops before a bad step is taken, and the rows of the step are named."""

import json
import subprocess
import sys

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from semihv_hf.training.spike_guard import RowIdCollator, SpikeGuard, TrainingSpike


class Rows(torch.utils.data.Dataset):
    """Rows of six tokens, always the same ones but in the row `strange`."""

    def __init__(self, count=80, strange=None):
        self.count, self.strange = count, strange

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        ids = [300, 301, 302, 303, 304, 305] if index == self.strange else [5, 6, 7, 8, 9, 10]
        return {"id": f"row-{index}", "ids": ids}


def collate(rows):
    ids = torch.tensor([row["ids"] for row in rows])
    return {"input_ids": ids, "labels": ids.clone()}


class Poison:
    """Turns a weight into NaN when the model meets the strange row."""

    def __init__(self, token):
        self.token = token

    def __call__(self, module, args, kwargs):
        if module.training and bool((kwargs["input_ids"] == self.token).any()):
            with torch.no_grad():
                module.lm_head.weight[0, 0] = float("nan")


@pytest.fixture
def trainer(tiny_text_model, tmp_path):
    def make(guard, rows, collator=None, **settings):
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=2,
            report_to="none",
            use_cpu=True,
            save_strategy="no",
            remove_unused_columns=False,
            train_sampling_strategy="sequential",
            disable_tqdm=True,
            lr_scheduler_type="constant",
            **{"learning_rate": 3e-2, **settings},
        )
        model = AutoModelForCausalLM.from_pretrained(tiny_text_model)
        return Trainer(
            model,
            arguments,
            train_dataset=rows,
            data_collator=collator or RowIdCollator(collate),
            callbacks=[guard],
        )

    return make


def report(tmp_path):
    return json.loads((tmp_path / "out" / "spike.json").read_text())


def test_nan_stops_the_run_and_names_the_rows_of_the_batch(trainer, tmp_path):
    run = trainer(SpikeGuard(), Rows(strange=13), num_train_epochs=1)
    run.model.register_forward_pre_hook(Poison(300), with_kwargs=True)
    with pytest.raises(TrainingSpike, match=r"Step 7: the loss is nan; the batch held the rows row-12, row-13\."):
        run.train()
    assert run.state.global_step == 6  # the step was not taken
    written = report(tmp_path)
    assert written["step"] == 7 and written["processes"][0]["batches"] == [
        {"rows": ["row-12", "row-13"], "loss": "nan"}
    ]


def test_a_jump_of_the_loss_stops_before_the_weights_take_it(trainer, tmp_path):
    guard = SpikeGuard(minimum=10)
    run = trainer(guard, Rows(strange=61), num_train_epochs=1)
    with pytest.raises(TrainingSpike, match=r"Step 31: the loss is .* median of .* row-60, row-61\."):
        run.train()
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    # The same run over the rows before ends with the same weights: step 31 changed nothing.
    other = trainer(SpikeGuard(), Rows(60), num_train_epochs=1)
    other.train()
    assert all(torch.equal(weights[name], value) for name, value in other.model.state_dict().items())
    written = report(tmp_path)
    assert written["median"] < 1 and written["processes"][0]["loss"] > 3 * written["median"]


def test_all_micro_batches_of_an_accumulated_step_are_named(trainer, tmp_path):
    guard = SpikeGuard(factor=1.7, rise=0.5, window=8, minimum=8)
    run = trainer(guard, Rows(120, strange=92), num_train_epochs=1, gradient_accumulation_steps=3)
    with pytest.raises(TrainingSpike, match="Step 16"):
        run.train()
    batches = report(tmp_path)["processes"][0]["batches"]
    assert [batch["rows"] for batch in batches] == [["row-90", "row-91"], ["row-92", "row-93"], ["row-94", "row-95"]]
    losses = [batch["loss"] for batch in batches]
    assert losses[1] > 3 * losses[0] and losses[0] == pytest.approx(losses[2])
    assert report(tmp_path)["processes"][0]["loss"] == pytest.approx(sum(losses) / 3)


def test_a_good_run_is_left_alone_and_its_loss_is_the_same(trainer):
    guarded = trainer(SpikeGuard(), Rows(40), num_train_epochs=1)
    plain = trainer(SpikeGuard(), Rows(40), collator=collate, num_train_epochs=1)
    plain.remove_callback(plain.callback_handler.callbacks[-1])
    assert guarded.train().training_loss == plain.train().training_loss
    assert not guarded.model._forward_pre_hooks and not guarded.model._forward_hooks


def test_a_high_loss_at_the_start_is_no_jump(trainer):
    run = trainer(SpikeGuard(minimum=10), Rows(12, strange=3), num_train_epochs=1)
    run.train()
    assert run.state.global_step == 6


def test_rows_without_a_name_and_numbers_as_names(trainer):
    assert RowIdCollator(lambda rows: {})([{"ids": 1}]) == {"row_ids": [""]}

    def numbered(rows):
        return {**collate(rows), "row_ids": torch.tensor([int(row["id"][4:]) for row in rows])}

    run = trainer(SpikeGuard(), Rows(strange=4), collator=numbered, num_train_epochs=1)
    run.model.register_forward_pre_hook(Poison(300), with_kwargs=True)
    with pytest.raises(TrainingSpike, match="rows 4, 5"):
        run.train()


def test_a_gradient_that_a_loss_scale_made_infinite_is_the_scalers_to_mend(trainer):
    run = trainer(SpikeGuard(), Rows(2))
    optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    for parameter in run.model.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    with pytest.raises(TrainingSpike, match="a gradient is NaN or infinite"):
        SpikeGuard().on_pre_optimizer_step(run.args, run.state, run.control, run.model, optimizer)
    scaled = AcceleratedOptimizer(optimizer, scaler=torch.amp.GradScaler("cpu"))
    SpikeGuard().on_pre_optimizer_step(run.args, run.state, run.control, run.model, scaled)


SCRIPT = """
import sys, torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
sys.path.insert(0, sys.argv[3])
from test_spike_guard import Rows, collate
from semihv_hf.training.monitoring import ThroughputCallback
from semihv_hf.training.spike_guard import RowIdCollator, SpikeGuard, TrainingSpike

arguments = TrainingArguments(
    output_dir=sys.argv[2], per_device_train_batch_size=2, report_to="none", use_cpu=True, save_strategy="no",
    remove_unused_columns=False, train_sampling_strategy="sequential", disable_tqdm=True, learning_rate=3e-2,
    lr_scheduler_type="constant", num_train_epochs=1, logging_steps=5,
)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
run = Trainer(model, arguments, train_dataset=Rows(strange=61), data_collator=RowIdCollator(collate),
              callbacks=[SpikeGuard(minimum=8), ThroughputCallback()])
try:
    run.train()
    print("no spike")
except TrainingSpike as error:
    tokens = run.state.log_history[0]["real_token_share"]
    print(f"stopped rank {arguments.process_index} after {run.state.global_step} share {tokens}: {error.what}")
"""


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(tiny_text_model, tmp_path, root):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29641", str(script)]
        + [str(tiny_text_model), str(tmp_path / "out"), str(root / "tests" / "training")],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    stopped = sorted(line for line in done.stdout.splitlines() if line.startswith("stopped"))
    assert len(stopped) == 2, done.stdout + done.stderr
    # Row 61 lies in the second process's batch of the sixteenth step; both stop there.
    assert all("after 15 share 1.0: Step 16" in line and "row-62, row-63" not in line for line in stopped)
    written = report(tmp_path)
    assert [entry["reason"] is None for entry in written["processes"]].count(True) == 1
    assert any("row-61" in batch["rows"] for entry in written["processes"] for batch in entry["batches"])
