"""What may be uploaded: every shipped folder passes, every refusal names the file and the rule."""

import json
import os
import pickle
import struct

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.hub.allowed_files import KINDS, RefusedUpload, check_upload
from semihv_hf.hub.program_data import program_sources
from semihv_hf.models.pmc_cambrian.saving_pmc_cambrian import write_code_manifest
from semihv_hf.resources import resource_dir

# In pieces, so that no line of this file is itself a hit.
TOKEN = "hf" + "_" + "a" * 34
HOME = "/ho" + "me/somebody"


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    (folder / "README.md").write_text("# A card\n")
    (folder / "config.json").write_text("{}")
    (folder / "modeling_x.py").write_text("x = 1\n")
    write_code_manifest(folder)
    return folder


def refused(folder, kind="model") -> dict[str, str]:
    with pytest.raises(RefusedUpload) as caught:
        check_upload(folder, kind)
    assert "nothing was sent" in str(caught.value)
    return {one.file: one.rule for one in caught.value.refusals}


def test_a_good_model_is_listed_with_names_and_sizes(model):
    files = check_upload(model, "model")
    names = ["README.md", "code_manifest.json", "config.json", "model.safetensors", "modeling_x.py"]
    assert [file.name for file in files] == names
    assert all(file.size == file.path.stat().st_size > 0 for file in files)


def test_every_shipped_metric_and_script_may_be_uploaded():
    metrics = [path for path in resource_dir("metrics").iterdir() if (path / "app.py").is_file()]
    assert len(metrics) >= 7
    for folder in metrics:
        assert len(check_upload(folder, "metric")) >= 4
        assert len(check_upload(folder, "space")) >= 4
        assert not program_sources(folder)
    for name in ("semihvision", "jama_clinical_challenge"):
        assert {"README.md", "builder.py"} <= {
            file.name for file in check_upload(resource_dir("dataset_scripts") / name, "dataset")
        }


@pytest.mark.parametrize(
    "name, rule",
    [
        (".env", "secrets"),
        ("optimizer.pt", "state of a training"),
        ("training_args.bin", "state of a training"),
        ("pytorch_model.bin", "no safetensors"),
        ("notes.docx", "not on the list"),
        (".cache/x.json", "cache"),
        ("checkpoint-5/config.json", "state of a training"),
        ("deep/config.json", "not on the list"),
    ],
)
def test_other_files_are_refused_by_name(name, rule, model):
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("x")
    ((file, said),) = refused(model).items()
    assert name.startswith(file.rstrip("/")) and rule in said


def test_a_token_is_found_and_not_repeated(model):
    (model / "tokenizer_config.json").write_text(json.dumps({"token": TOKEN}))
    rules = refused(model)
    assert "access token" in rules["tokenizer_config.json"] and TOKEN not in str(rules)


@pytest.mark.parametrize("text", [f'"{HOME}/x"', f"see {HOME}", '"C:\\\\Users\\\\somebody"', "file:///data/x"])
def test_a_folder_of_a_person_is_found(text, model):
    (model / "README.md").write_text(text)
    assert "one machine or person" in refused(model)["README.md"]


@pytest.mark.parametrize(
    "text", ["https://example.org" + HOME, "a/ho" + "me/x", "../ho" + "me/x", "risk-adjusted-with-many-words", "/v1/x"]
)
def test_addresses_and_ordinary_words_are_none(text, model):
    (model / "README.md").write_text(text)
    assert len(check_upload(model, "model")) == 5


def test_changed_code_and_code_without_a_manifest_are_refused(model):
    (model / "modeling_x.py").write_text("x = 2\n")
    assert "differs" in refused(model)["modeling_x.py"]
    (model / "code_manifest.json").unlink()
    assert "missing" in refused(model)["code_manifest.json"]


def test_links_inside_are_followed_and_links_out_are_refused(model, tmp_path):
    (model / "tokenizer.json").symlink_to("config.json")
    assert "tokenizer.json" in {file.name for file in check_upload(model, "model")}
    (tmp_path / "secret").write_text("{}")
    (model / "vocab.json").symlink_to(tmp_path / "secret")
    assert "leads out" in refused(model)["vocab.json"]


def test_a_hostile_name_does_not_reach_the_terminal(model):
    (model / "a\x1b[2Jb.json").write_text("{}")
    with pytest.raises(RefusedUpload) as caught:
        check_upload(model, "model")
    assert "\x1b" not in str(caught.value)


def test_rows_are_taken_where_the_gate_counts_them_and_lists_of_what_is_no_row_stay(tmp_path):
    rows = write_parquet(tmp_path / "data" / "cases" / "train-00000-of-00001.parquet", text=["a caption"])
    lists = ("skipped", "failures", "rejected", "duplicates", "contamination", "overlap")
    for name in lists:
        write_parquet(tmp_path / f"{name}.parquet", source=["mimic_cxr"], detail=["a text of the source"])
    assert [file.path for file in check_upload(tmp_path, "dataset")] == [rows]
    for name in ("more.parquet", "data/more.parquet", "more/skipped.parquet", "data/a/b/train.parquet"):
        other = write_parquet(tmp_path / name, text=["a caption"])
        assert "not on the list" in refused(tmp_path, "dataset")[name]
        other.unlink()
    (tmp_path / "skipped.parquet").unlink()
    (tmp_path / "skipped.parquet").symlink_to(rows)
    assert "not on the list" in refused(tmp_path, "dataset")["skipped.parquet"]


def write_parquet(path, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def columns_with_a_token():
    import pyarrow as pa

    yield "text", pa.array([TOKEN])
    yield "text of bytes", pa.array([b"x", TOKEN.encode()])
    yield "structure", pa.array([{"a": {"b": TOKEN}}])
    yield "list", pa.array([[["x", TOKEN]]])
    yield "map", pa.array([[("a", TOKEN)]], pa.map_(pa.string(), pa.string()))
    yield "list view", pa.array([[TOKEN]], pa.list_view(pa.string()))
    yield "text view", pa.array([TOKEN], pa.string_view())
    yield "words", pa.array([TOKEN]).dictionary_encode()
    yield "JSON", pa.array([json.dumps({"a": TOKEN})], pa.json_())
    yield "bytes of one length", pa.array([TOKEN.encode()], pa.binary(len(TOKEN)))


@pytest.mark.parametrize("column", [pytest.param(column, id=name) for name, column in columns_with_a_token()])
def test_no_kind_of_column_hides_a_token(column, tmp_path):
    write_parquet(tmp_path / "data" / "x" / "train.parquet", hidden=column)
    (rule,) = refused(tmp_path, "dataset").values()
    assert ("access token" in rule or "not looked into" in rule) and "column hidden" in rule and TOKEN not in rule


def test_rows_hold_pictures_and_neither_dicom_nor_pickles(tmp_path):
    path = tmp_path / "data" / "x" / "train.parquet"
    pictures = [b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"\xff\xd8\xff" + b"\0" * 200, None]
    write_parquet(path, images=[[{"bytes": data, "path": None}] for data in pictures], number=[1, 2, 3])
    assert [file.path for file in check_upload(tmp_path, "dataset")] == [path]
    for data, said in ((pictures[0][:8] + b"\0" * 120 + b"DICM" + b"\0" * 99, "DICOM"), (pickle.dumps([1]), "pickle")):
        write_parquet(path, images=[[{"bytes": pictures[0], "path": None}, {"bytes": data, "path": None}]])
        assert said in refused(tmp_path, "dataset")["data/x/train.parquet"]


def test_wrong_calls_are_clear(tmp_path):
    with pytest.raises(SemiHVError, match="model, dataset, metric, space"):
        check_upload(tmp_path, "weights")
    with pytest.raises(SemiHVError, match="no folder"):
        check_upload(tmp_path / "none", KINDS[0])
    with pytest.raises(SemiHVError, match="is empty"):
        check_upload(tmp_path, "model")


def test_a_pipe_is_refused_and_not_waited_for(model):
    os.mkfifo(model / "tokenizer.json")
    assert "no ordinary file" in refused(model)["tokenizer.json"]
