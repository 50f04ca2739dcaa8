"""recipes/sft.py and recipes/dpo.py as a user starts them: what they print, log, push, and refuse with one line."""

import importlib.util
import json
import os
import re

import pytest
from hub_server import HubServer, client_environment
from script_server import ScriptServer
from two_processes import write_inputs

from semihv_hf.training.dry_run import GREEN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_text_model, picture):
    """`model`, `data`, `recipe.yaml`, `lora.yaml` and variants of the data that something is wrong with."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, tiny_text_model, picture)
    recipe = (folder / "recipe.yaml").read_text() + "per_device_train_batch_size: 4\nmax_steps: 2\n"
    (folder / "recipe.yaml").write_text(recipe)
    begin, end = recipe.index("trainable:"), recipe.index("assistant_only_loss")
    (folder / "lora.yaml").write_text(recipe[:begin] + "lora_r: 4\n" + recipe[end:])
    write_variants(folder)
    return folder


def write_variants(folder):
    from datasets import Dataset, Features, Image, List

    rows = Dataset.from_parquet(str(folder / "data" / "train.parquet"))
    features = Features({**rows.features, "images": List(Image(decode=False))})
    undecoded = [dict(row) for row in rows.cast(features)]
    assert undecoded[4]["images"] and undecoded[8]["images"]

    def write(name, changed, kind=features):
        (folder / name).mkdir()
        Dataset.from_list(changed, features=kind).cast_column("images", List(Image())).to_parquet(
            folder / name / "train.parquet"
        )

    whole = undecoded[4]["images"][0]["bytes"]
    for name, data in (("no-image", b"no image at all"), ("cut-image", whole[: len(whole) // 2])):
        write(name, [*undecoded[:4], undecoded[4] | {"images": [{"bytes": data, "path": None}]}, *undecoded[5:]])
    write("text", [row | {"id": f"text-{row['id']}"} for row in undecoded if not row["images"]])
    rows.remove_columns("messages").to_parquet(make(folder / "no-messages") / "train.parquet")
    write("forbidden", [row | {"source": "mimic_cxr"} for row in undecoded])


def make(folder):
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory, hub):
    folder = tmp_path_factory.mktemp("runs")
    server = ScriptServer(folder, **client_environment(hub.url, folder / "home"))
    yield server
    server.close()


@pytest.fixture
def sft(server, inputs, tmp_path):
    """Runs recipes/sft.py with the tiny recipe and more options: `sft("--max_steps", 1, data="text")`."""

    def run(*options, model=None, data="data", recipe="recipe", **more):
        named = ("--config", inputs / f"{recipe}.yaml", "--model", model or inputs / "model")
        where = ("--dataset", inputs / data) if data else ()
        return server.run(*named, *where, "--output_dir", tmp_path / "out", *options, **more)

    return run


def record(tmp_path):
    return json.loads((tmp_path / "out" / "stage.json").read_text())


def test_a_dry_run_prints_the_first_pack_its_rows_named_and_trains_nothing(sft, tmp_path):
    packed = ("--dry_run", "--packing", "--pack_length", 420, "--per_device_train_batch_size", 1)
    done = sft(*packed)
    shown = done.out[done.out.index("batch of ") :]
    rows = [line for line in shown.splitlines() if line.startswith("--- ")]
    assert len(rows) >= 2 and all(line.split()[2].startswith("row-") for line in rows)
    assert shown.startswith("batch of 1 x ")
    assert shown.count("[[") == len(rows) and "<image x " in shown and "\x1b[" not in shown
    assert "'loss'" not in done.out and not (tmp_path / "out" / "stage.json").exists()
    assert "deprecated" not in done.err
    coloured = sft(*packed, FORCE_COLOR="1").out
    assert coloured.count(GREEN) == len(rows) and "[[" not in coloured


KEYS = {
    "loss", "grad_norm", "learning_rate", "epoch", "num_tokens", "mean_token_accuracy", "entropy",
    "tokens_per_second", "images_per_second", "real_token_share", "data_wait_share", "memory_gib",
    "learning_rate/text", "grad_norm/text", "learning_rate/samplers", "grad_norm/samplers",
    "learning_rate/connector", "grad_norm/connector",
}  # fmt: skip


def test_every_number_reaches_tensorboard_and_the_readme_explains_it(sft, tmp_path, root):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sft("--report_to", "tensorboard")
    entry = record(tmp_path)["log"][-1]
    assert entry.keys() - {"step"} == KEYS
    events = EventAccumulator(str(next((tmp_path / "out" / "runs").glob("*"))))
    events.Reload()
    seen = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert {f"train/{key}" for key in KEYS - {"epoch"}} <= seen.keys()
    last = seen["train/tokens_per_second"][-1]
    assert last.step == 2 and last.value == pytest.approx(entry["tokens_per_second"], rel=1e-5)
    text = (root / "recipes" / "README.md").read_text()
    named = {key.partition("/")[0] + ("/<group>" if "/" in key else "") for key in KEYS}
    assert not [key for key in named if f"`{key}`" not in text]


@pytest.mark.parametrize("tracker", ["trackio", "wandb"])
def test_other_trackers_log_or_are_refused_before_the_first_step(tracker, sft, tmp_path):
    where = {"TRACKIO_DIR": str(tmp_path / "trackio"), "WANDB_DIR": str(tmp_path), "WANDB_MODE": "offline"}
    if importlib.util.find_spec(tracker) is None:
        refused = sft("--report_to", tracker, check=False, **where)
        assert (
            refused.error == f"error: report_to names {tracker}, which is not installed. Run `pip install {tracker}`."
        )
        return
    sft("--report_to", tracker, **where)
    if tracker == "trackio":
        logged = [path.read_bytes() for path in (tmp_path / "trackio").glob("*.db*")]
    else:
        logged = [path.read_bytes() for path in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    assert any(b"tokens_per_second" in data and b"grad_norm/text" in data for data in logged)
    if tracker == "trackio":
        return
    refused = sft("--report_to", "wandb", check=False, WANDB_MODE="online", HOME=str(tmp_path))
    assert "there is no API key" in refused.error


def test_the_end_of_a_run_pushes_weights_code_and_card_and_nothing_of_the_machine(sft, hub, inputs, tmp_path):
    saved = ("--save_strategy", "steps", "--save_steps", 1, "--report_to", "tensorboard")
    done = sft("--push_to_hub", "--hub_model_id", "alice/whole", *saved)
    repository = hub.repository("models", "alice/whole")
    files = set(repository.resolve("main").files)
    assert {"model.safetensors", "config.json", "modeling_pmc_cambrian.py", "processor_config.json"} <= files
    assert {"README.md", "stage.json", "code_manifest.json", "chat_template.jinja"} <= files
    assert not [name for name in files if "/" in name or name.endswith((".bin", ".pt"))]
    # The source "made" is none of the registry: until its owner says so, nobody else sees the model.
    assert repository.private and "http" in done.out
    assert hub.read("models", "alice/whole", "README.md").decode().count("alice/whole")
    kept = {name: (tmp_path / "out" / name).read_bytes() for name in files if (tmp_path / "out" / name).is_file()}
    assert not [name for name, data in kept.items() if os.fsencode(tmp_path) in data]

    # An adapter of a model that the Hub has names it; one of a folder is refused before it is trained.
    local = sft("--push_to_hub", "--hub_model_id", "alice/adapter", recipe="lora", check=False)
    assert "is a folder of this machine" in local.error
    assert ("models", "alice/adapter") not in hub.store.repositories
    adapter = ("--push_to_hub", "--hub_model_id", "alice/adapter", "--hub_private_repo", "false")
    sft(*adapter, "--output_dir", tmp_path / "adapter", model="alice/whole", recipe="lora")
    pushed = hub.repository("models", "alice/adapter")
    assert not pushed.private
    public = sft("--push_to_hub", "--hub_model_id", "alice/adapter", "--output_dir", tmp_path / "third", check=False)
    assert "alice/adapter is public, but a source of this run is not known" in public.error
    settings = json.loads(hub.read("models", "alice/adapter", "adapter_config.json"))
    assert settings["base_model_name_or_path"] == "alice/whole"
    assert {"adapter_model.safetensors", "README.md", "stage.json"} <= set(pushed.resolve("main").files)


def test_a_push_that_the_gate_or_the_hub_refuses_ends_before_the_first_step(sft, hub):
    refused = sft("--push_to_hub", "--hub_model_id", "alice/never", data="forbidden", check=False)
    assert "mimic_cxr" in refused.error and ("models", "alice/never") not in hub.store.repositories
    refused = sft("--push_to_hub", "--hub_model_id", "bob/mine", check=False)
    assert "may not create bob/mine" in refused.error
    refused = sft("--push_to_hub", "--hub_strategy", "checkpoint", check=False)
    assert "hub_strategy is checkpoint" in refused.error


def test_weighted_datasets_and_text_only_rows(sft, inputs, tmp_path):
    parts = [
        json.dumps({"dataset": str(inputs / name), "weight": weight}) for name, weight in (("data", 3), ("text", 1))
    ]
    done = sft("--mixture", *parts, data=None)
    shares = record(tmp_path)["mixture"]
    assert [share["dataset"] for share in shares] == ["data", "text"] and [s["asked"] for s in shares] == [0.75, 0.25]
    assert all(share["drawn"] > 0 for share in shares) and str(inputs) not in json.dumps(shares)
    assert "all 172 frozen tensors are bit-identical" in done.out
    # Text alone: no image is made up, and the vision modules stay.
    sft("--output_dir", tmp_path / "text", data="text")
    log = json.loads((tmp_path / "text" / "stage.json").read_text())["log"]
    assert [entry["images_per_second"] for entry in log] == [0, 0] and log[0]["loss"] > 0


def test_a_loss_that_is_no_number_stops_the_run_with_the_rows_of_its_batch(sft, tmp_path):
    done = sft("--learning_rate", 1e30, "--learning_rates", "{}", "--max_steps", 9, check=False)
    line = next(line for line in done.err.splitlines() if line.startswith("error: "))
    named = re.search(r"Step (\d+): the loss is nan; the batch held the rows (row-\d+), (row-\d+)", line)
    report = json.loads((tmp_path / "out" / "spike.json").read_text())
    assert done.code == 1 and "Traceback" not in done.err and report["step"] == int(named[1])
    assert report["processes"][0]["batches"][0]["rows"][:2] == [named[2], named[3]]
    assert not (tmp_path / "out" / "model.safetensors").exists()
    # Without the guard it goes on to its end, and leaves no weights that nobody can use.
    unguarded = ("--spike_guard", "false", "--output_dir", tmp_path / "unguarded")
    done = sft("--learning_rate", 1e30, "--learning_rates", "{}", "--max_steps", 4, *unguarded, check=False)
    line = next(line for line in done.err.splitlines() if line.startswith("error: "))
    assert "The run has diverged" in line and done.code == 1 and "Traceback" not in done.err
    assert {path.name for path in (tmp_path / "unguarded").iterdir()} == {"diverged.json"}


def test_cached_tower_features_give_the_same_losses(sft, tmp_path):
    def losses(folder, *options):
        sft(*options, "--max_steps", -1, "--num_train_epochs", 2, "--output_dir", tmp_path / folder)
        return [entry["loss"] for entry in json.loads((tmp_path / folder / "stage.json").read_text())["log"]]

    plain = losses("plain")
    assert len(plain) == 12 and plain[-1] < plain[0]
    assert losses("cached", "--tower_cache", tmp_path / "features") == pytest.approx(plain, abs=1e-5)
    # One file for each of the twelve images, whatever the number of epochs.
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == 12
    trains = sft("--tower_cache", tmp_path / "features", "--trainable", ".*", check=False)
    assert "A tower cache needs frozen towers, but a tower trains" in trains.error


REFUSED = [
    ({"data": "no-messages"}, (), "has no column messages; its columns are id, source, licence, images"),
    ({"data": "nowhere"}, (), "nowhere cannot be read"),
    ({"data": "no-image"}, (), "more than max_bad_rows (0): last row row-4: "),
    ({}, ("--max_length", 150, "--long_rows", "refuse"), "longer than"),
    ({}, ("--max_length", 20), "0 rows kept, 24 longer than 20 tokens left out"),
    ({}, ("--learning_rates", '{"(": 1}'), "learning_rates: '(': 1 is no regular expression"),
    ({}, ("--trainable", r"model\.projector\..*"), "matches no parameter"),
    ({}, ("--learnign_rate", "1"), "unknown option 'learnign_rate'. Did you mean 'learning_rate'?"),
    ({}, ("--max_steps", "many"), "Argument --max_steps/--max-steps: invalid int value: 'many'"),
    ({}, ("--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "3"), "settings contradict"),
    ({}, ("--expect_strategy", "zero3"), "The recipe expects zero3, but the run got single"),
    ({"data": None}, (), "No dataset is set"),
]


@pytest.mark.parametrize(("changes", "options", "message"), REFUSED, ids=[each[2][:30] for each in REFUSED])
def test_bad_input_is_one_line_before_the_first_step(changes, options, message, sft, tmp_path):
    assert message in sft(*options, check=False, **changes).error
    assert not list(tmp_path.glob("out/*.safetensors"))


def test_a_model_of_another_kind_and_a_checkpoint_of_another_architecture(sft, inputs, tiny_text_model, tmp_path):
    text = sft(check=False, model=tiny_text_model)
    assert "is no image-text model that can be trained" in text.error
    sft("--save_strategy", "steps", "--save_steps", 1)
    saved = tmp_path / "out" / "checkpoint-1"
    config = json.loads((inputs / "model" / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    other = make(tmp_path / "other")
    for path in (inputs / "model").iterdir():
        if path.name != "config.json":
            os.symlink(path, other / path.name)
    (other / "config.json").write_text(json.dumps(config))
    refused = sft("--resume", saved, "--output_dir", tmp_path / "new", check=False, model=other)
    assert "checkpoint-1 cannot be resumed by this run" in refused.error
    blocked = sft("--output_dir", inputs / "recipe.yaml" / "out", check=False)
    assert "recipe.yaml/out cannot be written: NotADirectoryError" in blocked.error
    # Its settings ask for a layer that its weights do not have: random ones would be trained in its place.
    config["text_config"]["num_hidden_layers"] = 5
    (other / "config.json").write_text(json.dumps(config))
    refused = sft("--output_dir", tmp_path / "new", check=False, model=other)
    assert re.search(
        r"The checkpoint .*other lacks 9 parameters of this model, e.g. model\.language_model", refused.error
    )


def test_bad_rows_are_left_out_up_to_a_limit_and_never_replaced(sft, tmp_path):
    def trained(folder):
        entry = json.loads((tmp_path / folder / "stage.json").read_text())
        return entry["left_out"], entry["rows"]

    epoch = ("--max_steps", -1, "--num_train_epochs", 1, "--per_device_train_batch_size", 1, "--max_bad_rows", 1)
    sft(*epoch, data="no-image")
    left_out, rows = trained("out")
    assert rows == 24 and left_out["refused"] == left_out["unmeasured"] == 1
    # Its header is whole: it fails where it is decoded, in a batch of its own, which then trains nothing.
    sft(*epoch, "--output_dir", tmp_path / "cut", data="cut-image")
    left_out, rows = trained("cut")
    assert rows == 24 and left_out["refused"] == 1 and left_out["unmeasured"] == 0
    stopped = sft(*epoch, "--max_bad_rows", 0, "--output_dir", tmp_path / "stop", data="cut-image", check=False)
    lines = [line for line in stopped.err.splitlines() if line.startswith("error: ")]
    assert stopped.code == 1 and "Traceback" not in stopped.err
    assert len(lines) == 1 and "max_bad_rows (0): last row row-4: " in lines[0]
    sft("--max_length", 150, "--output_dir", tmp_path / "long")
    assert 0 < trained("long")[0]["too_long"] < 24


def test_adapters_do_not_stand_on_adapters(sft, tmp_path):
    assert "deprecated" not in sft("--activation_checkpointing", recipe="lora").err
    again = sft("--output_dir", tmp_path / "again", recipe="lora", model=tmp_path / "out", check=False)
    assert "out is an adapter: new adapters would be loaded on its base model, without it" in again.error
    sft("--output_dir", tmp_path / "again", "--lora_merge", recipe="lora", model=tmp_path / "out")
    assert (tmp_path / "again" / "config.json").is_file()


def test_a_four_bit_run_merges_into_the_unquantised_weights(sft, inputs, tmp_path):
    pytest.importorskip("bitsandbytes", reason="4-bit loading needs bitsandbytes (it runs on CPUs, too)")
    from safetensors.torch import load_file

    sft("--load_in_4bit", "--lora_merge", "--learning_rate", 1e-5, recipe="lora")
    assert "quantization_config" not in (tmp_path / "out" / "config.json").read_text()
    before, after = (load_file(folder / "model.safetensors") for folder in (inputs / "model", tmp_path / "out"))
    assert before.keys() == after.keys()
    changed = {name for name in after if not before[name].equal(after[name])}
    projections = {name for name in before if "language_model.layers." in name and name.endswith("_proj.weight")}
    whole = {name for name in before if ".connector." in name or ".vision_samplers." in name}
    assert projections <= changed <= projections | whole
    # Rounding to 4 bits would have moved weights by a tenth of their spread; two steps of 1e-5 do not.
    moved = max(float((after[name] - before[name]).abs().max() / before[name].std()) for name in projections)
    assert moved < 0.01
