"""Uploads to a Hub that fails: they end complete or say what is missing, and no revision is ever half."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hub_server import Faults, HubServer, client_environment
from publish_folders import drawn_case, write_dataset

from semihv_hf.errors import SemiHVError
from semihv_hf.hub import transient
from semihv_hf.hub.publish import publish

ID = "alice/drawn-noise"
SHARDS = 12


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "data", [drawn_case(number, side=48) for number in range(24)], parts=SHARDS)


@pytest.fixture
def short_waits(monkeypatch):
    """Waits as often as ever, but a hundredth as long."""
    from huggingface_hub.utils import _http

    def wait(seconds: float) -> None:
        time.sleep(seconds / 100)

    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=wait, time=time.time))
    monkeypatch.setitem(transient.persistently.__kwdefaults__, "sleep", wait)


def names(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def check_no_revision_is_half(hub, folder) -> bool:
    """Whether the head is the folder; every revision is that, or what the Hub itself put there."""
    repository = hub.store.repositories.get(("datasets", ID))
    if repository is None:
        return False
    for commit in repository.commits.values():
        files = set(commit.files) - {".gitattributes"}
        assert files in (set(), names(folder))
        for name in files - {"README.md"}:
            assert hub.store.object_path(commit.files[name].key).read_bytes() == (folder / name).read_bytes()
    return set(repository.resolve("main").files) > {".gitattributes"}


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_with_every_fifth_request_failing(hub, client, dataset, seed, short_waits):
    hub.faults = Faults(share=0.2, seed=seed)
    try:
        report = publish("dataset", dataset, ID, api=client(hub), progress=False)
    except SemiHVError as error:
        told = str(error)
        assert "Nothing was uploaded" in told or "is as it was" in told
        assert not check_no_revision_is_half(hub, dataset)
    else:
        assert check_no_revision_is_half(hub, dataset)
        repository = hub.repository("datasets", ID)
        assert repository.resolve("main").oid == report.revision
        # An answer that was lost is no reason for a second commit.
        assert len(repository.commits) == 2
    assert hub.faults.done > 0
    hub.faults = Faults()
    report = publish("dataset", dataset, ID, api=client(hub), progress=False)
    assert check_no_revision_is_half(hub, dataset) and len(hub.repository("datasets", ID).commits) == 2
    hub.log.clear()
    assert publish("dataset", dataset, ID, api=client(hub), progress=False).revision == report.revision
    assert hub.log.uploaded_bytes == 0


@pytest.mark.parametrize("kind", ["429", "500", "503", "disconnect", "lost reply"])
@pytest.mark.parametrize("route", ["/lfs/", "/commit/", "/repos/create", "/preupload/", "objects/batch", "/refs"])
def test_each_fault_on_each_route_passes(hub, client, dataset, kind, route, short_waits):
    hub.faults = Faults(share=1.0, kinds=(kind,), only=route, most=2)
    publish("dataset", dataset, ID, api=client(hub), progress=False)
    # A commit whose answer was lost is found when it is looked for, and not made again.
    assert hub.faults.done == (1 if (route, kind) == ("/commit/", "lost reply") else 2)
    assert check_no_revision_is_half(hub, dataset) and len(hub.repository("datasets", ID).commits) == 2


def test_a_rate_limit_is_waited_for(hub, client, dataset, monkeypatch):
    waits = []
    monkeypatch.setitem(transient.persistently.__kwdefaults__, "sleep", waits.append)
    hub.faults = Faults(share=1.0, kinds=("429",), only="/repos/create", most=1, retry_after=7)
    publish("dataset", dataset, ID, api=client(hub), progress=False)
    assert len(waits) == 1 and 7 <= waits[0] < 9


@pytest.mark.parametrize("route", ["/lfs/", "/commit/"])
def test_what_is_missing_is_said(hub, client, dataset, route, short_waits):
    hub.faults = Faults(share=1.0, kinds=("500",), only=route)
    with pytest.raises(SemiHVError) as error:
        publish("dataset", dataset, ID, api=client(hub), progress=False)
    told = str(error.value)
    assert "is not complete" in told and "main is as it was" in told and "Run the same command again" in told
    assert ("train-00000-of-00012.parquet" in told) == (route == "/lfs/")
    assert not check_no_revision_is_half(hub, dataset)
    assert hub.repository("datasets", ID).private
    hub.faults = Faults()
    publish("dataset", dataset, ID, api=client(hub), progress=False)
    assert check_no_revision_is_half(hub, dataset)
    assert not hub.repository("datasets", ID).private


def test_large_files_come_in_parts(tmp_path, hub, client, dataset, short_waits):
    hub.settings.part_bytes = 3000
    hub.faults = Faults(share=0.2, seed=3)
    publish("dataset", dataset, ID, api=client(hub), progress=False)
    assert check_no_revision_is_half(hub, dataset)
    parts = [seen for seen in hub.log.of("PUT", "/lfs/") if seen.path.rpartition("/")[2].isdigit()]
    assert len(parts) > SHARDS and max(seen.received for seen in parts) <= 3000


@pytest.mark.slow
def test_killed_again_and_again_it_ends_complete(tmp_path, dataset, root):
    """Real processes, real SIGKILL, a fifth of all requests failing, and another server each time."""
    folder, home = tmp_path / "hub-double", tmp_path / "home"
    sent: list[int] = []
    # Five uploads are under way at once, and the server keeps what it was sent.
    for round_number, puts_before_kill in enumerate((1, 1, None)):
        with HubServer(folder, faults=Faults(share=0.2, seed=round_number), upload_delay=0.5) as hub:
            process = subprocess.Popen(
                [sys.executable, "-m", "semihv_hf.cli", "publish", "dataset", str(dataset), "--repo-id", ID],
                env={**os.environ, "PYTHONPATH": str(root), **client_environment(hub.url, home)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if puts_before_kill is not None:
                while process.poll() is None and len(hub.log.of("PUT", "/lfs/")) < puts_before_kill:
                    time.sleep(0.01)
                assert process.poll() is None, process.communicate()
                process.send_signal(signal.SIGKILL)
            out, err = process.communicate(timeout=300)
            sent.append(len({seen.path for seen in hub.log.of("PUT", "/lfs/") if seen.status == 200}))
            complete = check_no_revision_is_half(hub, dataset)
            assert complete == (puts_before_kill is None), (out, err)
    assert process.returncode == 0, err
    assert f"Revision {hub.repository('datasets', ID).resolve('main').oid}" in out
    # What had arrived was not sent again.
    assert 0 < sent[-1] < SHARDS
    assert json.loads((dataset / "build_manifest.json").read_text())["source"] == "pydicom"
