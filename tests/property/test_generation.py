"""However `generate` is asked, a row of a batch answers what it answers alone."""

import pytest
import torch
from generation_cases import NEW_TOKENS, PAD, VISION_KEYS, mixed_conversations, picture, user, with_large_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessor, LogitsProcessorList

TOLERANCE = {"atol": 1e-5, "rtol": 0}
# The same search in other ways; every one must give what the plain search gives for one conversation alone.
WAYS = {
    "plain": {},
    "without a cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "chunks of 1": {"prefill_chunk_size": 1},
    "chunks of 7": {"prefill_chunk_size": 7},
    "chunks of 33": {"prefill_chunk_size": 33},
    "one chunk": {"prefill_chunk_size": 1000},
    "static cache, chunks of 13": {"cache_implementation": "static", "prefill_chunk_size": 13},
}
SEARCHES = {
    "greedy": {},
    "3 beams": {"num_beams": 3},
    "3 beams, 2 sequences": {"num_beams": 3, "num_return_sequences": 2},
}


@pytest.fixture(scope="module")
def conversations():
    return mixed_conversations()


@pytest.fixture(scope="module")
def batch(cases, conversations):
    inputs = cases.encode(conversations)
    padded = (inputs["attention_mask"] == 0).sum(dim=1)
    assert padded.min() == 0 and len(set(padded.tolist())) >= 3
    assert bool((inputs["attention_mask"][:, -1] == 1).all())
    return inputs


@pytest.fixture(scope="module")
def ends(cases, conversations):
    """End tokens that let some rows end early and others not at all, with the answers of each search under them."""
    free = cases.one_by_one(conversations)
    tokens = [free[0][2], free[2][4]]
    alone = {
        search: cases.one_by_one(conversations, eos_token_id=tokens, **change) for search, change in SEARCHES.items()
    }
    assert len({len(answer) for answer in alone["greedy"]}) >= 3
    return tokens, alone


def test_the_answers_of_this_model_depend_on_what_it_is_given(cases, conversations):
    answers = cases.one_by_one(conversations)
    assert len({tuple(answer) for answer in answers}) == len(conversations)
    question = "What modality is this image?"
    others = [user(picture(60, 40, seed), question) for seed in range(6)]
    assert len({tuple(answer) for answer in cases.one_by_one(others)}) >= 5
    first, second = picture(40, 60, 2), picture(50, 50, 3)
    pairs = [user(first, second, question), user(second, first, question), user(first, question, second)]
    assert len({tuple(answer) for answer in cases.one_by_one(pairs)}) == 3


@pytest.mark.parametrize(
    ("search", "way"),
    [("greedy", way) for way in WAYS]
    + [("3 beams, 2 sequences", way) for way in ("plain", "without a cache", "static cache", "chunks of 7")]
    + [("3 beams", "plain"), ("3 beams", "static cache, chunks of 13")],
)
def test_defect_b6_a_left_padded_batch_answers_as_one_by_one(search, way, cases, batch, ends):
    tokens, alone = ends
    together = cases.answers(batch, eos_token_id=tokens, **SEARCHES[search], **WAYS[way])
    assert len(together) == len(batch["input_ids"]) * SEARCHES[search].get("num_return_sequences", 1)
    assert together == alone[search]


def test_beams_find_other_answers_than_greedy_search(ends):
    _, alone = ends
    assert alone["greedy"] != alone["3 beams"]
    assert alone["3 beams"] == alone["3 beams, 2 sequences"][::2]
    assert alone["3 beams, 2 sequences"][::2] != alone["3 beams, 2 sequences"][1::2]


@pytest.mark.parametrize("way", ["plain", "static cache", "chunks of 7", "static cache, chunks of 13"])
def test_the_logits_of_every_step_are_those_of_a_single_forward(way, cases, conversations, batch):
    together = cases.generate(batch, **WAYS[way])
    assert len(together.logits) == NEW_TOKENS
    for row, conversation in enumerate(conversations):
        alone = cases.encode([conversation])
        length = alone["input_ids"].shape[1]
        new = together.sequences[row : row + 1, batch["input_ids"].shape[1] :]
        ids = torch.cat([alone["input_ids"], new], dim=1)
        with torch.no_grad():
            logits = cases.model(**{**alone, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[0]
        steps = torch.stack([step[row] for step in together.logits])
        torch.testing.assert_close(steps, logits[length - 1 : -1], **TOLERANCE)


def test_the_scores_of_the_first_step_are_the_last_logits_of_forward(cases, batch):
    generated = cases.generate(batch, max_new_tokens=1)
    with torch.no_grad():
        logits = cases.model(**batch).logits[:, -1]
    torch.testing.assert_close(generated.scores[0], logits, **TOLERANCE)
    torch.testing.assert_close(generated.logits[0], logits, **TOLERANCE)


class RowNoise(LogitsProcessor):
    """Gumbel noise from a generator for each row: the best noisy score is a sample, whatever else is in the batch."""

    def __init__(self, seeds: list[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids, scores):
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=generator) for generator in self.generators])
        return scores - torch.log(-torch.log(uniform))


def test_rows_sampled_with_noise_of_their_own_answer_as_one_by_one(cases, conversations, batch):
    def sample(inputs, seeds):
        return cases.answers(inputs, logits_processor=LogitsProcessorList([RowNoise(seeds)]))

    seeds = list(range(len(conversations)))
    alone = [sample(cases.encode([one]), [seed])[0] for seed, one in zip(seeds, conversations)]
    assert sample(batch, seeds) == alone
    assert sample(batch, [seed + 100 for seed in seeds]) != alone != cases.one_by_one(conversations)


@pytest.mark.parametrize("way", ["plain", "static cache", "chunks of 7"])
def test_a_seed_decides_the_samples(way, cases, batch):
    def sample(seed, inputs=batch, **change):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cases.generate(inputs, do_sample=True, temperature=1.5, **WAYS[way], **change)

    first, again, other = sample(1), sample(1), sample(2)
    assert torch.equal(first.sequences, again.sequences)
    assert not torch.equal(first.sequences, other.sequences)
    greedy = cases.generate(batch).sequences
    assert not torch.equal(first.sequences, greedy)
    assert torch.equal(sample(1, top_k=1).sequences, greedy)


def test_samples_of_one_prompt_are_those_of_a_batch_of_its_copies(cases, conversations):
    def sample(inputs, **change):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return cases.answers(inputs, do_sample=True, **change)

    two_images = conversations[1]
    copies = sample(cases.encode([two_images] * 3))
    assert sample(cases.encode([two_images]), num_return_sequences=3) == copies
    assert len({tuple(copy) for copy in copies}) == 3
    with_text_only = [two_images, conversations[2]]
    repeated = [conversation for conversation in with_text_only for _ in range(2)]
    assert sample(cases.encode(with_text_only), num_return_sequences=2) == sample(cases.encode(repeated))


def test_a_question_after_an_image_answers_as_before_it(cases, conversations, batch):
    text_only = cases.encode([conversations[2]])
    assert not any(key in text_only for key in VISION_KEYS)
    before = cases.generate(text_only)
    cases.generate(batch, num_beams=3)
    cases.generate(cases.encode([conversations[1]]), prefill_chunk_size=5)
    after = cases.generate(text_only)
    assert torch.equal(before.sequences, after.sequences)
    assert all(torch.equal(first, second) for first, second in zip(before.logits, after.logits))


SIZES = [(60, 40), (40, 60), (50, 50), (90, 30), (20, 95), (300, 10)]
parts = st.one_of(
    st.sampled_from(["What?", "It is an axial MRI.", "plane"]),
    st.tuples(st.sampled_from(SIZES), st.integers(0, 99)),
)


@settings(derandomize=True, max_examples=8, database=None)
@given(
    rows=st.lists(st.lists(parts, min_size=1, max_size=4), min_size=2, max_size=4),
    chunk=st.one_of(st.none(), st.integers(1, 40)),
    beams=st.integers(1, 3),
)
def test_any_mix_of_rows_answers_as_one_by_one(rows, chunk, beams, cases):
    mix = [user(*(part if isinstance(part, str) else picture(*part[0], part[1]) for part in row)) for row in rows]
    change = {"max_new_tokens": 4, "num_beams": beams}
    together = cases.answers(cases.encode(mix), prefill_chunk_size=chunk, **change)
    assert together == cases.one_by_one(mix, **change)


@pytest.fixture(scope="module")
def fine_cases(tiny_text_model):
    """The released query side, 24, on towers of the same small size."""
    from generation_cases import TOWERS, Cases
    from tiny_cambrian import small_towers_config

    from semihv_hf.models.assemble import build_processor

    sva = small_towers_config().sva_config.to_dict() | {"query_side": 24, "aux_sides": [24, 24, 24, 48]}
    sva.pop("group_sides", None)
    model = with_large_weights(small_towers_config(sva_config=sva))
    return Cases(model, build_processor(tiny_text_model, TOWERS, 24, chat_template="chatml"))


def test_defect_b5_images_beyond_24_to_1_are_answered_in_a_batch_as_alone(fine_cases):
    sizes = {(2400, 100): 50, (2500, 100): 50, (100, 3000): 72, (300, 60): 100}
    mix = [user(picture(*size, seed=4), "What plane is shown?") for size in sizes]
    together = fine_cases.generate(fine_cases.encode(mix), max_new_tokens=3)
    for row, (one, tokens) in enumerate(zip(mix, sizes.values())):
        inputs = fine_cases.encode([one])
        assert int((inputs["input_ids"] == 6).sum()) == tokens
        alone = fine_cases.generate(inputs, max_new_tokens=3)
        assert torch.equal(alone.sequences[0, -3:], together.sequences[row, -3:])
        torch.testing.assert_close(torch.cat(alone.logits), torch.stack(together.logits)[:, row], **TOLERANCE)
    assert torch.pdist(together.logits[0]).min() > 1e-3


def test_rows_that_ended_are_filled_with_the_pad_token(cases, batch, ends):
    tokens, alone = ends
    sequences = cases.generate(batch, eos_token_id=tokens).sequences[:, batch["input_ids"].shape[1] :].tolist()
    assert [row[len(answer) :] for row, answer in zip(sequences, alone["greedy"])] == [
        [PAD] * (len(sequences[0]) - len(answer)) for answer in alone["greedy"]
    ]
