"""The audit over files: what is joined, what is counted, what the page says, and which line of which file is wrong."""

import csv
import json
import random
import re

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.audit import judge_audit
from semihv_hf.evaluation.audit_words import number


def write(path, rows):
    """JSONL or CSV, by the name."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with open(path, "w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, names)
            writer.writeheader()
            writer.writerows(rows)
    return path


def half_points(value):
    return min(5.0, max(0.0, round(2 * value) / 2))


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A judge that likes length, is kind to its family, and failed twice."""
    folder = tmp_path_factory.mktemp("audit")
    generator = random.Random(3)
    verdicts, people = [], []
    for case in range(40):
        for model in ("ours", "gpt-x <b>"):
            truth, length = generator.randrange(11) / 2, 2 ** generator.uniform(4, 8)
            judged = truth + generator.gauss(0, 0.5) + 0.5 * (length > 64) + 0.8 * (model != "ours")
            row = {"id": f"q{case}", "case_id": f"c{case // 2}", "model": model, "length": round(length)}
            score = half_points(judged)
            failed = model == "ours" and case in (3, 5)
            verdicts.append(row | {"score": None if failed else score, "reason": "refusal: no" if failed else None})
            verdicts.append(row | {"score": half_points(judged + generator.gauss(0, 0.3)), "repeat": 1})
            verdicts.append(row | {"score": score, "condition": "paraphrase 1"})
            verdicts.append(row | {"score": 0, "condition": "shuffled"})
            for rater in ("reader A", "reader B"):
                given = half_points(truth + generator.gauss(0, 0.5)) if generator.random() < 0.9 else ""
                people.append({"id": f"q{case}", "model": model, "rater": rater, "score": given})
    people.append({"id": "nobody", "model": "ours", "rater": "reader A", "score": 1})
    report = judge_audit(
        [write(folder / "verdicts.jsonl", verdicts)], write(folder / "people.csv", people), folder / "out",
        judge="judge-1", judge_family="gpt", families={"gpt-x <b>": "gpt"}, samples=300,
    )  # fmt: skip
    return folder / "out", report, (folder / "out" / "audit.html").read_text(encoding="utf-8")


def test_what_was_joined_and_what_is_missing_is_counted(audited):
    out, report, html = audited
    assert json.loads((out / "audit.json").read_text()) == report
    assert (report["counts"]["n_total"], report["counts"]["n_failed"], report["counts"]["n_cases"]) == (80, 2, 20)
    assert report["left_out"] == {"n_only_people": 1, "n_other_conditions": 80}
    assert report["failures"] == {"refusal: no": 2} and "refusal: no" in html
    assert report["by_model"]["ours"]["counts"]["n_failed"] == 2
    assert 0.6 < report["judge"]["kappa_quadratic"]["value"] < 0.99


def test_the_probes_find_what_is_wrong_with_the_judge(audited):
    _, report, html = audited
    status = {probe["name"]: probe["status"] for probe in report["probes_in_words"]}
    assert status == {
        "order": "not run", "length": "flagged", "repeats": "report", "paraphrase": "report",
        "self_preference": "flagged",
    }  # fmt: skip
    assert report["probes"]["paraphrase"]["identical"]["value"] == 1.0
    assert report["probes"]["repeats"]["n"] == 78
    assert set(re.findall(r'data-probe="(\w+)" data-status="([\w ]+)"', html)) == set(status.items())


def test_the_page_needs_nothing_but_itself_and_escapes_what_files_say(audited):
    out, report, html = audited
    assert "default-src 'none'" in html and not re.search(r'(?:src|href)="(?!#|data:)', html)
    assert "<h1>judge-1</h1>" in html and "gpt-x &lt;b&gt;" in html and "<b>gpt" not in html and "x <b>" not in html
    assert str(out) not in html and html.count('<circle class="dot"') > 10
    shown = re.search(r'data-number="headline">([\d.−]+)<', html).group(1)
    assert shown == f"{report['judge']['kappa_quadratic']['value']:.2f}"
    assert f"κ of {number(report['ceiling']['people']['kappa_quadratic'])}" in html.replace("&#39;", "'")


def test_the_sheet_holds_every_compared_answer_largest_difference_first(audited):
    out, report, _ = audited
    with open(out / "disagreements.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    sizes = [float(row["size"]) for row in rows]
    assert len(rows) == report["counts"]["n_compared"] and sizes == sorted(sizes, reverse=True)
    assert sum(size > 0 for size in sizes) == report["n_disagreements"] > 20
    for row in rows:
        given = [float(row[name]) for name in ("score of reader A", "score of reader B") if row[name]]
        assert float(row["judge"]) - sum(given) / len(given) == pytest.approx(float(row["difference"]), abs=1e-4)


def test_the_same_rows_in_another_order_give_the_same_bytes(tmp_path):
    verdicts = [{"id": n, "score": n % 5, "case_id": n // 2} for n in range(20)]
    people = [{"id": n, "rater": rater, "score": (n + n % 3) % 5} for n in range(20) for rater in "AB"]
    pages = []
    for turn in range(2):
        random.Random(turn).shuffle(verdicts)
        random.Random(turn).shuffle(people)
        files = write(tmp_path / "v.jsonl", verdicts), write(tmp_path / "p.jsonl", people)
        judge_audit([files[0]], files[1], tmp_path / str(turn), samples=50)
        pages.append([(tmp_path / str(turn) / f"audit.{kind}").read_bytes() for kind in ("json", "html")])
    assert pages[0] == pages[1]


def test_both_orders_make_one_verdict_and_a_preference_for_the_first_is_flagged(tmp_path):
    truth = ["win", "loss", "tie", "win"] * 5
    verdicts = [
        {"id": n, "order": order, "score": label if n % 2 else ("win" if order == "first" else "loss")}
        for n, label in enumerate(truth)
        for order in ("first", "second")
    ]
    people = [{"id": n, "rater": "A", "score": label} for n, label in enumerate(truth)]
    files = write(tmp_path / "v.csv", verdicts), write(tmp_path / "p.csv", people)
    report = judge_audit([files[0]], files[1], tmp_path / "out", samples=50)
    order = report["probes"]["order"]
    assert (order["n"], order["favours_first"], order["favours_second"], order["flagged"]) == (20, 10, 0, True)
    # Odd rows as people say; even rows become ties, right where people said tie.
    assert report["judge"]["agreement"]["value"] == 15 / 20 and report["level"] == "nominal"
    html = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "10 were better for the answer that stood first" in html and "no human ceiling" in html


def test_rows_as_the_judge_metric_writes_them_are_read(tmp_path):
    first = [
        {"row": n, "case_id": f"c{n}", "score": 0.5, "outcome": "tie", "failure": None, "reason": None,
         "preferred": {"reference_first": ["reference"], "prediction_first": ["prediction"]}}
        for n in range(8)
    ]  # fmt: skip
    second = [{**row, "score": None, "outcome": None, "preferred": None, "reason": "timeout"} for row in first]
    (tmp_path / "ours.json").write_text(json.dumps({"mean": 0.5, "rows": first}))
    (tmp_path / "other.json").write_text(json.dumps({"mean": None, "rows": second}))
    people = [{"id": n, "model": "ours", "rater": "A", "score": "win" if n % 2 else "tie"} for n in range(8)]
    report = judge_audit(
        [tmp_path / "ours.json", tmp_path / "other.json"], write(tmp_path / "p.jsonl", people), tmp_path / "out",
        score="outcome", samples=50,
    )  # fmt: skip
    assert report["probes"]["order"]["favours_first"] == 8 and report["probes"]["order"]["flagged"]
    assert report["by_model"]["other"]["counts"]["n_failed"] == 8 and report["failures"] == {"timeout": 8}
    assert report["judge"]["agreement"]["value"] == 0.5


def test_a_copying_judge_has_nothing_on_its_sheet_of_disagreements(tmp_path):
    rows = [{"id": n, "score": n % 4} for n in range(12)]
    people = [{"id": n, "rater": "A", "score": n % 4} for n in range(12)]
    files = write(tmp_path / "v.jsonl", rows), write(tmp_path / "p.jsonl", people)
    report = judge_audit([files[0]], files[1], tmp_path / "out", samples=50)
    assert report["judge"]["kappa_quadratic"]["value"] == 1.0 and report["n_disagreements"] == 0
    assert "the judge said what people said" in (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")


def test_a_text_that_a_spreadsheet_would_run_is_disarmed(tmp_path):
    files = (
        write(tmp_path / "v.jsonl", [{"id": "=1+1", "score": 1}, {"id": "b", "score": 2}]),
        write(tmp_path / "p.jsonl", [{"id": "=1+1", "rater": "A", "score": 2}, {"id": "b", "rater": "A", "score": 2}]),
    )
    judge_audit([files[0]], files[1], tmp_path / "out", samples=0)
    assert "\n'=1+1,'=1+1," in (tmp_path / "out" / "disagreements.csv").read_text()


GOOD = {"id": "a", "score": 1}
RATED = {"id": "a", "rater": "A", "score": 1}


@pytest.mark.parametrize(
    "verdicts,people,options,message",
    [
        ([{"score": 1}], [RATED], {}, "v.jsonl, line 1: the verdict has no id"),
        ([GOOD, {"id": "b"}], [RATED], {}, "v.jsonl, line 2: the verdict has no column 'score'"),
        ([GOOD, GOOD], [RATED], {}, "v.jsonl, line 2 repeats the verdict of v.jsonl, line 1"),
        ([GOOD, {"id": "a", "score": 1, "order": "third"}], [RATED], {}, "line 2: the order 'third'"),
        ([{**GOOD, "repeat": 1.5}], [RATED], {}, "line 1: the repeat 1.5"),
        ([{**GOOD, "score": [1]}], [RATED], {}, r"line 1: the score \[1\]"),
        ([{**GOOD, "length": -2}], [RATED], {}, "line 1: the length -2"),
        ([GOOD, {**GOOD, "repeat": 1, "case_id": "z"}], [RATED], {}, "line 2: the case is 'z', but 'a'"),
        ([GOOD], [{"id": "a", "score": 1}], {}, "p.jsonl, line 1: a person's score needs"),
        ([GOOD], [RATED, RATED], {}, "p.jsonl, line 2: 'A' has scored 'a' twice"),
        ([GOOD], [{**RATED, "id": "b"}], {}, "have the same id"),
        ([GOOD], [{**RATED, "score": "good"}], {}, "labels .*'good'.* numbers .*line 1"),
        ([{**GOOD, "model": "x"}, {**GOOD, "model": "y"}], [RATED], {}, "'a' has answers of several models"),
        ([GOOD, {"id": "b", "score": 9}], [RATED], {"scale": [0, 5]}, "Answer 'b': the judge gave 9.0, outside"),
        ([GOOD], [RATED], {"judge_family": "gpt"}, "who wrote each answer"),
        ([GOOD], [RATED], {"level": "ratio"}, "`level` is 'ratio'"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path, verdicts, people, options, message):
    files = write(tmp_path / "v.jsonl", verdicts), write(tmp_path / "p.jsonl", people)
    with pytest.raises(SemiHVError, match=message):
        judge_audit([files[0]], files[1], tmp_path / "out", samples=0, **options)
    assert not (tmp_path / "out").exists()


def test_files_that_are_none_are_named(tmp_path):
    people = write(tmp_path / "p.jsonl", [RATED])
    (tmp_path / "torn.jsonl").write_text('{"id": "a", "score"')
    (tmp_path / "empty.csv").write_text("id,score\n")
    (tmp_path / "ragged.csv").write_text("id,score\na,1,2\n")
    (tmp_path / "note.txt").write_text("x")
    for name, message in (
        ("missing.jsonl", "There is no file"),
        ("torn.jsonl", "torn.jsonl, line 1, is not JSON"),
        ("empty.csv", "holds no rows"),
        ("ragged.csv", "ragged.csv, line 2: the number of cells"),
        ("note.txt", "is not a .jsonl, .json or .csv"),
    ):
        with pytest.raises(SemiHVError, match=message):
            judge_audit([tmp_path / name], people, tmp_path / "out")
    with pytest.raises(SemiHVError, match="No file of verdicts"):
        judge_audit([], people, tmp_path / "out")


def test_a_number_that_rounds_to_nothing_has_no_sign():
    assert number({"value": -0.001, "ci95": [-0.2, 0.1]}) == "0.00 (95 % interval −0.20 to 0.10)"
    assert number({"value": None, "ci95": None}) == "undefined"
    assert number({"value": 1.0, "ci95": None}) == "1.00 (no interval)"
