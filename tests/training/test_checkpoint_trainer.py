"""Runs that are killed, resumed, damaged or refused: real processes, tiny models with all four towers, dropout on."""

import json
import os
import shutil

import pytest
from run_server import RunServer, moments
from safetensors.torch import load_file

from semihv_hf.training.checkpoints import MANIFEST, STAGING, newest_complete

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs():
    server = RunServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def undisturbed(runs, tmp_path_factory):
    """Folder of a run that nobody disturbed, by model and number of steps."""
    folders = {}

    def get(model: str, steps: int = 12):
        if (model, steps) not in folders:
            folders[model, steps] = tmp_path_factory.mktemp("undisturbed") / model
            runs.run(folders[model, steps], model=model, steps=steps)
        return folders[model, steps]

    return get


def assert_same(out, reference):
    """Final weights bit by bit, and the whole loss curve."""
    ours, theirs = load_file(out / "final.safetensors"), load_file(reference / "final.safetensors")
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not ours[name].equal(theirs[name])]
    assert not different, f"{len(different)} of {len(ours)} tensors differ, e.g. {different[0]}"
    curve, expected = (json.loads((folder / "log.json").read_text()) for folder in (out, reference))
    assert [entry for entry in curve if "loss" in entry] == [entry for entry in expected if "loss" in entry]


def test_killed_at_ten_random_moments_ends_with_the_same_bits(runs, undisturbed, tmp_path):
    out = tmp_path / "killed"
    inside = 0
    for number, (step, delay) in enumerate(zip(range(2, 22, 2), moments(10, 0.3, seed=1))):
        # Every second one anywhere in the step and the saving that follow, the others while files are being written.
        saving = number % 2 == 0
        assert runs.kill_when(out, f"step {step}\n", delay / 4 if saving else delay, saving=saving, steps=24)
        inside += any((out / STAGING).glob("**/checkpoint-*"))
    assert inside >= 1, "no run was killed inside saving"
    text = runs.run(out, steps=24)
    assert "Resuming from" in text
    assert not (out / STAGING).exists()
    assert_same(out, undisturbed("cambrian", 24))


@pytest.mark.parametrize("model", ["cambrian", "llava", "lora"])
def test_every_parameter_comes_back(runs, undisturbed, tmp_path, model):
    out = tmp_path / model
    # Step 7 lies inside the second epoch, between two log lines; other initial weights show whatever is not loaded.
    runs.fails(out, code=75, model=model, signal_at=7, save_steps=None)
    other = 0 if model == "lora" else 1
    text = runs.run(out, model=model, init_seed=other)
    assert "Resuming from" in text and "checkpoint-7, step 7" in text
    assert_same(out, undisturbed(model))


def test_transformers_itself_still_loses_parameters(runs, undisturbed, tmp_path):
    """The reason for strict_loading.py; when this fails, transformers has been mended."""
    out = tmp_path / "stock"
    shutil.copytree(undisturbed("llava") / "checkpoint-6", out / "checkpoint-6")
    runs.run(out, model="llava", stock=True, init_seed=1, resume=str(out / "checkpoint-6"))
    with pytest.raises(AssertionError, match="tensors differ"):
        assert_same(out, undisturbed("llava"))


@pytest.mark.parametrize(
    "settings", [{"workers": 2}, {"sampling": "group_by_length"}], ids=["workers", "global order"]
)
def test_data_order_that_is_drawn_from_the_global_generator(runs, tmp_path, settings):
    runs.run(tmp_path / "whole", model="llava", **settings)
    out = tmp_path / "stopped"
    runs.fails(out, code=75, model="llava", signal_at=7, **settings)
    runs.run(out, model="llava", **settings)
    assert_same(out, tmp_path / "whole")


def test_torn_checkpoints_are_named_and_passed_over(runs, undisturbed, tmp_path):
    out = tmp_path / "torn"
    shutil.copytree(undisturbed("llava"), out)
    os.truncate(out / "checkpoint-12" / "model.safetensors", 1000)
    (out / "checkpoint-10" / "optimizer.pt").unlink()
    weights = out / "checkpoint-8" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-5] ^= 64
    weights.write_bytes(raw)
    (out / "checkpoint-6" / MANIFEST).unlink()
    text = runs.run(out, model="llava")
    assert "Skipped checkpoint-12: model.safetensors has 1,000 of" in text
    assert "Skipped checkpoint-10: optimizer.pt is missing." in text
    assert "Skipped checkpoint-8: the content of model.safetensors is not what was written." in text
    assert "Skipped checkpoint-6: it has no manifest COMPLETE." in text
    assert "checkpoint-4, step 4." in text
    assert_same(out, undisturbed("llava"))
    # Every torn one was written anew.
    assert newest_complete(out) == (out / "checkpoint-12", [])
    assert newest_complete(out / "nowhere").path is None


def test_a_folder_that_is_asked_for_is_not_replaced_by_another(runs, undisturbed, tmp_path):
    out = tmp_path / "asked"
    shutil.copytree(undisturbed("llava"), out)
    text = runs.run(out, model="llava", resume=str(out / "checkpoint-4"))
    assert "checkpoint-4, step 4." in text
    assert_same(out, undisturbed("llava"))
    os.truncate(out / "checkpoint-4" / "scheduler.pt", 10)
    text = runs.fails(out, model="llava", resume=str(out / "checkpoint-4"))
    assert "error: " in text and "checkpoint-4 is not a complete checkpoint: scheduler.pt has 10 of" in text


OTHER_RUNS = [
    ({"model": "cambrian"}, "the architecture (class, names and shapes of parameters) differs"),
    ({"hidden": 32}, "the architecture (class, names and shapes of parameters) differs"),
    ({"rows": 9}, "the training data differs"),
    ({"accumulation": 1}, "the global batch differs: 2 there, 1 here"),
    ({"seed": 5}, "the seed differs"),
    ({"resume": "none"}, "holds checkpoint-12 of an earlier run. Go on from it with `resume: auto`"),
]


@pytest.mark.parametrize(("settings", "reason"), OTHER_RUNS, ids=[" ".join(item[0]) for item in OTHER_RUNS])
def test_another_run_is_refused_before_the_first_step(runs, undisturbed, settings, reason):
    text = runs.fails(undisturbed("llava"), **{"model": "llava", **settings})
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and reason in errors[0]
    assert "step 1\n" not in text and "Traceback" not in text


def test_the_same_global_batch_from_other_micro_batches_is_accepted(runs, undisturbed, tmp_path):
    out = tmp_path / "micro"
    shutil.copytree(undisturbed("llava"), out)
    text = runs.run(out, model="llava", resume=str(out / "checkpoint-8"), batch=2, accumulation=1)
    assert "step 9\n" in text and "step 8\n" not in text


def test_best_comes_back_and_stays(runs, tmp_path):
    out = tmp_path / "best"
    text = runs.run(out, model="llava", evaluate=True, limit=1, rows=4)
    state = json.loads((newest_complete(out).path / "trainer_state.json").read_text())
    best = out / f"checkpoint-{state['best_global_step']}"
    assert state["best_model_checkpoint"] == str(best)
    assert {path.name for path in out.glob("checkpoint-*")} == {best.name, "checkpoint-12"}, text
    # What `load_best_model_at_end` left in the model is what the best checkpoint holds, read independently.
    from transformers import LlavaForConditionalGeneration

    expected = LlavaForConditionalGeneration.from_pretrained(best).state_dict()
    final = load_file(out / "final.safetensors")
    assert final.keys() == expected.keys()
    assert all(final[name].equal(expected[name]) for name in final)


def test_a_run_that_was_killed_after_its_last_checkpoint_takes_no_step_more(runs, undisturbed, tmp_path):
    out = tmp_path / "finished"
    shutil.copytree(undisturbed("llava"), out)
    (out / "final.safetensors").unlink()
    text = runs.run(out, model="llava")
    assert "step 13" not in text and "done" in text
    assert_same(out, undisturbed("llava"))


def test_a_full_disk_costs_no_checkpoint(runs, undisturbed, tmp_path):
    out = tmp_path / "full"
    runs.fails(out, code=75, model="llava", signal_at=4)
    largest = max(path.stat().st_size for path in (out / "checkpoint-4").iterdir())
    text = runs.fails(out, model="llava", fsize=largest - 1000)
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "checkpoint-6 could not be written" in errors[0], text
    assert "start again with `resume: auto`, from checkpoint-4." in errors[0]
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    runs.run(out, model="llava")
    assert_same(out, undisturbed("llava"))
