"""What a launcher asks for is read from its command line and file, and compared with what the run got."""

from pathlib import Path

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.training.strategy import Strategy, arguments_of, check_strategy, launch_request

FILES = sorted((Path(__file__).parents[2] / "recipes" / "accelerate").glob("*.yaml"))
ASKED = {"cpu": ("single", 1), "ddp": ("ddp", 8), "fsdp2": ("fsdp2", 8), "zero2": ("zero2", 8), "zero3": ("zero3", 8)}


def test_all_files_are_found():
    assert [path.stem for path in FILES] == sorted(ASKED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_asks_for_what_its_name_says(path):
    request = launch_request(["--config_file", str(path), "recipes/sft.py", "--config", "x.yaml"])
    assert (request.name, request.processes) == ASKED[path.stem]
    # Precision is the recipe's: a file that names one would contradict every recipe of another.
    assert request.mixed_precision is None
    assert request.source == f"accelerate/{path.name}"
    text = path.read_text()
    assert text.startswith("# ") and ("When:" in text or path.stem == "cpu")


def test_options_go_over_the_file():
    path = next(path for path in FILES if path.stem == "ddp")
    request = launch_request(["--config_file", str(path), "--num_processes", "2", "--mixed_precision", "bf16", "x.py"])
    assert (request.name, request.processes, request.mixed_precision) == ("ddp", 2, "bf16")


def test_a_deepspeed_file_of_its_own_tells_the_stage(tmp_path):
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 3}}')
    path = tmp_path / "a.yaml"
    path.write_text(
        "distributed_type: DEEPSPEED\nnum_processes: 4\n"
        f"deepspeed_config: {{deepspeed_config_file: {tmp_path}/ds.json}}\n"
    )
    assert launch_request(["--config_file", str(path), "x.py"]).name == "zero3"


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(SemiHVError, match="cannot be read"):
        launch_request(["--config_file", str(tmp_path / "none.yaml"), "x.py"])


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python /venv/bin/accelerate launch --x y.py", ["--x", "y.py"]),
        ("/venv/bin/accelerate-launch y.py", ["y.py"]),
        ("python -m accelerate.commands.launch y.py", ["y.py"]),
        ("python -m accelerate.commands.accelerate_cli launch --quiet y.py", ["--quiet", "y.py"]),
        ("python -m torch.distributed.run y.py", None),
        ("python accelerate test", None),
        ("bash", None),
    ],
)
def test_the_launcher_is_known_by_its_command_line(command, expected):
    assert arguments_of(command.split()) == expected


@pytest.mark.parametrize(
    ("asked", "run", "message"),
    [
        (Strategy("ddp", 2, None, "f.yaml"), Strategy("single", 1, "no"), "the processes did not meet"),
        (Strategy("fsdp2", 2, None, "f.yaml"), Strategy("ddp", 2, "no"), "asks for fsdp2 on 2 processes, .* got ddp"),
        (Strategy("zero3", 2, None, "f.yaml"), Strategy("zero2", 2, "no"), "got zero2"),
        (
            Strategy("ddp", 2, "bf16", "f.yaml"),
            Strategy("ddp", 2, "no"),
            "mixed_precision bf16, but the recipe says no",
        ),
        (Strategy("single", 1, "no", "f.yaml"), Strategy("single", 1, "bf16"), "mixed_precision no"),
    ],
)
def test_a_difference_is_one_clear_line(asked, run, message):
    with pytest.raises(SemiHVError, match=message) as caught:
        check_strategy(asked, run)
    assert "\n" not in str(caught.value)


def test_what_the_recipe_expects_counts_too():
    run = Strategy("ddp", 2, "no")
    check_strategy(None, run, name="ddp", processes=2)
    check_strategy(Strategy("ddp", 2, None, "f"), run)
    with pytest.raises(SemiHVError, match="expects zero3, but the run got ddp on 2 processes"):
        check_strategy(None, run, name="zero3")
    with pytest.raises(SemiHVError, match="expects 8 processes"):
        check_strategy(None, run, processes=8)
    with pytest.raises(SemiHVError, match="expect_strategy is 'zero'"):
        check_strategy(None, run, name="zero")
