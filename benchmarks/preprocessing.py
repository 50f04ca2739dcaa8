"""Pixels for the four towers of the 8B model: one call of ours against four processor calls of transformers.

    python benchmarks/preprocessing.py --rounds 5 --threads 2 --seed 0

Everything starts from the bytes of a JPEG or PNG file. Peers: transformers' own PIL processors (SigLIP, CLIP, BiT for
DINOv2, CLIP for ConvNeXt), each after its own decoding and padding; and four exact image processors of ours with one
tower each, which shows what sharing alone gives. The exact mode must give the peers' numbers bit for bit, the fast
mode grey levels within one of them, fewer than 1 % of the pixels different at all. Draft decoding is compared with
full decoding in the same mode on a JPEG of 2,544 x 3,056 pixels.
"""

import io

import numpy as np
import torch
from measuring import finish, median_seconds, parse_arguments, print_row
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from semihv_hf.models.pmc_cambrian.image_decoding_pmc_cambrian import pad_to_square
from semihv_hf.models.pmc_cambrian.image_processing_pil_pmc_cambrian import (
    DEFAULT_TOWERS,
    PIXEL_KEYS,
    PMCCambrianImageProcessorPil,
)
from semihv_hf.models.pmc_cambrian.image_processing_pmc_cambrian import PMCCambrianImageProcessor

EXACT_BAR, FAST_BAR, DRAFT_BAR = 1.3, 3.0, 2.5
# (width, height, format): a slice, a figure, a radiograph export
FILES = [(512, 512, "JPEG"), (512, 512, "PNG"), (1024, 768, "JPEG"), (1024, 768, "PNG"), (1200, 1600, "JPEG")]
RADIOGRAPH = (2544, 3056)


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Soft shapes with sensor noise."""
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, 256, (max(2, height // 32), max(2, width // 32), 3), dtype=np.uint8)
    shapes = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    noise = generator.standard_normal((height, width, 1), dtype=np.float32) * 4
    return Image.fromarray(np.clip(shapes + noise, 0, 255).astype(np.uint8))


def file_bytes(width: int, height: int, format: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    photograph(width, height, seed).save(buffer, format, **({"quality": 90} if format == "JPEG" else {}))
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def library_processors() -> dict:
    """One PIL processor of transformers for each tower, with the tower's size and statistics."""
    processors = {}
    for name, tower in DEFAULT_TOWERS.items():
        statistics = {"image_mean": list(tower["mean"]), "image_std": list(tower["std"]), "resample": 3}
        square = {"height": tower["size"], "width": tower["size"]}
        if name == "siglip":
            processors[name] = SiglipImageProcessorPil(size=square, **statistics)
        else:
            kind = BitImageProcessorPil if name == "dino" else CLIPImageProcessorPil
            processors[name] = kind(size={"shortest_edge": tower["size"]}, crop_size=square, **statistics)
    return processors


def call_library(processors: dict, data: bytes) -> dict[str, torch.Tensor]:
    pixels = {}
    for name, processor in processors.items():
        image = pad_to_square(opened(data).convert("RGB"), DEFAULT_TOWERS[name]["pad_color"])
        pixels[PIXEL_KEYS[name]] = processor(image, return_tensors="pt")["pixel_values"]
    return pixels


def check_equal(data: bytes, processors: dict, exact, fast, single: dict) -> None:
    expected = call_library(processors, data)
    found, near = exact(opened(data), return_tensors="pt"), fast(opened(data), return_tensors="pt")
    for name, tower in DEFAULT_TOWERS.items():
        key = PIXEL_KEYS[name]
        assert torch.equal(found[key], expected[key]), f"{name}: the exact mode differs from transformers"
        assert torch.equal(found[key], single[name](opened(data), return_tensors="pt")[key])
        levels = (near[key] - expected[key]).abs() * torch.tensor(tower["std"])[:, None, None] * 255
        assert (levels > 0.01).float().mean() < 0.01, f"{name}: the fast mode differs in too many pixels"
        assert (levels > 1.01).float().mean() < 1e-4, f"{name}: the fast mode differs by more than a grey level"


def compare_calls(arguments) -> list[dict]:
    processors, exact, fast = library_processors(), PMCCambrianImageProcessorPil(), PMCCambrianImageProcessor()
    single = {name: PMCCambrianImageProcessorPil(towers={name: {}}) for name in DEFAULT_TOWERS}
    total = {}
    for width, height, format in FILES:
        data = file_bytes(width, height, format, arguments.seed)
        check_equal(data, processors, exact, fast, single)
        contenders = {
            "transformers x 4": lambda data=data: call_library(processors, data),
            "one tower x 4": lambda data=data: [each(opened(data), return_tensors="pt") for each in single.values()],
            "exact": lambda data=data: exact(opened(data), return_tensors="pt"),
            "fast": lambda data=data: fast(opened(data), return_tensors="pt"),
        }
        seconds = median_seconds(contenders, arguments.rounds)
        print_row(f"{width} x {height} {format}", seconds)
        total = {name: total.get(name, 0.0) + value for name, value in seconds.items()}
    print_row("all", total)
    peer = total["transformers x 4"]
    return [
        {"claim": "exact mode, four calls of transformers", "ratio": peer / total["exact"], "bar": EXACT_BAR},
        {"claim": "fast mode, four calls of transformers", "ratio": peer / total["fast"], "bar": FAST_BAR},
        {
            "claim": "exact mode, four one-tower calls of ours",
            "ratio": total["one tower x 4"] / total["exact"],
            "bar": EXACT_BAR,
        },
        {
            "claim": "fast mode, four exact one-tower calls of ours",
            "ratio": total["one tower x 4"] / total["fast"],
            "bar": FAST_BAR,
        },
    ]


def compare_draft(arguments) -> list[dict]:
    data = file_bytes(*RADIOGRAPH, "JPEG", arguments.seed)
    claims = []
    for mode, processor, bar in (
        ("exact", PMCCambrianImageProcessorPil(), DRAFT_BAR),
        ("fast", PMCCambrianImageProcessor(), None),
    ):
        contenders = {
            "full": lambda processor=processor: processor(opened(data), return_tensors="pt"),
            "draft": lambda processor=processor: processor(opened(data), draft_decoding=True, return_tensors="pt"),
        }
        full, draft = contenders["full"](), contenders["draft"]()
        assert torch.equal(full["image_sizes"], draft["image_sizes"])
        levels = {}
        for name, tower in DEFAULT_TOWERS.items():
            differences = (full[PIXEL_KEYS[name]] - draft[PIXEL_KEYS[name]]).abs()
            levels[name] = (differences * torch.tensor(tower["std"])[:, None, None] * 255).mean().item()
        assert 0 < max(levels.values()) < 2.0, f"draft decoding changed {levels} grey levels on average"
        seconds = median_seconds(contenders, arguments.rounds)
        print_row(f"2544 x 3056 JPEG, {mode} mode", seconds)
        mean = round(max(levels.values()), 2)
        ratio = seconds["full"] / seconds["draft"]
        claims.append({"claim": f"draft decoding, {mode} mode", "ratio": ratio, "bar": bar, "mean_levels": mean})
    return claims


def main() -> None:
    arguments = parse_arguments(__doc__)
    claims = compare_calls(arguments) + compare_draft(arguments)
    finish("preprocessing", claims, arguments, towers={name: tower["size"] for name, tower in DEFAULT_TOWERS.items()})


if __name__ == "__main__":
    main()
