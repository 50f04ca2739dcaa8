"""transformers' routes in front of one checkpoint.

The library builds models from the classes that it brings and looks an architecture up by name there, so that
PMC-Cambrian, registered or as remote code, is not found: that lookup is replaced. So is what it would do with the
address of an image, and what it does not do with a response format ([`shapes`]). Routes, streaming and generation are
the library's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import LogitsProcessorList
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.response import ResponseHandler
from transformers.cli.serving.server import build_server
from transformers.cli.serving.systemone import SystemOneHandler
from transformers.cli.serving.transcription import TranscriptionHandler
from transformers.cli.serving.utils import BaseHandler, GenerateManager, GenerationState, Modality

from semihv_hf.errors import SemiHVError, first_line
from semihv_hf.serving.shapes import Shapes

if TYPE_CHECKING:
    from fastapi import FastAPI
    from transformers import GenerationConfig


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
    manager = _one_checkpoint(
        model_dir_or_id, name, device=device, dtype=dtype, attn_implementation=attn_implementation
    )
    model, processor = manager.load_model_and_processor(name)
    state = _State(Shapes(processor.tokenizer, model.generation_config.eos_token_id))
    app = build_server(
        manager,
        _Chat(manager, state),
        completion_handler=CompletionHandler(manager, state),
        response_handler=_Response(manager, state),
        transcription_handler=TranscriptionHandler(manager, state),
        systemone_handler=SystemOneHandler(manager, state),
        generation_state=state,
    )
    _answer_errors_as_openai(app)
    return app


def _one_checkpoint(model_dir_or_id: str, name: str, **options: Any) -> ModelManager:
    """The library's model manager, holding one checkpoint under one name."""
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


class _State(GenerationState):
    """Adds what keeps a shape to the library's calls of `generate`."""

    def __init__(self, shapes: Shapes):
        super().__init__()
        self.shapes = shapes

    def get_manager(self, model_id: str, use_cb: bool = False) -> Any:
        if not use_cb and model_id not in self._generate_managers:
            self._generate_managers[model_id] = _Manager()
        return super().get_manager(model_id, use_cb=use_cb)


class _Manager(GenerateManager):
    def generate_streaming(self, model: Any, processor: Any, inputs: Any, gen_config: Any, *args: Any, **kwargs: Any):
        inputs = _with_shape(inputs, gen_config)
        return super().generate_streaming(model, processor, inputs, gen_config, *args, **kwargs)

    async def generate_non_streaming(
        self, model: Any, processor: Any, inputs: Any, gen_config: Any, *args: Any, **kwargs: Any
    ):
        inputs = _with_shape(inputs, gen_config)
        return await super().generate_non_streaming(model, processor, inputs, gen_config, *args, **kwargs)


def _with_shape(inputs: Any, generation_config: GenerationConfig) -> Any:
    """Moves what a handler left with the request's settings to where `generate` looks for it."""
    keeper = generation_config.__dict__.pop("keeps_shape", None)
    return inputs if keeper is None else {**inputs, "logits_processor": LogitsProcessorList([keeper])}


class _Requests:
    """Mixed into a handler, takes images from the request itself only, and keeps the shape that it asks for."""

    def _validate_request(self, body: dict) -> None:
        self._keeper(body)
        super()._validate_request(body)

    def _build_generation_config(self, body: dict, *args: Any, **kwargs: Any) -> GenerationConfig:
        generation_config = super()._build_generation_config(body, *args, **kwargs)
        # Set where there is none, too: a request may bring a whole configuration with any names in it.
        generation_config.keeps_shape = self._keeper(body)
        if generation_config.keeps_shape is not None:
            generation_config.eos_token_id = self.generation_state.shapes.ends
        return generation_config

    def _keeper(self, body: dict) -> Any:
        from fastapi import HTTPException

        wanted = body.get("response_format")
        if isinstance(body.get("text"), dict):  # where the Responses API has it
            wanted = body["text"].get("format")
        try:
            return self.generation_state.shapes.keeper(wanted)
        except ValueError as error:
            raise HTTPException(status_code=400, detail=str(error)) from error

    @staticmethod
    def get_processor_inputs_from_messages(messages: list[dict], modality: Any) -> list[dict]:
        from fastapi import HTTPException

        conversation = BaseHandler.get_processor_inputs_from_messages(messages, modality)
        for part in (part for message in conversation for part in message["content"]):
            if part["type"] != "text" and not str(part.get("url", "")).startswith("data:image/"):
                raise HTTPException(status_code=400, detail="Send each image in the request, as a data:image/... URI.")
        return conversation


class _Chat(_Requests, ChatCompletionHandler):
    _unused_fields = ChatCompletionHandler._unused_fields - {"response_format"}


class _Response(_Requests, ResponseHandler):
    _unused_fields = ResponseHandler._unused_fields - {"text"}


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
