"""Batches: the same rows at the same step for every number of processes, of like length, and exact after a resume."""

import random

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.training.sampling import LengthGroupedSampler, PackedBatchSampler

LENGTHS = [random.Random(row).choice([60, 90, 400, 700, 1500]) + row % 37 for row in range(1003)]


def grouped(**settings):
    return LengthGroupedSampler(LENGTHS, 8, **{"seed": 5, **settings})


def packed(**settings):
    return PackedBatchSampler(LENGTHS, 2048, 8, **{"seed": 5, **settings})


@pytest.mark.parametrize("make", [grouped, packed])
def test_the_same_rows_share_a_step_for_every_number_of_processes(make):
    def steps(world_size, accumulation, epoch):
        samplers = [make(world_size=world_size, rank=rank, accumulation=accumulation) for rank in range(world_size)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        micro = [list(sampler) for sampler in samplers]
        assert {len(batches) for batches in micro} == {len(samplers[0])}
        return [
            sorted(row for batches in micro for batch in batches[at : at + accumulation] for row in batch)
            for at in range(0, len(micro[0]), accumulation)
        ]

    for epoch in (0, 3):
        alone = steps(1, 1, epoch)
        assert len(alone) > 10
        for world_size, accumulation in [(1, 8), (2, 1), (2, 4), (4, 2), (8, 1)]:
            assert steps(world_size, accumulation, epoch) == alone
        assert alone == [sorted(make().rows_at(epoch, step)) for step in range(len(alone))]
    assert steps(1, 1, 0) != steps(1, 1, 1)


@pytest.mark.parametrize("make", [grouped, packed])
def test_no_row_comes_twice_and_few_are_left_for_the_next_epoch(make):
    seen = [row for batch in make() for row in batch]
    assert len(seen) == len(set(seen))
    # At most one global batch less one is left over.
    most = 7 if make is grouped else 7 * 20
    assert len(LENGTHS) - len(seen) <= most
    later = make()
    later.set_epoch(1)
    assert set(seen) != {row for batch in later for row in batch}


def test_batches_are_of_like_length_and_the_longest_is_first():
    batches = list(grouped())
    share = sum(map(LENGTHS.__getitem__, sum(batches, []))) / sum(max(LENGTHS[r] for r in b) * len(b) for b in batches)
    assert share > 0.9
    assert max(LENGTHS[row] for row in batches[0]) == max(LENGTHS[row] for batch in batches for row in batch)
    halves = list(grouped(world_size=2, rank=0)), list(grouped(world_size=2, rank=1))
    assert all(len(batch) == 4 for half in halves for batch in half)


def test_rows_without_or_with_too_great_a_length_are_never_drawn():
    sampler = LengthGroupedSampler([5, None, 50, 6, 7, 8], 2, max_length=20)
    assert {row for batch in sampler for row in batch} <= {0, 3, 4, 5}
    assert sampler.split.too_long == [2] and sampler.split.unmeasured == [1]
    with pytest.raises(SemiHVError, match="1 of 3 rows are longer than 20"):
        PackedBatchSampler([5, 50, 6], 20, 1, too_long="refuse")
    with pytest.raises(SemiHVError, match="4 rows do not make one global batch of 8"):
        LengthGroupedSampler([5, 6, 7, 8], 8)
    with pytest.raises(SemiHVError, match="cannot be divided by 3 processes"):
        grouped(world_size=3)
    with pytest.raises(SemiHVError, match="no process 2"):
        grouped(world_size=2, rank=2)


def test_a_resumed_run_is_told_when_its_rows_would_come_in_another_order():
    state = packed().state_dict()
    packed(world_size=4).load_state_dict(state)  # another number of processes sees the same global batches
    for other, key in [
        (packed(seed=6), "seed"),
        (PackedBatchSampler(LENGTHS, 1600, 8, seed=5), "max_length"),
        (PackedBatchSampler(LENGTHS[:-1], 2048, 8, seed=5), "rows"),
        (PackedBatchSampler([*LENGTHS[:-1], 7], 2048, 8, seed=5), "lengths"),
        (grouped(), "kind"),
    ]:
        with pytest.raises(SemiHVError, match=f"another order of rows: {key}"):
            other.load_state_dict(state)


class Rows:
    """A dataset of row numbers."""

    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, row):
        return {"row": row}


def seen_by_trainer(folder, make, *, stop_at=None, resume=None):
    """Row numbers of each step of a real `Trainer` over two epochs and a half."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from semihv_hf.training.sampling import train_dataloader

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, rows):
            seen.append(rows.tolist())
            return {"loss": (self.weight * rows.float().mean() / 1e6).sum()}

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == stop_at:
                control.should_save = control.should_training_stop = True

    class Reading(Trainer):
        def get_train_dataloader(self):
            return train_dataloader(self, self.train_dataset, make(), collate)

    def collate(rows):
        return {"rows": torch.tensor([row["row"] for row in rows])}

    seen = []
    steps = len(make())
    args = TrainingArguments(
        output_dir=folder,
        max_steps=steps * 2 + steps // 2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1000,
        per_device_train_batch_size=8,
    )
    Reading(model=Line(), args=args, train_dataset=Rows(), callbacks=[Stop()]).train(resume_from_checkpoint=resume)
    return seen


@pytest.mark.slow
def test_a_trainer_resumes_in_the_middle_of_the_second_epoch(tmp_path):
    def make():
        return PackedBatchSampler(LENGTHS, 16384, 2, seed=5)

    steps = len(make())
    whole = seen_by_trainer(tmp_path / "whole", make)
    assert len(whole) == steps * 2 + steps // 2
    expected = make()
    for epoch in range(2):
        assert [sorted(batch) for batch in whole[epoch * steps : (epoch + 1) * steps]] == [
            sorted(expected.rows_at(epoch, step)) for step in range(steps)
        ]
    stop = steps + steps // 2
    first = seen_by_trainer(tmp_path / "cut", make, stop_at=stop)
    rest = seen_by_trainer(tmp_path / "cut", make, resume=str(tmp_path / "cut" / f"checkpoint-{stop}"))
    assert first + rest == whole
