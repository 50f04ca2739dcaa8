"""The older form of replies: headings, numbered items, and what is not guessed."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semihv_hf.curation.generation import schemas
from semihv_hf.curation.generation.headings import as_reply, read_headings, read_image_lines

TWO = (("What is seen?", "A mass."), ("Where is it?", "At the apex."))


@pytest.mark.parametrize(
    "text",
    [
        "Report: Fine.\nQuestions:\n1. What is seen?\n2. Where is it?\nAnswers:\n1. A mass.\n2. At the apex.",
        "**Report:** Fine.\n\n**Questions:**\n1. What is seen?\n2. Where is it?\n\n**Answers:**\n1. A mass.\n"
        "2. At the apex.",
        "****Report****: Fine.\n__Question__:\n1. What is seen?\n2. Where is it?\n### Answer:\n1. A mass.\n"
        "2. At the apex.",
        "### Report:\nFine.\n#### Questions:\n**1.** What is seen?\n**2.** Where is it?\n#### Answers:\n"
        "2. At the apex.\n1. A mass.",
        "Report: Fine.\nQuestion 1: What is seen?\nAnswer 1: A mass.\nQuestion 2: Where is it?\n"
        "Answer 2: At the apex.",
        "**Report**: Fine.\n\n**Question 1:** What is seen?\n**Answer 1:** A mass.\n\n**Question 2:** Where is it?\n"
        "**Answer 2:** At the apex.",
        "Sure!\n\nreport: Fine.\n1. Question: What is seen?\n   Answer: A mass.\n2. Question: Where is it?\n"
        "   Answer: At the apex.",
        "Report: Fine.\r\nQuestions: 1. What is seen? 2. Where is it?\r\nAnswers: 1. A mass. 2. At the apex.",
        "Report: Fine.\n**Question: What is seen?**\n**Answer: A mass.**\n\n**Question: Where is it?**\n"
        "**Answer: At the apex.**",
        "Report\uff1aFine.\nQuestion (1): What is seen?\nAnswer (1): A mass.\nQuestion (2): Where is it?\n"
        "Answer (2): At the apex.\n---\n",
    ],
)  # fmt: skip
def test_one_report_and_two_pairs_are_read_from_every_form_that_models_write(text):
    found = read_headings(text)
    assert (found.report, found.pairs, found.unmatched) == ("Fine.", TWO, 0)


def test_the_eurorad_form_keeps_one_pair_a_block():
    text = "\n\n".join(
        f"**Question {n}:** What is finding {n}?\n**Answer {n}:** It is number {n}." for n in range(1, 11)
    )
    assert len(read_headings(text).pairs) == 10
    text = "\n\n".join(f"**Question: What is finding {n}?**\n**Answer: It is number {n}.**" for n in range(1, 11))
    assert read_headings(text).pairs[9] == ("What is finding 10?", "It is number 10.")


@pytest.mark.parametrize(
    "text, pairs, unmatched",
    [
        ("Questions:\n1. A?\n2. B?\nAnswers:\n1. a\n3. c", (("A?", "a"),), 2),
        ("Questions:\n1. A?\n1. B?\nAnswers:\n1. a", (), 3),  # which of the two is meant, nobody knows
        ("Question: A?\nQuestion: B?\nAnswer: a\nAnswer: b", (), 4),
        ("Question: A?\nAnswer: a\nAnswer: b", (), 3),
        ("Question 1: A?\nAnswer 2: b", (), 2),
        ("Questions:\n1. A?\nAnswers: a", (("A?", "a"),), 0),  # one of each
        ("Questions:\n1. A?\n2. B?\nAnswers: a", (), 3),
        ("Question 1: A?\nAnswer 1:\n", (), 2),
        ("Answers:\n1. a", (), 1),
        ("1. What?\n2. Where?", (), 0),
        ("There is no question: and no answer.", (), 0),
        ("", (), 0),
    ],
)
def test_a_pair_is_kept_only_where_the_numbers_match(text, pairs, unmatched):
    found = read_headings(text)
    assert (found.pairs, found.unmatched) == (pairs, unmatched)


def test_a_number_inside_a_sentence_is_no_item():
    text = "Questions:\n1. Is grade\n2. or grade 3. meant?\nAnswers: 1. Grade 2. 2. It is in segment 4. of the liver"
    assert read_headings(text).pairs == ()  # which 2 begins the second answer?
    text = "Questions: 1. Which? 2. Where?\nAnswers: 1. Grade 5. 2. In segment 7. of the liver"
    assert read_headings(text).pairs == (("Which?", "Grade 5."), ("Where?", "In segment 7. of the liver"))
    text = "Questions:\n1. Which level is it, L4.5 or 5.1?\nAnswers:\n1. It is 3.2 cm above L5."
    assert read_headings(text).pairs == (("Which level is it, L4.5 or 5.1?", "It is 3.2 cm above L5."),)


def test_marks_inside_a_text_stay():
    found = read_headings("**Description:** A *very* bright_spot # here.\nSecond line.")
    assert found.description == "A *very* bright_spot # here.\nSecond line."


def test_lines_of_images_are_read_with_their_numbers():
    text = "Here you are:\n1: Axial CT.\n**Image 2:** Coronal CT: late phase.\n- 10: MRI.\n4\nImage: x"
    assert read_image_lines(text) == [(1, "Axial CT."), (2, "Coronal CT: late phase."), (10, "MRI.")]


def test_a_headed_reply_becomes_the_reply_that_the_schema_would_have_brought():
    pairs = [schemas.Pair(question="A?", answer="a")]
    body = "Questions:\n1. A?\nAnswers:\n1. a"
    assert as_reply(body, schemas.Pairs) == schemas.Pairs(pairs=pairs)
    assert as_reply(f"Report: r\n{body}", schemas.ReportAndPairs) == schemas.ReportAndPairs(report="r", pairs=pairs)
    assert as_reply(f"Description: d\n{body}", schemas.DescriptionAndPairs).description == "d"
    assert as_reply(f"Description: d\n{body}", schemas.DescribedDialogue).answer == "a"
    assert as_reply("## Report: r", schemas.Report).report == "r"
    assert as_reply(body, schemas.Conversation).turns == pairs
    assert as_reply("2: x", schemas.ReformattedCaptions).images[0].image == 2
    assert as_reply('```json\n{"report": "r"}\n```', schemas.Report).report == "r"


@pytest.mark.parametrize(
    "text, schema, said",
    [
        ("Just prose.", schemas.Report, "no heading Report"),
        ("Report: r", schemas.ReportAndPairs, "no question and answer"),
        ("{broken", schemas.Pairs, "no question and answer"),
        ("Description: d", schemas.DescribedDialogue, "0 questions"),
        ("Just prose.", schemas.ReformattedCaptions, "no line"),
        ("0: x", schemas.ReformattedCaptions, "greater than or equal"),
    ],
)
def test_a_reply_without_its_headings_is_an_error_that_says_which(text, schema, said):
    with pytest.raises(ValueError, match=said):
        as_reply(text, schema)


MARKS = st.text(alphabet="*_#", max_size=4)
WORDS = st.lists(
    st.sampled_from("the left lung shows a nodule of 3.5 cm and T2 signal".split()), min_size=1, max_size=8
)
SENTENCE = WORDS.map(" ".join)


@settings(max_examples=50)
@given(st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=6), MARKS, MARKS, SENTENCE, st.booleans())
def test_what_is_written_with_headings_is_read_again(pairs, before, behind, report, blocks):
    lines = [f"{before}Report{behind}: {report}"]
    if blocks:
        for n, (question, answer) in enumerate(pairs, start=1):
            lines += [f"{before}Question {n}:{behind} {question}", f"{before}Answer {n}:{behind} {answer}", ""]
    else:
        lines += [f"{before}Questions:{behind}", *(f"{n}. {pair[0]}" for n, pair in enumerate(pairs, start=1))]
        lines += [f"{before}Answers{behind}:", *(f"{n}. {pair[1]}" for n, pair in enumerate(pairs, start=1))]
    found = read_headings("\n".join(lines))
    assert found.report == report and found.pairs == tuple(pairs) and found.unmatched == 0


@settings(max_examples=80)
@given(
    st.text(max_size=300),
    st.lists(st.sampled_from(["Question 1:", "**Answer:**", "1. ", "\n", "Report:", "2) "]), max_size=8),
)
def test_no_text_breaks_the_reader_and_it_invents_no_word(text, pieces):
    whole = text.join(pieces) if pieces else text
    found = read_headings(whole)
    for part in (found.report, found.description, *(word for pair in found.pairs for word in pair)):
        for line in part.split("\n"):
            assert line.strip("*_# \t") in whole.replace("\r", "\n") or not line.strip()
    assert found.unmatched >= 0


def test_reading_takes_no_time_on_texts_made_to_cost_it():
    began = time.process_time()
    for text in (" " * 200_000, "*" * 200_000, ("*" * 9 + "\n") * 20_000, "1. " * 60_000, "Question:" * 20_000,
                 "Questions:\n" + "1. x\n" * 30_000):  # fmt: skip
        read_headings(text)
        read_image_lines(text)
    assert time.process_time() - began < 20  # each of them takes well under a second; a square of the length, hours
