"""Windows and masks of the spatial vision aggregator: all images at once against a loop over samples and towers.

    python benchmarks/sva_windows.py --rounds 5 --threads 2 --seed 0

Eight images, four towers of 576/576/576/9,216 tokens x 1,024 channels, float32 on the CPU. Both contenders go from
projected tower features to the keys, the mask and the global context of the kept queries. The loop does what the
formulas of the connector say, sample by sample and tower by tower: rearrange the grid into windows, concatenate the
towers, mask, keep the queries on real pixels, concatenate the samples. Equal keys and masks are asserted bit for bit.
"""

import torch
from measuring import finish, median_seconds, parse_arguments, print_row

from semihv_hf.models.pmc_cambrian.configuration_pmc_cambrian import PMCCambrianSvaConfig, kept_region
from semihv_hf.models.pmc_cambrian.sva_pmc_cambrian import vision_context

BAR = 3.0
# (height, width): shapes of radiographs, slices, photographs and figures; and the case in which nothing is padding.
BATCHES = {
    "eight different shapes": [
        (480, 640),
        (640, 480),
        (512, 512),
        (512, 1024),
        (1080, 1920),
        (2500, 2048),
        (768, 1024),
        (1000, 333),
    ],
    "eight squares": [(512, 512)] * 8,
}


def loop_over_samples(features, image_sizes, config):
    """The connector's steps 2, 4, 5 and the choice of kept queries, restated for one sample at a time."""
    side = config.query_side
    all_keys, all_masks, all_contexts = [], [], []
    for sample, (height, width) in enumerate(image_sizes):
        windows, masks = [], []
        for feature, aux_side in zip(features, config.aux_sides):
            ratio = aux_side // side
            grid = feature[sample].view(side, ratio, side, ratio, -1).permute(0, 2, 1, 3, 4).contiguous()
            windows.append(grid.view(side * side, ratio * ratio, -1))
            top, bottom, left, right = kept_region(height, width, aux_side)
            valid = torch.zeros(aux_side, aux_side, dtype=torch.bool)
            valid[top:bottom, left:right] = True
            valid = valid.view(side, ratio, side, ratio).permute(0, 2, 1, 3).reshape(side * side, ratio * ratio)
            valid[~valid.any(dim=1)] = True
            masks.append(valid)
        top, bottom, left, right = kept_region(height, width, side)
        kept = torch.zeros(side, side, dtype=torch.bool)
        kept[top:bottom, left:right] = True
        kept = kept.flatten()
        all_keys.append(torch.cat(windows, dim=1)[kept])
        all_masks.append(torch.cat(masks, dim=1)[kept])
        all_contexts.append(features[0][sample].mean(dim=0).expand(int(kept.sum()), -1))
    return torch.cat(all_keys), torch.cat(all_contexts), torch.cat(all_masks)


def all_at_once(features, image_sizes, config):
    """What the connector does before its first cross-attention layer."""
    regions = [kept_region(height, width, config.query_side) for height, width in image_sizes]
    return vision_context(features, image_sizes, config, config.query_side, regions)


@torch.inference_mode()
def main() -> None:
    arguments = parse_arguments(__doc__)
    config = PMCCambrianSvaConfig()
    generator = torch.Generator().manual_seed(arguments.seed)
    features = [torch.randn(8, side**2, config.hidden_size, generator=generator) for side in config.aux_sides]
    claims = []
    for title, sizes in BATCHES.items():
        expected, found = loop_over_samples(features, sizes, config), all_at_once(features, sizes, config)
        for name, one, other in zip(("keys", "context", "mask"), expected, found):
            same = torch.allclose(one, other, rtol=0, atol=1e-6) if name == "context" else torch.equal(one, other)
            assert same, f"{title}: the {name} differ"
        rows = len(found[0])
        del expected, found
        seconds = median_seconds(
            {
                "loop": lambda sizes=sizes: loop_over_samples(features, sizes, config),
                "ours": lambda sizes=sizes: all_at_once(features, sizes, config),
            },
            arguments.rounds,
        )
        print_row(f"{title} ({rows} queries)", seconds)
        claims.append({"claim": title, "ratio": seconds["loop"] / seconds["ours"], "bar": BAR})
    finish("sva_windows", claims, arguments, batch=8, tokens=[side**2 for side in config.aux_sides])


if __name__ == "__main__":
    main()
