"""BLEU, group columns, the published arithmetic, and the card's table against small restatements of other tools."""

import random

import evaluate
import peer_arithmetic
import pytest
from card_table import read_table, shown, text_of


@pytest.fixture(scope="module")
def metric(root):
    return evaluate.load(str(root / "metrics" / "medical_vqa"))


def test_the_cards_cases_are_what_each_arithmetic_gives(root, metric):
    table = read_table(root / "metrics" / "medical_vqa" / "README.md", "| kind | prediction")
    assert len(table) >= 15
    arguments = {
        "predictions": [text_of(row[1]) for row in table],
        "references": [row[2] for row in table],
        "options": [row[3].split("; ") if row[3] else [] for row in table],
        "answer_types": [row[0] for row in table],
    }
    ours = metric.compute(**arguments, return_rows=True)["rows"]
    published = metric.compute(**arguments, protocol="llava-med", return_rows=True)["rows"]
    for cells, row, theirs in zip(table, ours, published):
        kind, prediction, reference = cells[0], text_of(cells[1]), cells[2]
        if kind == "closed":
            hit = peer_arithmetic.llava_med_closed(prediction, reference)
            expected = [str(hit), str(peer_arithmetic.medevalkit_closed(prediction, reference))]
            expected.append(f"{row['outcome']}: {row['rule']}")
            assert theirs["hit"] == hit
        else:
            numbers = peer_arithmetic.llava_med_open(prediction, reference)
            names = ("precision", "recall", "f1", "exact_match")
            expected = [shown(numbers), shown(peer_arithmetic.medevalkit_open(prediction, reference))]
            expected.append(shown([row[name] for name in names]))
            assert [theirs[name] for name in names] == pytest.approx(numbers)
        assert cells[4:] == expected, cells[:3]


def test_the_published_counts_come_with_their_labels_swapped_and_lost_rows_are_counted(metric):
    arguments = {
        "predictions": ["yes", "yes", "maybe", None, "left lung"],
        "references": ["yes", "no", "no", "yes", "lung"],
        "answer_types": ["closed"] * 4 + ["open"],
    }
    fixed = metric.compute(**arguments, protocol="llava-med")
    first = metric.compute(**arguments, protocol="llava-med-first-release")
    assert fixed["closed_accuracy"] == 1 / 4 and first["closed_accuracy"] == 1 / 3
    assert fixed["counts"]["printed"] == {"num_open": 4, "num_close": 1}
    assert first["counts"]["closed"] == {
        **{"total": 4, "scored": 3, "left_out": 1, "failed": 1, "empty": 0, "correct": 1}
    }
    ours = metric.compute(**arguments)
    assert (ours["closed_accuracy"], ours["counts"]["closed"]["unparsed"]) == (1 / 4, 1)


def test_published_words_keep_the_scripts_oddities(metric):
    rows = [("dont 1,000 x-ray", "don't 1000 xray"), ("none", "0"), ("a - an b", "b"), ("it is ten", "it is 10")]
    result = metric.compute(
        predictions=[row[0] for row in rows],
        references=[row[1] for row in rows],
        answer_types=["open"] * len(rows),
        protocol="llava-med",
        return_rows=True,
    )
    assert [row["recall"] for row in result["rows"]] == [1.0] * len(rows)
    # BLEU-2 there is the precision of word pairs alone, and 0 becomes the smallest float.
    assert result["rows"][3]["bleu_2"] == 1.0 and 0 < result["rows"][1]["bleu_2"] < 1e-300


def test_published_sentence_bleu_is_that_of_nltk(metric):
    bleu = pytest.importorskip("nltk.translate.bleu_score", reason="nltk is not installed: pip install nltk")
    generator = random.Random(0)
    words = "left right lung mass kidney of cyst".split()
    pairs = [(generator.choices(words, k=generator.randrange(1, 9)), generator.choices(words, k=5)) for _ in range(80)]
    rows = metric.compute(
        predictions=[" ".join(pair[0]) for pair in pairs],
        references=[" ".join(pair[1]) for pair in pairs],
        answer_types=["open"] * len(pairs),
        protocol="llava-med",
        return_rows=True,
    )["rows"]
    with pytest.warns(UserWarning, match="0 counts"):
        for row, (said, wanted) in zip(rows, pairs):
            assert row["bleu"] == pytest.approx(bleu.sentence_bleu([wanted], said))
            assert row["bleu_3"] == pytest.approx(bleu.sentence_bleu([wanted], said, weights=(0, 0, 1, 0)))


def test_bleu_is_that_of_the_corpus_and_none_where_no_reference_is_long_enough(metric):
    arguments = {"answer_types": ["open", "open"]}
    result = metric.compute(
        predictions=["mass in the left lung", None], references=["mass in the right lung", "two words"], **arguments
    )
    # 4 of 5 words, 2 of 4 pairs and 1 of 3 triples match; the references are 7 words long together.
    penalty = 2.718281828459045 ** (1 - 7 / 5)
    assert result["open_bleu_1"] == pytest.approx(0.8 * penalty) and result["open_bleu_1_scored"] == pytest.approx(0.8)
    assert result["open_bleu_2_scored"] == pytest.approx((0.8 * 0.5) ** 0.5)
    assert result["open_bleu_3_scored"] == pytest.approx((0.8 * 0.5 / 3) ** (1 / 3))
    assert result["open_bleu_4_scored"] == 0.0
    short = metric.compute(predictions=["lung", "mass"], references=["lung", "cyst"], **arguments)
    assert (short["open_bleu_1"], short["open_bleu_2"]) == (0.5, None)


def test_several_group_columns_each_add_up(metric):
    columns = {"modality": ["CT", "CT", "MRI"], "dataset": ["b", "a", "a"]}
    result = metric.compute(predictions=["yes", "no", None], references=["yes", "yes", "no"], groups=columns)
    assert {title: sorted(parts) for title, parts in result["by_group"].items()} == {
        **{"modality": ["CT", "MRI"], "dataset": ["a", "b"]}
    }
    for parts in result["by_group"].values():
        assert sum(part["counts"]["closed"]["total"] for part in parts.values()) == 3


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"protocol": "llava"}, "Unknown protocol 'llava'"),
        ({"groups": [None]}, "Row 0 has no name in `groups`"),
        ({"groups": {"site": []}}, r"`groups\['site'\]` has 0 entries for 1"),
        ({"options": [["axial", 3]]}, "Row 0: the option 3"),
        ({"references": ["axial", "axial"]}, "1 predictions for 2 references"),
        ({"references": [7]}, "Row 0: the reference 7"),
    ],
)
def test_bad_settings_are_named(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(**{"predictions": ["axial"], "references": ["axial"], **arguments})


@pytest.mark.parametrize(
    "answer,outcome",
    [
        ("Axial is unlikely, coronal", "right"),
        ("axial is not seen here, coronal", "right"),
        ("coronal cannot be excluded", "right"),
        ("coronal can be excluded", "unparsed"),
    ],
)
def test_an_option_may_be_denied_behind_itself(metric, answer, outcome):
    result = metric.compute(
        predictions=[answer], references=["coronal"], options=[["axial", "coronal"]], return_rows=True
    )
    assert result["rows"][0]["outcome"] == outcome
