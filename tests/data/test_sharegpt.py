"""Rows in the ShareGPT style: what is read, what is refused, and that writing back changes nothing."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semihv_hf.data.checks import validate_record
from semihv_hf.data.messages import count_images, message, message_text
from semihv_hf.data.schema import Case
from semihv_hf.data.sharegpt import LLAVA, MS_SWIFT, Conversation, Malformed, Variant, read_row
from semihv_hf.data.sharegpt_export import sharegpt_rows, write_row
from semihv_hf.data.sources.conversations import record_of

IMAGE, HEAD = {"type": "image", "text": None}, {"from": "human", "value": "<image>\nWhat is it?"}
ANSWER = {"from": "gpt", "value": "A liver."}


def text(said: str) -> dict:
    return {"type": "text", "text": said}


def contents(row: dict) -> list:
    return [item["content"] for item in read_row(row).messages]


@pytest.mark.parametrize("conversations", ["conversations", "conversatons", "messages"])
@pytest.mark.parametrize(("speaker", "said"), [("from", "value"), ("role", "content"), ("role", "value")])
@pytest.mark.parametrize(("user", "assistant"), [("human", "gpt"), ("user", "assistant"), ("Human", "GPT")])
@pytest.mark.parametrize("image", [{"image": "a.jpg"}, {"image": ["a.jpg"]}, {"images": ["a.jpg"]}])
def test_every_spelling_of_keys_and_speakers_reads_the_same(conversations, speaker, said, user, assistant, image):
    row = {conversations: [{speaker: user, said: "<image>\nWhat is it?"}, {speaker: assistant, said: "A liver."}]}
    row |= image
    read = read_row(row)
    assert read.images == ["a.jpg"]
    assert read.messages == [message("user", "What is it?", 1), message("assistant", "A liver.")]
    assert write_row(read) == row


@pytest.mark.parametrize("image", [{}, {"image": None}, {"image": ""}, {"image": []}, {"images": None}])
def test_a_row_without_an_image_is_a_conversation_in_text(image):
    row = {
        "conversations": [{"from": "human", "value": "What is CT?"}, {"from": "gpt", "value": "Tomography."}],
        **image,
    }
    read = read_row(row)
    assert read.images == [] and count_images(read.messages) == 0
    assert write_row(read) == row


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ("<image>\nWhat?", [IMAGE, text("What?")]),
        ("<image>What?", [IMAGE, text("What?")]),
        ("What?\n<image>", [text("What?"), IMAGE]),
        ("What? <image> ", [text("What?"), IMAGE]),
        ("Look at <image> closely", [text("Look at "), IMAGE, text(" closely")]),
        (" \n<image>\n\nWhat?", [IMAGE, text("What?")]),
        ("<image>", [IMAGE]),
        ("<image_1> What?", [IMAGE, text("What?")]),
        ("What?", [IMAGE, text("What?")]),
        ("", [IMAGE]),
    ],
)
def test_a_marker_becomes_an_image_part_where_it_stands(said, content):
    row = {"conversations": [{"from": "human", "value": said}, ANSWER], "image": "a.jpg"}
    assert contents(row)[0] == content
    assert write_row(read_row(row)) == row


def test_images_may_be_shown_in_any_turn():
    turns = [
        HEAD,
        ANSWER,
        {"from": "human", "value": "And here? <image>"},
        {"from": "gpt", "value": "<image> A lung."},
    ]
    row = {"conversations": turns, "image": ["1.png", "2.png", "3.png"]}
    assert contents(row) == [
        [IMAGE, text("What is it?")], [text("A liver.")], [text("And here?"), IMAGE], [IMAGE, text("A lung.")],
    ]  # fmt: skip
    assert write_row(read_row(row)) == row


def test_numbered_markers_order_the_images_and_a_second_mention_shows_nothing():
    said = "Compare <image_2> with <image_1>. Is <image_2> darker?"
    row = {"conversations": [{"from": "human", "value": said}, ANSWER], "image": ["one.png", "two.png"]}
    read = read_row(row)
    assert read.images == ["two.png", "one.png"]
    assert contents(row)[0] == [
        text("Compare "), IMAGE, text(" with "), IMAGE, text(". Is <image_2> darker?"),
    ]  # fmt: skip
    assert write_row(read) == row


def test_several_images_without_markers_open_the_first_question():
    row = {"conversations": [{"from": "human", "value": "What are they?"}, ANSWER], "image": ["a", "b", "c"]}
    assert contents(row)[0] == [IMAGE, IMAGE, IMAGE, text("What are they?")]
    assert write_row(read_row(row)) == row


def test_the_image_of_a_eurorad_row_stands_in_a_turn_of_its_own():
    turns = [{"role": "human", "value": "Clinical History:\nPain.\n<image>"}, {"role": "gpt", "value": "A stone."}]
    row = {"conversations": [*turns, {"image": "/authors/EURORAD/A case/fig1.jpg"}]}
    read = read_row(row)
    assert read.images == ["/authors/EURORAD/A case/fig1.jpg"]
    assert [item["role"] for item in read.messages] == ["user", "assistant"]
    assert write_row(read) == row


def test_an_instruction_is_read_from_a_turn_or_from_the_row():
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]
    in_turn = {"messages": [{"role": "system", "content": "Be brief."}, *turns]}
    in_row = {"system": "Be brief.", "messages": turns}
    assert read_row(in_turn).messages == read_row(in_row).messages
    assert read_row(in_row).messages[0] == message("system", "Be brief.")
    assert write_row(read_row(in_turn)) == in_turn
    assert write_row(read_row(in_row)) == in_row


def test_numbers_and_parts_are_read_as_text():
    parts = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "How many?"}]
    row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": 3}]}
    read = read_row(row)
    assert read.images == ["x.png"]
    assert [item["content"] for item in read.messages] == [[IMAGE, text("How many?")], [text("3")]]


def test_a_last_question_without_an_answer_is_left_out_and_noted():
    row = {"conversations": [HEAD, ANSWER, {"from": "human", "value": "And now?"}], "image": "a.jpg"}
    read = read_row(row)
    assert [item["role"] for item in read.messages] == ["user", "assistant"]
    assert read.notes == ("the last question has no answer and is left out",)


def of(*turns, **keys) -> dict:
    return {"conversations": list(turns), "image": "a.jpg", **keys}


@pytest.mark.parametrize(
    ("row", "detail", "reason"),
    [
        ("a text", "not an object", "malformed row"),
        ({"id": 1}, "none of conversations", "malformed row"),
        ({"conversations": []}, "empty", "malformed row"),
        ({"conversations": "hello"}, "is text", "malformed row"),
        (of("hello"), "turn 1 is text", "malformed row"),
        (of({"from": "human"}, ANSWER), "turn 1 has no speaker or no text", "malformed row"),
        (of({"from": "tool", "value": "x"}, ANSWER), "spoken by 'tool'", "malformed row"),
        (of({"from": None, "value": "x"}, ANSWER), "spoken by 'None'", "malformed row"),
        (of(HEAD, {"from": "gpt", "value": "  "}), "turn 2 is empty", "malformed row"),
        (of(HEAD, {"from": "gpt", "value": None}), "turn 2 is empty", "malformed row"),
        (of(HEAD, {"from": "gpt", "value": True}), "turn 2 says is true or false", "malformed row"),
        (of(HEAD, {"from": "gpt", "value": {"a": 1}}), "turn 2 says is an object", "malformed row"),
        (of(ANSWER, HEAD), "turn 1 is by the assistant", "malformed row"),
        (of(HEAD, HEAD, ANSWER), "turn 2 is by the user", "malformed row"),
        (of(HEAD, ANSWER, ANSWER), "turn 3 is by the assistant", "malformed row"),
        (of(HEAD, {"from": "system", "value": "Stop."}), "turn 2 is by the system", "malformed row"),
        (of({"from": "human", "value": "Hello?"}), "nothing is answered", "malformed row"),
        (of(HEAD), "shows an image and has no answer", "malformed row"),
        (of(HEAD, ANSWER, image=["a", "b"]), "1 image markers for 2 images", "malformed row"),
        (of(HEAD, {"from": "gpt", "value": "<image>"}), "2 image markers for 1 images", "malformed row"),
        (of({"from": "human", "value": "<image_3>?"}, ANSWER), "number the images [3]", "malformed row"),
        (of({"from": "human", "value": "<image_1><image>"}, ANSWER), "some are not", "malformed row"),
        (of(HEAD, ANSWER, image=7), "image is a number", "malformed row"),
        (of(HEAD, ANSWER, image=["a", None]), "lists what is no name", "malformed row"),
        (of(HEAD, ANSWER, images=["b.jpg"]), "twice, and differently", "malformed row"),
        (of(HEAD, ANSWER, image=None), "no image is named", "missing image"),
        (of(HEAD, ANSWER, image=""), "no image is named", "missing image"),
        ({"conversations": [HEAD, ANSWER]}, "no image is named", "malformed row"),
        ({"conversations": [HEAD, ANSWER, {"image": None}]}, "no image is named", "missing image"),
        ({"conversations": [{"image": "a.jpg"}]}, "no turn says anything", "malformed row"),
    ],
)
def test_what_is_no_conversation_is_a_value_with_its_reason(row, detail, reason):
    read = read_row(row)
    assert isinstance(read, Malformed)
    assert detail in read.detail and read.reason == reason


@pytest.mark.parametrize("row", [of(HEAD, ANSWER), of(HEAD, ANSWER, image=["a.jpg"]), of(ANSWER)])
def test_reading_leaves_the_row_as_it_was(row):
    before = copy.deepcopy(row)
    read_row(row)
    assert row == before


def test_a_text_that_reads_as_a_marker_is_not_written():
    with pytest.raises(ValueError, match="holds an image marker"):
        write_row(Conversation([], [message("user", "What does <image> mean?"), message("assistant", "A place.")]))
    with pytest.raises(ValueError, match="2 images for 1 image parts"):
        write_row(Conversation(["a", "b"], [message("user", "What?", 1), message("assistant", "A liver.")]))


# --- round trips -----------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<>", exclude_categories=["Cs"]), min_size=1).filter(
    str.strip
)
BLANKS = st.sampled_from(["", " ", "\n", "\n\n", " \n"])
NAMES = st.text("abcdefg_/0123456789", min_size=1).map(lambda name: name + ".jpg")


@st.composite
def rows(draw) -> dict:
    """Well-formed rows of every variant: one spelling a row, markers anywhere or nowhere, numbered or not."""
    speaker, said = draw(st.sampled_from([("from", "value"), ("role", "content"), ("role", "value")]))
    user, assistant = draw(st.sampled_from([("human", "gpt"), ("user", "assistant"), ("human", "assistant")]))
    files = draw(st.lists(NAMES, max_size=4))
    style = draw(st.sampled_from(["plain", "none", "<image_%d>", "<image%d>", "<image-%d>"]))
    order = draw(st.permutations(range(1, len(files) + 1)))
    markers = [] if style == "none" else ["<image>" if style == "plain" else style % number for number in order]
    turns = []
    pairs = draw(st.integers(1, 3))
    for index in range(2 * pairs):
        pieces = [draw(WORDS)]
        last = index == 2 * pairs - 1
        for _ in range(len(markers) if last else draw(st.integers(0, len(markers)))):
            marker = draw(BLANKS) + markers.pop(0) + draw(BLANKS)
            pieces.insert(draw(st.integers(0, len(pieces))), marker)
            if draw(st.booleans()):
                pieces.append(draw(WORDS))
        turns.append({speaker: assistant if index % 2 else user, said: "".join(pieces)})
    assert not markers
    row = {}
    if draw(st.booleans()):
        turns.insert(0, {speaker: "system", said: draw(WORDS)})
    elif draw(st.booleans()):
        row["system"] = draw(WORDS)
    row[draw(st.sampled_from(["conversations", "conversatons", "messages"]))] = turns
    key = draw(st.sampled_from(["image", "images"]))
    if len(files) == 1 and draw(st.booleans()):
        if draw(st.booleans()):
            row[key] = files[0]
        else:
            turns.append({key: files[0]})
    elif files:
        row[key] = files
    else:
        row |= draw(st.sampled_from([{}, {key: None}, {key: ""}, {key: []}]))
    return row


@settings(max_examples=150)
@given(rows())
def test_a_row_that_is_read_and_written_is_the_same_row(row):
    read = read_row(row)
    assert isinstance(read, Conversation), read
    assert write_row(read) == row
    again = read_row(write_row(read))
    assert again == read


@st.composite
def conversations(draw) -> Conversation:
    """Conversations as this package makes them: stripped texts, images before, after or between them."""
    words = WORDS.map(str.strip)
    messages, images = [], 0
    if draw(st.booleans()):
        messages.append(message("system", draw(words)))
    for index in range(2 * draw(st.integers(1, 3))):
        shown = draw(st.integers(0, 2))
        content = message("user", draw(words), shown)["content"]
        if draw(st.booleans()):
            content.append(dict(IMAGE))
            shown += 1
            if draw(st.booleans()):
                content.append(text(" " + draw(words)))
        images += shown
        messages.append({"role": ("user", "assistant")[index % 2], "content": content})
    variant = draw(st.sampled_from([LLAVA, MS_SWIFT, Variant("conversatons", "role", image_form="missing")]))
    return Conversation([f"{index}.png" for index in range(images)], messages, variant)


@settings(max_examples=150)
@given(conversations())
def test_a_conversation_that_is_written_and_read_is_the_same_conversation(conversation):
    read = read_row(write_row(conversation))
    assert (read.images, read.messages) == (conversation.images, conversation.messages)


def test_records_are_exported_for_other_trainers():
    case = Case("c1", "pydicom", "a", "g", "train", "MIT", [b"one", b"two"])
    messages = [message("user", "What are they?", 2), message("assistant", "Livers.")]
    record = record_of(case, "vqa", messages, ["rule", "human"])
    validate_record(record.row())
    name = lambda record, index: f"{record.id}_{index}.png"  # noqa: E731
    names = [f"{record.id}_0.png", f"{record.id}_1.png"]
    turns = [{"from": "human", "value": "<image>\n<image>\nWhat are they?"}, {"from": "gpt", "value": "Livers."}]
    assert list(sharegpt_rows([record], name)) == [{"id": record.id, "image": names, "conversations": turns}]
    (row,) = sharegpt_rows([record], name, MS_SWIFT)
    assert row["images"] == names
    assert row["messages"][0] == {"role": "user", "content": "<image><image>What are they?"}
    assert message_text(read_row(row).messages[0]) == "What are they?"
