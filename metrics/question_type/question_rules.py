"""Rules that tell a knowledge question from an inference question by how it is asked and what it asks for.

A *knowledge* question is answered in one step: by naming what is visible (modality, plane, organ, presence, place,
number, colour, shape of something) or by recalling a fact that holds for everybody (function, definition, usual
cause or treatment). An *inference* question is about this patient or this image and needs findings to be combined
with clinical reasoning: diagnosis, likelihood, cause, mechanism, severity, course, complication, next step, or a
verdict of normal.
"""

import re

KNOWLEDGE = "knowledge"
INFERENCE = "inference"

_SENTENCE = re.compile(r"[^.?!]*(?:[.?!](?!\s|$)[^.?!]*)*[.?!]*")
_CASE_WORDS = 25


def _pattern(*parts):
    return re.compile("|".join(rf"\b(?:{part})\b" for part in parts), re.IGNORECASE)


# A person with an age, a history, a presentation: what makes a text the story of a case.
_STORY = _pattern(
    r"\d+[- ](?:year|month|week|day)s?[- ]old",
    r"presents? with|presented (?:with|to)|complain(?:s|ed|ing) of|was referred|history of",
    r"(?:man|woman|boy|girl|patient) in (?:his|her|their) \d+s",
)
# Points at this patient or this picture.
_POINTING = _pattern(
    r"this|these|that|those|here|above|below|shown|seen|visible|depicted|recogni[sz]ed|identified",
    r"patient(?:'s|’s)?|he|she|his|her|him|their|case|you|your",
    r"images?|pictures?|scans?|figures?|slides?|films?|radiographs?|x-?rays?|photographs?",
    r"sections?|specimens?|findings?",
)
# What is asked for can be read off the picture or its header.
_ATTRIBUTE = _pattern(
    r"(?:what|which)(?: kind of| type of)?(?: \w+)? (?:modality|plane|view|projection)",
    r"(?:what|which)(?: kind of| type of)?(?: \w+)? (?:sequence|stain|staining|contrast agent)",
    r"(?:modality|plane|view|projection) (?:is|was) (?:this|shown|used|depicted)",
    r"the (?:modality|plane|view|projection|sequence) of",
    r"how many|what colou?rs?|what shape|which side|where (?:is|are|does|do)",
)
# Conclusions, whatever they are about.
_CONCLUSION = _pattern(
    r"(?:un)?likely|likelihood|probabl[ey]|could|might|may|possibl[ey]",
    r"differential|your diagnosis|the diagnosis|diagnosis of this",
    r"next (?:step|test|investigation|action)|(?:do|done|order|perform|ordered|performed) next",
    r"suggests?|suggestive|suggested|indicates?|indicative|impl(?:y|ies)|consistent with|compatible with",
    r"in keeping with",
    r"supports?|supported|points? to(?:wards?)?|favou?rs?|raises? (?:concern|suspicion)|concerning for|suspicious",
    r"explains?|explained|accounts? for|accounted for|responsible for this|interpret(?:ed|ation)?",
    r"rules? out|ruled out|excludes?|distinguish(?:es)?|differentiates?",
    r"benign|malignant|malignancy",
    r"should|would you|recommend(?:ed)?|advise|best (?:test|treatment|management|approach|option)",
    r"compared (?:with|to) (?:the )?(?:prior|previous|last|earlier)|improved|worsened|progress(?:ed|ion)|resolved",
)
# Conclusions when they are about this patient or picture, facts when they are about a disease in general.
_TOPIC = _pattern(
    r"caus(?:e|es|ed)|a?etiology|due to|results? of|origin of|mechanisms?|pathogenesis|pathophysiology|process",
    r"diagnos(?:e|ed|es|is|tic)|diseases?|disorders?|conditions?|syndromes?",
    r"treat(?:ed|ment|ments|s)?|manag(?:e|ed|ement)|therapy|therapies|drugs?|medications?|prevent(?:ed|ion)?",
    r"prognosis|outcomes?|survival|course|complications?|risk|risks|risk factors?",
    r"stages?|staging|grades?|grading|severity|severe|acute|chronic",
    r"why",
)
_VERDICT = re.compile(
    r"^(?:is|are|does|do|was|were)\b.*\b(?:normal|abnormal|healthy|pathological|unremarkable)\b", re.I
)
_FACT = _pattern(
    r"functions?|roles?|symptoms?|stands? for|define|definition|meaning|mean by|hormones?|organisms?|supplies",
    r"innervates?|what is an?|what are the (?:functions?|symptoms?|signs)",
)
_FORM = re.compile(
    r"^(?:in|on|at|from)?\s*(?:the \w+,? )?(?:is|are|was|were|does|do|did|has|have|can|what|which|where|who|whose|how|"
    r"name|identify|list|point|mark|count|locate|state)\b",
    re.IGNORECASE,
)


def asked_sentence(question):
    """The sentence that asks: the last with a question mark, else the last.

    Args:
        question (`str`): a question, perhaps after the story of a case.

    Returns:
        `tuple[str, str]`: what stands before that sentence, and the sentence.
    """
    sentences = [match.group().strip() for match in _SENTENCE.finditer(question) if match.group().strip()]
    if not sentences:
        return "", question.strip()
    asking = max((n for n, sentence in enumerate(sentences) if "?" in sentence), default=len(sentences) - 1)
    return " ".join(sentences[:asking]), sentences[asking]


def is_case_story(text):
    """Whether a text tells the story of a case.

    Args:
        text (`str`): the context of a question.

    Returns:
        `bool`: it has an age, a presentation or a history, or at least 25 words.
    """
    return bool(_STORY.search(text)) or len(text.split()) >= _CASE_WORDS


def classify(question, context=""):
    """Decides one question by rules, in the order in which the card lists them.

    Args:
        question (`str`): the question; the story of a case may stand before it.
        context (`str`, *optional*): the story of the case, if it is apart.

    Returns:
        `tuple[str | None, str]`: `"knowledge"`, `"inference"` or `None` (undecided), and the rule.
    """
    before, asked = asked_sentence(question)
    story = is_case_story(f"{context} {before}".strip()) or bool(_STORY.search(asked))
    if _CONCLUSION.search(asked):
        return INFERENCE, "asks_for_a_conclusion"
    if _ATTRIBUTE.search(asked):
        return KNOWLEDGE, "asks_for_an_attribute"
    if _VERDICT.search(asked):
        return INFERENCE, "asks_for_a_verdict"
    pointing = bool(_POINTING.search(asked))
    if _TOPIC.search(asked):
        return (INFERENCE, "about_this_case") if story or pointing else (KNOWLEDGE, "asks_for_a_fact")
    if story:
        return INFERENCE, "follows_a_case_story"
    if _FACT.search(asked) and not pointing:
        return KNOWLEDGE, "asks_for_a_fact"
    if _FORM.search(asked):
        return KNOWLEDGE, "names_what_is_visible"
    return None, "no_rule"
