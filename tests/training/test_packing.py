"""Packs: nothing lost, nothing cut, full, and the same for the same seed."""

import random

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.training.packing import fill_share, plan_packs, split_by_length, stream_packs


def mixed_lengths(count: int, seed: int = 0) -> list[int]:
    """Short questions, reports, text only."""
    draw = random.Random(seed)
    ranges = [(80, 200)] * 6 + [(300, 1500)] * 2 + [(60, 900)] * 2
    return [draw.randint(*draw.choice(ranges)) for _ in range(count)]


def test_every_row_is_in_one_pack_and_packs_are_full():
    lengths = mixed_lengths(9000)
    packs = plan_packs(lengths, 2048, seed=3)
    assert sorted(row for pack in packs for row in pack) == list(range(9000))
    assert all(sum(lengths[row] for row in pack) <= 2048 for pack in packs)
    assert fill_share(packs, lengths, 2048) > 0.98
    assert packs == plan_packs(lengths, 2048, seed=3)
    assert packs != plan_packs(lengths, 2048, seed=4)


def test_only_the_rows_that_are_asked_for_are_packed():
    packs = plan_packs([5, 6, 7, 8], 12, seed=0, rows=[0, 2])
    assert sorted(map(sorted, packs)) == [[0, 2]]
    assert sorted(map(sorted, plan_packs([60, 50, 40, 30, 20], 100, seed=0))) == [[0, 2], [1, 3, 4]]
    assert plan_packs([], 10, seed=0) == [] and fill_share([], [], 10) == 1.0


@pytest.mark.parametrize("lengths", [[5, 11], [5, None]])
def test_a_row_that_does_not_fit_is_refused_not_cut(lengths):
    with pytest.raises(SemiHVError, match="Row 1 has .* tokens and does not fit into a pack of 10"):
        plan_packs(lengths, 10, seed=0)


def test_long_rows_are_dropped_with_a_count_or_refused():
    split = split_by_length([5, None, 11, 10], 10)
    assert (split.kept, split.too_long, split.unmeasured) == ([0, 3], [2], [1])
    assert str(split) == "2 rows kept, 1 longer than 10 tokens left out, 1 could not be measured"
    assert split_by_length([5, 11], None).kept == [0, 1]
    with pytest.raises(SemiHVError, match="1 of 4 rows are longer than 10 tokens, first row 2 with 11"):
        split_by_length([5, None, 11, 10], 10, "refuse")
    with pytest.raises(SemiHVError, match="No row is left"):
        split_by_length([11, None], 10)
    with pytest.raises(SemiHVError, match="'cut'"):
        split_by_length([1], 10, "cut")


def test_a_stream_is_packed_as_it_comes():
    lengths = mixed_lengths(1500)
    taken = []

    def rows():
        for number, length in enumerate(lengths):
            taken.append(number)
            yield {"id": number, "length": length}

    packs = stream_packs(rows(), 2048, buffer=64)
    first = next(packs)
    assert len(taken) == 64 and first[0]["id"] == 0
    packs = [first, *packs]
    assert sorted(row["id"] for pack in packs for row in pack) == list(range(1500))
    assert all(sum(row["length"] for row in pack) <= 2048 for pack in packs)
    numbers = [[row["id"] for row in pack] for pack in packs]
    assert fill_share(numbers, lengths, 2048) > 0.96
    assert numbers == [[row["id"] for row in pack] for pack in stream_packs(rows(), 2048, buffer=64)]
    with pytest.raises(SemiHVError, match="does not fit into a pack of 50"):
        list(stream_packs([{"length": 51}], 50))
