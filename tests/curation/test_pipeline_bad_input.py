"""What is wrong with a setting shows in one line, before any call is paid for."""

import socket

import pytest
from case_files import write_cases
from chat_server import ChatServer

from semihv_hf.curation.pipeline.config import CurateConfig, DuplicateStage, RetrieveStage
from semihv_hf.curation.pipeline.run import curate
from semihv_hf.errors import SemiHVError


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_cases(tmp_path_factory.mktemp("curation") / "cases", 6)


@pytest.fixture
def run(cases, tmp_path):
    def go(base_url: str, model: str = "m", **options):
        server = {"base_url": base_url, "model": model, "timeout": 30.0, "max_retries": 0}
        given = {"cases": str(cases), "out": str(tmp_path / "out"), "classify": {}, "generate": {}, "server": server}
        return curate(CurateConfig(**{**given, **options}), progress=False)

    return go


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_a_missing_key(run, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SemiHVError, match="OPENAI_API_KEY is not set") as error:
        run("https://llm.example.org/v1")
    one_line(error)


def test_a_wrong_base_url(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SemiHVError, match="no server at|does not answer") as error:
        run(f"http://127.0.0.1:{port}/v1")
    one_line(error)


def test_an_unknown_model(run):
    with ChatServer(models=["other"]) as server:
        with pytest.raises(SemiHVError, match="does not know the model 'm'.*other") as error:
            run(server.base_url)
        one_line(error)
        assert server.calls == 0


def test_a_model_without_vision(run):
    with ChatServer(blind=True) as server:
        with pytest.raises(SemiHVError, match="takes no images") as error:
            run(server.base_url)
        one_line(error)
        assert server.calls == 1


def test_a_server_that_refuses_every_request_for_a_shape(run):
    with ChatServer(refuses_schemas=True) as server:
        with pytest.raises(SemiHVError, match="refuses") as error:
            run(server.base_url)
        one_line(error)
        assert server.calls <= 9


def test_a_folder_without_cases(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SemiHVError, match="holds no"):
        run("http://127.0.0.1:9/v1", cases=str(tmp_path / "empty"))


def test_a_missing_index_shows_before_the_search_for_duplicates(run, tmp_path):
    with ChatServer() as server:
        with pytest.raises(SemiHVError, match="no index") as error:
            run(server.base_url, retrieve=RetrieveStage(str(tmp_path / "nowhere")), duplicates=DuplicateStage())
        one_line(error)
        assert server.calls == 0 and not (tmp_path / "out" / ".curate" / "duplicates").exists()


def test_a_missing_folder_of_duplicates(run, tmp_path):
    with pytest.raises(SemiHVError, match="no folder of duplicates") as error:
        run("http://127.0.0.1:9/v1", duplicates=DuplicateStage(folder=str(tmp_path / "nowhere")))
    one_line(error)


def test_a_template_that_names_an_unknown_variable(run, tmp_path):
    from semihv_hf.curation.generation.prompts import FOLDER

    own = tmp_path / "prompts"
    own.mkdir()
    text = (FOLDER / "qa.jinja").read_text()
    (own / "qa.jinja").write_text(text.replace("{{ images }}", "{{ images }} {{ patient_name }}"))
    with ChatServer() as server:
        with pytest.raises(SemiHVError, match="patient_name") as error:
            run(server.base_url, generate={"prompts": str(own)})
        one_line(error)
        assert server.calls == 0


def test_a_limit_that_cannot_be_kept(run):
    with ChatServer() as server:
        with pytest.raises(SemiHVError, match="No price is known"):
            run(server.base_url, max_cost_usd=1.0)
        assert server.calls == 0


def test_a_source_that_no_licence_names(run, tmp_path):
    write_cases(tmp_path / "own", 2, source="somebodys_archive")
    with pytest.raises(SemiHVError, match="no entry in the licence registry"):
        run("http://127.0.0.1:9/v1", cases=str(tmp_path / "own"))
