"""`import semihv_hf` is quick and light, and afterwards transformers and datasets know its names."""

import json
import shutil

import pytest

import semihv_hf

PRINT_TABLES = """
import json
from transformers import AutoModel, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
config = CONFIG_MAPPING["pmc_cambrian"]
classes = [config, AutoModel._model_mapping[config], AutoModelForImageTextToText._model_mapping[config],
           PROCESSOR_MAPPING[config], *IMAGE_PROCESSOR_MAPPING[config].values()]
print(json.dumps([f"{c.__module__.split('.')[0]}:{c.__name__}" for c in classes]))
"""

# What was imported before decides when the registration can happen; each of these is a different moment.
ORDERS = {
    "semihv_hf first": "import semihv_hf",
    "half-way through transformers' base modules": "import semihv_hf; from transformers import LlamaForCausalLM",
    "from inside the model's own import": "from semihv_hf import PMCCambrianForConditionalGeneration",
    "transformers' Auto classes first": "from transformers import AutoConfig, AutoProcessor; import semihv_hf",
}


def test_import_is_quick_and_brings_no_heavy_library(run_python):
    code = """
import json, sys, time
started = time.process_time()  # unlike the clock, it does not depend on what else runs
import semihv_hf
seconds = time.process_time() - started
heavy = ("torch", "transformers", "datasets", "evaluate", "PIL", "numpy")
print(json.dumps([seconds, [name for name in heavy if name in sys.modules]]))
"""
    runs = [json.loads(run_python(code).stdout) for _ in range(3)]
    assert all(loaded == [] for _, loaded in runs)
    assert min(seconds for seconds, _ in runs) <= 1.0


def test_every_public_name_resolves():
    assert len(semihv_hf.__all__) == 8
    for name in semihv_hf.__all__:
        assert getattr(semihv_hf, name) is not None
        assert name in dir(semihv_hf)
    assert semihv_hf.PMCCambrianModel.__name__ == "PMCCambrianModel"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'PMCLlava'"):
        semihv_hf.PMCLlava  # noqa: B018


@pytest.mark.parametrize("order", ORDERS)
def test_auto_classes_know_the_model_whatever_was_imported_first(order, run_python):
    classes = json.loads(run_python(ORDERS[order] + PRINT_TABLES).stdout)
    assert classes == [
        "semihv_hf:PMCCambrianConfig",
        "semihv_hf:PMCCambrianModel",
        "semihv_hf:PMCCambrianForConditionalGeneration",
        "semihv_hf:PMCCambrianProcessor",
        "semihv_hf:PMCCambrianImageProcessorPil",
        "semihv_hf:PMCCambrianImageProcessor",
    ]


def test_registering_again_changes_nothing():
    import sys

    before = list(sys.meta_path)
    semihv_hf.register()
    assert sys.meta_path == before


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_text_model):
    """A saved model with all four towers."""
    from semihv_hf.models.export import save_checkpoint
    from semihv_hf.quickstart.model import build_small_model

    model, processor = build_small_model(tiny_text_model, seed=0)
    return save_checkpoint(model, processor, tmp_path_factory.mktemp("checkpoint") / "tiny")


LOAD_ALL = """
import sys
import semihv_hf
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor
for folder in sys.argv[1:]:
    for auto in (AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, AutoImageProcessor):
        loaded = auto.from_pretrained(folder)
        print(type(loaded).__module__.split(".")[0], type(loaded).__name__)
"""


def test_a_saved_checkpoint_loads_without_trusting_remote_code(checkpoint, tmp_path, run_python):
    # A copy without the code beside the weights: nothing but the registration can know the classes.
    for path in checkpoint.iterdir():
        if path.suffix != ".py":
            shutil.copy(path, tmp_path)
    lines = run_python(LOAD_ALL, checkpoint, tmp_path).stdout.splitlines()
    expected = [
        "semihv_hf PMCCambrianConfig",
        "semihv_hf PMCCambrianModel",
        "semihv_hf PMCCambrianForConditionalGeneration",
        "semihv_hf PMCCambrianProcessor",
    ]
    assert lines[:4] == lines[5:9] == expected
    assert all(line.startswith("semihv_hf PMCCambrianImageProcessor") for line in (lines[4], lines[9]))


@pytest.mark.parametrize("order", ["import semihv_hf, datasets", "import datasets, semihv_hf"])
def test_datasets_knows_the_builders_of_the_package(order, root, run_python):
    names = sorted(path.parent.name for path in (root / "dataset_scripts").glob("*/builder.py"))
    assert "semihvision" in names
    code = (
        order
        + """
import json
from datasets.load import import_main_class
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES as modules
ours = {name: module for name, (module, _) in modules.items() if module.startswith("semihv_hf.")}
print(json.dumps({name: import_main_class(module).__name__ for name, module in ours.items()}))
"""
    )
    assert sorted(json.loads(run_python(code).stdout)) == names


def test_a_changed_helper_changes_the_cache_key(tmp_path):
    from semihv_hf.registration import sources_hash

    for name in ("builder.py", "helper.py"):
        (tmp_path / name).write_text("a = 1\n")
    before = sources_hash([tmp_path])
    assert sources_hash([tmp_path]) == before
    (tmp_path / "helper.py").write_text("a = 2\n")
    assert sources_hash([tmp_path]) != before
