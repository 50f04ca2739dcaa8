"""What a checkpoint was trained on, as the gate reads it from the records of its stages."""

import pytest
from publish_folders import drawn_case, write_dataset

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json
from semihv_hf.hub.gate import check_all_allowed, decide, gated_fields, model_sources


def stage(run, name, **record):
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    write_json(folder / "stage.json", {"stage": name, **record})
    return folder


def listed(*sources):
    return [{"source": source, "licence": "as stated", "rows": 3} for source in sources]


def test_all_stages_count(tmp_path):
    stage(tmp_path, "0_start", sources=[])
    stage(tmp_path, "1_alignment", model="0_start", sources=listed("pydicom", "pmc_vqa"))
    last = stage(tmp_path, "2_instruction", model="1_alignment", sources=listed("pydicom"))
    stage(tmp_path, "3_annealing", model="2_instruction", sources=listed("mimic_cxr"))
    assert model_sources(last) == {"pydicom": 6, "pmc_vqa": 3}


def test_what_came_before_may_be_in_the_record(tmp_path):
    last = stage(tmp_path, "tuned", model="org/base", sources=listed("pydicom"), sources_before=listed("mimic_cxr"))
    assert set(model_sources(last)) == {"pydicom", "mimic_cxr"}


def test_a_source_without_rows_is_asked_about_too(tmp_path):
    last = stage(tmp_path, "streamed", sources=[{"source": "mimic_cxr", "rows": 0}])
    assert "mimic_cxr" in model_sources(last)


def test_the_rows_of_the_run_are_counted_where_the_record_names_a_config(tmp_path):
    write_dataset(tmp_path / "data", [drawn_case(0), drawn_case(1, "llava_med")])
    last = stage(tmp_path, "1_alignment", dataset="data", dataset_config="cases")
    assert model_sources(last) == {"pydicom": 1, "llava_med": 1}


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"dataset": "org/other", "dataset_config": "cases"},
        {"dataset": "data", "dataset_config": "cases", "model": "org/base"},
        {"sources": "pydicom"},
        {"sources": [{"rows": 3}]},
        {"sources": listed("pydicom"), "model": "org/base"},
        {"sources": listed("pydicom"), "model": "never_recorded"},
    ],
    ids=["nothing", "elsewhere", "start unknown", "no list", "no name", "base unknown", "start without record"],
)
def test_what_is_not_recorded_is_undetermined(tmp_path, record):
    write_dataset(tmp_path / "data", [drawn_case(0)])
    (tmp_path / "checkpoints" / "never_recorded").mkdir(parents=True)
    last = stage(tmp_path, "1_alignment", **record)
    with pytest.raises(SemiHVError, match="is undetermined.*Nothing was uploaded"):
        model_sources(last)


def test_no_record_and_a_broken_one(tmp_path):
    folder = stage(tmp_path, "1_alignment", sources=[])
    (folder / "stage.json").write_text("{")
    with pytest.raises(SemiHVError, match="no readable stage.json"):
        model_sources(folder)
    (folder / "stage.json").unlink()
    with pytest.raises(SemiHVError, match="no readable stage.json"):
        model_sources(folder)


def test_a_model_is_asked_about_what_is_derived():
    (package,) = decide("model", {"pydicom-data": 5})
    assert package.decision.allowed and not package.private
    (package,) = decide("dataset", {"pydicom-data": 5})
    assert not package.decision.allowed
    mimic = decide("model", {"mimic_cxr": 5, "pydicom": 1})
    with pytest.raises(SemiHVError, match="mimic_cxr.*physionet.org"):
        check_all_allowed(mimic)


def test_questions_come_from_the_registry():
    decisions = decide("model", {"llava_med": 5, "pydicom": 1})
    asked = gated_fields("model", decisions)
    assert "https://github.com/microsoft/LLaVA-Med" in asked["extra_gated_prompt"]
    assert [name for name in asked["extra_gated_fields"] if "commercial" in name]
    assert not [name for name in asked["extra_gated_fields"] if "pass the data on" in name]
    assert [name for name in gated_fields("dataset", decisions)["extra_gated_fields"] if "pass the data on" in name]
    assert gated_fields("dataset", decide("dataset", {"pydicom": 1})) == {}
