"""Every word that the judge is told. A changed word changes the version, the hash and every key in the cache."""

PROMPT_VERSION = "gpt4-judge-1"

# Each part: what is drawn from the reference discussion, and when it counts as found in the student's answer.
PARTS = {
    "key_points": (
        "the points without which the discussion would lose its substance, the weightiest first",
        "the answer makes this point, or another point that is correct, bears on the case and does the same work",
    ),
    "reasoning": (
        "the steps of the diagnostic reasoning in their order, from the findings to the conclusion",
        "the answer takes this step, or reaches the same place by another correct step; a gap in the chain is a miss",
    ),
    "evidence": (
        "the pieces of evidence that the discussion rests on (findings in the image, history, measurements, "
        "knowledge that it appeals to)",
        "the answer uses this piece of evidence, or another correct one that supports the same conclusion",
    ),
}

LIST = (
    "You prepare the marking scheme of a medical licensing examination. From the reference discussion of a case you "
    "list {wanted}: at most ten. Each item is one short sentence that can be checked on its own. Use only what the "
    "discussion says; if it holds fewer items, list fewer."
)
MARK = (
    "You are an examiner of a medical licensing examination and mark a student's explanation of a case against a "
    "numbered list. Go through the list item by item. An item is a hit if {rule}; otherwise it is a miss. Style, "
    "length and tone do not matter. Give one verdict for each of the items 1 to {count}."
)
# The authors' shape: the judge adds up by itself and returns one number.
GRADE = (
    "You are an examiner of a medical licensing examination and grade a student's explanation of a case against a "
    "numbered list. Go through the list item by item. An item earns 0.5 if {rule}. Style, length and tone do not "
    "matter. The grade is the sum over the items, never above 5: one number from 0 to 5 in steps of 0.5."
)
RELATIVE = (
    "Two assistants answered a question about a medical image. You do not see the image; what is known of it is given "
    "as context where there is any. Grade how helpful, relevant, accurate and detailed each answer is, each with one "
    "whole number from 1 (worst) to 10 (best). The order in which the answers stand must not matter, and neither must "
    "their length as such."
)
PAIRWISE = (
    "Two assistants answered a medical question. Decide which answer a clinician would rather have: first of all the "
    "one that is right, then the one that is more complete and better reasoned. Where a reference is given, it is "
    "right. The order in which the answers stand, their length and their tone must not matter. The verdict is "
    "`first`, `second`, or `tie` if neither is better."
)
HIT = (
    "Compare a short answer to a medical question with the reference answer. It is `equivalent` if it says the same "
    "thing: synonyms, abbreviations, another word order and additions that contradict nothing are allowed. It is "
    "`different` if it says something else, is more general than the question allows, leaves out a part that the "
    "question asks for, hedges between several answers, or gives none."
)
EVERYTHING = (
    PROMPT_VERSION,
    LIST,
    MARK,
    GRADE,
    RELATIVE,
    PAIRWISE,
    HIT,
    *(text for pair in PARTS.values() for text in pair),
)
