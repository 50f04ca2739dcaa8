"""`semihv serve`: a checkpoint behind transformers' own OpenAI-compatible server.

The server builds models from the classes that transformers itself brings and looks an architecture up by name there,
so that PMC-Cambrian, registered or as remote code, is not found. Only that lookup is replaced here: routes, request
formats, streaming and generation are the library's.
"""

from __future__ import annotations

import errno
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError, first_line

if TYPE_CHECKING:
    from fastapi import FastAPI

NEEDED_PACKAGES = ("accelerate", "fastapi", "openai", "pydantic", "uvicorn")
DTYPES = ("auto", "float32", "bfloat16", "float16")
# How long running answers may take to finish after the signal to stop.
STOP_SECONDS = 30


def serve(
    model_dir_or_id: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    name: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    attn_implementation: str | None = None,
) -> None:
    """
    Answers questions about images over HTTP until SIGINT or SIGTERM.

    The routes are those of `transformers serve`, `/v1/chat/completions` first. Images travel inside the request as
    `data:` URIs: an address or a path in a request is refused, so that no client makes the server read files or
    fetch pages for it. So is a `response_format`, which the library would pass over. One model is served; a request
    that names another gets an error with status 400.

    Args:
        model_dir_or_id (`str` or `Path`): a checkpoint folder or a Hub id.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): address to listen on; nothing asks clients who they are.
        port (`int`, *optional*, defaults to 8000): port to listen on, 0 for any free one.
        name (`str`, *optional*): model name that requests use; by default `model_dir_or_id` as it was given.
        dtype (`str`, *optional*, defaults to `"auto"`):
            dtype of the weights: `"auto"` for the checkpoint's own, `"float32"`, `"bfloat16"` or `"float16"`.
        device (`str`, *optional*, defaults to `"auto"`):
            `"auto"` for all accelerators or else the processor, or a device such as `"cpu"` or `"cuda:0"`.
        attn_implementation (`str`, *optional*): attention implementation, such as `"sdpa"`.

    Raises:
        SemiHVError: a package is missing, an option is wrong, the port is in use or the checkpoint does not load.

    Example:

    ```python
    >>> from semihv_hf.serving import serve
    >>> serve("runs/quickstart/checkpoints/3_annealing", port=8000)  # doctest: +SKIP
    ```
    """
    _check_packages()
    device = _resolve_device(device)
    if dtype not in DTYPES:
        raise SemiHVError(f"Unknown dtype {dtype!r}.", f"Choose one of: {', '.join(DTYPES)}.")
    if Path(model_dir_or_id).is_dir() and not (Path(model_dir_or_id) / "config.json").is_file():
        raise SemiHVError(f"{model_dir_or_id} holds no config.json.", "Give a checkpoint folder.")
    # Before the model, whose loading can take minutes.
    listener = _bind(host, port)
    with listener:
        name = str(model_dir_or_id) if name is None else name
        app = build_app(
            str(model_dir_or_id), name=name, dtype=dtype, device=device, attn_implementation=attn_implementation
        )
        _listen(listener, host)
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/v1"
        print(f"Serving {name} at {address} (stop with Ctrl-C)", flush=True)
        _run(app, listener)
    print("Stopped.", flush=True)


def build_app(
    model_dir_or_id: str,
    *,
    name: str,
    dtype: str = "auto",
    device: str = "cpu",
    attn_implementation: str | None = None,
) -> FastAPI:
    """
    Loads a checkpoint and puts transformers' routes in front of it.

    Args:
        model_dir_or_id (`str`): a checkpoint folder or a Hub id.
        name (`str`): model name that requests use.
        dtype (`str`, *optional*, defaults to `"auto"`): see [`serve`].
        device (`str`, *optional*, defaults to `"cpu"`): a device, or `"auto"` to spread over several.
        attn_implementation (`str`, *optional*): attention implementation.

    Returns:
        `fastapi.FastAPI`: the application.

    Raises:
        SemiHVError: the checkpoint does not load.
    """
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.server import build_server
    from transformers.cli.serving.systemone import SystemOneHandler
    from transformers.cli.serving.transcription import TranscriptionHandler
    from transformers.cli.serving.utils import GenerationState

    class Chat(_OwnImages, ChatCompletionHandler):
        pass

    class Response(_OwnImages, ResponseHandler):
        pass

    manager = _one_checkpoint(
        model_dir_or_id, name, device=device, dtype=dtype, attn_implementation=attn_implementation
    )
    state = GenerationState()
    app = build_server(
        manager,
        Chat(manager, state),
        completion_handler=CompletionHandler(manager, state),
        response_handler=Response(manager, state),
        transcription_handler=TranscriptionHandler(manager, state),
        systemone_handler=SystemOneHandler(manager, state),
        generation_state=state,
    )
    _answer_errors_as_openai(app)
    return app


def _one_checkpoint(model_dir_or_id: str, name: str, **options: Any) -> Any:
    """The library's model manager, holding one checkpoint under one name."""
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.utils import Modality

    started = int(time.time())

    class OneCheckpoint(ModelManager):
        def _load_processor(self, model_id_and_revision: str, gguf_file: str | None = None) -> Any:
            return _load_processor(model_dir_or_id)

        def _load_model(self, model_id_and_revision: str, *args: Any, **kwargs: Any) -> Any:
            return _load_model(model_dir_or_id, self.dtype, self.device, self.attn_implementation)

        def load_model_and_processor(self, model_id_and_revision: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if model_id_and_revision != name:  # /load_model does not ask which model the server is pinned to
                raise ValueError(f"Server is pinned to '{name}'; requested '{model_id_and_revision}'.")
            return super().load_model_and_processor(model_id_and_revision, *args, **kwargs)

        @staticmethod
        def process_model_name(model_id: str) -> str:
            return model_id  # a path may hold an @, and answers repeat the name of the request

        @staticmethod
        def get_model_modality(model: Any, processor: Any = None) -> Modality:
            return Modality.VLM

        @staticmethod
        def get_gen_models(cache_dir: str | None = None) -> list[dict]:
            return [{"id": name, "object": "model", "created": started, "owned_by": "local"}]

    return OneCheckpoint(force_model=name, **options)


class _OwnImages:
    """Mixed into a handler, takes images from the request itself only, and promises no shape that it cannot keep."""

    def _validate_request(self, body: dict) -> None:
        from fastapi import HTTPException

        # The library warns and answers in prose; a client that is told puts the wanted shape into words instead.
        wanted = body.get("response_format")
        if isinstance(wanted, dict) and wanted.get("type", "text") != "text":
            raise HTTPException(status_code=400, detail="This server does not know response_format: ask in words.")
        super()._validate_request(body)

    @staticmethod
    def get_processor_inputs_from_messages(messages: list[dict], modality: Any) -> list[dict]:
        from fastapi import HTTPException
        from transformers.cli.serving.utils import BaseHandler

        conversation = BaseHandler.get_processor_inputs_from_messages(messages, modality)
        for part in (part for message in conversation for part in message["content"]):
            if part["type"] != "text" and not str(part.get("url", "")).startswith("data:image/"):
                raise HTTPException(status_code=400, detail="Send each image in the request, as a data:image/... URI.")
        return conversation


def _answer_errors_as_openai(app: FastAPI) -> None:
    """OpenAI clients show the reason of a failure only where they expect it."""
    from fastapi import HTTPException
    from fastapi.responses import JSONResponse

    def reply(status: int, detail: Any) -> JSONResponse:
        message = detail if isinstance(detail, str) else str(detail)
        error = {"message": message, "type": "invalid_request_error" if status < 500 else "server_error"}
        return JSONResponse({"error": error, "detail": detail}, status_code=status)

    @app.exception_handler(HTTPException)
    async def _refused(request: Any, error: HTTPException) -> JSONResponse:
        return reply(error.status_code, error.detail)

    @app.exception_handler(ValueError)
    async def _bad_request(request: Any, error: ValueError) -> JSONResponse:
        # What processor and model raise for an unreadable image or a conversation they cannot take.
        return reply(400, " ".join(str(error).split()))


def _check_packages() -> None:
    missing = [package for package in NEEDED_PACKAGES if find_spec(package) is None]
    if missing:
        raise SemiHVError(
            f"Serving needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed.",
            "Install with: pip install 'semihv-hf[serve]'",
        )


def _resolve_device(device: str) -> str:
    import torch

    if device == "auto":
        # On the processor alone "auto" would spread a large model to the disk.
        return "auto" if torch.accelerator.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SemiHVError(
            f"The device {device!r} cannot be used: {str(error).splitlines()[0]}", "Try auto or cpu."
        ) from error
    return device


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise SemiHVError(f"Cannot listen on host {host!r}, port {port}: {error}.", "Check both.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _port_error(error, host, port) from error
    return listener


def _listen(listener: socket.socket, host: str) -> None:
    """From here on clients can connect; two processes may have bound the port, but only one can listen on it."""
    try:
        listener.listen(2048)
    except OSError as error:
        raise _port_error(error, host, listener.getsockname()[1]) from error


def _port_error(error: Exception, host: str, port: int) -> SemiHVError:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return SemiHVError(f"Port {port} on {host} is in use.", "Choose another with --port, 0 for any free one.")
    return SemiHVError(f"Cannot listen on port {port} of {host}: {error}.", "Choose another with --port.")


def _load_processor(model_dir_or_id: str) -> Any:
    from transformers import AutoProcessor

    import semihv_hf  # noqa: F401  (registers the model's classes, so that no trust flag is needed)

    with _loading(model_dir_or_id):
        processor = AutoProcessor.from_pretrained(model_dir_or_id)
    if getattr(processor, "tokenizer", None) is None or processor.chat_template is None:
        raise SemiHVError(f"The checkpoint {model_dir_or_id} has no processor with a chat template.", "Save it too.")
    return processor


def _load_model(model_dir_or_id: str, dtype: Any, device: str | int, attn_implementation: str | None) -> Any:
    from transformers import AutoModelForImageTextToText

    with _loading(model_dir_or_id):
        model = AutoModelForImageTextToText.from_pretrained(
            model_dir_or_id, dtype=dtype, device_map=device, attn_implementation=attn_implementation
        )
    return model.eval()


@contextmanager
def _loading(model_dir_or_id: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise SemiHVError(f"The checkpoint {model_dir_or_id} cannot be loaded: {first_line(error)}") from error


def _run(app: FastAPI, listener: socket.socket) -> None:
    """Serves until a signal; answers that are being written may finish."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="info", timeout_graceful_shutdown=STOP_SECONDS))
    # The server shuts down in order and then hands the signal on to the handler it found.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, previous)
