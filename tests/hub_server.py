"""A Hub on this machine that the real clients talk to over HTTP: `huggingface_hub`, `transformers`, `datasets`,
`evaluate` and the `hf` command.

It speaks the routes that those use, keeps its repositories in a folder and listens on the loopback address only. Large
files go through the basic LFS transfer, so clients need `HF_HUB_DISABLE_XET=1`. It shows that we keep to the protocol
as it is written down here; what the real Hub decides (quotas, malware scans, rules that change) it cannot show.

To try something by hand: `python tests/hub_server.py FOLDER`, and set the environment that it prints.
"""

import sys
import time
from pathlib import Path

from hub_double.access import User
from hub_double.faults import Faults
from hub_double.server import Server

__all__ = ["Faults", "HubServer", "User", "client_environment"]
HubServer = Server


def client_environment(url: str, home: str | Path, token: str | None = "writer") -> dict[str, str]:
    """What a process needs in its environment to take this server for the Hub.

    Args:
        url (`str`): the server's address.
        home (`str` or `Path`): a folder of its own for the clients' caches.
        token (`str`, *optional*, defaults to `"writer"`): the token, `None` for none.

    Returns:
        `dict[str, str]`: the environment's changes.
    """
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_MODULES_CACHE": str(Path(home) / "modules"),
        "HF_TOKEN": token or "",
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "HF_EVALUATE_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _serve(folder: str) -> None:
    with HubServer(folder) as hub:
        for name, value in client_environment(hub.url, Path(folder) / "home").items():
            print(f"export {name}={value}", flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    _serve(sys.argv[1])
