"""Classification through the real client and a server that looks at the images."""

import json
import random
from dataclasses import replace
from itertools import permutations

import pytest
from class_server import LOCAL, ClassServer, case_of, cases_of, client_of, picture, values_of

from semihv_hf.curation.classify import (
    CannotAsk,
    Classified,
    ClassifyOptions,
    asked_names,
    classification_requests,
    classify,
    labels_from_replies,
    provider_of,
    spread,
)
from semihv_hf.curation.classify_schema import reply_shape
from semihv_hf.curation.vocabulary import BODY_PARTS, MODALITIES
from semihv_hf.data.schema import LABELS, Fact, Label
from semihv_hf.errors import SemiHVError
from semihv_hf.llm import ChatClient, ChatResult, ResponseCache, ServerSettings

VARIED = replace(LOCAL, temperature=0.7)


def replies(name, values, model="m"):
    """Results as a client gives them."""
    shape = reply_shape((name,))
    return [
        ChatResult(f"1 classify {n}", "", parsed=shape.model_validate({name: value}), model=model)
        for n, value in enumerate(values)
    ]


def test_the_image_decides_and_the_caption_only_helps():
    cases = cases_of(19)
    with ClassServer() as server, client_of(server) as client:
        done = classify(cases, client)
        assert len(server.bodies) == 19
    for n, one in enumerate(done):
        assert one.failures == []
        assert values_of(one.labels) == {
            "topic": f"subject{n}",
            "modality": MODALITIES[n % 19],
            "body_part": BODY_PARTS[n % 7],
        }
        for label in one.labels:
            assert (label.decided_by, label.model, label.agreement) == ("model", "a-model-0001", None)
            assert label.source == ClassifyOptions().prompt_version


def test_the_model_is_asked_only_for_what_no_rule_tells():
    chest = case_of(picture("ct", "other"), source="mimic_cxr")
    quilt = case_of(picture("em", "abdomen"), source="quilt", facts=[Fact("modality", "histology", "release")])
    known = case_of(picture("ct", "other"), source="mama_mia")
    assert [asked_names(case, ClassifyOptions()) for case in (chest, quilt, known)] == [
        ("topic",), ("topic", "body_part"), (),
    ]  # fmt: skip
    assert classification_requests(known, LOCAL, ClassifyOptions()) == []
    assert classification_requests(chest, LOCAL, ClassifyOptions(names=("modality", "body_part"))) == []
    with ClassServer() as server, client_of(server) as client:
        done = classify([chest, quilt, known], client)
        fields = [body["response_format"]["json_schema"]["schema"]["required"] for body in server.bodies]
    assert sorted(fields) == [["topic"], ["topic", "body_part"]]
    assert [values_of(one.labels) for one in done] == [
        {"topic": "other", "modality": "x-ray", "body_part": "thorax"},
        {"topic": "other", "modality": "pathology", "body_part": "abdomen"},
        {"topic": "breast cancer", "modality": "mr", "body_part": "thorax"},
    ]
    assert [label.decided_by for label in done[1].labels] == ["model", "rule", "model"]


def test_labels_from_before_stay_and_are_not_asked_for_again():
    case = case_of(picture("ct", "thorax"))
    case.labels = [Label("modality", "em", "model", "label file a.txt"), Label("topic", "old", "rule", "an old rule")]
    assert asked_names(case, ClassifyOptions()) == ("topic", "body_part")
    assert asked_names(case, ClassifyOptions(keep=False)) == LABELS
    with ClassServer() as server, client_of(server) as client:
        assert values_of(classify([case], client)[0].labels)["modality"] == "em"
        again = classify([case], client, ClassifyOptions(keep=False))[0].labels
    assert values_of(again) == {"topic": "other", "modality": "ct", "body_part": "thorax"}


def test_one_by_one_batched_and_in_any_order_give_the_same(tmp_path):
    cases = cases_of(5)
    with ClassServer() as server:
        with client_of(server) as client:
            together = classify(cases, client)
            backwards = classify(cases[::-1], client)[::-1]
            single = [classify([case], client)[0] for case in cases]
    assert together == backwards == single


def test_requests_do_not_depend_on_what_was_asked_before():
    first, second = cases_of(2)
    alone = classification_requests(second, LOCAL, ClassifyOptions())
    classification_requests(first, LOCAL, ClassifyOptions())
    assert classification_requests(second, LOCAL, ClassifyOptions()) == alone


def test_repeats_give_the_most_frequent_class_and_its_share():
    case = case_of(picture("ct", "thorax"), caption="nodule")
    wobble = {2: {"modality": "mr"}, 4: {"modality": "em", "body_part": "other"}}
    with ClassServer(lambda reply, before: {**reply, **wobble.get(before, {})}) as server:
        with client_of(server, temperature=0.7) as client:
            done = classify([case], client, ClassifyOptions(repeats=5))[0]
        assert len(server.bodies) == 5
    assert {label.name: (label.value, label.agreement) for label in done.labels} == {
        "topic": ("nodule", 1.0),
        "modality": ("ct", 0.6),
        "body_part": ("thorax", 0.8),
    }


def test_repeats_whose_answers_could_not_differ_are_refused_before_any_call():
    case = case_of(picture("ct", "thorax"))
    with pytest.raises(SemiHVError, match="copies of one answer"):
        classification_requests(case, LOCAL, ClassifyOptions(repeats=3))
    requests = classification_requests(case, VARIED, ClassifyOptions(repeats=3))
    assert [request.repeat for request in requests] == [0, 1, 2]
    assert len({request.id for request in requests}) == 3
    assert len({json.dumps(request.messages) for request in requests}) == 1


@pytest.mark.parametrize(("name", "answers", "value", "share"), [
    ("modality", ["mr", "ct", "mr"], "mr", 2 / 3),
    # Equally frequent: the first of the vocabulary, "other" last.
    ("modality", ["mr", "ct"], "ct", 1 / 2), ("body_part", ["other", "lower extremity"], "lower extremity", 1 / 2),
    ("modality", ["em"], "em", None),
    # Topics agree in their keywords, in any order.
    ("topic", [["a", "b"], ["b", "a"], ["c"]], "a, b", 2 / 3),
    # Of three different ones that whose keywords the others name most often.
    ("topic", [["x"], ["nodule", "lung"], ["nodule"]], "nodule", 1 / 3),
    ("topic", [["y"], ["x"]], "x", 1 / 2),
])  # fmt: skip
def test_the_vote_is_the_same_in_any_order_of_the_answers(name, answers, value, share):
    options = ClassifyOptions(names=(name,), repeats=len(answers))
    case = case_of(b"x")
    for order in permutations(replies(name, answers)):
        labels, failures = labels_from_replies(case, order, options)
        assert failures == []
        assert [(label.value, label.agreement) for label in labels] == [(value, share)]


def test_a_server_without_schemas_is_understood_also_in_other_spellings():
    def loosely(reply, before):
        said = json.dumps({"topic": "Gall Stones; cholecystitis", "modality": "Altralsound", "body_part": "Abdominal"})
        return f"Here it is: {said}"

    with ClassServer(loosely, formats=False) as server, client_of(server) as client:
        done = classify([case_of(picture("ultrasound", "abdomen"))], client)[0]
    assert values_of(done.labels) == {
        "topic": "gall stones, cholecystitis", "modality": "ultrasound", "body_part": "abdomen",
    }  # fmt: skip
    assert done.failures == []


def test_an_answer_that_is_no_class_is_a_named_failure_and_no_label():
    with ClassServer(lambda reply, before: {**reply, "modality": "tricorder"}) as server, client_of(server) as client:
        done = classify(
            [case_of(picture("ct", "thorax")), case_of(picture("mr", "thorax"), source="mama_mia")], client
        )
    assert done[0].labels == [] and [failure.kind for failure in done[0].failures] == ["schema"]
    assert done[1].failures == [] and len(done[1].labels) == 3


def test_failed_repeats_are_named_and_the_share_is_of_the_answers():
    case = case_of(picture("ct", "thorax"))
    with ClassServer(lambda reply, before: 400 if before == 1 else reply) as server:
        with client_of(server, temperature=0.7, max_concurrency=1) as client:
            done = classify([case], client, ClassifyOptions(repeats=3))[0]
    assert [failure.kind for failure in done.failures] == ["bad_request"]
    assert [(label.value, label.agreement) for label in done.labels][1:] == [("ct", 1.0), ("thorax", 1.0)]


def test_a_second_run_asks_only_for_the_failures(tmp_path):
    cases, broken = cases_of(6), {"now": True}

    def answer(reply, before):
        return "I cannot." if broken["now"] and reply["modality"] in ("ct", "mr") else reply

    with ClassServer(answer) as server, ResponseCache(tmp_path / "answers") as cache:
        with client_of(server, cache=cache) as client:
            first = classify(cases, client)
            asked = len(server.bodies)
            broken["now"] = False
            second = classify(cases, client)
        assert len(server.bodies) - asked == 2
    assert [len(one.failures) for one in first] == [0, 0, 1, 1, 0, 0]
    assert all(one.failures == [] and len(one.labels) == 3 for one in second)


def test_every_case_of_a_faulty_server_ends_with_its_labels_or_a_named_failure(tmp_path):
    faults, sick = (500, 503, 400, "I cannot.", "", '{"modality": "ct"}'), {"now": True}

    def answer(reply, before):
        rng = random.Random(f"{reply} {before}")
        return rng.choice(faults) if sick["now"] and rng.random() < 0.3 else reply

    cases = cases_of(19)
    with ClassServer(answer) as server, ResponseCache(tmp_path / "answers") as cache:
        with client_of(server, cache=cache) as client:
            first, sick["now"] = classify(cases, client), False
            asked = len(server.bodies)
            second = classify(cases, client)
        failed = [bool(one.failures) for one in first]
        assert 1 <= sum(failed) < 19 and len(server.bodies) - asked == sum(failed)
    for case, one, other in zip(cases, first, second, strict=True):
        assert len(one.labels) == (0 if one.failures else 3)
        assert all(failure.kind and failure.detail for failure in one.failures)
        assert other.failures == [] and (one.failures or one.labels == other.labels), case.source_id


def test_a_case_without_a_readable_image_is_a_named_failure():
    bad = [case_of(), case_of(b"no image"), case_of(picture("ct", "thorax"), picture("mr", "abdomen")[:60])]
    with pytest.raises(CannotAsk, match="no image"):
        classification_requests(bad[0], LOCAL, ClassifyOptions())
    with ClassServer() as server, client_of(server) as client:
        done = classify([*bad, case_of(picture("em", "other"))], client)
        assert len(server.bodies) == 1
    assert [[failure.kind for failure in one.failures] for one in done] == [["image"], ["image"], ["image"], []]
    assert "image 2 of 2" in done[2].failures[0].detail
    assert done[0].labels == [] and values_of(done[3].labels)["modality"] == "em"
    known = case_of(b"no image", source="mama_mia")
    assert classification_requests(known, LOCAL, ClassifyOptions()) == [], "what rules tell needs no image"


def test_images_are_sent_at_the_stated_size_and_some_of_many():
    from semihv_hf.llm.keys import image_bytes

    def sent(options, *images, settings=LOCAL):
        (request,) = classification_requests(case_of(*images), settings, options)
        return [part["image_url"] for part in request.messages[1]["content"][1:]]

    def size(entry):
        import io

        from PIL import Image

        with Image.open(io.BytesIO(image_bytes(entry["url"]))) as image:
            return image.size

    large = picture("ct", "thorax", (1200, 600))
    assert [size(entry) for entry in sent(ClassifyOptions(), large)] == [(512, 256)]
    assert [size(entry) for entry in sent(ClassifyOptions(longest=100), large)] == [(100, 50)]
    assert [size(entry) for entry in sent(ClassifyOptions(longest=1024, detail="high"), large)] == [(1024, 512)]
    assert "detail" not in sent(ClassifyOptions(), large)[0]
    openai = ServerSettings("https://api.openai.com/v1", "gpt-4o-mini")
    assert sent(ClassifyOptions(), large, settings=openai)[0]["detail"] == "low"
    many = [picture("ct", "thorax", (n + 10, 8)) for n in range(10)]
    assert [size(entry)[0] for entry in sent(ClassifyOptions(), *many)] == [10, 13, 16, 19]
    assert [size(entry)[0] for entry in sent(ClassifyOptions(most_images=1), *many)] == [10]


def test_images_are_spread_evenly_and_none_is_taken_twice():
    for count in range(1, 30):
        for most in range(1, 12):
            chosen = spread(count, most)
            assert len(set(chosen)) == len(chosen) == min(count, most) and chosen == sorted(chosen)
            assert chosen[0] == 0 and (most == 1 or chosen[-1] == count - 1)


def test_openai_is_known_by_its_address_only():
    hosts = {"https://api.openai.com/v1": "openai", "https://mine.openai.azure.com/v1": "openai",
             "https://openai.com.evil.org/v1": "local", "http://127.0.0.1:8000/v1": "local",
             "https://notopenai.com/v1": "local"}  # fmt: skip
    assert {url: provider_of(ServerSettings(url, "m")) for url in hosts} == hosts


@pytest.mark.parametrize("wrong", [
    {"names": ("colour",)}, {"names": ()}, {"repeats": 0}, {"repeats": True}, {"check_share": 1.5}, {"longest": 0},
    {"detail": "middle"}, {"provider": "nobody"}, {"most_images": 0}, {"most_words": 0.5},
])  # fmt: skip
def test_choices_without_sense_are_refused(wrong):
    with pytest.raises(SemiHVError):
        ClassifyOptions(**wrong)


def test_the_source_stands_in_the_request_for_the_licence_gate():
    (request,) = classification_requests(case_of(picture("ct", "other"), source="jama"), LOCAL, ClassifyOptions())
    assert request.sources == ("jama",)
    away = ServerSettings("https://api.example.org/v1", "m", api_key_env="A_KEY_FOR_THIS_TEST")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_KEY_FOR_THIS_TEST", "sk-nothing")
        with ChatClient(away) as client:
            done = classify([case_of(picture("ct", "other"), source="mimic_cxr")], client)[0]
            assert client.calls == 0
    assert [failure.kind for failure in done.failures] == ["licence"]
    assert values_of(done.labels) == {"modality": "x-ray", "body_part": "thorax"}


def test_no_cases_are_no_work():
    with ClassServer() as server, client_of(server) as client:
        assert classify([], client) == []
        assert classify([case_of(picture("ct", "thorax"), source="mama_mia")], client)[0].failures == []
        assert server.bodies == []
    assert Classified() == Classified([], [])
