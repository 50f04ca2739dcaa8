"""Who talks to whom about an image: the ten kinds of dialogue of PubMedVision (Chen et al. 2024, arXiv 2406.19280),
and the requests that ask for a description. The kinds are theirs, the words are not."""

from dataclasses import dataclass

from semihv_hf.data.schema import content_id

# Named in the provenance of every record whose question is from the lists below; raised when one of them changes.
WORDING_VERSION = "alignment questions 1"


@dataclass(frozen=True)
class Scenario:
    """A kind of dialogue.

    Args:
        name (`str`): what provenance calls it.
        asks (`str`): who asks, and how.
        answers (`str`): who answers, and how.
    """

    name: str
    asks: str
    answers: str


SCENARIOS = (
    Scenario(
        "question_answer",
        "Somebody asks one plain question that the image can answer.",
        "The answer is direct, complete and in professional words.",
    ),
    Scenario(
        "assistant_and_doctor",
        "A doctor asks an AI assistant for help in reading the image.",
        "The assistant describes findings and what they may mean, and leaves the final diagnosis to the doctor.",
    ),
    Scenario(
        "assistant_and_patient",
        "A patient without medical knowledge asks an AI assistant about their own image, in everyday words.",
        "The assistant explains in simple words what is seen, calmly, and refers to a professional for the diagnosis.",
    ),
    Scenario(
        "doctor_and_family",
        "A relative of the patient, worried, asks the doctor what the image means for the patient.",
        "The doctor explains truthfully and with sympathy, in words that a relative understands.",
    ),
    Scenario(
        "doctor_and_difficult_patient",
        "A patient who distrusts the examination challenges the doctor about the image.",
        "The doctor stays patient and respectful, and points to what can be seen to explain.",
    ),
    Scenario(
        "doctor_and_doctor",
        "A doctor discusses the image with a colleague of another field and asks for an opinion.",
        "The colleague gives it in specialist terms, with the visible signs that it rests on.",
    ),
    Scenario(
        "examiner_and_assistant",
        "An examiner tests how well an AI sees, and asks about a subtle detail of the image that is easy to miss.",
        "The AI answers precisely: where the detail is, and what it looks like.",
    ),
    Scenario(
        "intern_and_specialist",
        "An intern asks a specialist how a finding in the image is to be recognised or understood.",
        "The specialist teaches: the sign, why it looks so, and what it is told apart from.",
    ),
    Scenario(
        "teacher_and_student",
        "A teacher asks a student a question about the image, as in a seminar.",
        "The student answers step by step from what is visible to a conclusion.",
    ),
    Scenario(
        "senior_and_intern",
        "A senior doctor questions an intern about the image to test the intern's reasoning.",
        "The intern reasons aloud: the findings, what they suggest, and what would settle it.",
    ),
)

ONE_IMAGE = (
    "Please describe this picture in detail.",
    "What can you see in this image?",
    "Give a thorough description of what is shown here.",
    "Could you walk me through the contents of this image?",
    "Write a detailed account of this medical image.",
    "Tell me everything of note in this picture.",
    "How would you describe this image to a colleague?",
    "Explain what this image shows.",
    "Provide a careful description of the visible structures and findings.",
    "I would like a full description of this image, please.",
    "Look at this image and put into words what it shows.",
)
SEVERAL_IMAGES = (
    "Please describe these pictures in detail.",
    "What can you see in these images?",
    "Give a thorough description of what these images show.",
    "Could you walk me through this set of images?",
    "Write a detailed account of these medical images.",
    "Tell me everything of note in these pictures.",
    "How would you describe these images to a colleague?",
    "Explain what these images show together.",
    "Provide a careful description of the structures and findings across the images.",
    "I would like a full description of all these images, please.",
    "Look at these images and put into words what they show.",
)
ASK_REPORT = (
    "Write a report of the findings.",
    "What are the findings in this examination?",
    "Please report what is abnormal or of relevance here.",
    "Dictate the findings.",
    "Which findings would you report?",
    "Give the findings as they would stand in a formal report.",
)


def scenario_of(case_id: str, seed: int = 0) -> Scenario:
    """The kind of dialogue that a case gets: always the same one, each kind equally often over many cases.

    Args:
        case_id (`str`): the case.
        seed (`int`, *optional*, defaults to 0): gives other kinds.

    Returns:
        [`Scenario`]: one of `SCENARIOS`.
    """
    return SCENARIOS[int(content_id("scenario", str(seed), case_id), 16) % len(SCENARIOS)]
