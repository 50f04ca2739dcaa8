"""What each rule catches and what it lets pass, by hand-made examples with the verdict that they must have."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semihv_hf.curation.generation.filters import KINDS, RULES, Filter, Known, Limits
from semihv_hf.curation.generation.grounding import diseases, measurements
from semihv_hf.errors import SemiHVError

CT = "CT shows a solid mass of the left kidney, 4.2 x 3 cm in size. It enhances strongly in the arterial phase."
DIAGNOSIS = "Renal cell carcinoma"
GUIDELINE = (
    "Surveillance is advised for a nodule larger than 8 mm, and a repeat scan after three months in all others."
)
OTHER = "There is a spiculated nodule of the right upper lobe with pleural retraction and two enlarged hilar nodes."
KNOWN = Known((CT, DIAGNOSIS), ("modality: CT", "age: 61"), (GUIDELINE, OTHER), (GUIDELINE,))
BLIND = Known((), ("modality: CT",), (GUIDELINE, OTHER), (GUIDELINE,))

# The rule that a report breaks, or None.
TEXTS = [
    ("I'm sorry, but I can't help with medical images.", "refusal"),
    ("As an AI language model I do not give medical advice.", "refusal"),
    ("I am unable to analyze this image for you today.", "refusal"),
    ("Unable to view the image; please upload it again.", "refusal"),
    ("The arm cannot be raised, as the large calcification explains.", None),
    ("I am sorry to hear that you worry; the scan shows a mass in the kidney.", None),
    ("The caption says that a mass of the kidney is present.", "leak"),
    ("According to the provided text there is a mass of the kidney.", "leak"),
    ("A mass of the kidney is present, as stated in the caption.", "leak"),
    ("Based on the given description a mass is present here.", "leak"),
    ("According to the guidelines, such a mass needs follow-up soon.", "leak"),
    ("As in the similar case, a mass with enhancement is present.", "leak"),
    ("From the provided information a renal mass is likely here.", "leak"),
    ("A mass is present ~~~~~ 0123456789abcdef0123 ~~~~~ in the kidney.", "leak"),
    ("Text overlay in the corner marks the side of the patient.", None),
    ("Guidelines advise follow-up of such a mass after some months.", None),
    ("The nature of the mass cannot be determined from the image.", "unanswerable"),
    ("It is not possible to determine the size of this mass.", "unanswerable"),
    ("There is not enough information here to describe any finding.", "unanswerable"),
    ("The side of the mass is not specified in this image.", "unanswerable"),
    ("A mass is seen. It takes up contrast. A definite diagnosis cannot be established from the image.", None),
    ("No effusion and no enlarged lymph node are visible in the image.", None),
    ("Se observa una masa sólida en el riñón con realce en la fase arterial.", "wrong_language"),
    ("Es zeigt sich eine Raumforderung der Niere mit kräftiger Aufnahme in der arteriellen Phase.", "wrong_language"),
    ("左肾可见实性肿块，动脉期明显强化。左肾可见实性肿块。", "wrong_language"),
    ("Ductus arteriosus, foramen ovale, arcus aortae dexter, situs inversus totalis.", None),
    ("A mass.", "too_short"),
    ("mass " * 801, "too_long"),
    ("   \n", "too_short"),
    ("CT shows a solid mass of the left kidney, 4.2 x 3 cm in size.", "copied_source"),
    ("It enhances strongly in the arterial phase. CT shows a solid mass of the left kidney, 4.2 x 3 cm in size!",
     "copied_source"),
    ("CT shows a solid mass of the left kidney, 4.2 x 3 cm in size. Its border is lobulated.", None),
    ("There is a spiculated nodule of the right upper lobe with pleural retraction, and a mass.", "evidence_echo"),
    ("There is a spiculated nodule with pleural retraction in one of the lobes.", None),
    ("The solid renal mass measures 4.2 cm in its largest diameter.", None),
    ("The solid renal mass measures 42 x 30 mm and enhances strongly.", None),
    ("The solid renal mass measures about four cm in its largest diameter.", None),
    ("The solid renal mass measures 7 cm in its largest diameter.", "ungrounded"),
    ("The mass has an attenuation of 45 HU before contrast is given.", "ungrounded"),
    ("The solid mass of this 61-year-old patient enhances strongly.", None),
    ("The solid mass of this 45-year-old patient enhances strongly.", "ungrounded"),
    ("A nodule larger than 8 mm would have to be followed up.", None),
    ("A nodule of 8 mm is present in the upper pole of the kidney.", "ungrounded"),
    ("The right kidney contains a solid and enhancing mass at its pole.", "ungrounded"),
    ("The right kidney is normal; a mass enlarges the other one.", None),
    ("A mass enlarges the left kidney, and the right kidney is smaller.", None),
    ("Three enlarged lymph nodes are present beside the large vessels.", None),
    ("The enhancing solid mass is an abscess of the kidney with a rim.", "ungrounded"),
    ("The enhancing solid mass is a typical renal cell carcinoma here.", None),
    ("The mass is RCC with strong uptake in the arterial phase.", None),
    ("An abscess is possible but less likely than a solid tumour here.", None),
    ("No fracture and no pneumonia are visible on these slices at all.", None),
]  # fmt: skip
# Question, answer, verdict.
PAIRS = [
    ("What is seen in the kidney?", "A solid mass that enhances.", None),
    ("Is there a mass in the left kidney?", "Yes.", None),
    ("Is there a mass in the left kidney?", "Yes, a solid mass is seen in the left kidney.", None),
    ("What does the solid mass in the left kidney show?", "A solid mass.", "answer_in_question"),
    ("In which organ, the left kidney, is the mass?", "The left kidney", "answer_in_question"),
    ("Is this a CT or an MRI?", "CT", None),
    ("Which modality is this: CT, MRI, ultrasound?", "CT", None),
    ("Which modality was used here?", "CT", None),
    ("What does the caption say about the mass?", "That it is solid.", "leak"),
    ("Why?", "Because it enhances.", "too_short"),
    ("What is the size of the mass?", "4.2 x 3 cm", None),
    ("What is the size of the mass?", "9 cm", "ungrounded"),
    ("How would you manage the 9 cm mass seen here?", "It should be resected.", "ungrounded"),
    ("What is the blood pressure of the patient?", "Not specified in the image, it is not specified.", "unanswerable"),
    ("What is the blood pressure of the patient?", "Unknown.", "unanswerable"),
    ("How does the mass behave?", "It enhances strongly in the arterial phase.", "copied_source"),
    ("What is the diagnosis of the mass?", "Lymphoma", "ungrounded"),
    ("What is the diagnosis of the mass?", "Clear cell renal carcinoma", None),
    ("What could be confused with it?", "It could be an abscess or lymphoma.", None),
    ("On which side is the mass?", "In the right kidney.", "ungrounded"),
    ("What is next for the patient?", "I cannot provide medical advice.", "refusal"),
]


def test_there_are_enough_examples_of_either_kind():
    verdicts = [verdict for *_, verdict in (*TEXTS, *PAIRS)]
    assert len(verdicts) >= 70 and verdicts.count(None) >= 25
    by_reader = {"unreadable", "no_pairs", "surplus", "wrong_image", "after_rejected", "duplicate_question"}
    assert set(verdicts) - {None} == set(RULES) - by_reader


@pytest.mark.parametrize("text, verdict", TEXTS)
def test_a_report_has_its_verdict(text, verdict):
    found = Filter(KNOWN).text(text, "report", "report")
    assert (found and found.rule) == verdict, found
    if found:
        assert found.place == "report" and found.text == text and found.detail and "\n" not in found.detail


@pytest.mark.parametrize("question, answer, verdict", PAIRS)
def test_a_pair_has_its_verdict(question, answer, verdict):
    found = Filter(KNOWN).pair(question, answer, "pairs[0]")
    assert (found and found.rule) == verdict, found


def test_a_question_is_asked_once():
    filtering = Filter(KNOWN)
    assert filtering.pair("What is seen in the left kidney?", "A mass.") is None
    assert filtering.pair("In the left kidney, what is visible?", "A tumour.").rule == "duplicate_question"
    assert filtering.pair("What is seen in the spleen?", "Nothing unusual.") is None
    # What was left out was not asked.
    assert filtering.pair("How large is the lesion?", "It measures 9 cm.").rule == "ungrounded"
    assert filtering.pair("How large is the lesion?", "4.2 x 3 cm") is None


def test_without_a_source_only_measurements_are_ungrounded():
    assert Filter(BLIND).text("The right kidney contains an abscess of its lower pole.", "report") is None
    assert Filter(BLIND).text("The right kidney contains a mass of 3 cm at its pole.", "report").rule == "ungrounded"


def test_a_reworded_caption_may_add_nothing():
    closed = Known(("Axial CT with a mass in the kidney.",), closed=True)
    assert Filter(closed).text("An axial CT image that shows a renal mass.", "description") is None
    for added in (
        "An axial CT image that shows a mass of the left kidney.",
        "An axial CT image that shows a renal carcinoma, a mass.",
        "An axial CT image with a renal mass that measures 3 cm.",
        "An axial CT image with a renal mass, oedema, calcified vessels, ascites, stranding, "
        "thickened fascia, dilated calyces, gallstones, fatty liver, splenic varices, collapsed bowel, "
        "degenerative spine, atrophic muscle.",
    ):
        assert Filter(closed).text(added, "description").rule == "ungrounded", added


def test_a_foreign_source_is_not_compared_word_by_word():
    known = Known(("cardiomegali . derram pleural izquierd 3 cm",), foreign=True)
    assert Filter(known).text("Enlarged heart and an effusion on the right side of 3 cm.", "report") is None
    assert Filter(known).text("Enlarged heart and an effusion of 5 cm in width.", "report").rule == "ungrounded"


def test_another_language_is_held_to_its_own_words():
    spanish = Filter(Known(language="es"))
    assert spanish.text("Se observa una masa sólida en el riñón con realce en la fase arterial.", "report") is None
    assert spanish.text("The mass is solid and it enhances in the arterial phase.", "report").rule == "wrong_language"
    chinese = Filter(Known(language="zh"))
    assert chinese.text("左肾可见实性肿块，动脉期明显强化。", "report") is None
    assert chinese.text("A solid mass of the kidney is seen.", "report").rule == "wrong_language"


def test_words_in_common_with_evidence_are_no_echo_if_the_source_has_them_too():
    known = Known((OTHER,), evidence=(OTHER,))
    assert Filter(known).text(OTHER + " The heart is large.", "report") is None
    short = Filter(KNOWN, Limits(echo=5)).text("One sees a nodule of the right upper lobe.", "report")
    assert short.rule == "evidence_echo"


@pytest.mark.parametrize(
    "text, values",
    [
        ("3 cm", [30]),
        ("3.5 x 2 cm", [35, 20]),
        ("3,5 cm", [35]),
        ("3–4 mm", [3, 4]),
        ("a two centimetre mass", [20]),
        ("2 cm by 10 mm", [20, 10]),
        ("120 mmHg", [120]),
        ("SUVmax of 7.2", [7.2]),
        ("a 12-year-old", [144]),
        ("T2, L4/5, 3 nodes, 5 minutes, grade 2 and segment 4", []),
        ("10 micrometres and 5 µm", [0.01, 0.005]),
    ],
)
def test_measurements_are_read_in_one_unit(text, values):
    assert [round(value, 6) for _, value in measurements(text)] == values


def test_diseases_are_one_whatever_their_spelling():
    assert diseases("Hemangiomas, haemangiomata and a hemangioma") == ["haemangioma"]
    assert diseases("metastases, metastatic, a metastasis") == ["metastasis"]
    assert diseases("Ischemic stroke, infarcts, TB and tuberculosis") == ["infarction", "tuberculosis"]
    assert diseases("A hemidiaphragm, a mass, stroma and hemithorax") == []


def test_wrong_limits_are_named():
    for wrong in (
        {"report": (0, 5)},
        {"answer": (9, 5)},
        {"echo": 3},
        {"echo": "x"},
        {"report": 5},
        {"answer": (1, "x")},
    ):
        with pytest.raises(SemiHVError):
            Limits(**wrong)


@settings(max_examples=60)
@given(st.text(max_size=200), st.sampled_from(KINDS))
def test_no_text_breaks_a_rule_machine(text, kind):
    found = Filter(KNOWN).text(text, kind)
    assert found is None or found.rule in RULES
    assert Filter(KNOWN).text(text, kind) == found


def test_filtering_takes_no_time_on_texts_made_to_cost_it():
    wide = Limits(report=(1, 10**6))
    began = time.process_time()
    for text in ("as an ai " * 3000, "the " * 8000, "left " * 8000, "3 x " * 5000, "1.1" * 8000, "a" * 40_000,
                 "according to the " * 3000, "~" * 40_000, " " * 40_000, "cannot be " * 4000):  # fmt: skip
        Filter(BLIND, wide).text(text, "report")
    assert time.process_time() - began < 20
