"""The batch API of a server, so that a call whose answer was never heard is not made twice."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.batch_files import ENDPOINT
from semihv_hf.llm.redaction import redact

if TYPE_CHECKING:
    from semihv_hf.llm.types import ServerSettings

logger = logging.getLogger(__name__)

ENDED = ("completed", "failed", "expired", "cancelled")
LABEL = "semihv_part"
# So many polls in a row without an answer, and the run ends; the next one goes on.
MOST_LOST_POLLS = 20


def open_sync_client(settings: ServerSettings) -> Any:
    """An `openai.OpenAI` for the settings. It follows no redirects, which could carry texts past the licence gate.

    Args:
        settings ([`ServerSettings`]): the server; the key is read from the environment now.

    Returns:
        `openai.OpenAI`: the client.
    """
    import openai

    from semihv_hf.data.licences import is_local_url

    http = openai.DefaultHttpxClient(
        follow_redirects=False,
        timeout=settings.timeout,
        # A proxy from the environment would carry what is meant for this machine to another one.
        trust_env=not is_local_url(settings.base_url),
    )
    return openai.OpenAI(
        base_url=settings.base_url,
        api_key=os.environ.get(settings.api_key_env) or "none",
        max_retries=settings.max_retries,
        timeout=settings.timeout,
        http_client=http,
    )


class BatchServer:
    """Files and batches on a server.

    Args:
        client (`openai.OpenAI`): the client.
        secrets (`Iterable[str]`): texts that must not appear in an error.
        window (`str`): in which the server promises to be done.
        pause (`float`): seconds to let a call that was cut off come to rest before looking what became of it.
        sleep (`Callable`): waits for seconds.
    """

    def __init__(
        self, client: Any, secrets: Iterable[str | None], window: str, pause: float, sleep: Callable[[float], None]
    ):
        # The client's own repetitions could create a batch twice: the first one may have arrived.
        self._once = client.with_options(max_retries=0)
        self._client = client
        self._secrets = [secret for secret in secrets if secret]
        self.window = window
        self.pause = pause
        self.sleep = sleep

    def upload(self, name: str, path: Path, *, look: bool) -> str:
        """Uploads a file of requests, unless it is there.

        Args:
            name (`str`): its name on the server, which no other file has.
            path (`pathlib.Path`): the file.
            look (`bool`): an earlier try may have arrived, so look first.

        Returns:
            `str`: the id of the file.
        """

        def find() -> str | None:
            # Not filtered by purpose: not every server knows the filter.
            for file in self._client.files.list():
                if file.filename == name and getattr(file, "status", None) != "error":
                    return file.id
            return None

        def make() -> str:
            with open(path, "rb") as content:
                return self._once.files.create(file=(name, content), purpose="batch").id

        return self._make_once(f"uploading {name}", find, make, look)

    def create(self, name: str, file_id: str, *, look: bool) -> str:
        """Creates the batch of an uploaded file, unless there is one.

        Args:
            name (`str`): the file's name, which the batch carries as a label.
            file_id (`str`): the uploaded file.
            look (`bool`): an earlier try may have arrived, so look first.

        Returns:
            `str`: the id of the batch.
        """

        def find() -> str | None:
            for batch in self._client.batches.list():
                if (batch.metadata or {}).get(LABEL) == name and batch.input_file_id == file_id:
                    return batch.id
            return None

        def make() -> str:
            batch = self._once.batches.create(
                input_file_id=file_id, endpoint=ENDPOINT, completion_window=self.window, metadata={LABEL: name}
            )
            return batch.id

        return self._make_once(f"creating the batch of {name}", find, make, look)

    def _make_once(self, what: str, find: Callable[[], str | None], make: Callable[[], str], look: bool) -> str:
        import openai

        for attempt in range(self._client.max_retries + 1):
            try:
                if look:
                    self.sleep(self.pause)
                    if (found := find()) is not None:
                        logger.info("While %s: the server already has it as %s.", what, found)
                        return found
                return make()
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
                look = True  # it may have arrived
                if attempt == self._client.max_retries:
                    raise self._failed(what, error) from error
                self.sleep(self.pause * 2**attempt)
            except openai.OpenAIError as error:
                raise self._failed(what, error) from error
        raise AssertionError("unreachable")

    def status(self, batch_id: str) -> Any:
        """Looks at a batch.

        Args:
            batch_id (`str`): the batch.

        Returns:
            `openai.types.Batch` or `None`: `None` if the server cannot be reached at the moment.
        """
        import openai

        try:
            return self._client.batches.retrieve(batch_id)
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
            logger.warning("Batch %s: no answer (%s).", batch_id, redact(error, self._secrets, most=120))
            return None
        except openai.OpenAIError as error:
            raise self._failed(f"looking at batch {batch_id}", error) from error

    def download(self, file_id: str, path: Path) -> None:
        """Downloads a file; memory does not grow with it.

        Args:
            file_id (`str`): the file.
            path (`pathlib.Path`): where to.
        """
        import httpx
        import openai

        try:
            with self._client.files.with_streaming_response.content(file_id) as response:
                response.stream_to_file(path)
        except (openai.OpenAIError, httpx.HTTPError) as error:
            raise self._failed(f"downloading {file_id}", error) from error

    def delete(self, file_ids: Iterable[str | None]) -> None:
        """Deletes files. One that cannot be deleted is named in the log and stays.

        Args:
            file_ids (`Iterable[str]`): the files.
        """
        import openai

        for file_id in file_ids:
            if file_id is None:
                continue
            try:
                self._client.files.delete(file_id)
            except openai.NotFoundError:
                continue  # an interrupted run had deleted it
            except openai.OpenAIError as error:
                logger.warning("File %s stays on the server: %s", file_id, redact(error, self._secrets, most=160))

    def _failed(self, what: str, error: Exception) -> SemiHVError:
        said = redact(f"{type(error).__name__}: {error}", self._secrets)
        return SemiHVError(f"The server failed at {what}: {said}.", "Nothing is lost: run again to go on.")
