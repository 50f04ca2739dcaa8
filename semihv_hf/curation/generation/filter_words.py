"""What gives a bad reply away: patterns of English, since everything a model writes here is asked for in one language
and the filters of words are only as good as the language they know."""

import re

_MATERIAL = (
    r"(?:caption|text|passage|excerpt|note|context|discussion|description|document|article|legend|abstract|snippet|"
    r"material)"
)
_SAYS = (
    r"(?:says?|said|states?|stated|mentions?|mentioned|notes?|noted|reads?|describes?|described|indicates?|indicated|"
    r"reports?|reported|explains?|specifies|specified|refers?|tells?|suggests?|provides?|provided)"
)
_GIVEN = r"(?:provided|given|supplied|accompanying|attached|above|following|retrieved|original|source|associated)"

REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence)(?: language)?(?: model)?[^.]{0,60}\b(?:cannot|can['’]?t|can not|"
    r"unable|not able|"
    r"do not|don['’]t|am not)\b"
    r"|\bas an? (?:ai )?(?:large )?language model\b"
    r"|\b(?:i|we)(?:['’]m| am|['’]re| are)? (?:sorry|apologi[sz]e|afraid)\b[^.]{0,80}\b(?:cannot|can['’]?t|can not|"
    r"unable|not able|"
    r"assist|help|won['’]t)\b"
    r"|^\W*(?:i['’]m |i am )?sorry\b(?! to hear)"
    r"|\b(?:i|we) (?:cannot|can['’]?t|can not|am unable to|['’]m unable to|are unable to|am not able to|"
    r"['’]m not able to|won['’]t|"
    r"will not) (?:assist|help|provide|analy[sz]e|view|see|interpret|process|comply|fulfil|generate|diagnose|access|"
    r"describe|identify|comment|offer|answer|give)"
    r"|\b(?:i|we)['’]m (?:unable|not able) to (?:assist|help|provide|analy[sz]e|view|see|interpret|process|access|"
    r"describe)"
    r"|\b(?:unable|not able) to (?:view|see|analy[sz]e|process|open|access) (?:the |this |these |any )?(?:image|"
    r"picture|photo)s?\b"
    r"|\b(?:against|violates?) (?:my|our|the) (?:guidelines|policy|policies)\b",
    re.IGNORECASE,
)
LEAK = re.compile(
    rf"\b(?:the|this|that|its|your) (?:{_GIVEN} )?(?:figure |image |source )?{_MATERIAL} {_SAYS}\b"
    rf"|\baccording to (?:the |this |these |an? )?(?:\w+ )?(?:{_MATERIAL}|guidelines?|reports?|findings provided|"
    rf"information provided|"
    rf"provided\b|evidence|similar case|reference)\b"
    rf"|\b(?:based|relying) (?:up)?on (?:the |this )?(?:{_GIVEN} )?{_MATERIAL}s?\b"
    rf"|\bas (?:is |are |was )?(?:{_SAYS}) (?:in|by) (?:the |this )(?:\w+ )?(?:{_MATERIAL}|guidelines?|report)\b"
    rf"|\b(?:in|from|by|per|with|of) (?:the |this ){_GIVEN} (?:\w+ )?(?:{_MATERIAL}|guidelines?|reports?|"
    rf"information|case|evidence|"
    rf"findings)\b"
    rf"|\b(?:the|this) (?:{_GIVEN} )?guidelines? {_SAYS}\b"
    rf"|\b(?:the|a|this|another) (?:similar|reference|retrieved) cases?\b"
    rf"|\b(?:in|from|per) the {_MATERIAL}\b"
    rf"|\b(?:not )?(?:mentioned|stated|specified|quoted) in (?:the |this )(?:{_MATERIAL}|report)\b"
    r"|\bretrieved (?:evidence|guideline|text|case)s?\b"
    r"|~{4,}|={5,}",
    re.IGNORECASE,
)
_PICTURE = r"(?:images?|pictures?|figures?|scans?|photos?|photographs?|slices?|views?|sections?|radiographs?|films?)"
UNANSWERABLE = re.compile(
    rf"\b(?:cannot|can['’]?t|can not|could not|couldn['’]t) be (?:\w+ )?(?:determined|assessed|evaluated|"
    rf"identified|ascertained|"
    rf"established|inferred|answered|known|judged|derived|deduced)\b[^.]{{0,70}}\b(?:{_PICTURE}|alone|provided|"
    rf"given|available|"
    rf"information|here)\b"
    rf"|\b(?:is|it['’]s|are|was) (?:not possible|impossible|difficult) to (?:determine|tell|say|know|assess|"
    rf"ascertain|answer|"
    rf"identify|establish)\b"
    rf"|\bunable to (?:determine|tell|answer|ascertain|identify)\b"
    rf"|\b(?:is|are|was|were) not (?:\w+ )?(?:specified|mentioned|stated|provided|given|indicated|available|known)\b"
    rf"|\b(?:insufficient|not enough|no(?: sufficient)?) information\b"
    rf"|\bwithout (?:further|additional|more) (?:information|details|context|data|clinical information)\b"
    rf"|\b(?:the |this )?{_PICTURE} (?:alone )?(?:does|do) not (?:provide|give|contain|allow|specify|tell|"
    rf"reveal enough)\b"
    rf"|\bcannot (?:determine|tell|say|answer|ascertain)\b"
    rf"|^\W*(?:unknown|n/?a|not applicable|not sure|unclear|none given)\W*$",
    re.IGNORECASE,
)
# A cautious remark on the diagnosis within a longer answer is good practice, not an answer that is missing.
CAUTION = re.compile(r"\b(?:diagnos|biops|histolog|clinical correlation|prognos|stag(?:e|ing))", re.IGNORECASE)
# Words that say nothing by themselves. A negation is not among them.
EMPTY_WORDS = frozenset(
    "a an and are as at be been being by can could did do does for from had has have here how if in into is it "
    "its may "
    "most of on or seen shown show shows should so than that the their them then there these they this those to "
    "visible "
    "was were what when where which who whose why will with within would you your image picture figure scan present "
    "presence appears appear likely".split()
)
