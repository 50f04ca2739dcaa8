"""What a source's licence keeps on this machine: neither its cases nor its texts as evidence reach another server."""

from dataclasses import replace
from pathlib import Path

import pytest
import retrieval_models
from case_files import make_case
from chat_server import ChatServer, images, texts
from curated_folders import rows

pytest.importorskip("faiss", reason="faiss-cpu is not installed (extra `curate`)")

from semihv_hf.curation.pipeline.config import CurateConfig, RetrieveStage  # noqa: E402
from semihv_hf.curation.pipeline.run import curate  # noqa: E402
from semihv_hf.curation.retrieval import CasesFolder, build_index  # noqa: E402
from semihv_hf.data.columns import case_schema  # noqa: E402
from semihv_hf.data.licences import is_local_url  # noqa: E402
from semihv_hf.data.schema import Case, Text, case_id  # noqa: E402
from semihv_hf.data.shards import write_shards  # noqa: E402
from semihv_hf.errors import SemiHVError  # noqa: E402

WITHHELD = "mimic_cxr"  # may be used, and may not be sent


def write(folder: Path, cases: list[Case]) -> Path:
    write_shards((case.row() for case in cases), folder / "data" / "cases", "train", case_schema())
    return folder


def with_images(case: Case, images: list[bytes], texts: list[Text]) -> Case:
    return replace(case, id=case_id(case.source, case.source_id, images), images=images, texts=texts)


def elsewhere(server) -> str:
    """The address of the server in a short form that sockets know and that the gate does not take for a loopback
    address: to the gate it is a server elsewhere, which really answers."""
    url = server.base_url.replace("127.0.0.1", "127.1")
    assert not is_local_url(url)
    return url


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return f"{retrieval_models.write_bert(tmp_path_factory.mktemp('encoder') / 'bert')}+thumbnail"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a key that opens nothing")

    def make(base_url: str, cases: list[Case], **options) -> CurateConfig:
        folder = write(tmp_path / "cases", cases)
        server = {"base_url": base_url, "model": "m", "timeout": 30.0}
        return CurateConfig(cases=str(folder), out=str(tmp_path / "out"), server=server, **options)

    return make


def test_a_case_that_may_not_be_sent_is_a_named_failure_without_a_call(recipe):
    cases = [make_case(number, source=WITHHELD if number % 2 else "pydicom") for number in range(6)]
    with ChatServer() as server:
        config = recipe(elsewhere(server), cases, classify={}, generate={})
        report = curate(config, progress=False)
        failures = rows(config.out, "failures.parquet")
        assert {row["source_id"] for row in failures} == {case.source_id for case in cases if case.source == WITHHELD}
        assert {(row["kind"], row["attempts"], row["stage"]) for row in failures} == {("licence", 0, "classify")}
        assert all(WITHHELD in row["detail"] and "may not" in row["detail"] for row in failures)
        said = "\n".join(texts(body) for body in server.bodies)
        for case in cases:
            assert (case.texts[0].text in said) == (case.source == "pydicom")
        assert server.calls == report["answers"] == 9
        # A second run knows no better, and asks nobody.
        assert curate(config, progress=False)["failures"] == report["failures"] and server.calls == 9


def test_where_no_source_may_be_sent_the_run_ends_in_one_line_without_a_call(recipe):
    with ChatServer() as server:
        config = recipe(elsewhere(server), [make_case(number, source=WITHHELD) for number in range(3)], classify={})
        with pytest.raises(SemiHVError, match=f"{WITHHELD}.*may not be sent") as error:
            curate(config, progress=False)
        assert "\n" not in str(error.value) and server.calls == 0


def test_evidence_that_may_not_be_sent_keeps_the_case_that_it_was_found_for_from_being_sent(recipe, tmp_path, encoder):
    similar = retrieval_models.drawn(1)  # the very same picture would not be its evidence
    known = with_images(make_case(90, source=WITHHELD), [similar], [Text("report", "a large mass", "human")])
    corpus = write(tmp_path / "corpus", [known])
    build_index(tmp_path / "index", [CasesFolder(corpus)], encoder)
    unannotated = with_images(make_case(0), [retrieval_models.drawn(0)], [])
    stage = RetrieveStage(index=str(tmp_path / "index"), k={"cases": 1}, floor=-1.0)
    with ChatServer() as server:
        config = recipe(elsewhere(server), [unannotated, make_case(1)], generate={}, retrieve=stage)
        report = curate(config, progress=False)
        [failure] = rows(config.out, "failures.parquet")
        assert (failure["case_id"], failure["kind"], failure["attempts"]) == (unannotated.id, "licence", 0)
        assert failure["task"] == "report_qa" and WITHHELD in failure["detail"]
        assert server.calls == report["answers"] == 2
        assert not any("a large mass" in texts(body) for body in server.bodies)

        here = config.changed(server={**config.server, "base_url": server.base_url}, out=str(tmp_path / "here"))
        assert not curate(here, progress=False)["failures"]
        [with_evidence] = [body for body in server.bodies if "a large mass" in texts(body)]
        assert len(images(with_evidence)) == 2  # its own, and that of the similar case
        made = [record for record in rows(here.out, "data/[ai]*/*.parquet") if record["case_id"] == unannotated.id]
        assert made and {item["source"] for record in made for item in record["evidence"]} == {WITHHELD}
