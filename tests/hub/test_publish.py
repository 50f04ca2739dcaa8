"""`publish` against a Hub over HTTP: what is uploaded, what is not, and what is refused before anything is."""

import json

import pytest
from hub_server import Faults, User
from publish_folders import add_record_with_evidence, drawn_case, write_dataset, write_metric

from semihv_hf.data.attestations import read_attestation
from semihv_hf.errors import SemiHVError
from semihv_hf.hub.publish import publish

ID = "alice/drawn-noise"


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "data", [drawn_case(number) for number in range(6)], parts=2)


@pytest.fixture
def published(hub, client):
    """Publishes a dataset with the writer's token."""

    def run(folder, repo_id=ID, kind="dataset", token="writer", **options):
        return publish(kind, folder, repo_id, api=client(hub, token), progress=False, **options)

    return run


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(SemiHVError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def uploads(hub) -> int:
    """Requests that change something."""
    return sum(
        seen.method in ("PUT", "DELETE") or seen.path.endswith(("/create", "/main"))
        for seen in hub.log.requests
        if seen.method != "GET"
    )


def test_a_dataset_becomes_one_commit(hub, published, dataset):
    report = published(dataset)
    repository = hub.repository("datasets", ID)
    commit = repository.resolve("main")
    assert report.revision == commit.oid and len(repository.history(commit)) == 2
    assert set(commit.files) == {
        ".gitattributes", "README.md", "build_manifest.json",
        "data/cases/train-00000-of-00002.parquet", "data/cases/train-00001-of-00002.parquet",
    }  # fmt: skip
    for name in set(commit.files) - {".gitattributes", "README.md"}:
        assert hub.read("datasets", ID, name) == (dataset / name).read_bytes()
    assert not repository.private and not repository.gated and not report.private
    assert "pydicom" in commit.message and report.url == f"{hub.url}/datasets/{ID}"


def test_the_card_names_the_repository_that_it_is_in(hub, published, dataset):
    published(dataset)
    assert b'load_dataset("alice/drawn-noise")' in hub.read("datasets", ID, "README.md")
    assert "your-name/drawn-noise" in (dataset / "README.md").read_text()


def test_a_second_run_uploads_nothing_and_makes_no_commit(hub, published, dataset):
    first = published(dataset)
    assert first.bytes_sent > 0 and hub.log.uploaded_bytes > 0
    hub.log.clear()
    second = published(dataset)
    assert hub.log.uploaded_bytes == 0 and second.bytes_sent == 0 and second.sent == []
    assert second.revision == first.revision
    assert not [seen for seen in hub.log.requests if "/commit/" in seen.path or "/settings" in seen.path]
    assert "0 bytes uploaded, no commit made" in " ".join(second.lines())


def test_only_what_changed_is_sent_and_shards_of_before_go(hub, published, dataset, tmp_path):
    published(dataset)
    more = [drawn_case(number) for number in range(9)]
    again = write_dataset(tmp_path / "again", more, parts=3)
    hub.log.clear()
    report = published(again)
    assert sorted(report.removed) == [f"data/cases/train-0000{n}-of-00002.parquet" for n in range(2)]
    files = hub.repository("datasets", ID).resolve("main").files
    assert [name for name in files if "of-00002" in name] == []
    assert "README.md" not in report.sent and len(report.sent) == 4


def test_a_branch_is_made_and_main_stays(hub, published, dataset):
    published(dataset, revision="v2/draft")
    repository = hub.repository("datasets", ID)
    assert set(repository.resolve("main").files) == {".gitattributes"}
    assert "README.md" in repository.resolve("v2/draft").files


def test_a_bare_name_is_below_the_user(hub, published, dataset):
    assert published(dataset, "noise").repo_id == "alice/noise"
    assert ("datasets", "alice/noise") in hub.store.repositories


def test_a_new_repository_is_private_until_its_content_is_complete(hub, published, dataset, monkeypatch):
    seen = []
    made = hub.store.commit

    def watched(repository, *arguments, **options):
        seen.append((len(repository.commits), repository.private))
        return made(repository, *arguments, **options)

    monkeypatch.setattr(hub.store, "commit", watched)
    published(dataset)
    assert seen == [(0, True), (1, True)] and not hub.repository("datasets", ID).private


def test_a_mixture_that_binds_its_readers_is_private_and_gated(hub, published, tmp_path):
    folder = write_dataset(tmp_path / "bound", [drawn_case(0), drawn_case(1, "llava_med")])
    report = published(folder)
    repository = hub.repository("datasets", ID)
    assert report.private and repository.private and repository.gated == "manual"
    card = hub.read("datasets", ID, "README.md").decode()
    assert (
        "extra_gated_prompt" in card and "non-commercial" in card and "https://github.com/microsoft/LLaVA-Med" in card
    )
    assert "extra_gated" not in (folder / "README.md").read_text()
    published(folder, private=False)
    assert not hub.repository("datasets", ID).private and hub.repository("datasets", ID).gated == "manual"


def test_licences_that_cannot_both_bind_the_whole_are_refused(hub, published, tmp_path):
    folder = write_dataset(tmp_path / "both", [drawn_case(0, "pmc_vqa"), drawn_case(1, "mama_mia")])
    assert "share-alike under different licences" in refusal(published, folder)
    assert hub.log.requests == []


def test_what_was_public_is_not_made_a_leak(hub, published, dataset, tmp_path):
    published(dataset)
    bound = write_dataset(tmp_path / "bound", [drawn_case(1, "llava_med")])
    head = hub.repository("datasets", ID).resolve("main").oid
    assert "is public" in refusal(published, bound)
    assert hub.repository("datasets", ID).resolve("main").oid == head
    published(bound, private=True)
    assert hub.repository("datasets", ID).private


@pytest.mark.parametrize(
    "source, link",
    [
        ("mimic_cxr", "physionet.org"),
        ("radiopaedia", "radiopaedia.org/licence"),
        ("jama", "jamanetwork.com"),
        ("deeplesion", "nihcc.app.box.com"),
        ("padchest", "bimcv.cipf.es"),
        ("nobody_knows", "licences.yaml"),
    ],
)
@pytest.mark.parametrize("private", [None, True, False])
def test_forbidden_and_undetermined_sources_are_refused_whatever_the_flags(
    hub, published, tmp_path, source, link, private
):
    folder = write_dataset(tmp_path / "no", [drawn_case(0), drawn_case(1, source)])
    for dry_run in (False, True):
        message = refusal(published, folder, private=private, dry_run=dry_run)
        assert source in message and link in message and "Nothing was uploaded" in message
    assert hub.log.requests == []


@pytest.mark.parametrize("published_on, allowed", [("2015-07-06", True), ("2015-07-05", False), (None, False)])
@pytest.mark.parametrize("source", ["eurorad", "medthinkvqa"])
def test_eurorad_is_free_from_its_day_on(hub, published, tmp_path, source, published_on, allowed):
    folder = write_dataset(
        tmp_path / "data", [drawn_case(0, source, "2020-01-01"), drawn_case(1, source, published_on)]
    )
    if allowed:
        assert published(folder).revision
    else:
        message = refusal(published, folder)
        assert "1 of 2 rows" in message and "2015-07-06" in message
        assert ("eurorad.org/terms" if source == "eurorad" else "MedThinkVQA") in message
        assert hub.log.requests == []


def test_a_retrieved_text_counts_as_its_source(hub, published, dataset):
    add_record_with_evidence(dataset, "open_guidelines")
    assert "open_guidelines" in refusal(published, dataset)


def test_a_statement_opens_what_is_open_and_is_published_along(hub, published, tmp_path):
    folder = write_dataset(tmp_path / "data", [drawn_case(1, "deeplesion")])
    statement = tmp_path / "statement.yaml"
    statement.write_text(
        "statements:\n- source: deeplesion\n  gates: [publish]\n  statement: The authors of the release agreed in"
        " writing that we pass these images on.\nsigned_by: A. Researcher\norganisation: Clinic\ndate: 2026-01-02\n"
    )
    report = published(folder, attestation=read_attestation(statement))
    assert report.private
    kept = json.loads(hub.read("datasets", ID, "publish_attestation.json"))
    assert kept["signed_by"] == "A. Researcher" and kept["text"] == statement.read_text()
    hub.log.clear()
    assert published(folder, attestation=read_attestation(statement)).sent == []
    statement.write_text(statement.read_text().replace("in writing", "in the letter /ho" + "me/somebody/letter.pdf"))
    assert "The statement, which is published along, names a folder" in refusal(
        published, folder, attestation=read_attestation(statement)
    )
    never = write_dataset(tmp_path / "never", [drawn_case(1, "mimic_cxr")])
    statement.write_text(statement.read_text().replace("deeplesion", "mimic_cxr"))
    assert "physionet" in refusal(published, never, attestation=read_attestation(statement))


def test_a_dry_run_shows_everything_and_asks_nobody(hub, published, dataset):
    report = published(dataset, dry_run=True)
    told = "\n".join(report.lines())
    for path in dataset.rglob("*.parquet"):
        assert path.name in told and f"{path.stat().st_size:,}" in told
    assert "pydicom, 6 rows" in told and "may be published" in told and "nothing was uploaded" in told
    assert hub.log.requests == []


def test_an_incomplete_card_is_refused_before_anything_is_asked(hub, published, dataset):
    card = dataset / "README.md"
    card.write_text(card.read_text().replace("license: mit\n", ""))
    for dry_run in (True, False):
        assert "no license" in refusal(published, dataset, dry_run=dry_run)
    card.unlink()
    assert "no card" in refusal(published, dataset)
    assert hub.log.requests == []


def test_the_work_of_a_curation_stays_and_its_example_names_the_repository(hub, published, dataset):
    (dataset / ".curate" / "blocks").mkdir(parents=True)
    (dataset / ".curate" / "blocks" / "0").write_bytes(b"\x80\x04")
    card = dataset / "README.md"
    card.write_text(card.read_text() + '\n`load_dataset("path/to/this/folder", "cases")`\n')
    published(dataset)
    assert not [name for name in hub.repository("datasets", ID).resolve("main").files if "curate" in name]
    assert f'load_dataset("{ID}", "cases")' in hub.read("datasets", ID, "README.md").decode()


def test_what_is_in_no_row_stays_and_other_rows_are_refused(hub, published, dataset):
    """A source that occurs only in the lists of what was left out is not asked about, because they are not sent."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"source": ["mimic_cxr"], "source_id": ["s1"], "detail": ["FINDINGS: small effusion"]})
    for name in ("skipped", "failures", "rejected"):
        pyarrow.parquet.write_table(table, dataset / f"{name}.parquet")
    pyarrow.parquet.write_table(table, dataset / "more.parquet")
    assert "more.parquet is not on the list" in refusal(published, dataset)
    assert hub.log.requests == []
    (dataset / "more.parquet").unlink()
    published(dataset)
    files = hub.repository("datasets", ID).resolve("main").files
    assert [name for name in files if "/" not in name] == [".gitattributes", "README.md", "build_manifest.json"]
    assert not [name for name in files if b"effusion" in hub.read("datasets", ID, name)]


@pytest.mark.parametrize("kind", ["no name", "two names", "evidence without a name", "evidence of texts"])
def test_rows_that_name_no_source_are_refused(hub, published, dataset, kind):
    import pyarrow
    import pyarrow.parquet

    columns = {"source": ["pydicom", None]}
    if kind.startswith("evidence"):
        evidence = [["a text"]] if kind == "evidence of texts" else [[{"source": None, "licence": "?"}]]
        columns = {"source": ["pydicom"], "evidence": evidence}
    table = pyarrow.table(columns)
    if kind == "two names":
        table = pyarrow.table([["pydicom"], ["mimic_cxr"]], ["source", "source"])
    shard = dataset / "data" / "cases" / "train-00000-of-00002.parquet"
    pyarrow.parquet.write_table(table, shard)
    manifest = json.loads((dataset / "build_manifest.json").read_text())
    manifest["shards"]["cases"]["train"][0]["bytes"] = shard.stat().st_size
    (dataset / "build_manifest.json").write_text(json.dumps(manifest))
    said = (
        "cannot be read"
        if kind in ("two names", "evidence of texts")
        else "Source '' has no entry in the licence registry"
    )
    assert said in refusal(published, dataset)
    assert hub.log.requests == []


def test_unfinished_changed_and_empty_folders_are_refused(hub, published, dataset, tmp_path):
    unfinished = write_dataset(tmp_path / "unfinished", [drawn_case(0)], manifest=False)
    assert "not a finished dataset folder" in refusal(published, unfinished)
    (tmp_path / "empty").mkdir()
    assert "is empty" in refusal(published, tmp_path / "empty")
    assert "no folder" in refusal(published, tmp_path / "none")
    shard = dataset / "data" / "cases" / "train-00000-of-00002.parquet"
    shard.write_bytes(shard.read_bytes() + b"x")
    assert shard.name in refusal(published, dataset)
    for text in ("{", "[" * 100_000, '{"shards": [1]}'):
        (dataset / "build_manifest.json").write_text(text)
        assert "cannot be read" in refusal(published, dataset)
    assert hub.log.requests == []


def test_files_that_may_not_leave_are_refused(hub, published, dataset):
    (dataset / ".env").write_text("HF_TOKEN=x")
    assert ".env" in refusal(published, dataset)
    assert hub.log.requests == []


@pytest.mark.parametrize(
    "repo_id", ["a/b/c", "alice/-x", "alice/x..y", "alice/x--y", "alice/x.git", "alice/ü", "alice/", "x" * 97]
)
def test_ids_that_break_the_rules(hub, published, dataset, repo_id):
    assert "is no id of a repository" in refusal(published, dataset, repo_id)
    assert hub.log.requests == []


def test_no_permission(hub, published, dataset):
    hub.users["stranger"] = User("bob")
    assert "can only read" in refusal(published, dataset, token="reader")
    assert "may not create" in refusal(published, dataset, token="stranger")
    assert "does not know the token" in refusal(published, dataset, token="wrong")
    assert hub.store.repositories == {}
    published(dataset)
    hub.log.clear()
    assert "no right to write" in refusal(published, dataset, token="stranger")
    assert uploads(hub) == 0


def test_another_persons_private_repository_is_not_told_of(hub, published, dataset):
    hub.store.create("datasets", "bob/secret", private=True)
    message = refusal(published, dataset, "bob/secret")
    assert "may not create bob/secret" in message and uploads(hub) == 0


def test_an_organisation_of_the_user(hub, published, dataset):
    assert published(dataset, "clinic/noise").repo_id == "clinic/noise"


def test_a_repository_of_another_type(hub, published, dataset):
    hub.store.create("models", ID)
    assert "is a model repository, not a dataset repository" in refusal(published, dataset)
    assert uploads(hub) == 0


def test_a_tag_cannot_be_published_to(hub, published, dataset):
    repository = hub.store.create("datasets", ID)
    repository.refs["refs/tags/v1"] = repository.refs["refs/heads/main"]
    assert "is a tag" in refusal(published, dataset, revision="v1")
    assert uploads(hub) == 0


def test_a_metric_becomes_a_space_of_its_name(hub, published, tmp_path):
    folder = write_metric(tmp_path / "agree", "agree")
    assert "agree" in str(refusal(published, folder, "alice/other", "metric"))
    report = published(folder, "alice/agree", "metric")
    assert hub.repository("spaces", "alice/agree").sdk == "gradio" and not report.private
    assert published(folder, "alice/demo", "space").revision
    assert "app.py" in hub.repository("spaces", "alice/demo").resolve("main").files
    (folder / "README.md").write_text("# no front matter\n")
    assert "has no front matter" in refusal(published, folder, "alice/agree", "metric")


@pytest.mark.parametrize(
    "name, text, said",
    [
        (
            "examples.jsonl",
            '{"question": "x"}\n{"source": "jama", "question": "A woman in her 50s"}\n',
            "jamanetwork.com",
        ),
        ("examples.json", '{"rows": [[{"benchmark": "mimic_cxr"}]]}', "physionet.org"),
        ("examples.csv", "text,source\nFINDINGS,radiopaedia\n", "radiopaedia.org/licence"),
        ("examples.csv", "source,published\neurorad,2014-01-01\n", "2015-07-06"),
        ("examples.csv", "source,text\nllava_med,x\n", "a Space cannot ask for agreement"),
    ],
)
def test_the_rows_that_a_program_brings_are_asked_about(hub, published, tmp_path, name, text, said):
    folder = write_metric(tmp_path / "agree", "agree")
    (folder / name).write_text(text)
    for kind in ("metric", "space"):
        message = refusal(published, folder, "alice/agree", kind, private=True)
        assert said in message and "Nothing was uploaded" in message
    assert hub.log.requests == []
    (folder / name).write_text('{"source": "what the user typed"}' if name.endswith("json") else '{"a": "b"}\n')
    assert published(folder, "alice/agree", "space").revision


def test_no_token(hub, dataset, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert "No token was found. Nothing was uploaded." in refusal(publish, "dataset", dataset, ID)
    assert "variable CLINIC is empty" in refusal(publish, "dataset", dataset, ID, token_from_env="CLINIC")
    assert hub.log.requests == []


def test_no_network(hub, dataset, client, monkeypatch):
    from huggingface_hub import HfApi, constants

    nowhere = HfApi(endpoint="http://127.0.0.1:9", token="writer")
    message = refusal(publish, "dataset", dataset, ID, api=nowhere)
    assert "http://127.0.0.1:9 cannot be reached. Nothing was uploaded." in message
    hub.faults = Faults(share=1.0, kinds=("500",))
    assert "answers with the error 500" in refusal(publish, "dataset", dataset, ID, api=client(hub))
    hub.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(publish, "dataset", dataset, ID, api=client(hub))
    assert hub.log.requests == []


def test_the_command_line_prints_the_revision(semihv, dataset, tmp_path, hub):
    from hub_server import client_environment

    environment = {**client_environment(hub.url, tmp_path / "home", token=None), "CLINIC": "writer"}
    done = semihv("publish", "dataset", dataset, "--repo-id", ID, "--token-from-env", "CLINIC", **environment)
    assert done.returncode == 0, done.stderr
    assert f"Revision {hub.repository('datasets', ID).resolve('main').oid}" in done.stdout
    assert "writer" not in done.stdout + done.stderr  # the token


def test_what_somebody_else_did_meanwhile_is_not_overwritten(hub, published, dataset, client, monkeypatch):
    published(dataset)
    (dataset / "README.md").write_text((dataset / "README.md").read_text() + "more\n")
    api = client(hub)
    preupload = api.preupload_lfs_files

    def with_visitor(*arguments, **options):
        client(hub).upload_file(
            path_or_fileobj=b"hello", path_in_repo="NOTICE", repo_id=ID, repo_type="dataset", token="writer"
        )
        return preupload(*arguments, **options)

    monkeypatch.setattr(api, "preupload_lfs_files", with_visitor)
    with pytest.raises(SemiHVError, match="changed by somebody else"):
        publish("dataset", dataset, ID, api=api, progress=False)
    assert b"more" not in hub.read("datasets", ID, "README.md")


def test_a_file_that_changes_during_the_upload_stops_it(hub, dataset, client, monkeypatch):
    api = client(hub)
    preupload = api.preupload_lfs_files

    def with_change(*arguments, **options):
        preupload(*arguments, **options)
        (dataset / "build_manifest.json").write_text("{}")

    monkeypatch.setattr(api, "preupload_lfs_files", with_change)
    with pytest.raises(SemiHVError, match="build_manifest.json changed during the upload"):
        publish("dataset", dataset, ID, api=api, progress=False)
    assert set(hub.repository("datasets", ID).resolve("main").files) == {".gitattributes"}
