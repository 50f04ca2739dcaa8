"""The alignment objective: vocabulary, cells and gradients."""

import pytest
import torch

from semihv_hf.training.alignment import AlignmentObjective, FactVocabulary

ROWS = [
    [{"name": "modality", "value": "MRI", "source": "tag"}, {"name": "plane", "value": "axial", "source": "affine"}],
    [{"name": "modality", "value": "CT", "source": "tag"}],
    [{"name": "modality", "value": "histology", "source": "doc"}, {"name": "stain", "value": "H&E", "source": "doc"}],
]


@pytest.fixture
def objective():
    generator = torch.Generator().manual_seed(0)
    return AlignmentObjective([torch.randn(3, 16, generator=generator), torch.randn(2, 16, generator=generator)])


def test_vocabulary_takes_the_first_fact_of_a_group():
    vocabulary = FactVocabulary.from_records(["modality", "plane|stain"], ROWS)
    assert vocabulary.values == [["CT", "MRI", "histology"], ["H&E", "axial"]]
    assert [vocabulary.targets(row) for row in ROWS] == [[1, 1], [0, -100], [2, 0]]
    assert vocabulary.targets([{"name": "modality", "value": "unseen", "source": ""}]) == [-100, -100]


def test_a_group_that_no_record_has_is_an_error():
    with pytest.raises(ValueError, match="level"):
        FactVocabulary.from_records(["level"], ROWS)


def test_every_group_is_met_in_any_two_rows_of_three_cells():
    objective = AlignmentObjective([torch.eye(2, 8)] * 5)
    for row in range(2):
        assert set(objective.group_of_cells(row, row + 2, 0, 3).tolist()) == {0, 1, 2, 3, 4}
    assert objective.group_of_cells(0, 3, 0, 3).tolist() == [0, 1, 2, 2, 3, 4, 4, 0, 1]


def test_perfect_tokens_have_no_cross_entropy_and_newlines_do_not_count(objective):
    matrices = [objective.matrix_0, objective.matrix_1]
    targets = torch.tensor([[2, 1]])
    region = (0, 2, 0, 2)
    groups = objective.group_of_cells(*region).view(2, 2)
    image = torch.full((2, 3, 16), 1e6)
    for row in range(2):
        for column in range(2):
            group = int(groups[row, column])
            image[row, column] = matrices[group][targets[0, group]] * objective.target_norm
    loss, accuracy = objective([image.flatten(0, 1)], [region], targets)
    assert accuracy.tolist() == [1.0, 1.0]
    assert float(loss) < 0.05


def test_images_of_a_batch_are_independent_of_their_order(objective):
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randn(2 * 3, 16, generator=generator), torch.randn(3 * 2, 16, generator=generator)]
    regions, targets = [(0, 2, 0, 2), (0, 3, 1, 2)], torch.tensor([[0, 1], [2, -100]])
    forward, _ = objective(tokens, regions, targets)
    backward, _ = objective(tokens[::-1], regions[::-1], targets.flip(0))
    torch.testing.assert_close(forward, backward)


def test_gradients_reach_only_cells_with_a_target(objective):
    tokens = torch.randn(2, 16, generator=torch.Generator().manual_seed(2)).requires_grad_()
    objective.norm_weight = 0.0
    loss, accuracy = objective([tokens], [(0, 1, 0, 1)], torch.tensor([[1, -100]]))
    loss.backward()
    assert tokens.grad[0].abs().sum() > 0 and tokens.grad[1].abs().sum() == 0
    assert torch.isnan(accuracy[1])
