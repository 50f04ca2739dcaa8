"""From named arguments to a client, with everything that can be wrong said before the first call."""

import warnings
from contextlib import contextmanager
from pathlib import Path

from semihv_hf.data.licences import is_local_url
from semihv_hf.data.licences import may_send
from semihv_hf.errors import SemiHVError
from semihv_hf.llm.types import ServerSettings

from .results import moves

OPENAI_URL = "https://api.openai.com/v1"


def settings_from(base_url, model, sampling, limits, api_key_env):
    """Checks the server's settings.

    Args:
        base_url (`str` or `None`): the server; `None` is OpenAI's.
        model (`str` or `None`): the model.
        sampling (`dict`): `temperature`, `seed`, `max_tokens` and `extra`.
        limits (`dict`): `max_concurrency`, `timeout` and `max_retries`.
        api_key_env (`str`): the environment variable with the key.

    Returns:
        `ServerSettings`: the settings.

    Raises:
        `SemiHVError`: names the setting that is missing or wrong.
    """
    if model is None:
        raise SemiHVError("`model` is missing.", "Name the judge, pinned to a date where the server has dates.")
    return ServerSettings(
        base_url=OPENAI_URL if base_url is None else base_url,
        model=model,
        api_key_env=api_key_env,
        **limits,
        **{**sampling, "extra": dict(sampling["extra"] or {})},
    )


def read_statement(path):
    """Reads the signed statement for the licence gate.

    Args:
        path (`str` or `None`): its file.

    Returns:
        `Attestation | None`: the statement.

    Raises:
        `SemiHVError`: the file is none.
    """
    if path is None:
        return None
    from semihv_hf.data.attestations import read_attestation

    return read_attestation(path)


def withheld(rows, settings, statement):
    """Which rows may not be sent to this server. The client asks the gate once more, right before the socket.

    Args:
        rows (`list[Row]`): the rows.
        settings (`ServerSettings`): the server.
        statement (`Attestation` or `None`): what the user signed.

    Returns:
        `dict[int, str]`: the reason, by the row's number.
    """
    reasons = {}
    for name in dict.fromkeys(name for row in rows for name in row.sources):
        try:
            decision = may_send(name, settings.shown_url, attestation=statement)
        except SemiHVError as error:  # a source that nobody registered has allowed nothing
            reasons[name] = error.what
        else:
            if not decision.allowed:
                reasons[name] = decision.reason
    return {row.number: reasons[name] for row in rows for name in row.sources if name in reasons}


@contextmanager
def open_cache(folder, cache_only, dry_run):
    """Opens the cache, and closes it.

    Args:
        folder (`str` or `None`): its folder; `None` for no cache.
        cache_only (`bool`): nothing will be added.
        dry_run (`bool`): nothing will be added, and a folder that does not exist is not made.

    Yields:
        `ResponseCache | None`: the cache.

    Raises:
        `SemiHVError`: nothing may be asked, and there is no cache.
    """
    from semihv_hf.llm.cache import ResponseCache

    if cache_only and (folder is None or not Path(folder).is_dir()):
        raise SemiHVError(
            f"cache_only=True was given without a cache (cache_dir={folder!r}).", "Name its folder with cache_dir."
        )
    if folder is None or (dry_run and not Path(folder).is_dir()):
        yield None
        return
    with ResponseCache(folder, read_only=cache_only or dry_run) as cache:
        yield cache


def connect(settings, cache, budget, cache_only, statement):
    """Makes the client.

    Args:
        settings (`ServerSettings`): the server's settings.
        cache (`ResponseCache` or `None`): the cache.
        budget (`Budget`): what may be spent.
        cache_only (`bool`): answer from the cache alone.
        statement (`Attestation` or `None`): what the user signed for the licence gate.

    Returns:
        `ChatClient`: the client.
    """
    from semihv_hf.llm.client import ChatClient

    return ChatClient(settings, cache=cache, budget=budget, attestation=statement, cache_only=cache_only)


def warnings_about(settings, sources):
    """What a reader of the numbers should know; also given as Python warnings.

    Args:
        settings (`ServerSettings`): the server's settings.
        sources (`list` or `None`): the sources of the rows.

    Returns:
        `list[str]`: the warnings.
    """
    found = []
    if moves(settings.model):
        found.append(
            f"The model name {settings.model!r} is an alias: another model may stand behind it tomorrow, and two runs "
            "could then not be compared. Name a dated snapshot."
        )
    if sources is None and not is_local_url(settings.base_url):
        found.append(
            f"No `sources` were named, so the licence gate could not be asked whether these texts may be sent to "
            f"{settings.shown_url}."
        )
    for text in found:
        warnings.warn(text, UserWarning, stacklevel=4)
    return found
