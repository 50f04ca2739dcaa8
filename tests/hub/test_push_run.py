"""What a recipe's `--push_to_hub` sends, and what it asks first; tests/training/test_scripts.py runs the recipes."""

import json
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file
from torch import zeros

from semihv_hf.errors import SemiHVError
from semihv_hf.hub.allowed_files import check_upload
from semihv_hf.hub.push_run import check_push, needs_private, push_run, run_decisions
from semihv_hf.hub.repository import find_target
from semihv_hf.training.stage_record import sources_before


def record(*sources):
    return {"sources": [{"source": name, "licence": "?", "rows": 3} for name in sources]}


def test_of_a_runs_folder_only_the_model_is_sent_and_still_looked_into(tmp_path):
    save_file({"weight": zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "stage.json").write_text("{}")
    for name in ("runs/host/events.out", "checkpoint-2/optimizer.pt", "wandb/debug.log", "training_args.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"state")
    sent = ["config.json", "model.safetensors", "stage.json"]
    assert [file.name for file in check_upload(tmp_path, "model", leave=True)] == sent
    with pytest.raises(SemiHVError, match="training_args.bin"):
        check_upload(tmp_path, "model")
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "/" + "home/someone/model"}))
    with pytest.raises(SemiHVError, match="config.json"):
        check_upload(tmp_path, "model", leave=True)


def test_sources_of_the_registry_are_asked_about_and_others_make_it_private():
    assert not needs_private(record("open-medicine", "scikit-image"))
    assert needs_private(record("open-medicine", "our-clinic")) and needs_private({"sources": None})
    decisions, known = run_decisions({**record("our-clinic"), "sources_before": record("scikit-image")["sources"]})
    assert [each.source for each in decisions] == ["scikit-image"] and not known
    for forbidden in (record("mimic_cxr"), {**record("our-clinic"), "sources_before": record("jama")["sources"]}):
        with pytest.raises(SemiHVError, match="Nothing was uploaded"):
            run_decisions(forbidden)


def test_the_stages_before_are_asked_about_as_far_as_they_are_recorded(tmp_path):
    """A second stage on free rows does not wash a model that was trained on others."""
    first = {**record("mimic_cxr"), "model": "org/base"}
    (tmp_path / "stage.json").write_text(json.dumps(first))
    second = {**record("scikit-image"), **sources_before(str(tmp_path))}
    assert "sources_before" not in second  # what org/base was trained on is not known
    (tmp_path / "stage.json").write_text(json.dumps(second))
    third = {**record("scikit-image"), **sources_before(str(tmp_path))}
    for tuned in (second, third):
        with pytest.raises(SemiHVError, match="mimic_cxr.*physionet"):
            run_decisions(tuned)
    early = {"sources": [{"source": "eurorad", "licence": "?", "rows": 3, "early": 1}]}
    with pytest.raises(SemiHVError, match="1 of 3 rows of 'eurorad'"):
        run_decisions(early)


@pytest.mark.parametrize("named", [True, False])
def test_what_comes_of_rows_that_name_no_source_is_never_public(tmp_path, hub, client, named):
    start = tmp_path / "start"
    start.mkdir()
    (start / "stage.json").write_text(json.dumps({"sources": record("scikit-image")["sources"] if named else None}))
    tuned = {**record("scikit-image"), **sources_before(str(start))}
    streamed = {"sources": None}
    whole = SimpleNamespace(model=str(tmp_path), lora_r=0, lora_merge=False)
    free = SimpleNamespace(repo_id="a/b", exists=False, untouched=True, private=False)
    for undetermined in (streamed, *([] if named else [tuned])):
        with pytest.raises(SemiHVError, match="would be public, but rows of this run"):
            check_push(free, whole, False, undetermined)
        check_push(free, whole, None, undetermined)
        check_push(free, whole, True, undetermined)
    if named:
        check_push(free, whole, False, tuned)
        folder = tmp_path / "model"
        folder.mkdir()
        save_file({"weight": zeros(2)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        target = find_target(client(hub), "model", "alice/streamed")
        with pytest.raises(SemiHVError, match="would be public"):
            push_run(folder, target, streamed, private=False)
        assert hub.store.repositories == {}
        push_run(folder, target, streamed)
        assert hub.repository("models", "alice/streamed").private


def test_what_the_end_would_refuse_is_refused_at_the_start(tmp_path):
    public = SimpleNamespace(repo_id="a/b", exists=True, untouched=False, private=False)
    whole = SimpleNamespace(model=str(tmp_path), lora_r=0, lora_merge=False)
    with pytest.raises(SemiHVError, match="a/b is public, but a source of this run is not known"):
        check_push(public, whole, None, record("our-clinic"))
    check_push(public, whole, False, record("our-clinic"))
    adapter = SimpleNamespace(model=str(tmp_path), lora_r=4, lora_merge=False)
    with pytest.raises(SemiHVError, match="is a folder of this machine"):
        check_push(public, adapter, True, record("our-clinic"))
    check_push(public, SimpleNamespace(model="clinic/base", lora_r=4, lora_merge=False), True, record("our-clinic"))
