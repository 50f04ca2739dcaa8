"""`semihv serve`: a real server process with a tiny checkpoint, asked through the `openai` client."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Annotated, Literal

import pytest

from semihv_hf import cli
from semihv_hf.errors import SemiHVError
from semihv_hf.serving import NEEDED_PACKAGES, serve

missing = [name for name in NEEDED_PACKAGES if find_spec(name) is None]
needs_grammars = pytest.mark.skipif(find_spec("llguidance") is None, reason="shapes need the package llguidance")
needs_server = pytest.mark.skipif(bool(missing), reason=f"serving needs the packages {', '.join(missing)}")


class Server:
    """A server process in a session of its own, so that a signal reaches it alone."""

    def __init__(self, root, folder, log, *arguments):
        self.log = log
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "semihv_hf.cli",
                "serve",
                str(folder),
                "--port",
                "0",
                "--device",
                "cpu",
                *arguments,
            ],
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            start_new_session=True,
        )
        self.said = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", self.said)
        assert found, f"{self.said}\n{log.read_text()}"
        self.port = int(found.group(1))

    def client(self):
        from openai import OpenAI

        return OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0, timeout=120)

    def stop(self, number) -> None:
        """Sends a signal and checks that the process ends in order."""
        self.process.send_signal(number)
        self.check_end()

    def check_end(self) -> None:
        rest, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, self.log.read_text()
        assert rest.splitlines()[-1] == "Stopped."
        assert "Traceback" not in self.log.read_text()


@pytest.fixture(scope="module")
def server(root, tiny_checkpoint, tmp_path_factory):
    server = Server(root, tiny_checkpoint, tmp_path_factory.mktemp("server") / "log.txt")
    yield server
    server.stop(signal.SIGTERM)


def data_uri(image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def over_http(image, text) -> list[dict]:
    content = [{"type": "image_url", "image_url": {"url": data_uri(image)}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def in_process(image, text) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]


def said(text) -> list[dict]:
    return [{"role": "user", "content": text}]


QUESTION = said("What plane is shown?")


def ask(server, folder, messages, **options):
    return server.client().chat.completions.create(
        model=str(folder), messages=messages, temperature=0, max_tokens=8, **options
    )


@needs_server
def test_an_image_question_over_http_gets_the_models_own_greedy_answer(server, tiny_checkpoint, picture, greedy):
    answers = []
    for seed, size in ((1, (60, 40)), (2, (33, 50))):
        reply = ask(server, tiny_checkpoint, over_http(picture(*size, seed), "Is this an axial MRI?"))
        answers.append(reply.choices[0].message.content)
        assert answers[-1] == greedy(in_process(picture(*size, seed), "Is this an axial MRI?"))
        assert reply.model == str(tiny_checkpoint)
        assert reply.usage.completion_tokens == 8
    assert answers[0] != answers[1], "the answers do not depend on the image, so equality proves nothing"


@needs_server
def test_a_text_question_after_an_image_is_answered_as_without_one(server, tiny_checkpoint, greedy):
    messages = [{"role": "user", "content": "What plane is shown?"}]
    assert ask(server, tiny_checkpoint, messages).choices[0].message.content == greedy(messages)


@needs_server
def test_a_streamed_answer_comes_in_pieces_and_is_the_same(server, tiny_checkpoint, picture, greedy):
    messages = over_http(picture(60, 40, 1), "Is this an axial MRI?")
    chunks = list(ask(server, tiny_checkpoint, messages, stream=True))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(pieces) > 1
    assert "".join(pieces) == greedy(in_process(picture(60, 40, 1), "Is this an axial MRI?"))
    assert chunks[-1].choices[0].finish_reason == "length"


@needs_server
def test_the_server_lists_its_one_model_and_refuses_another_by_name(server, tiny_checkpoint):
    from openai import BadRequestError

    assert [model.id for model in server.client().models.list()] == [str(tiny_checkpoint)]
    with pytest.raises(BadRequestError, match="pinned to .*tiny-cambrian.*requested 'gpt-4o'"):
        ask(server, "gpt-4o", [{"role": "user", "content": "Hello"}])


@needs_server
@pytest.mark.parametrize("address", ["/etc/hostname", "https://example.org/scan.png", "file:///etc/hostname"])
def test_the_server_opens_no_address_or_file_for_a_client(address, server, tiny_checkpoint):
    from openai import BadRequestError

    content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "What is this?"}]
    with pytest.raises(BadRequestError, match="data:image/... URI"):
        ask(server, tiny_checkpoint, [{"role": "user", "content": content}])


SHAPES = {
    "choice": {"enum": ["axial", "sagittal", 'a "quoted" one']},
    "list": {"type": "array", "items": {"enum": ["mr", "ct", "us"]}, "minItems": 2, "maxItems": 3},
    "text": {"type": "string", "minLength": 2, "maxLength": 9},
    "nested": {
        "type": "object",
        "properties": {
            "plane": {"type": "object", "properties": {"name": {"enum": ["axial", "coronal"]}}, "required": ["name"],
                      "additionalProperties": False},
            "sure": {"type": "boolean"},
        },
        "required": ["plane", "sure"],
        "additionalProperties": False,
    },
}  # fmt: skip


def fits(name: str, value) -> bool:
    if name == "choice":
        return value in SHAPES["choice"]["enum"]
    if name == "list":
        return 2 <= len(value) <= 3 and set(value) <= {"mr", "ct", "us"}
    if name == "text":
        return isinstance(value, str) and 2 <= len(value) <= 9
    plane, sure = value["plane"], value["sure"]
    return len(value) == 2 and plane in ({"name": "axial"}, {"name": "coronal"}) and isinstance(sure, bool)


def shaped(name: str) -> dict:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": SHAPES[name], "strict": True}}


@needs_server
@needs_grammars
def test_random_weights_keep_every_shape_streamed_or_not_and_many_at_once(server, tiny_checkpoint, picture):
    def answer(number: int) -> tuple[str, bool, str, str]:
        name, streamed = list(SHAPES)[number // 2 % len(SHAPES)], number % 2 == 1
        messages = over_http(picture(60, 40, number), "What plane?") if number < 4 else said(f"Is {number} axial?")
        reply = server.client().chat.completions.create(
            model=str(tiny_checkpoint), messages=messages, temperature=0, max_tokens=120,
            response_format=shaped(name), stream=streamed,
        )  # fmt: skip
        if not streamed:
            return name, streamed, reply.choices[0].message.content, reply.choices[0].finish_reason
        chunks = [chunk.choices[0] for chunk in reply]
        return name, streamed, "".join(c.delta.content or "" for c in chunks), chunks[-1].finish_reason

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, range(16)))
    assert {(name, streamed) for name, streamed, _, _ in answers} == {(n, s) for n in SHAPES for s in (True, False)}
    for name, _, text, reason in answers:
        assert fits(name, json.loads(text)) and reason == "stop"
    assert len({text for name, _, text, _ in answers if name == "text"}) > 1


@needs_server
@needs_grammars
def test_an_answer_that_is_cut_off_says_so_and_any_object_begins_as_one(server, tiny_checkpoint):
    cut = ask(server, tiny_checkpoint, QUESTION, response_format=shaped("nested"))  # eight tokens
    assert '{"plane": {"name": "'.startswith(cut.choices[0].message.content[:20])
    assert cut.choices[0].finish_reason == "length"
    reply = ask(server, tiny_checkpoint, QUESTION, response_format={"type": "json_object"})
    assert reply.choices[0].message.content.startswith("{")
    plain = ask(server, tiny_checkpoint, QUESTION)
    assert not plain.choices[0].message.content.startswith("{")
    named = ask(server, tiny_checkpoint, QUESTION, response_format={"type": "text"})
    assert named.choices[0].message.content == plain.choices[0].message.content


@needs_server
@needs_grammars
def test_a_shape_is_kept_in_the_responses_api_too(server, tiny_checkpoint):
    form = {"format": {"type": "json_schema", "name": "list", "schema": SHAPES["list"], "strict": True}}
    reply = server.client().responses.create(
        model=str(tiny_checkpoint), input="What is it?", max_output_tokens=60, temperature=0, text=form, stream=False
    )
    assert fits("list", json.loads(reply.output_text))


@needs_server
@needs_grammars
def test_a_request_cannot_take_the_end_from_a_shape_or_put_another_into_it(server, tiny_checkpoint):
    for own in ({"eos_token_id": 40}, {"min_new_tokens": 30}, {"keeps_shape": "mine"}, {"num_beams": 2}):
        config = json.dumps({"max_new_tokens": 60, "do_sample": False, **own})
        reply = server.client().chat.completions.create(
            model=str(tiny_checkpoint), messages=QUESTION, max_tokens=60, response_format=shaped("list"),
            extra_body={"generation_config": config},
        )  # fmt: skip
        assert fits("list", json.loads(reply.choices[0].message.content)), own
    config = json.dumps({"keeps_shape": "mine"})
    assert ask(server, tiny_checkpoint, QUESTION, extra_body={"generation_config": config}).choices


@needs_server
@needs_grammars
@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}, "type: nonsense"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "file:///etc/hostname"}}}, "fetch"),
        ({"type": "json_schema"}, "needs json_schema.schema"),
        ({"type": "grammar"}, "text, json_object or json_schema"),
    ],
)
def test_a_shape_that_cannot_be_kept_is_a_bad_request_with_its_reason(wanted, reason, server, tiny_checkpoint):
    from openai import BadRequestError

    with pytest.raises(BadRequestError, match=f"response_format.*{reason}"):
        ask(server, tiny_checkpoint, QUESTION, response_format=wanted)


@needs_server
@needs_grammars
def test_the_projects_own_client_asks_once_and_reads_the_shape(server, tiny_checkpoint, caplog):
    from pydantic import BaseModel, Field

    from semihv_hf.llm import ChatClient, ChatRequest, ServerSettings

    class Seen(BaseModel):
        planes: Annotated[list[Literal["axial", "coronal"]], Field(min_length=1, max_length=2)]
        sure: bool

    settings = ServerSettings(f"http://127.0.0.1:{server.port}/v1", str(tiny_checkpoint), max_tokens=100)
    before = server.log.read_text().count("[Request received]")
    with ChatClient(settings) as client:
        results = client.run([ChatRequest(str(n), said(f"Is {n} axial?"), Seen) for n in range(3)], progress=False)
    assert all(isinstance(result.parsed, Seen) for result in results)
    assert server.log.read_text().count("[Request received]") == before + 3
    assert not caplog.records  # "refuses the response format"


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_without_the_grammar_engine_a_shape_is_refused_and_clients_are_told_what_to_do(
    kind, monkeypatch, tiny_processor
):
    from semihv_hf.llm.structured import ReplyFormats
    from semihv_hf.serving.shapes import Shapes

    monkeypatch.setitem(sys.modules, "llguidance", None)
    shapes = Shapes(tiny_processor.tokenizer)
    with pytest.raises(ValueError, match=r"response_format: ask in words.*llguidance.*semihv-hf\[serve\]") as error:
        shapes.keeper({"type": kind, "json_schema": {"name": "x", "schema": {"type": "object"}}})
    assert shapes.keeper({"type": "text"}) is None
    assert ReplyFormats().refused(kind, 400, str(error.value))


@needs_server
def test_an_unreadable_image_is_a_bad_request_that_says_so(server, tiny_checkpoint):
    from openai import BadRequestError

    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,bm90IGFuIGltYWdl"}}]
    with pytest.raises(BadRequestError, match="No image can be read"):
        ask(server, tiny_checkpoint, [{"role": "user", "content": content}])
    reply = ask(server, tiny_checkpoint, [{"role": "user", "content": "Hello"}])
    assert reply.choices[0].finish_reason


@needs_server
@pytest.mark.slow
def test_ctrl_c_lets_the_running_answer_finish(root, tiny_checkpoint, tmp_path):
    server = Server(root, tiny_checkpoint, tmp_path / "log.txt", "--name", "pmc-cambrian", "--dtype", "bfloat16")
    assert "Serving pmc-cambrian at" in server.said
    stream = server.client().chat.completions.create(
        model="pmc-cambrian", messages=[{"role": "user", "content": "Hello"}], max_tokens=60, stream=True
    )
    chunks = [next(stream)]
    server.process.send_signal(signal.SIGINT)
    chunks += list(stream)
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")
    server.check_end()


@needs_server
def test_a_port_in_use_is_one_clear_line(tiny_checkpoint, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as stop:
            cli.main(["serve", str(tiny_checkpoint), "--port", str(port), "--device", "cpu"])
    assert stop.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"error: Port {port} on 127.0.0.1 is in use. Choose another with --port, 0 for any free one."]


def test_a_missing_package_names_the_extra(monkeypatch, tiny_checkpoint):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SemiHVError, match=r"fastapi and uvicorn.*pip install 'semihv-hf\[serve\]'"):
        serve(tiny_checkpoint)


@needs_server
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "Unknown dtype 'int8'.*bfloat16"),
        ({"device": "no-such-device"}, "'no-such-device' cannot be used"),
        ({"host": "no.such.host.invalid"}, "Cannot listen on host 'no.such.host.invalid'"),
    ],
)
def test_a_wrong_option_is_named(options, message, tiny_checkpoint):
    with pytest.raises(SemiHVError, match=message):
        serve(tiny_checkpoint, **{"port": 0, "device": "cpu", **options})


@needs_server
def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(SemiHVError, match="holds no config.json"):
        serve(tmp_path, port=0, device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "pmc_cambrian"}')
    with pytest.raises(SemiHVError, match="cannot be loaded"):
        serve(tmp_path, port=0, device="cpu")
