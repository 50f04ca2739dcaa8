"""`semihv publish` as typed: what stands against an upload is one line, and nothing has been uploaded."""

import pytest
from hub_server import User, client_environment
from publish_folders import drawn_case, write_dataset

from semihv_hf.resources import resource_dir

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def publish(semihv, hub, tmp_path):
    """Runs the command with an environment of its own; gives what it said."""

    def run(*arguments, token="writer", url=None, **environment):
        environment = client_environment(url or hub.url, tmp_path / "home", token=token) | environment
        return semihv("publish", *arguments, **environment)

    return run


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "data", [drawn_case(number) for number in range(3)])


@pytest.mark.parametrize(
    "repo_id, options, said",
    [
        ("alice/x", {"token": None}, "No token was found. Nothing was uploaded. Log in with `hf auth login`"),
        ("alice/x", {"token": "wrong"}, "does not know the token. Nothing was uploaded."),
        ("alice/x", {"token": "reader"}, "can only read"),
        ("bob/x", {}, "alice may not create bob/x. Nothing was uploaded."),
        ("bob/theirs", {}, "gives no right to write to bob/theirs. Nothing was uploaded."),
        ("alice/model", {}, "alice/model is a model repository, not a dataset repository. Nothing was uploaded."),
        ("alice/x--y", {}, "'alice/x--y' is no id of a repository"),
        ("alice/x", {"url": NOWHERE}, f"{NOWHERE} cannot be reached. Nothing was uploaded."),
        ("alice/x", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set. Nothing was uploaded."),
    ],
    ids=["no token", "wrong token", "read token", "namespace", "permission", "type", "id", "network", "offline"],
)
def test_what_stands_against_an_upload_is_one_line(hub, publish, dataset, repo_id, options, said):
    hub.users["stranger"] = User("bob")
    hub.store.create("datasets", "bob/theirs")
    hub.store.create("models", "alice/model")
    before = sorted(hub.store.repositories)
    done = publish("dataset", dataset, "--repo-id", repo_id, **options)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and said in line
    assert sorted(hub.store.repositories) == before and hub.log.uploaded_bytes == 0
    assert not [seen for seen in hub.log.requests if seen.method not in ("GET", "HEAD")]


@pytest.mark.parametrize("flags", [(), ("--private",), ("--public",), ("--dry-run",)])
def test_no_flag_opens_the_gate(hub, publish, tmp_path, flags):
    folder = write_dataset(tmp_path / "no", [drawn_case(0), drawn_case(1, "mimic_cxr")])
    done = publish("dataset", folder, "--repo-id", "alice/x", *flags)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 1 and "Nothing was uploaded" in line and "https://physionet.org" in line
    assert hub.log.requests == []


def test_every_metric_is_put_up_as_it_lies_here(hub, publish, tmp_path, client):
    from semihv_hf.hub.publish import publish as publish_folder

    done = publish("space", resource_dir("metrics") / "agreement", "--repo-id", "clinic/agreement-demo")
    assert done.returncode == 0, done.stderr
    assert f"Revision {hub.repository('spaces', 'clinic/agreement-demo').resolve('main').oid}" in done.stdout
    folders = [path for path in resource_dir("metrics").iterdir() if (path / "app.py").is_file()]
    assert len(folders) >= 7
    for folder in folders:
        report = publish_folder("metric", folder, f"alice/{folder.name}", api=client(hub), progress=False)
        repository = hub.repository("spaces", f"alice/{folder.name}")
        assert repository.sdk == "gradio" and repository.resolve("main").oid == report.revision
        put_up = set(repository.resolve("main").files) - {".gitattributes"}
        assert put_up == {file.name for file in folder.iterdir() if file.is_file()}
        assert hub.read("spaces", f"alice/{folder.name}", "app.py") == (folder / "app.py").read_bytes()
