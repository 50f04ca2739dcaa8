"""Windows and masks of the spatial vision aggregator against a loop over single queries, forwards and backwards."""

import pytest
import torch

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianSvaConfig, kept_region
from semihv_hf.models.pmc_cambrian.sva_pmc_cambrian import tower_windows, vision_context

SIDE = 4
CONFIG = PMCCambrianSvaConfig(
    hidden_size=6,
    num_attention_heads=2,
    query_side=SIDE,
    tower_dims=[6, 6, 6],
    tower_names=["siglip", "clip", "convnext"],
    aux_sides=[4, 8, 12],
)
IMAGE_SIZES = [(40, 40), (20, 40), (40, 10), (7, 300)]


def random_features(seed: int, dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(len(IMAGE_SIZES), side**2, CONFIG.hidden_size) for side in CONFIG.aux_sides]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def cells_of_a_query(row: int, column: int):
    """Tower and position of every key of a query, in the order of the keys."""
    for tower, aux_side in enumerate(CONFIG.aux_sides):
        ratio = aux_side // SIDE
        for inner_row in range(ratio):
            for inner_column in range(ratio):
                yield tower, row * ratio + inner_row, column * ratio + inner_column


def kept_queries():
    for image, (height, width) in enumerate(IMAGE_SIZES):
        top, bottom, left, right = kept_region(height, width, SIDE)
        for row in range(top, bottom):
            for column in range(left, right):
                yield image, row, column


def regions() -> list[tuple[int, int, int, int]]:
    return [kept_region(height, width, SIDE) for height, width in IMAGE_SIZES]


def test_every_kept_query_sees_its_own_cells_in_order():
    features = random_features(0)
    found = vision_context(features, IMAGE_SIZES, CONFIG, SIDE, regions())
    queries = list(kept_queries())
    assert len(queries) == len(found.keys) == 16 + 8 + 8 + 8
    for index, (image, row, column) in enumerate(queries):
        cells = list(cells_of_a_query(row, column))
        expected = torch.stack([features[tower][image, y * CONFIG.aux_sides[tower] + x] for tower, y, x in cells])
        assert torch.equal(found.keys[index], expected)
        assert torch.equal(found.context[index], features[0].mean(dim=1)[image])
        for tower, aux_side in enumerate(CONFIG.aux_sides):
            top, bottom, left, right = kept_region(*IMAGE_SIZES[image], aux_side)
            own = [at for at, (owner, _, _) in enumerate(cells) if owner == tower]
            inside = [top <= y < bottom and left <= x < right for owner, y, x in cells if owner == tower]
            # a window that lies in the padding as a whole is opened
            assert found.mask[index, own].tolist() == (inside if any(inside) else [True] * len(own))


def test_without_regions_all_queries_come():
    features = random_features(1)
    found = vision_context(features, IMAGE_SIZES, CONFIG, SIDE)
    assert found.keys.shape == (len(IMAGE_SIZES) * SIDE**2, 14, CONFIG.hidden_size)
    kept = [image * SIDE**2 + row * SIDE + column for image, row, column in kept_queries()]
    chosen = vision_context(features, IMAGE_SIZES, CONFIG, SIDE, regions())
    for whole, part in zip(found, chosen):
        assert torch.equal(whole[kept], part)


def test_gradients_reach_the_cells_that_were_seen_and_no_others():
    features = [feature.requires_grad_() for feature in random_features(2)]
    keys = tower_windows(features, CONFIG, SIDE, regions())
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(keys.shape, generator=generator, dtype=keys.dtype)
    (keys * weight).sum().backward()
    expected = [torch.zeros_like(feature) for feature in features]
    for index, (image, row, column) in enumerate(kept_queries()):
        for key, (tower, y, x) in enumerate(cells_of_a_query(row, column)):
            expected[tower][image, y * CONFIG.aux_sides[tower] + x] += weight[index, key]
    for feature, gradient in zip(features, expected):
        assert torch.equal(feature.grad, gradient)
        assert (gradient == 0).any() and (gradient != 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_features_need_not_be_contiguous_and_keep_their_type(dtype):
    features = random_features(5, dtype)
    strided = [feature.transpose(1, 2).contiguous().transpose(1, 2) for feature in features]
    assert not strided[0].is_contiguous()
    keys = tower_windows(strided, CONFIG, SIDE, regions())
    assert keys.dtype == dtype
    assert torch.equal(keys, tower_windows(features, CONFIG, SIDE, regions()))
