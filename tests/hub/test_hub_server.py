"""The Hub double itself, as `huggingface_hub` sees it."""

import pytest
from hub_server import HubServer, User
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

ID = "alice/things"


@pytest.fixture
def api(hub, client):
    hub.users["stranger"] = User("bob")
    api = client(hub)
    api.create_repo(ID)
    return api


def put(api, name, content, **options):
    return api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=ID, **options)


def read(api, name, cache, **options):
    path = api.hf_hub_download(ID, name, cache_dir=cache, **options)
    with open(path, "rb") as file:
        return file.read()


def test_revisions_branches_tags_and_pull_requests(api, tmp_path):
    first = put(api, "a.txt", b"one").oid
    api.create_tag(ID, tag="v1")
    api.create_branch(ID, branch="side/way")
    second = put(api, "a.txt", b"two").oid
    request = put(api, "a.txt", b"three", create_pr=True)
    wanted = {
        "v1": b"one",
        first: b"one",
        first[:10]: b"one",
        "side/way": b"one",
        "main": b"two",
        "refs/pr/1": b"three",
    }
    assert {revision: read(api, "a.txt", tmp_path, revision=revision) for revision in wanted} == wanted
    assert request.pr_revision == "refs/pr/1"
    assert [commit.commit_id for commit in api.list_repo_commits(ID)][:2] == [second, first]
    api.delete_branch(ID, branch="side/way")
    with pytest.raises(RevisionNotFoundError):
        read(api, "a.txt", tmp_path, revision="side/way")
    with pytest.raises(EntryNotFoundError):
        read(api, "b.txt", tmp_path)


def test_a_commit_on_an_old_parent_is_refused(api):
    first = put(api, "a.txt", b"one").oid
    put(api, "a.txt", b"two")
    with pytest.raises(HfHubHTTPError) as error:
        put(api, "a.txt", b"three", parent_commit=first)
    assert error.value.response.status_code == 412


def test_private_looks_missing_and_gated_says_so(api, hub, client, tmp_path):
    put(api, "a.txt", b"one")
    api.update_repo_settings(ID, private=True)
    for token in ("stranger", False):
        with pytest.raises(RepositoryNotFoundError):
            client(hub, token).repo_info(ID)
    api.update_repo_settings(ID, private=False, gated="manual")
    for token in ("stranger", False):
        assert client(hub, token).repo_info(ID).gated == "manual"
        with pytest.raises(GatedRepoError):
            read(client(hub, token), "a.txt", tmp_path / "theirs")
    hub.repository("models", ID).granted.append("bob")
    assert read(client(hub, "stranger"), "a.txt", tmp_path / "theirs") == b"one"
    with pytest.raises(HfHubHTTPError):
        put(client(hub, "stranger"), "a.txt", b"x")


def test_large_files_lie_in_the_storage_and_come_in_ranges(api, hub, client):
    from huggingface_hub import HfFileSystem

    content = bytes(range(256)) * 40
    put(api, "deep/weights.safetensors", content)
    put(api, "deep/small.txt", b"0123456789")
    files = HfFileSystem(endpoint=hub.url, token="writer", skip_instance_cache=True)
    assert files.cat_file(f"{ID}/deep/weights.safetensors", start=1000, end=1010) == content[1000:1010]
    assert files.cat_file(f"{ID}/deep/small.txt", start=2, end=5) == b"234"
    assert [seen for seen in hub.log.of("GET", "/cdn/") if seen.status == 206 and not seen.token]


def test_a_long_listing_comes_in_pages(api, hub):
    from huggingface_hub import CommitOperationAdd

    names = [f"many/{number:03d}.txt" for number in range(130)]
    api.create_commit(ID, [CommitOperationAdd(name, b"x") for name in names], commit_message="many")
    hub.log.clear()
    assert [file.path for file in api.list_repo_tree(ID, "many")] == names
    assert len(hub.log.of("GET", "/tree/")) == 3


def test_what_was_sent_must_be_what_was_announced(api, hub):
    import hashlib
    import urllib.error
    import urllib.request

    wrong = urllib.request.Request(
        f"{hub.storage_url}/lfs/{hashlib.sha256(b'right').hexdigest()}", data=b"wrong", method="PUT"
    )
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(wrong)
    assert not hub.store.has(hashlib.sha256(b"right").hexdigest())


def test_a_card_that_breaks_the_rules_is_refused(api):
    with pytest.raises(ValueError, match="license_name"):
        put(api, "README.md", b"---\nlicense: other\n---\n# x")


def test_another_server_goes_on_with_the_folder(api, hub, client, tmp_path):
    put(api, "a.txt", b"one")
    with HubServer(hub.store.folder) as again:
        assert read(client(again), "a.txt", tmp_path / "again") == b"one"
        client(again).delete_repo(ID)
        with pytest.raises(RepositoryNotFoundError):
            client(again).repo_info(ID)
