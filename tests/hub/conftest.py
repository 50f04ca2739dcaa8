"""A Hub on this machine for the tests of this folder."""

import pytest
from hub_server import HubServer


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running Hub double. This process may talk to it, with a client that was given its address."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with HubServer(tmp_path / "hub-double") as server:
        yield server


@pytest.fixture
def client():
    """Makes a client: `client(hub)`, `client(hub, token="reader")`."""
    from huggingface_hub import HfApi

    def make(server, token="writer"):
        return HfApi(endpoint=server.url, token=token)

    return make
