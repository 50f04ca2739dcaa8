"""The report of a run: what it says, what it leaves unsaid, and how a browser shows it."""

import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.charts import HEIGHT, WIDTH, loss_panel, nice_ceiling
from semihv_hf.evaluation.gallery import choose
from semihv_hf.evaluation.predict import predict
from semihv_hf.evaluation.report import WAYS, write_report
from semihv_hf.evaluation.score import score
from semihv_hf.files import read_jsonl, write_json, write_jsonl

HOSTILE = "<script>document.title='x'</script> & \x07 \"yes\""


def stage_record(name: str, number: int) -> dict:
    """What a training stage writes down."""
    return {
        "stage": name,
        "title": f"Stage {number}",
        "recipe": f"recipes/{name}/smoke.yaml",
        "seconds": 61.5 + number,
        "peak_rss_gib": 2.0 + number,
        "log": [{"step": step, "loss": 3.0 / step} for step in range(1, 21)] + [{"train_loss": 1.0}],
        "trainable": {"patterns": ["model.connector.*"], "names": ["model.connector.weight"], "parameters": 1234567,
                      "tensors": 7},
        "frozen": {"parameters": 7654321, "tensors": 21, "bit_identical": number != 2},
    }  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(dataset, tiny_model, tmp_path_factory):
    """A run of the tiny model: real predictions and scores, and the records of three of the four stages."""
    folder = tmp_path_factory.mktemp("run") / "quickstart"
    shutil.copytree(dataset, folder / "data")
    for condition in ("image", "blank", "shuffled"):
        predict(
            tiny_model, folder / "data", folder / f"predictions/{condition}.jsonl", condition=condition, progress=False
        )
    predict(
        tiny_model, folder / "data", folder / "predictions/jama.jsonl", config="jama_style", max_new_tokens=20,
        progress=False,
    )  # fmt: skip
    rows = read_jsonl(folder / "predictions/image.jsonl")
    rows[0]["prediction"] = HOSTILE
    for row in rows[1:20]:
        row["prediction"] = row["reference"]
    rows[20].update(prediction=None, error="RuntimeError: <lost>")
    write_jsonl(folder / "predictions/image.jsonl", rows)
    for number, name in enumerate(("0_warmup", "1_alignment", "2_instruction")):
        (folder / "checkpoints" / name).mkdir(parents=True)
        write_json(folder / "checkpoints" / name / "stage.json", stage_record(name, number))
    score(folder / "predictions", folder / "data", folder / "scores.json")
    write_report(folder)
    return folder


class Page(HTMLParser):
    """Reads the tables, the addresses, the images and the marked numbers out of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tables, self.addresses, self.images, self.numbers, self.tags = [], [], [], {}, set()
        self._cell = self._number = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        self.addresses += [attrs[name] for name in ("src", "href", "srcset", "action") if name in attrs]
        if tag == "img":
            self.images.append(attrs)
        if "data-number" in attrs:
            self._number = attrs["data-number"]
            self.numbers[self._number] = ""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None
        if tag in ("p", "span"):
            self._number = None

    def handle_data(self, data):
        if self._cell:
            self.tables[-1][-1][-1] += data
        if self._number:
            self.numbers[self._number] += data


def shares(cell: str) -> list[float]:
    """The percentages in a cell."""
    return [float(number) for number in re.findall(r"(-?\d+\.\d)\u202f%", cell)]


def check_numbers(page: Page, report: dict) -> None:
    """Compares what a page shows with what `report.json` says."""
    closed, opened, by_modality, by_template, stages = page.tables[:5]
    overall = report["scores"]["overall"]
    assert len(closed) == len(opened) == len(overall) + 1 == len(WAYS) + 1
    for shown, row in zip(closed[1:], overall, strict=True):
        assert shown[0] == WAYS[row["way"]]
        expected = [row["closed"]["accuracy"], *row["closed"]["ci95"]]
        assert shares(shown[1]) == [round(100 * value, 1) for value in expected]
        assert shown[2] == f"{row['closed']['correct']} / {row['closed']['total']}"
        assert [int(cell) for cell in shown[4:6]] == [row["closed"]["unparsed"], row["closed"]["failed"]]
    for shown, row in zip(opened[1:], overall, strict=True):
        assert shares(shown[1])[0] == round(100 * row["open"]["recall"], 1) and int(shown[5]) == row["open"]["total"]
    for table, grouping in ((by_modality, "by_modality"), (by_template, "by_template")):
        rows = report["scores"][grouping]
        assert len(table) == len(rows) + 1 >= 4
        for shown, row in zip(table[1:], rows, strict=True):
            assert shown[0] == row["group"].replace("_", " ")
            accuracy = row["closed"]["accuracy"]
            assert shares(shown[1]) == ([] if accuracy is None else [round(100 * accuracy, 1)])
    assert [row[0].startswith(stage["title"]) for row, stage in zip(stages[1:], report["stages"], strict=True)]
    assert shares(page.numbers["accuracy"]) == [round(100 * report["headline"]["accuracy"], 1)]
    for name, entry in report["headline"]["baselines"].items():
        shown = re.search(r"[+−]\d+\.\d", page.numbers[f"margin-{name}"]).group().replace("−", "-")
        assert float(shown) == round(100 * entry["margin"], 1)


def test_the_page_and_the_json_hold_the_same_numbers(run_dir):
    report = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    scores = json.loads((run_dir / "scores.json").read_text(encoding="utf-8"))
    assert report["headline"]["accuracy"] == scores["conditions"]["image"]["closed"]["accuracy"] > 0.4
    check_numbers(Page((run_dir / "report.html").read_text(encoding="utf-8")), report)
    table = (run_dir / "report.md").read_text(encoding="utf-8")
    assert f"| {report['scores']['overall'][0]['closed']['correct']} / 27 |" in table


def test_the_page_needs_nothing_but_itself(run_dir):
    text = (run_dir / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.addresses) > 10
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "@import" not in text and "url(" not in text and "default-src 'none'" in text
    assert len(page.images) == 9 + 4 and all(image["alt"] for image in page.images)
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.images)


def test_what_a_model_writes_cannot_become_part_of_the_page(run_dir):
    text = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "<script>document.title" not in text and "\x07" not in text
    assert text.count("<script>") == 1


def test_the_verdict_is_in_words_and_names_the_notice(run_dir):
    report = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    sentence = report["headline"]["sentence"]
    assert sentence.startswith("On 9 held-out cases the model answers") and "of 27 closed questions" in sentence
    text = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "Not for clinical use." in text and "No judge server was configured" in text


def test_what_trained_is_shown_and_a_stage_that_was_not_run_is_said(run_dir):
    text = (run_dir / "report.html").read_text(encoding="utf-8")
    stages = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))["stages"]
    assert [stage["status"] for stage in stages] == ["done", "done", "done", "missing"]
    assert stages[0]["loss"]["steps"] == 20 and stages[0]["loss"]["last"] == 3.0 / 20
    assert "was not run here" in text and "1\u202f234\u202f567" in text
    assert text.count("✓ bit-identical") == 2 and text.count("✗ changed") == 1


def test_writing_twice_gives_the_same_bytes(run_dir, tmp_path):
    write_report(run_dir, out_html=tmp_path / "again.html", out_json=tmp_path / "again.json")
    assert (tmp_path / "again.html").read_bytes() == (run_dir / "report.html").read_bytes()
    assert (tmp_path / "again.json").read_bytes() == (run_dir / "report.json").read_bytes()
    assert (tmp_path / "again.md").is_file()


def test_an_empty_run_gives_a_page_that_says_what_is_missing(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    page = write_report(tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert all(
        report[part]["status"] == "missing" for part in ("headline", "scores", "gallery", "cases", "composition")
    )
    assert [stage["status"] for stage in report["stages"]] == ["missing"] * 4
    assert page.read_text(encoding="utf-8").count("was not run here") == 8
    assert "%" not in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")


def test_damaged_or_foreign_files_are_named(run_dir, tmp_path):
    with pytest.raises(SemiHVError, match="no run folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "thesis").mkdir()
    with pytest.raises(SemiHVError, match="thesis is no run folder: it holds none of data, checkpoints"):
        write_report(tmp_path / "thesis")
    assert not list((tmp_path / "thesis").iterdir())
    copy = shutil.copytree(run_dir, tmp_path / "run", ignore=shutil.ignore_patterns("report.*"))
    rows = [{**row, "model": "other@1"} for row in read_jsonl(copy / "predictions/image.jsonl")]
    write_jsonl(copy / "predictions/image.jsonl", rows)
    with pytest.raises(SemiHVError, match="other@1"):
        write_report(copy)
    (copy / "scores.json").write_text("{")
    with pytest.raises(SemiHVError, match="scores.json is not valid JSON"):
        write_report(copy)
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize("status", ["scored", "failed"])
def test_a_judge_that_ran_is_shown(run_dir, tmp_path, status):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    scores = json.loads((copy / "scores.json").read_text(encoding="utf-8"))
    cases = [
        {"id": case["id"], "score": 3.25, "key_points": 3.0, "reasoning": 2.75, "evidence": 4.0, "reason": None}
        for case in scores["jama"]["cases"]
    ]
    cases[0].update(score=None, reason="evidence: the judge refused")
    scores["jama"]["judge"] = {
        "status": status, "model_requested": "judge-1", "prompt_version": "p", "n_total": 4, "n_scored": 3,
        "n_failed": 1, "scale": [0, 5], "mean": 3.25, "bounds": [2.44, 3.69], "cases": cases,
        "means": {"key_points": 3.0, "reasoning": 2.75, "evidence": 4.0}, "reason": "None was judged.",
    }  # fmt: skip
    write_json(copy / "scores.json", scores)
    text = write_report(copy).read_text(encoding="utf-8")
    assert text.count("no verdict: evidence: the judge refused") == 1
    assert ("over 3 of 4 cases" in text) == (status == "scored")
    assert ("The judge gave no verdict. None was judged." in text) == (status == "failed")


def test_the_gallery_covers_modalities_and_outcomes_and_repeats_with_its_seed():
    rows = [
        {"id": f"{m} {n}", "case_id": f"{m} {n // 2}", "modality": m, "answer_type": "closed"}
        for m, size in (("CT", 60), ("MRI", 20), ("X-ray", 2))
        for n in range(size)
    ]
    outcomes = {row["id"]: "right" if number % 3 else "wrong" for number, row in enumerate(rows)}
    chosen = choose(rows, outcomes, count=12, seed=4)
    assert len(chosen) == 12 == len({row["case_id"] for row in chosen})
    assert {row["modality"] for row in chosen} == {"CT", "MRI", "X-ray"}
    right = sum(outcomes[row["id"]] == "right" for row in chosen)
    assert 4 <= right <= 8
    assert choose(rows, outcomes, count=12, seed=4) == chosen != choose(rows, outcomes, count=12, seed=5)
    assert choose([], {}, count=12) == []


def test_a_loss_curve_keeps_its_ends_and_its_frame():
    panel = loss_panel(
        [{"step": step, "loss": 10.0 / step} for step in range(1, 2001)] + [{"step": 2001, "loss": None}]
    )
    points = [tuple(map(float, point.split(","))) for point in panel["points"].split()]
    assert len(points) == panel["drawn"] <= 402 and panel["steps"] == 2000
    assert points[0][0] == 0 and points[-1][0] == WIDTH
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert (panel["first"], panel["last"]) == (10.0, 0.005)
    assert loss_panel([]) is None and loss_panel([{"step": 1, "loss": float("nan")}]) is None
    assert [nice_ceiling(value) for value in (0.0, 0.3, 1.0, 3.2, 41.0)] == [1.0, 0.4, 1.0, 4.0, 50.0]


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("NOT CHECKED in a browser: Chromium is not installed (Debian: apt-get install chromium).")
    return found


@pytest.fixture
def proxy():
    """A proxy that lets nothing through and remembers who asked: every request off this page would come here."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def refuse(self):
            asked.append(self.path)
            self.send_error(403)

        do_GET = do_CONNECT = do_POST = refuse

        def log_message(self, *arguments):
            """Keeps the test output readable."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def opened_in_browser(page, profile, address: str) -> str:
    """The page's elements after a browser has loaded it and run its script."""
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", f"--proxy-server=http://{address}", "--virtual-time-budget=3000", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_browser_shows_the_numbers_and_asks_nobody_for_anything(run_dir, tmp_path, proxy):
    address, asked = proxy
    dom = opened_in_browser(run_dir / "report.html", tmp_path / "profile", address)
    assert [path for path in asked if "google" not in path] == []
    report = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    check_numbers(Page(dom), report)
    # The script ran (it shows the filter, which is hidden without it), and the model's "script" did not.
    assert '<div class="filter" role="group"' in dom and "<title>semihv-hf: " in dom

    # The same browser does come to the proxy when a page asks for something, so the check above can fail.
    tracked = tmp_path / "tracked.html"
    tracked.write_text('<!DOCTYPE html><img src="http://tracker.invalid/x.png">')
    opened_in_browser(tracked, tmp_path / "profile2", address)
    assert any("tracker.invalid" in path for path in asked)
