"""What the model is shown: the image, a blank of the same size, or another case's image."""

import random

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.benchmarks import Question

CONDITIONS = ("image", "blank", "shuffled")


def check_condition(condition: str) -> None:
    """Refuses a condition that does not exist.

    Args:
        condition (`str`): the name to check.

    Raises:
        SemiHVError: the name is unknown.
    """
    if condition not in CONDITIONS:
        raise SemiHVError(f"Unknown condition {condition!r}.", f"Choose one of: {', '.join(CONDITIONS)}.")


def blank_like(image, colour: tuple[int, int, int]):
    """Makes an image of the same size that shows nothing.

    Args:
        image (`PIL.Image.Image`): the image whose size is taken.
        colour (`tuple[int, int, int]`): the fill.

    Returns:
        `PIL.Image.Image`: a plain RGB image.
    """
    from PIL import Image

    return Image.new("RGB", image.size, colour)


def pad_colour(processor) -> tuple[int, int, int]:
    """Finds the colour that the model's processor pads with, which is what the model knows as nothing.

    Args:
        processor (`transformers.ProcessorMixin`): the model's processor.

    Returns:
        `tuple[int, int, int]`: the image processor's `background_color`, else its mean colour, else mid grey.
    """
    image_processor = getattr(processor, "image_processor", processor)
    colour = getattr(image_processor, "background_color", None)
    if colour is not None and len(colour) == 3:
        return tuple(int(value) for value in colour)
    mean = getattr(image_processor, "image_mean", None)
    if mean is not None and len(mean) == 3 and all(0 <= value <= 1 for value in mean):
        return tuple(int(value * 255) for value in mean)
    return (127, 127, 127)


def shuffled_donors(questions: list[Question], seed: int) -> list[int | None]:
    """Gives every question the images of another case: a permutation of the images in which nobody keeps their own.

    Another modality is taken wherever the mix of modalities allows it. Where it does not, a case of the same modality
    whose answer to the same kind of question differs is preferred.

    Args:
        questions (`list[Question]`): the questions, in their order.
        seed (`int`): the seed of the permutation.

    Returns:
        `list[int | None]`: for each question the index of the question whose image it is shown; `None` where there is
        no other case with as many images.
    """
    generator = random.Random(seed)
    order = list(range(len(questions)))
    generator.shuffle(order)
    counts: dict[str, int] = {}
    for question in questions:
        counts[question.modality] = counts.get(question.modality, 0) + 1
    # Modality after modality, turned by the largest block: no block can meet itself unless it is over half of all.
    order.sort(key=lambda i: (questions[i].modality, questions[i].case_id))
    shift = max(counts.values(), default=0) % max(len(order), 1)
    donors: list[int | None] = [None] * len(order)
    for position, index in enumerate(order):
        donors[index] = order[(position + shift) % len(order)]
    answers = {(q.case_id, q.template, q.reference) for q in questions}

    def cost(index: int, donor: int) -> int:
        mine, other = questions[index], questions[donor]
        same_modality = mine.modality == other.modality
        same_answer = same_modality and (other.case_id, mine.template, mine.reference) in answers
        # A donor must be able to stand in for every image that the question shows.
        unfit = mine.case_id == other.case_id or len(mine.images) != len(other.images)
        return 4 * unfit + 2 * same_modality + same_answer

    _swap_until_better(donors, cost, generator)
    for index, donor in enumerate(donors):
        mine, other = questions[index], questions[donor]
        if mine.case_id == other.case_id or len(mine.images) != len(other.images):
            donors[index] = None
    return donors


def _swap_until_better(donors: list, cost, generator: random.Random, rounds: int = 3) -> None:
    """Swaps pairs of donors while that lowers the total cost; `donors` stays a permutation."""
    everyone = list(range(len(donors)))
    for _ in range(rounds):
        improved = False
        for index in everyone:
            if cost(index, donors[index]) == 0:
                continue
            for other in generator.sample(everyone, min(len(everyone), 256)):
                before = cost(index, donors[index]) + cost(other, donors[other])
                if cost(index, donors[other]) + cost(other, donors[index]) < before:
                    donors[index], donors[other] = donors[other], donors[index]
                    improved = True
        if not improved:
            return


def shown_images(questions: list[Question], condition: str, seed: int) -> list[Question | None]:
    """Says for every question which question's pixels are shown.

    Args:
        questions (`list[Question]`): the questions.
        condition (`str`): `"image"`, `"blank"` or `"shuffled"`.
        seed (`int`): the seed of the shuffling.

    Returns:
        `list[Question | None]`: the question whose image is shown (for `"blank"`: whose size is taken); `None` where
        a shuffled image does not exist.
    """
    if condition != "shuffled":
        return list(questions)
    donors = shuffled_donors(questions, seed)
    return [None if donor is None else questions[donor] for donor in donors]
