"""The process: its options, its port, and its end."""

from __future__ import annotations

import errno
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from semihv_hf.errors import SemiHVError

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
    fetch pages for it. A `response_format` of type `json_schema` or `json_object` is kept: no token is chosen that
    would leave it, so that the answer fits unless the request's `max_tokens` (`finish_reason` is `"length"` then) or
    `stop` cuts it off. That needs the package `llguidance`; without it, and for a schema that it cannot compile, the
    request gets an error with status 400 and the reason. One model is served; a request that names another gets that
    error, too.

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
    from semihv_hf.serving.app import build_app

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
