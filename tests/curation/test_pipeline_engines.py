"""One process, several, and a Ray cluster: who does the work changes no byte of the folder."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import retrieval_models
from case_files import make_case
from chat_server import ChatServer, stage_of, texts
from curated_folders import digests, rows

from semihv_hf.curation.pipeline.config import CurateConfig, DuplicateStage, RetrieveStage
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.data.columns import case_schema
from semihv_hf.data.schema import Case, case_id
from semihv_hf.data.shards import write_shards

CASES = 24

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("faiss") is None, reason="evidence needs faiss-cpu: pip install 'semihv-hf[curate]'"),
]


def _case(number: int) -> Case:
    """Drawn pictures; every fourth case has no text, so that it is written about with evidence."""
    case, images = make_case(number), [retrieval_models.drawn(number)]
    identity = case_id(case.source, case.source_id, images)
    return replace(case, id=identity, images=images, texts=[] if number % 4 == 0 else case.texts)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("engines") / "cases"
    write_shards((_case(n).row() for n in range(CASES)), folder / "data" / "cases", "train", case_schema())
    return folder


@pytest.fixture(scope="module")
def index(cases, tmp_path_factory) -> Path:
    from semihv_hf.curation.retrieval import CasesFolder, build_index

    folder = tmp_path_factory.mktemp("index")
    build_index(folder / "index", [CasesFolder(cases)], f"{retrieval_models.write_bert(folder / 'bert')}+thumbnail")
    return folder / "index"


def run(server, cases, index, out, **options) -> tuple[dict, dict[str, str]]:
    """Every stage; gives the report and the bytes."""
    config = CurateConfig(
        cases=str(cases),
        out=str(out),
        server={"base_url": server.base_url, "model": "m", "timeout": 120.0, "max_concurrency": 8},
        prices={"m": {"input": 2.0, "output": 8.0}},
        block_rows=3,
        duplicates=DuplicateStage(),
        classify={},
        retrieve=RetrieveStage(index=str(index), k={"cases": 1}, floor=-1.0),
        generate={},
    )
    before = server.calls
    report = curate(config, progress=False, **options)
    assert report["run"]["rows"] == CASES and not report["failures"]
    assert report["run"]["calls"] == server.calls - before == report["answers"]
    assert {stage_of(body) for body in server.bodies[before:]} == {"classification", "generation"}
    written_with = [row for row in rows(out, "data/[ai]*/*.parquet") if row["evidence"]]
    assert len({row["case_id"] for row in written_with}) == CASES // 4
    assert any(written_with[0]["evidence"][0]["text"] in texts(body) for body in server.bodies[before:])
    return report, digests(out)


def test_several_processes_write_the_bytes_of_one(cases, index, tmp_path):
    with ChatServer() as server:
        _, expected = run(server, cases, index, tmp_path / "one" / "out")
        _, several = run(server, cases, index, tmp_path / "several" / "out", workers=2)
    assert len(expected) >= 9 and several == expected


@pytest.fixture
def cluster(root, monkeypatch):
    """A Ray cluster of this machine, for both runs of the test: to start one takes longer than the runs do."""
    ray = pytest.importorskip("ray", reason="the engine ray needs Ray Data: pip install 'semihv-hf[ray]'")
    # Ray's workers are processes of their own: they find this checkout by the path.
    monkeypatch.setenv("PYTHONPATH", str(root), prepend=":")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else they starve where other tests run beside this one
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


def test_a_ray_cluster_writes_the_bytes_of_one_process(cases, index, tmp_path, cluster):
    with ChatServer() as server:
        _, expected = run(server, cases, index, tmp_path / "one" / "out")
        _, by_ray = run(server, cases, index, tmp_path / "ray" / "out", engine="ray", workers=2)
        assert len(expected) >= 9 and by_ray == expected
        _, again = run(server, cases, index, tmp_path / "third" / "out", engine="ray", workers=1)
    assert again == expected
