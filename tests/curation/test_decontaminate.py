"""What cases and generated records share with benchmarks is told row by row, and counted."""

import json

import pytest
from drawn_cases import REPORT, case, draw, encode, jpeg, png, question, record, rows_of, write

from semihv_hf.curation.decontaminate import COLUMNS, contaminated_records
from semihv_hf.curation.near_duplicates import DuplicateOptions, Duplicates, find_duplicates
from semihv_hf.data.overlap import find_overlap
from semihv_hf.data.overlap_texts import words_of
from semihv_hf.errors import SemiHVError

FILLER = "Nothing else is to be seen in this study of a patient who came for an examination before an operation."


def planted(tmp_path):
    cases = [
        case("pixels", png(1)), case("coded anew", jpeg(2)), case("clean", png(3), text=FILLER),
        case("sentence", png(4), text=f"{FILLER} {' '.join(REPORT.split()[:14])}.", source="other"),
        case("reworded", png(5), text=REPORT.replace("There is", "Here is"), source="other"),
        case("seen in training", png(6)),
    ]  # fmt: skip
    write(tmp_path / "set", cases)
    write(
        tmp_path / "bench",
        [question("q1", "Where?", png(1)), question("q2", "Why?", png(2))],
        config="questions",
        split="test",
    )
    write(tmp_path / "bench", [question("q6", "Which?", png(6), split="train")], config="questions")
    write(tmp_path / "words", [question("w", "Is it large?", answer=REPORT)], config="questions", split="validation")
    write(tmp_path / "nothing", [question("n", "?", png(99))], config="questions", split="test")
    return tmp_path / "set", [tmp_path / "bench", tmp_path / "words", tmp_path / "nothing"]


def test_each_planted_match_is_a_row_with_its_item_kind_and_score(tmp_path):
    folder, benchmarks = planted(tmp_path)
    summary = find_duplicates(folder, benchmarks=benchmarks, out_dir=tmp_path / "out", progress=False)
    rows = rows_of(tmp_path / "out/contamination.parquet")
    assert tuple(rows[0]) == COLUMNS
    found = {(r["id"], r["matched"], r["benchmark"], r["benchmark_split"], r["item_id"], r["kind"]): r for r in rows}
    assert set(found) == {
        ("pixels", "image", "bench", "test", "q1", "identical"),
        ("coded anew", "image", "bench", "test", "q2", "image"),
        ("seen in training", "image", "bench", "train", "q6", "identical"),
        ("sentence", "text", "words", "validation", "w", "words"),
        ("reworded", "text", "words", "validation", "w", "words"),
        ("reworded", "text", "words", "validation", "w", "text"),
    }
    by_case = {row["id"]: row for row in rows if row["kind"] != "text"}
    assert by_case["pixels"]["score"] == 1 and 0.97 <= by_case["coded anew"]["score"] <= 1
    assert by_case["sentence"]["score"] == pytest.approx(2 / (len(words_of(REPORT)) - 12), abs=1e-4)
    assert by_case["sentence"]["detail"] == " ".join(words_of(REPORT)[:13])
    assert not by_case["seen in training"]["dropped"], "it is of no held-out split"
    loaded = Duplicates.load(tmp_path / "out")
    assert loaded.dropped == loaded.contaminated == {"pixels", "coded anew", "sentence", "reworded"}
    assert summary["contaminated"] == 4 and summary["sources"] == {"drawn": 4, "other": 2}
    assert json.loads((tmp_path / "out/duplicates.json").read_text()) == summary


def test_the_table_counts_cases_of_each_source_in_each_benchmark(tmp_path):
    folder, benchmarks = planted(tmp_path)
    find_duplicates(folder, benchmarks=benchmarks, out_dir=tmp_path / "out", progress=False)
    table = (tmp_path / "out/decontamination.md").read_text()
    assert "| source | rows | bench train | bench test | words validation |" in table
    assert "| drawn | 4 | 1 / 0 | 2 / 0 | 0 / 0 |" in table
    assert "| other | 2 | 0 / 0 | 0 / 0 | 0 / 2 |" in table
    assert "Nothing is shared with: nothing." in table
    assert str(tmp_path) not in table + (tmp_path / "out/duplicates.json").read_text()


def test_the_pairs_are_those_of_the_overlap_report(tmp_path):
    write(tmp_path / "set", [case(f"c{n}", jpeg(n, 85), text=f"{FILLER} {REPORT}" * (n % 2)) for n in range(8)])
    asked = [question(f"q{n}", REPORT, encode(draw(n).resize((90, 72)))) for n in range(0, 12, 2)]
    write(tmp_path / "bench", asked, config="questions", split="test")
    find_overlap([tmp_path / "set"], [tmp_path / "bench"], tmp_path / "overlap")
    find_duplicates(tmp_path / "set", benchmarks=[tmp_path / "bench"], out_dir=tmp_path / "out", progress=False)
    expected = {(row["kind"], row["id"], row["other_id"]) for row in rows_of(tmp_path / "overlap/overlap.parquet")}
    found = rows_of(tmp_path / "out/contamination.parquet")
    assert len(expected) == 4 + 4 * 6
    assert {(row["matched"], row["id"], row["item_id"]) for row in found if row["kind"] != "text"} == expected


def test_a_share_below_the_least_is_reported_and_leaves_the_case_in(tmp_path):
    folder, benchmarks = planted(tmp_path)
    options = DuplicateOptions(min_share=0.5, held_out=("validation",))
    find_duplicates(folder, benchmarks=benchmarks, out_dir=tmp_path / "out", options=options, progress=False)
    assert Duplicates.load(tmp_path / "out").dropped == {"reworded"}
    assert {row["id"] for row in rows_of(tmp_path / "out/contamination.parquet")} >= {"sentence", "pixels"}


def test_generated_records_that_repeat_a_benchmark_are_found(tmp_path):
    rows = [record("leak", "What does it show?", f"It shows this. {REPORT}"), record("fine", "What is it?", FILLER)]
    write(tmp_path / "records", rows, config="instruction")
    write(tmp_path / "records", [case("c", png(1), text=REPORT)])
    write(tmp_path / "bench", [question("q", REPORT)], config="questions", split="test")
    found = contaminated_records(tmp_path / "records", [tmp_path / "bench"], tmp_path / "out", progress=False)
    assert found == {"leak"}, "cases are not records"
    (row,) = rows_of(tmp_path / "out/contamination.parquet")
    assert (row["id"], row["item_id"], row["kind"], row["score"]) == ("leak", "q", "words", 1.0)
    assert "| drawn | 2 | 0 / 1 |" in (tmp_path / "out/decontamination.md").read_text()
    assert json.loads((tmp_path / "out/contamination.json").read_text())["words"]["rows"] == 2
    assert contaminated_records(tmp_path / "records", [tmp_path / "bench"], progress=False) == {"leak"}


def test_without_benchmarks_the_report_is_empty_and_says_so(tmp_path):
    write(tmp_path / "set", [case("a", png(1))])
    summary = find_duplicates(tmp_path / "set", out_dir=tmp_path / "out", progress=False)
    assert summary["contaminated"] == 0 and rows_of(tmp_path / "out/contamination.parquet") == []
    assert "No benchmarks were given." in (tmp_path / "out/decontamination.md").read_text()


def test_folders_without_records_or_with_one_name_are_named(tmp_path):
    write(tmp_path / "cases", [case("a", png(1))])
    write(tmp_path / "records", [record("r", "?", "!")], config="instruction")
    write(tmp_path / "x/records", [question("q", "?")], config="questions", split="test")
    for folder, benchmarks, message in (
        (tmp_path / "nowhere", [], "There is no folder"),
        (tmp_path / "cases", [], "holds no records"),
        (tmp_path / "records", [tmp_path / "x/records"], "Several folders are called records"),
        (tmp_path / "records", [tmp_path / "nowhere"], "There is no folder"),
    ):
        with pytest.raises(SemiHVError, match=message):
            contaminated_records(folder, benchmarks, progress=False)
