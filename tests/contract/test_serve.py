"""`semihv serve`: a real server process with a tiny checkpoint, asked through the `openai` client."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

from semihv_hf import cli
from semihv_hf.errors import SemiHVError
from semihv_hf.serving import NEEDED_PACKAGES, serve

missing = [name for name in NEEDED_PACKAGES if find_spec(name) is None]
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


@needs_server
@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_a_shape_that_cannot_be_promised_is_refused_by_name_and_plain_text_is_none(kind, server, tiny_checkpoint):
    from openai import BadRequestError

    shape = {"type": "object", "properties": {"plane": {"type": "string"}}}
    wanted = {"type": kind} | ({"json_schema": {"name": "plane", "schema": shape}} if kind == "json_schema" else {})
    messages = [{"role": "user", "content": "What plane is shown?"}]
    with pytest.raises(BadRequestError, match="response_format"):
        ask(server, tiny_checkpoint, messages, response_format=wanted)
    assert ask(server, tiny_checkpoint, messages, response_format={"type": "text"}).choices[0].finish_reason


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
