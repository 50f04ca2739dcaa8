"""All stages joined: what is in the index, what may be evidence, and what reaches the model and the records."""

import io
import json
from pathlib import Path

import pytest
from chat_server import ChatServer, images, texts
from curated_folders import rows
from retrieval_models import drawn, make_case, write_cases, write_clip

from semihv_hf.curation.pipeline.config import CurateConfig, DuplicateStage, RetrieveStage, read_config
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.curation.retrieval import CasesFolder, GuidelineFile, build_index
from semihv_hf.data.checks import validate_record
from semihv_hf.data.schema import Fact
from semihv_hf.errors import SemiHVError

PLACES = (
    "lung",
    "liver",
    "bone",
    "brain",
    "heart",
    "upper lobe",
    "lower lobe",
    "left lung",
    "right lung",
    "small cyst",
)


def finding(number: int) -> str:
    """A text of an expert that no other number gives."""
    place, other = PLACES[number % 10], PLACES[(3 * number + 1) % 10]
    return (
        f"MRI of patient {number} shows a {number + 3} mm mass in the {place} with effusion of the {other} {number}."
    )


def nearly(picture: bytes) -> bytes:
    """The same picture in other bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as opened:
        opened.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("models") / "clip", window=32)


@pytest.fixture(scope="module")
def guidelines(tmp_path_factory) -> GuidelineFile:
    path = tmp_path_factory.mktemp("guidelines") / "guidelines.jsonl"
    lines = [
        {"id": f"g{n}", "source": "who", "title": f"Mass of the {place}", "clean_text": f"CT scan of the {place}.",
         "url": "", "overview": ""} for n, place in enumerate(PLACES[:4])
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return GuidelineFile(path)


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> dict:
    """Cases of people: two of one patient, one that shows another's picture among its own, and ten strangers."""
    twin = make_case(41, finding(41), group="T", images=[nearly(drawn(40)), drawn(41)])
    named = {
        "shown": make_case(40, finding(40), group="A"),
        "sibling": make_case(42, finding(42), group="B"),
        "brother": make_case(43, finding(43), group="B"),
        "twin": twin,
        "tested": make_case(44, finding(44), group="C"),
    }
    strangers = [make_case(number, finding(number), group=str(number)) for number in range(10)]
    folder = write_cases(tmp_path_factory.mktemp("patients") / "cases", [*named.values(), *strangers])
    # An item of a benchmark shows the picture of one of them.
    item = make_case(90, finding(90), group="benchmark patient", images=named["tested"].images)
    benchmark = write_cases(tmp_path_factory.mktemp("benchmark") / "benchmark", [item], split="test")
    return {"folder": folder, "benchmark": benchmark, **named}


@pytest.fixture(scope="module")
def index(tmp_path_factory, encoder, guidelines, patients) -> Path:
    folder = tmp_path_factory.mktemp("index") / "index"
    build_index(folder, [guidelines, CasesFolder(patients["folder"])], str(encoder))
    return folder


def recipe(server, cases, out, index, **options) -> CurateConfig:
    settings = {"base_url": server.base_url, "model": "m", "timeout": 20.0, "max_concurrency": 8}
    retrieve = options.pop("retrieve", {})
    given = {"generate": {"tasks": ["report_qa"]}, "retrieve": RetrieveStage(index=str(index), **retrieve), **options}
    return CurateConfig(cases=str(cases), out=str(out), server=settings, **given)


def evidence_of(out) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for record in rows(out, "data/[ai]*/*.parquet"):
        validate_record(record)
        found[record["case_id"]] = record["evidence"]
    return found


def test_no_case_is_shown_itself_its_patient_its_like_or_what_a_benchmark_holds(index, patients, tmp_path):
    wanted = {"guidelines": 1, "cases": 12}
    with ChatServer() as server:
        plain = recipe(server, patients["folder"], tmp_path / "plain", index, retrieve={"k": wanted})
        curate(plain, progress=False)
        stage = DuplicateStage(benchmarks=(str(patients["benchmark"]),))
        checked = recipe(
            server, patients["folder"], tmp_path / "checked", index, retrieve={"k": wanted}, duplicates=stage
        )
        report = curate(checked, progress=False)
    ids = {name: patients[name].id for name in ("shown", "sibling", "brother", "twin", "tested")}
    before, after = (
        {case: {item["id"] for item in found} for case, found in evidence_of(out).items()}
        for out in (plain.out, checked.out)
    )
    # Without a search for duplicates only the case itself and its patient are known.
    assert ids["twin"] in before[ids["shown"]] and ids["tested"] in before[ids["shown"]]
    for case, found in before.items():
        assert case not in found and len(found) == 13
    assert ids["brother"] not in before[ids["sibling"]] | after[ids["sibling"]]
    assert report["left_out"] == {"duplicate": 1}, rows(checked.out, "skipped.parquet")
    assert ids["tested"] not in after and not any(ids["tested"] in found for found in after.values())
    assert ids["twin"] not in after[ids["shown"]] and ids["shown"] not in after[ids["twin"]]
    assert all(case not in found for case, found in after.items())


def test_a_similar_case_reaches_the_model_with_its_images_and_the_record_with_its_span(index, patients, tmp_path):
    with ChatServer() as server:
        config = recipe(server, patients["folder"], tmp_path / "out", index)
        report = curate(config, progress=False)
        bodies = list(server.bodies)
    written = {row["id"]: row for row in rows(patients["folder"], "cases/*.parquet")}
    records = rows(config.out, "data/[ai]*/*.parquet")
    assert not report["failures"] and {record["case_id"] for record in records} == set(written)
    for record in records:
        case = written[record["case_id"]]
        assert [item["corpus"] for item in record["evidence"]] == ["cases", "guidelines"]
        [similar, guideline] = record["evidence"]
        other = written[similar["id"]]
        assert similar["text"] == other["texts"][0]["text"][similar["begin"] : similar["end"]]
        assert (similar["source"], similar["licence"]) == ("pydicom", "MIT")
        assert guideline["source"] == "open_guidelines" and "CT scan of the" in guideline["text"]
        assert -1 <= similar["score"] <= 1 and record["provenance"][-1]["prompt_version"].startswith("report_qa")
        # The same texts also stand where this case is evidence for another, but not as the patient in question.
        own = case["texts"][0]["text"]
        about = [body for body in bodies if own in texts(body).rpartition("Now the patient in")[2]]
        [asked] = [body for body in about if similar["text"] in texts(body) and guideline["text"] in texts(body)]
        assert len(images(asked)) == len(case["images"]) + len(other["images"])


def test_an_index_that_lacks_a_corpus_is_one_line_if_named_and_taken_as_it_is_if_not(
    encoder, guidelines, patients, tmp_path
):
    build_index(tmp_path / "index", [guidelines], str(encoder))
    with ChatServer() as server:
        asked = {"k": {"guidelines": 1, "cases": 1}}
        with pytest.raises(SemiHVError, match="no corpus 'cases'. It has: guidelines") as error:
            curate(recipe(server, patients["folder"], tmp_path / "out", tmp_path / "index", retrieve=asked))
        assert "\n" not in str(error.value) and server.calls == 0
        config = recipe(server, patients["folder"], tmp_path / "out", tmp_path / "index")
        curate(config, progress=False)
    found = evidence_of(config.out)
    assert found and all([item["corpus"] for item in items] == ["guidelines"] for items in found.values())


def test_an_index_of_another_encoder_is_one_line_before_anything_is_asked(index, patients, tmp_path):
    other = write_clip(tmp_path / "other", window=32, seed=1)
    with ChatServer() as server:
        config = recipe(server, patients["folder"], tmp_path / "out", index, retrieve={"encoder": str(other)})
        with pytest.raises(SemiHVError, match="was built with the encoder") as error:
            curate(config, progress=False)
        assert "\n" not in str(error.value) and server.calls == 0


def test_a_corpus_of_cases_about_which_nobody_wrote_is_empty_unless_what_sources_state_is_taken(encoder, tmp_path):
    silent = [make_case(number, "") for number in range(3)]
    for case in silent:
        case.facts = [Fact("modality", "MRI", "DICOM (0008,0060) Modality"), Fact("rows", "48", "DICOM (0028,0010)")]
    folder = write_cases(tmp_path / "cases", silent)
    with pytest.raises(SemiHVError, match="holds no documents.*--case-texts stated"):
        build_index(tmp_path / "index", [CasesFolder(folder)], str(encoder))
    stated = CasesFolder(folder, texts="stated")
    assert [document.text for document in stated.documents()] == ["modality: MRI"] * 3
    assert build_index(tmp_path / "index", [stated], str(encoder))["cases"]["documents"] == 3


def test_the_full_recipe_runs_with_no_more_than_its_address_changed(
    encoder, guidelines, patients, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    build_index("data/index", [guidelines, CasesFolder(patients["folder"])], str(encoder))
    with ChatServer(models=["gpt-4o-2024-11-20"]) as server:
        config = read_config("full", cases=str(patients["folder"]), out="curated")
        assert config.server["model"] == "gpt-4o-2024-11-20"
        config = config.changed(server={**config.server, "base_url": server.base_url})
        report = curate(config, progress=False)
    assert report["stages"] == ["duplicates", "classify", "retrieve", "generate"] and not report["failures"]
    assert report["run"]["spending"]["cost_usd"] > 0 and sum(report["records"].values()) >= 14
