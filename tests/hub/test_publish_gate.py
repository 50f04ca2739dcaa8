"""What a checkpoint was trained on, as the gate reads it from the records of its stages."""

import pytest
from publish_folders import drawn_case, write_dataset

from semihv_hf.errors import SemiHVError
from semihv_hf.files import write_json
from semihv_hf.hub.gate import check_all_allowed, decide, gated_fields, model_sources
from semihv_hf.training.stage_record import sources_before


def stage(run, name, **record):
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    write_json(folder / "stage.json", {"stage": name, **record})
    return folder


def listed(*sources):
    return [{"source": source, "licence": "as stated", "rows": 3} for source in sources]


def test_all_stages_count_and_no_others(tmp_path):
    stage(tmp_path, "0_start", sources=[])
    stage(tmp_path, "1_alignment", model="0_start", sources=listed("pydicom", "pmc_vqa"))
    stage(tmp_path, "1_other", model="0_start", sources=listed("padchest"))
    last = stage(tmp_path, "2_instruction", model="1_alignment", sources=listed("pydicom"))
    stage(tmp_path, "3_annealing", model="2_instruction", sources=listed("mimic_cxr"))
    assert model_sources(last) == ({"pydicom": 6, "pmc_vqa": 3}, {})


def test_a_stage_before_counts_whatever_it_is_called(tmp_path):
    stage(tmp_path, "instruction", sources=listed("mimic_cxr"))
    assert set(model_sources(stage(tmp_path, "annealing", model="instruction", sources=listed("pydicom")))[0]) == {
        "mimic_cxr",
        "pydicom",
    }


def test_another_folder_of_the_same_name_is_not_the_start(tmp_path):
    """The start lay in another run, whose record was another one."""
    stage(tmp_path, "1_alignment", sources=listed("pydicom"))
    elsewhere = stage(tmp_path / "elsewhere", "1_alignment", sources=listed("mimic_cxr"))
    told = sources_before(str(elsewhere))
    assert told["sources_known_before"] == listed("mimic_cxr")
    last = stage(tmp_path, "2_instruction", model="1_alignment", sources=listed("pydicom"), **told)
    with pytest.raises(SemiHVError, match="its start, 1_alignment, was trained on is not recorded"):
        model_sources(last)
    again = stage(
        tmp_path, "3_annealing", model="1_alignment", sources=[], **sources_before(str(last.parent / "1_alignment"))
    )
    assert model_sources(again) == ({"pydicom": 3}, {})


@pytest.mark.parametrize("name", ["1_alignment", "../elsewhere/checkpoints/1_alignment"])
def test_a_record_that_names_itself_or_climbs_ends_undetermined(tmp_path, name):
    stage(tmp_path / "elsewhere", "1_alignment", sources=[])
    with pytest.raises(SemiHVError, match="is undetermined"):
        model_sources(stage(tmp_path, "1_alignment", model=name, sources=listed("pydicom")))


def test_what_came_before_may_be_in_the_record(tmp_path):
    stage(tmp_path, "0", model="org/base", sources=listed("pydicom"), sources_before=listed("mimic_cxr"))
    last = stage(tmp_path, "tuned", model="0", sources=listed("pydicom"))
    assert model_sources(last)[0] == {"pydicom": 6, "mimic_cxr": 3}


@pytest.mark.parametrize("early, allowed", [(0, True), (1, False), (None, False)])
def test_a_model_of_cases_before_the_day_is_refused_as_they_are(tmp_path, early, allowed):
    entry = {"source": "eurorad", "licence": "CC-BY-4.0", "rows": 3, "early": early}
    entry = {name: value for name, value in entry.items() if value is not None}
    counts, too_early = model_sources(stage(tmp_path, "1_alignment", sources=[entry]))
    (eurorad,) = decide("model", counts, early=too_early)
    assert eurorad.decision.allowed is allowed
    if not allowed:
        assert f"{early or 3} of 3 rows" in eurorad.decision.reason and "2015-07-06" in eurorad.decision.reason


def test_a_source_without_rows_is_asked_about_too(tmp_path):
    last = stage(tmp_path, "streamed", sources=[{"source": "mimic_cxr", "rows": 0}])
    assert "mimic_cxr" in model_sources(last)[0]


def test_the_rows_of_the_run_are_counted_where_the_record_names_a_config(tmp_path):
    write_dataset(tmp_path / "data", [drawn_case(0), drawn_case(1, "llava_med")])
    last = stage(tmp_path, "1_alignment", dataset="data", dataset_config="cases")
    assert model_sources(last) == ({"pydicom": 1, "llava_med": 1}, {})


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
        {"sources": listed("pydicom"), "model": "0_tuned"},
    ],
    ids=[
        *("nothing", "elsewhere", "start unknown", "no list", "no name", "base unknown", "start without record"),
        "start of the start unknown",
    ],
)
def test_what_is_not_recorded_is_undetermined(tmp_path, record):
    write_dataset(tmp_path / "data", [drawn_case(0)])
    (tmp_path / "checkpoints" / "never_recorded").mkdir(parents=True)
    stage(tmp_path, "0_tuned", model="org/base", sources=listed("pydicom"))
    last = stage(tmp_path, "1_alignment", **record)
    with pytest.raises(SemiHVError, match="is undetermined.*Nothing was uploaded"):
        model_sources(last)


def test_no_record_and_a_broken_one(tmp_path):
    folder = stage(tmp_path, "1_alignment", sources=[])
    (folder / "stage.json").write_text("{")
    for text in ("{", "[]", "[" * 100_000):
        (folder / "stage.json").write_text(text)
        with pytest.raises(SemiHVError, match="no readable record"):
            model_sources(folder)
    (folder / "stage.json").unlink()
    with pytest.raises(SemiHVError, match="undetermined: it has no stage.json"):
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
