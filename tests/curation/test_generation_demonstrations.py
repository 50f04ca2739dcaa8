"""Demonstrations: read strictly, chosen by clusters, one a modality where that goes."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from cases_with_texts import biomed, demonstrations, png

from semihv_hf.curation.generation import (
    Demonstration,
    GenerationOptions,
    choose_demonstrations,
    load_demonstrations,
)
from semihv_hf.curation.generation.demonstrations import shots_for
from semihv_hf.errors import SemiHVError

ROW = {
    "id": "d1",
    "source": "biomed_vital",
    "modality": "ct",
    "images": ["a.png"],
    "context": "Axial CT.",
    "conversation": [{"question": "What is it?", "answer": "A CT."}],
}


def written(folder, *rows):
    (folder / "a.png").write_bytes(png(1))
    path = folder / "demonstrations.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def made(count: int, modalities: int) -> list[Demonstration]:
    return [
        Demonstration(f"d{n:03d}", "biomed_vital", f"m{n % modalities}", (b"",), "c", (("q", "a"),))
        for n in range(count)
    ]


def test_a_file_is_read_with_its_images(tmp_path):
    (found,) = load_demonstrations(written(tmp_path, ROW, ""))
    assert found.images == (png(1),) and found.turns == (("What is it?", "A CT."),)
    assert found.conversation() == "Question: What is it?\nAnswer: A CT."


@pytest.mark.parametrize(
    "row, said",
    [
        ("[]", "no JSON object"),
        ("{", "line 2"),
        ({**ROW, "id": ""}, "id is no text"),
        ({**ROW, "source": "nobody"}, "no entry in the licence registry"),
        ({**ROW, "images": []}, "no list of files"),
        ({**ROW, "images": ["b.png"]}, "no image 'b.png'"),
        ({**ROW, "images": ["../a.png"]}, "outside the folder"),
        ({**ROW, "conversation": []}, "no list of exchanges"),
        ({**ROW, "conversation": [{"question": "x"}]}, "no question or no answer"),
        ({**ROW, "id": "d0"}, "there twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, row, said):
    with pytest.raises(SemiHVError) as raised:
        load_demonstrations(written(tmp_path, {**ROW, "id": "d0"}, row))
    assert said in str(raised.value) and "line 2" in str(raised.value)


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(SemiHVError, match="cannot be read"):
        load_demonstrations(tmp_path / "none.jsonl")
    with pytest.raises(SemiHVError, match="holds no demonstration"):
        load_demonstrations(written(tmp_path, ""))


def test_each_cluster_gives_one_and_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(0)
    centres = np.eye(6)[:, :6]
    points = np.concatenate([centre + 0.02 * rng.standard_normal((20, 6)) for centre in centres])
    items = made(120, 1)
    chosen = choose_demonstrations(items, points, 6, seed=3)
    assert sorted(int(item.id[1:]) // 20 for item in chosen) == list(range(6))
    order = list(range(120))
    random.Random(1).shuffle(order)
    assert choose_demonstrations([items[n] for n in order], points[order], 6, seed=3) == chosen


def test_each_chosen_one_is_of_another_modality_as_far_as_that_goes():
    points = np.random.default_rng(1).standard_normal((100, 8))
    assert len({item.modality for item in choose_demonstrations(made(100, 5), points, 5)}) == 5
    few = choose_demonstrations(made(100, 3), points, 5)
    assert len(few) == 5 and len({item.modality for item in few}) == 3


def test_what_differs_is_chosen_before_what_is_alike():
    # 95 of one kind and 5 that lie apart: drawing at random would mostly miss them.
    points = np.concatenate([np.tile([1.0, 0, 0, 0, 0, 0], (95, 1)), np.eye(6)[1:]])
    points += 1e-3 * np.random.default_rng(2).standard_normal(points.shape)
    chosen = {item.id for item in choose_demonstrations(made(100, 1), points, 6)}
    assert {f"d{n:03d}" for n in range(95, 100)} < chosen


def test_equal_embeddings_still_give_as_many_as_asked_for():
    chosen = choose_demonstrations(made(10, 2), np.ones((10, 4)), 4)
    assert len({item.id for item in chosen}) == 4
    assert len(choose_demonstrations(made(3, 1), np.zeros((3, 4)), 9)) == 3


@pytest.mark.parametrize("points, count", [(np.ones((4, 2)), 2), (np.full((3, 2), np.nan), 2), (np.ones(3), 2),
                                           (np.ones((3, 2)), 0), (np.ones((3, 2)), True)])  # fmt: skip
def test_embeddings_that_do_not_fit_are_refused(points, count):
    with pytest.raises(SemiHVError):
        choose_demonstrations(made(3, 1), points, count)


def test_a_request_shows_the_modality_of_the_case_first_and_never_the_case_itself():
    items = demonstrations()
    for seed in range(5):
        case = biomed(seed)
        shown = shots_for(case, GenerationOptions(demonstrations=items, shots=2))
        assert [item.modality for item in shown][0] == "mri" and len({item.modality for item in shown}) == 2
    own = replace(items[0], id="own", images=(biomed(1).images[0],))
    assert own not in shots_for(biomed(1), GenerationOptions(demonstrations=(own, *items), shots=4))
    orders = {
        tuple(item.id for item in shots_for(biomed(n), GenerationOptions(demonstrations=items, shots=3)))
        for n in range(8)
    }
    assert len(orders) == 2
