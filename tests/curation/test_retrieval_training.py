"""The fine-tuning recipe: what trains, what it minimises, and that its result is an encoder."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
from retrieval_models import WORDS, drawn, make_case, write_bert, write_cases, write_clip

from semihv_hf.curation.retrieval import load_encoder
from semihv_hf.curation.retrieval.contrastive import contrastive_loss, read_pairs
from semihv_hf.curation.retrieval.fusion import unit
from semihv_hf.errors import SemiHVError


@pytest.fixture(scope="module")
def train(root):
    """The `main` of the recipe."""
    specification = spec_from_file_location("retriever_train", root / "recipes" / "retriever" / "train.py")
    module = module_from_spec(specification)
    sys.modules["retriever_train"] = module
    specification.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Sixteen pairs: a picture with two words finds the text of its case; a neighbour's text is a hard negative."""
    folder = tmp_path_factory.mktemp("pairs")
    texts = [" ".join(np.random.default_rng(n).choice(WORDS, 8)) for n in range(16)]
    rows = []
    for n, text in enumerate(texts):
        (folder / f"{n}.png").write_bytes(drawn(n))
        negative = {"text": texts[(n + 1) % 16]}
        rows.append(
            {"query": {"text": "mri scan", "image": f"{n}.png"}, "positive": {"text": text}, "negatives": [negative]}
        )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "pairs.jsonl"


@pytest.mark.slow
def test_the_smoke_recipe_learns_freezes_what_it_should_and_saves_an_encoder(tmp_path, root, train, pairs):
    from safetensors.torch import load_file

    clip = write_clip(tmp_path / "clip")
    recipe = root / "recipes" / "retriever" / "smoke.yaml"
    done = train(
        ["--config", str(recipe), "--model", str(clip), "--data", str(pairs), "--output_dir", str(tmp_path / "out")]
    )
    assert done["last_loss"] < 0.5 * done["first_loss"]
    before, after = load_file(clip / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed and changed <= set(done["trainable"])
    assert {"logit_scale", "text_projection.weight", "visual_projection.weight"} <= changed
    assert any("text_model.encoder.layers.1" in name for name in changed)
    assert not any("layers.0" in name or "embeddings" in name for name in changed)
    tuned = load_encoder(str(tmp_path / "out"))
    assert tuned.shared and tuned.fingerprint != load_encoder(str(clip)).fingerprint
    assert _accuracy(tuned, pairs) >= 0.3 > _accuracy(load_encoder(str(clip)), pairs)  # chance is 1 of 16


def _accuracy(encoder, path) -> float:
    """How often a query's own text is nearest of all."""
    rows = read_pairs(path)
    images = [open(row["query"]["image"], "rb").read() for row in rows]
    queries = unit(encoder.text.encode_texts(["mri scan"] * len(rows)) + encoder.image.encode_images(images))
    found = unit(encoder.text.encode_texts([row["positive"]["text"] for row in rows]))
    return float(((queries @ found.T).argmax(1) == np.arange(len(rows))).mean())


def test_the_loss_is_the_cross_entropy_of_scaled_products_without_copies_of_the_own():
    import torch

    generator = torch.Generator().manual_seed(0)
    queries, candidates = (torch.nn.functional.normalize(torch.randn(n, 6, generator=generator)) for n in (3, 5))
    same = torch.eye(3, 5, dtype=torch.bool)
    same[0, 4] = True  # a hard negative of another pair that is the first query's own positive
    loss, accuracy = contrastive_loss(queries, candidates, torch.tensor(2.0).log(), same)
    scores = 2.0 * (queries @ candidates.T).numpy()
    own = []
    for row, kept in enumerate(([0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4])):
        own.append(-scores[row, row] + np.log(np.exp(scores[row, kept]).sum()))
    assert loss.item() == pytest.approx(np.mean(own), abs=1e-6)
    assert 0 <= accuracy.item() <= 1
    bounded, _ = contrastive_loss(queries, candidates, torch.tensor(9.0), same)
    at_bound, _ = contrastive_loss(queries, candidates, torch.tensor(100.0).log(), same)
    assert bounded.item() == pytest.approx(at_bound.item())


def test_a_folder_of_cases_gives_pairs_of_image_and_findings(tmp_path):
    cases = [make_case(n, f"findings {n}") for n in range(3)] + [make_case(9, "a model's words", by="machine")]
    pairs = read_pairs(write_cases(tmp_path / "cases", cases))
    assert [pair["positive"]["text"] for pair in pairs] == ["findings 0", "findings 1", "findings 2"]
    assert pairs[1]["query"]["image"] == cases[1].images[0]


def test_bad_input_of_the_recipe_is_one_line(tmp_path, root, train, pairs):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("hard_negative: 1\n", encoding="utf-8")
    with pytest.raises(SemiHVError, match="Did you mean 'hard_negatives'"):
        train(["--config", str(recipe), "--model", "m", "--data", "d"])
    (tmp_path / "one.jsonl").write_text('{"query": {"text": "a"}, "positive": {"text": "b"}}\n', encoding="utf-8")
    (tmp_path / "hollow.jsonl").write_text('{"query": {"text": ""}, "positive": {"text": "b"}}\n', encoding="utf-8")
    for path, says in (
        ("one.jsonl", "holds 1 pairs"),
        ("hollow.jsonl", "neither text nor image"),
        ("x", "no pairs at"),
    ):
        with pytest.raises(SemiHVError, match=says):
            read_pairs(tmp_path / path)
    bert = write_bert(tmp_path / "bert")
    with pytest.raises(SemiHVError, match="has no space that texts and images share"):
        train(["--model", str(bert), "--data", str(pairs), "--output_dir", str(tmp_path / "out")])
    clip = write_clip(tmp_path / "clip")
    with pytest.raises(SemiHVError, match="No parameter matches the pattern 'nothing"):
        train(
            [
                "--model",
                str(clip),
                "--data",
                str(pairs),
                "--trainable",
                "nothing.*",
                "--output_dir",
                str(tmp_path / "o"),
            ]
        )
