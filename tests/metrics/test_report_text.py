"""The report metric: kept libraries' numbers, counts, offline METEOR, BERTScore with a tiny model, the card."""

import doctest
import sys
import warnings

import evaluate
import peer_arithmetic
import pytest
from card_table import read_table, shown, text_of

for _module, _package in (("nltk", "nltk"), ("rouge_score", "rouge-score"), ("sacrebleu", "sacrebleu")):
    pytest.importorskip(_module, reason=f"{_package} is not installed: pip install {_package}")

PARTS = ("noun", "verb", "adj", "adv")


@pytest.fixture(scope="module")
def metric(root):
    return evaluate.load(str(root / "metrics" / "report_text"))


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    """Database files as wndb(5WN) describes them, with one synset: tumour, neoplasm."""
    folder = tmp_path_factory.mktemp("wordnet")
    for part in PARTS:
        (folder / f"data.{part}").write_text("")
        (folder / f"index.{part}").write_text("  1 a licence line\n")
    (folder / "data.noun").write_text("00000000 08 n 02 tumour 0 neoplasm 0 000 | new growth  \n")
    (folder / "index.noun").write_text("neoplasm n 1 0 1 0 00000000\ntumour n 1 0 1 0 00000000\n")
    return folder


@pytest.fixture(scope="module")
def empty_wordnet(tmp_path_factory):
    """Database files without a word, so that a copy of WordNet on the machine makes no difference."""
    folder = tmp_path_factory.mktemp("empty")
    for part in PARTS:
        (folder / f"data.{part}").write_text("")
        (folder / f"index.{part}").write_text("")
    return folder


def test_the_cards_cases_are_what_each_arithmetic_gives(root, metric, empty_wordnet):
    table = read_table(root / "metrics" / "report_text" / "README.md", "| prediction | reference | MedEvalKit")
    assert len(table) >= 15
    rows = metric.compute(
        predictions=[text_of(row[0]) for row in table],
        references=[row[1] for row in table],
        wordnet=str(empty_wordnet),
        return_rows=True,
    )["rows"]
    for cells, row in zip(table, rows):
        theirs = peer_arithmetic.medevalkit_report(text_of(cells[0]), cells[1])
        ours = [shown([row["rouge1_f1"], row["rougeL_f1"]]), f"{row['bleu']:.1f}", f"{row['meteor']:.2f}"]
        assert cells[2:] == [shown(theirs), *ours], cells[:2]


def test_empty_and_failed_reports_are_counted_and_score_nothing(metric, empty_wordnet):
    result = metric.compute(
        predictions=["No acute abnormality.", "  ", None],
        references=["No acute abnormality."] * 3,
        wordnet=str(empty_wordnet),
        groups={"site": ["a", "a", "b"]},
        return_rows=True,
    )
    assert result["counts"] == {"total": 3, "scored": 2, "failed": 1, "empty": 1}
    assert result["rouge1_f1"] == pytest.approx(1 / 3) and result["rouge1_f1_scored"] == 0.5
    assert result["bleu"] < result["bleu_scored"] < 100
    assert result["rows"][1]["meteor"] == 0.0 and result["rows"][2]["meteor"] is None
    assert result["by_group"]["site"]["b"]["counts"]["failed"] == 1
    assert result["by_group"]["site"]["b"]["rouge1_f1_scored"] is None
    nothing = metric.compute(predictions=[None], references=["x y"], metrics=["rouge", "bleu"])
    assert (nothing["rougeL_f1"], nothing["bleu"], nothing["bleu_scored"]) == (0.0, 0.0, None)


def test_corpus_bleu_is_that_of_sacrebleu_and_not_a_mean_of_rows(metric):
    from sacrebleu import corpus_bleu

    said = ["The lungs are clear.", "There is a small left pleural effusion."]
    wanted = ["Lungs clear.", "Small left pleural effusion."]
    result = metric.compute(predictions=said, references=wanted, metrics=["bleu"], return_rows=True)
    assert result["bleu"] == pytest.approx(corpus_bleu(said, [wanted]).score)
    assert result["bleu"] != pytest.approx(sum(row["bleu"] for row in result["rows"]) / 2)
    assert "tok:13a" in result["settings"]["bleu"]


def test_meteor_finds_synonyms_in_given_files_and_says_loudly_where_it_cannot(metric, wordnet, monkeypatch):
    import nltk

    rows = {"predictions": ["both tumour seen"], "references": ["both neoplasm seen"], "metrics": ["meteor"]}
    with_synonyms = metric.compute(**rows, wordnet=str(wordnet))
    assert with_synonyms["settings"]["meteor_stages"] == ["exact", "stem", "synonym"]
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.warns(UserWarning, match="METEOR runs without WordNet"):
        without = metric.compute(**rows)
    assert without["settings"]["meteor_stages"] == ["exact", "stem"]
    assert without["meteor"] < with_synonyms["meteor"] and with_synonyms["meteor"] > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # "tumours" is brought to its base form before it is looked up.
        plural = metric.compute(**{**rows, "predictions": ["both tumours seen"]}, wordnet=str(wordnet))
    assert plural["meteor"] > 0.9


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """A random encoder of two layers with a vocabulary of letters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    BertTokenizerFast(vocab={token: number for number, token in enumerate(vocabulary)}).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=48,
        )
        BertModel(config).save_pretrained(folder)
    return folder


def test_bertscore_runs_with_a_local_model_and_cuts_long_texts(metric, tiny_bert):
    pytest.importorskip("bert_score", reason="bert-score is not installed: pip install bert-score")
    result = metric.compute(
        predictions=["renal cyst", "x" * 30 + " " + "lung " * 40, ""],
        references=["renal cyst", "clear lungs", "renal cyst"],
        metrics=["rouge"],
        bert_model=str(tiny_bert),
        return_rows=True,
    )
    scores = [row["bertscore_f1"] for row in result["rows"]]
    assert scores[0] == pytest.approx(1, abs=1e-5) and scores[1] < 0.99 and scores[2] == 0.0
    assert result["bertscore_f1"] == pytest.approx(sum(scores) / 3)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"metrics": ["rogue"]}, "Unknown metrics"),
        ({"metrics": "rouge"}, "Unknown metrics"),
        ({"references": [" "]}, "Row 0 has no reference report"),
        ({"references": [None]}, "Row 0 has no reference report"),
        ({"predictions": [["x"]]}, "Row 0: the prediction"),
        ({"predictions": ["a", "b"]}, "2 predictions for 1 references"),
        ({"groups": []}, "`groups` has 0 entries"),
        ({"wordnet": "no_such_folder"}, "WordNet folder 'no_such_folder' lacks data.noun"),
    ],
)
def test_bad_input_names_the_row_or_the_setting(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(**{"predictions": ["clear"], "references": ["clear lungs"], **arguments})


def test_a_model_that_is_not_there_is_named(metric, tmp_path):
    pytest.importorskip("bert_score", reason="bert-score is not installed: pip install bert-score")
    with pytest.raises(ValueError, match="BERTScore model .* cannot be loaded"):
        metric.compute(predictions=["a"], references=["a"], metrics=["rouge"], bert_model=str(tmp_path))


def test_at_least_two_examples_run_in_the_docstring(root, metric, monkeypatch):
    monkeypatch.chdir(root)
    found = doctest.testmod(sys.modules[type(metric).__module__])
    assert found.attempted >= 4 and found.failed == 0


def test_it_loads_offline_in_a_fresh_interpreter_from_elsewhere(root, run_python, tmp_path):
    code = (
        "import sys; sys.path.append(sys.argv[2]); import evaluate; sys.modules['semihv_hf'] = None; "
        "m = evaluate.load(sys.argv[1]); "
        "print(m.compute(predictions=['clear'], references=['clear'], metrics=['rouge'])['rougeL_f1'])"
    )
    import rouge_score

    site = str(rouge_score.__path__[0]).rsplit("rouge_score", 1)[0]
    folder = root / "metrics" / "report_text"
    done = run_python(code, folder, site, cwd=tmp_path, HF_HUB_OFFLINE="1", HF_MODULES_CACHE=str(tmp_path / "m"))
    assert done.stdout.split() == ["1.0"]


def test_the_folder_is_whole(root):
    from huggingface_hub import RepoCard

    folder = root / "metrics" / "report_text"
    names = {
        "README.md",
        "app.py",
        "neural.py",
        "overlap.py",
        "report_text.py",
        "requirements.txt",
        "wordnet_files.py",
    }
    assert names <= {path.name for path in folder.iterdir()}
    assert RepoCard.load(folder / "README.md").data.sdk == "gradio"
