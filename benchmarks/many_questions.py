"""One image, eight questions: the image encoded once against eight full calls.

    python benchmarks/many_questions.py --new-tokens 12 --rounds 3 --threads 2 --seed 0

A model of random weights with the 8B model's proportions (every width divided by 16, a quarter of the layers, images
at full size), float32 on the CPU, and a photograph of 1,024 x 768 pixels. Preprocessing, towers, connector and greedy
generation are timed. Full calls take one question each. Ours compute the image's features once and pass them to one
batched `generate` as `mm_encoder_outputs`; or, besides, read the common beginning of the eight prompts once, in which
the image stands. Identical tokens are asserted for both. With features alone the text model still reads the image
eight times, so the second way is the one that must reach the bar.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import finish, median_seconds, parse_arguments, print_row
from random_models import byte_tokenizer, generate, model_of_8b_proportions, random_image

from semihv_hf.models.shared_images import share_image_features

BAR = 3.0
QUESTIONS = [
    "Is this a CT?",
    "Which plane is shown?",
    "Is there a fracture?",
    "Which organ is abnormal?",
    "Is the heart enlarged?",
    "On which side is the lesion?",
    "Was contrast medium given?",
    "What is the most likely diagnosis?",
]


@torch.inference_mode()
def main() -> None:
    arguments = parse_arguments(__doc__, rounds=3, new_tokens=12)
    with tempfile.TemporaryDirectory() as folder:
        byte_tokenizer(Path(folder))
        model, processor = model_of_8b_proportions(arguments.seed, Path(folder))
    image = random_image(1024, 768, np.random.default_rng(arguments.seed))
    conversations = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]
        for question in QUESTIONS
    ]

    def full_calls():
        answers = []
        for conversation in conversations:
            inputs = processor.apply_chat_template(
                [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
            answers.append(generate(model, arguments.new_tokens, **inputs))
        return torch.cat(answers)

    def features_once():
        return generate(model, arguments.new_tokens, **share_image_features(model, processor, conversations))

    def prefix_once():
        inputs = share_image_features(model, processor, conversations, share_prefix=True)
        return generate(model, arguments.new_tokens, **inputs)

    contenders = {"full calls": full_calls, "features once": features_once, "features and prefix once": prefix_once}
    answers = {name: contender() for name, contender in contenders.items()}
    for name, found in answers.items():
        assert torch.equal(found, answers["full calls"]), f"{name}: the answers differ"
    different = len({tuple(row) for row in answers["full calls"].tolist()})
    assert different > 1, "all questions have one answer: equal answers would prove nothing"
    seconds = median_seconds(contenders, arguments.rounds)
    print_row(f"{len(QUESTIONS)} questions", seconds)
    full = seconds["full calls"]
    claims = [
        {"claim": "features and prefix once", "ratio": full / seconds["features and prefix once"], "bar": BAR},
        {"claim": "features once", "ratio": full / seconds["features once"], "bar": None},
    ]
    finish("many_questions", claims, arguments, questions=len(QUESTIONS), different_answers=different)


if __name__ == "__main__":
    main()
