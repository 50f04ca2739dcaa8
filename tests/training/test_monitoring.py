"""Numbers of a run in its log history, with a plain transformers Trainer."""

import time

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from semihv_hf.training.monitoring import ThroughputCallback, count_images, count_tokens, group_statistics
from semihv_hf.training.parameters import optimizer_groups

PAD = 2


class Rows(torch.utils.data.Dataset):
    """Rows of 4, 8, 4, 8, ... tokens; reading one takes `wait` seconds."""

    def __init__(self, count=16, wait=0.0):
        self.count, self.wait = count, wait

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(self.wait)
        length = 8 if index % 2 else 4
        return {"ids": [5 + (index + offset) % 50 for offset in range(length)]}


def pad(rows):
    length = max(len(row["ids"]) for row in rows)
    ids = torch.tensor([row["ids"] + [PAD] * (length - len(row["ids"])) for row in rows])
    mask = torch.tensor([[1] * len(row["ids"]) + [0] * (length - len(row["ids"])) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


@pytest.fixture
def trainer(tiny_text_model, tmp_path):
    """Makes a plain Trainer: `trainer(callbacks=[...], rows=Rows(), **arguments)`."""

    def make(rows=None, **settings):
        extra = {key: settings.pop(key) for key in ("callbacks", "data_collator", "eval_dataset") if key in settings}
        arguments = TrainingArguments(
            **{
                "output_dir": str(tmp_path / "out"),
                "per_device_train_batch_size": 2,
                "logging_steps": 2,
                "max_steps": 4,
                "report_to": "none",
                "use_cpu": True,
                "save_strategy": "no",
                "remove_unused_columns": False,
                "train_sampling_strategy": "sequential",
                "disable_tqdm": True,
                **settings,
            }
        )
        model = AutoModelForCausalLM.from_pretrained(tiny_text_model)
        return Trainer(model, arguments, train_dataset=rows or Rows(), **{"data_collator": pad, **extra})

    return make


def test_every_training_entry_carries_the_numbers(trainer):
    run = trainer(callbacks=[ThroughputCallback()])
    run.train()
    entries = [entry for entry in run.state.log_history if "loss" in entry]
    assert [entry["num_tokens"] for entry in entries] == [24, 48]
    for entry in entries:
        # Every batch holds one row of 4 and one of 8 tokens, padded to 8.
        assert entry["real_token_share"] == pytest.approx(12 / 16)
        assert entry["tokens_per_second"] > 0 and entry["images_per_second"] == 0
        assert 0 < entry["data_wait_share"] < 1
        assert entry["memory_gib"] > 0.01
    assert "tokens_per_second" not in run.state.log_history[-1]  # the summary of the run is no training entry
    assert not run.model._forward_pre_hooks


def test_throughput_is_tokens_by_the_time_that_training_took(trainer):
    watch = ThroughputCallback()
    run = trainer(callbacks=[watch], rows=Rows(wait=0.02), logging_steps=4)
    started = time.monotonic()
    run.train()
    seconds = time.monotonic() - started
    entry = next(entry for entry in run.state.log_history if "loss" in entry)
    # 48 tokens; the run also loads, logs and ends, so its own speed is a little lower.
    assert entry["tokens_per_second"] >= 48 / seconds
    # Eight rows of 20 ms are waited for.
    assert entry["data_wait_share"] * 48 / entry["tokens_per_second"] >= 0.16


def test_the_gradient_norm_of_each_group_is_that_of_its_gradients(trainer, tiny_text_model):
    seen = {}

    class Peek(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            seen[state.global_step + 1] = {name: p.grad.clone() for name, p in model.named_parameters()}

    run = trainer(callbacks=[ThroughputCallback(), Peek()], max_grad_norm=0.1, learning_rate=1e-3)
    groups = optimizer_groups(run.model, 1e-3, {r"model\.layers\..*": 5e-4}, weight_decay=0.1)
    run.optimizer = torch.optim.AdamW(groups)
    run.train()
    entry = [entry for entry in run.state.log_history if "loss" in entry][-1]
    for name, chosen in (("text", False), ("layers", True)):
        gradients = [g for key, g in seen[4].items() if key.startswith("model.layers.") is chosen]
        expected = torch.cat([g.flatten() for g in gradients]).norm()
        assert entry[f"grad_norm/{name}"] == pytest.approx(float(expected), rel=1e-5)
    # Step 4 of 4 of a linear decay from the start.
    assert entry["learning_rate/text"] == pytest.approx(1e-3 / 4)
    assert entry["learning_rate/layers"] == pytest.approx(5e-4 / 4)


def test_trackers_see_the_numbers_when_it_is_attached(trainer):
    seen = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    run = trainer(callbacks=[Tracker()])
    ThroughputCallback().attach(run)
    run.train()
    assert "tokens_per_second" in seen[0] and "grad_norm/group_0" in seen[0]


def test_evaluation_and_saving_are_no_training_time(trainer):
    class Slow(TrainerCallback):
        def on_log(self, args, state, control, **kwargs):
            time.sleep(1.5)

    slow, watch = Slow(), ThroughputCallback()
    run = trainer(callbacks=[slow, watch], logging_steps=1, max_steps=2)
    run.train()
    shares = [entry["data_wait_share"] for entry in run.state.log_history if "loss" in entry]
    waited = [share * 12 / entry["tokens_per_second"] for share, entry in zip(shares, run.state.log_history)]
    assert len(waited) == 2 and max(waited) < 1.5


def test_an_evaluation_forward_is_not_counted(trainer):
    run = trainer(callbacks=[ThroughputCallback()], eval_strategy="steps", eval_steps=1, eval_dataset=Rows(6))
    run.train()
    entries = [entry for entry in run.state.log_history if "loss" in entry]
    plain = trainer(callbacks=[ThroughputCallback()], logging_steps=2)
    plain.train()
    others = [entry for entry in plain.state.log_history if "loss" in entry]
    assert [e["real_token_share"] for e in entries] == [e["real_token_share"] for e in others]


def test_counts_of_a_batch():
    ids = torch.tensor([[5, 2, 6, 2, 2], [7, 8, 9, 9, 2]])
    # Without mask (a pack) only the padding at the end is none of a row's; a 2 within is a row's end of turn.
    assert [int(n) for n in count_tokens({"input_ids": ids}, 2)] == [7, 10]
    assert count_tokens({"input_ids": ids}) == (10, 10)
    assert [int(n) for n in count_tokens({"input_ids": ids, "attention_mask": (ids != 2).long()}, 2)] == [6, 10]
    assert count_tokens({"inputs_embeds": torch.zeros(2, 3, 4)}) == (6, 6)
    assert count_tokens({}) == (0, 0)
    assert count_images({"image_sizes": torch.zeros(3, 2), "pixel_values": torch.zeros(9, 1)}) == 3
    assert count_images({"image_grid_thw": torch.zeros(2, 3), "pixel_values": torch.zeros(99, 1)}) == 2
    assert count_images({"pixel_values": torch.zeros(5, 3, 4, 4)}) == 5
    assert count_images({"pixel_values": None}) == 0


def test_groups_without_names_or_gradients():
    one, two = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    one.grad = torch.tensor([3.0, 4.0])
    numbers = group_statistics(torch.optim.SGD([{"params": [one], "lr": 0.1}, {"params": [two], "lr": 0.2}]))
    assert numbers == {"learning_rate/group_0": 0.1, "learning_rate/group_1": 0.2, "grad_norm/group_0": 5.0}
