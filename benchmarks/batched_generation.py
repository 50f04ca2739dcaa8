"""Sixteen prompts with images: generated as one left-padded batch against one by one.

    python benchmarks/batched_generation.py --new-tokens 64 --layers 6 --rounds 3 --threads 2 --seed 0

A text model of SmolLM2-135M's shape, but with fewer layers so that a round takes seconds, with random weights; the
quickstart's four small towers; float32 on the CPU; images of sixteen shapes. Pixels are ready before the clock starts:
towers, connector and generation are timed. Identical tokens are asserted. A batch wins while tokens are generated,
where a single prompt waits for the weights to be read; reading the prompts themselves costs the same either way.
"""

import numpy as np
import torch
from measuring import finish, median_seconds, parse_arguments, print_row
from random_models import generate, image_tokens, left_padded, random_image, random_model, random_words

BAR, PROMPTS = 4.0, 16


@torch.inference_mode()
def main() -> None:
    arguments = parse_arguments(__doc__, rounds=3, new_tokens=64, layers=6)
    model, image_processor = random_model(arguments.seed, arguments.layers)
    generator = np.random.default_rng(arguments.seed)
    sides = generator.integers(64, 512, (PROMPTS, 2)).tolist()
    images = [random_image(width, height, generator) for width, height in sides]
    pixels = image_processor(images, return_tensors="pt")
    prompts = [
        random_words(4, generator)
        + image_tokens(size, model.config)
        + random_words(generator.integers(6, 24), generator)
        for size in pixels["image_sizes"]
    ]
    batch = {**left_padded(prompts), **pixels}
    singles = [
        {**left_padded([prompt]), **{key: values[row : row + 1] for key, values in pixels.items()}}
        for row, prompt in enumerate(prompts)
    ]

    def batched():
        return generate(model, arguments.new_tokens, **batch)

    def one_by_one():
        return torch.cat([generate(model, arguments.new_tokens, **single) for single in singles])

    found, expected = batched(), one_by_one()
    assert torch.equal(found, expected), f"{int((found != expected).any(dim=1).sum())} of {PROMPTS} answers differ"
    different = len({tuple(row) for row in found.tolist()})
    assert different > 1, "all prompts have one answer: equal answers would prove nothing"
    seconds = median_seconds({"one by one": one_by_one, "batched": batched}, arguments.rounds)
    print_row(f"{PROMPTS} prompts, {arguments.new_tokens} new tokens", seconds)
    claims = [
        {"claim": "batched, one by one", "ratio": seconds["one by one"] / seconds["batched"], "bar": BAR},
    ]
    lengths = [len(prompt) for prompt in prompts]
    finish(
        "batched_generation",
        claims,
        arguments,
        prompts=PROMPTS,
        prompt_tokens=[min(lengths), max(lengths)],
        different_answers=different,
    )


if __name__ == "__main__":
    main()
