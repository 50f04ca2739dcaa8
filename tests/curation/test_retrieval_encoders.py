"""Encoders by name, windows of their own tokenizers, and fusion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_models import WORDS, drawn, tiny_tokenizer, write_bert, write_clip

from semihv_hf.curation.retrieval import load_encoder
from semihv_hf.curation.retrieval.chunking import chunk_spans
from semihv_hf.curation.retrieval.fusion import fuse, reciprocal_ranks, unit
from semihv_hf.curation.retrieval.text_encoders import TokenReader
from semihv_hf.errors import SemiHVError


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("encoders") / "clip")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("encoders") / "bert")


@pytest.fixture(scope="module")
def reader():
    return TokenReader(tiny_tokenizer(), 26, "words")


line = st.lists(st.sampled_from([*WORDS, "3.5 cm.", "Übelkeit,", "α/β"]), min_size=1, max_size=30).map(" ".join)
document = st.lists(st.one_of(line, line.map("## {}".format), st.just("")), min_size=1, max_size=12).map("\n".join)


@given(document, st.integers(0, 11))
@settings(max_examples=60)
def test_spans_hold_every_word_and_fit_the_window(reader, text, overlap):
    spans = chunk_spans(text, reader.offsets, reader.window, overlap)
    covered = np.zeros(len(text), bool)
    for begin, end in spans:
        assert len(reader.offsets(text[begin:end])) <= reader.window
        covered[begin:end] = True
    assert all(covered[begin:end].all() for begin, end in reader.offsets(text))
    assert spans == sorted(spans)


def test_spans_of_a_long_part_overlap_and_end_where_a_line_or_sentence_ends(reader):
    text = ". ".join(["the patient shows acute fever with cough"] * 12) + "."
    spans = chunk_spans(text, reader.offsets, 24, 8)
    assert len(spans) > 3
    for (_, end), (begin, _) in zip(spans, spans[1:]):
        assert 1 <= len(reader.offsets(text[begin:end])) <= 8
        assert text[:end].endswith(".")


def test_a_heading_begins_a_span_and_one_without_a_text_goes_with_the_next(reader):
    body = "left lung shows a small nodule and an effusion in the lower lobe of the patient with acute cough and fever"
    text = f"# liver\n## cyst\n{body}\n## mass\n{body}\n"
    spans = chunk_spans(text, reader.offsets, 60, 4)
    assert [text[begin:end].split("\n")[0] for begin, end in spans] == ["# liver", "## mass"]


def test_an_overlap_of_half_the_window_is_refused(reader):
    with pytest.raises(SemiHVError, match="cannot overlap by 12"):
        chunk_spans("lung", reader.offsets, 24, 12)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_clip_family_folder_encodes_both_sides_as_its_own_model_does(tmp_path, kind):
    import io

    import torch
    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    folder = write_clip(tmp_path / kind, kind=kind)
    encoder = load_encoder(str(folder))
    assert encoder.shared and encoder.text is encoder.image
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    data = drawn(3)
    with torch.inference_mode():
        inputs = processor(
            text=["left lung mass"],
            images=Image.open(io.BytesIO(data)).convert("RGB"),
            return_tensors="pt",
            padding="max_length" if kind == "siglip" else True,
            max_length=32,
        )
        inputs.pop("token_type_ids", None)
        output = model(**inputs)
    np.testing.assert_allclose(unit(encoder.text.encode_texts(["left lung mass"])), output.text_embeds, atol=1e-5)
    np.testing.assert_allclose(unit(encoder.image.encode_images([data])), output.image_embeds, atol=1e-5)


def test_a_text_encoder_averages_its_tokens_and_refuses_a_text_beyond_its_window(bert):
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = load_encoder(str(bert))
    assert encoder.image is None and encoder.text.window == 22
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    with torch.inference_mode():
        states = model(**tokenizer("acute fever and cough", return_tensors="pt")).last_hidden_state[0]
    np.testing.assert_allclose(encoder.text.encode_texts(["acute fever and cough"])[0], states.mean(0), atol=1e-6)
    with pytest.raises(SemiHVError, match="A text of 25 tokens is longer than the 24"):
        encoder.text.encode_texts(["fever " * 23])


def test_a_vector_does_not_depend_on_what_else_is_encoded(bert):
    encoder = load_encoder(str(bert))
    texts = ["lung", "the left lower lobe of the lung shows a mass", "cyst", "fever and cough"]
    alone = np.concatenate([encoder.text.encode_texts([text]) for text in texts])
    assert (encoder.text.encode_texts(texts) == alone).all()


def test_two_encoders_are_told_apart_by_weights_and_tokenizer(tmp_path, bert):
    same = load_encoder(str(write_bert(tmp_path / "same")))
    other = load_encoder(str(write_bert(tmp_path / "other", seed=1)))
    first = load_encoder(str(bert))
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert load_encoder(f"{bert}+thumbnail").fingerprint not in (first.fingerprint, other.fingerprint)


def test_a_pair_reads_with_one_and_sees_with_the_other(bert, clip):
    pair = load_encoder(f"{bert}+{clip}")
    assert not pair.shared and (pair.text.dim, pair.image.dim) == (32, 16)
    assert (pair.text.encode_texts(["lung"]) == load_encoder(str(bert)).text.encode_texts(["lung"])).all()
    with pytest.raises(SemiHVError, match="encodes no images"):
        load_encoder(f"{clip}+{bert}")
    with pytest.raises(SemiHVError, match="encodes no texts"):
        load_encoder("thumbnail+thumbnail")


def test_the_thumbnail_ignores_size_brightness_and_contrast_and_a_blank_picture_resembles_nothing():
    import io

    from PIL import Image

    thumbnail = load_encoder("thumbnail").image
    picture = Image.open(io.BytesIO(drawn(1)))

    def saved(image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    paler = picture.resize((96, 96)).point(lambda value: 60 + value // 2)
    blank = Image.new("L", (20, 20), 77)
    one, other, different, nothing = thumbnail.encode_images([drawn(1), saved(paler), drawn(2), saved(blank)])
    assert one @ other > 0.99 > 0.5 > abs(one @ different)
    assert not nothing.any()


def test_what_is_no_encoder_is_named_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, says in (
        (str(tmp_path / "empty"), "has no config.json"),
        (str(tmp_path / "absent"), "There is no encoder folder"),
        ("nobody/no-such-model", "neither on this disk nor to be had"),
    ):
        with pytest.raises(SemiHVError, match=says) as raised:
            load_encoder(name)
        assert "\n" not in str(raised.value)


def test_a_checkpoint_without_its_weights_is_refused(tmp_path, bert):
    from safetensors.torch import load_file, save_file

    folder = write_bert(tmp_path / "torn")
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SemiHVError, match="lacks 1 weights, such as encoder.layer.1.output.dense.weight"):
        load_encoder(str(folder))


def test_clip_sf_is_the_unweighted_sum_brought_to_length_one():
    rng = np.random.default_rng(0)
    text, image = rng.standard_normal((2, 3, 8)).astype(np.float32)
    text[1] = 0  # this one has an image only
    expected = (text + image) / np.linalg.norm(text + image, axis=1, keepdims=True)
    np.testing.assert_allclose(fuse(text, image, shared=True, normalise=False), expected, atol=1e-6)
    levelled = fuse(text, 100 * image, shared=True, normalise=True)
    np.testing.assert_allclose(levelled, fuse(text, image, shared=True, normalise=True), atol=1e-6)


def test_side_by_side_the_score_is_the_mean_of_the_two_likenesses():
    rng = np.random.default_rng(1)
    text, image = rng.standard_normal((2, 8)).astype(np.float32), rng.standard_normal((2, 5)).astype(np.float32)
    fused = fuse(text, image, shared=False, normalise=True)
    expected = (unit(text)[0] @ unit(text)[1] + unit(image)[0] @ unit(image)[1]) / 2
    assert fused.shape == (2, 13)
    assert fused[0] @ fused[1] == pytest.approx(expected, abs=1e-6)


def test_reciprocal_ranks_are_those_of_the_paper():
    scores = reciprocal_ranks([["a", "b"], ["b", "c"]])
    assert scores == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})
