"""Studies of MIMIC-CXR whose reports no rule cuts rightly: which part of each stands for the report.

The places are those that the reference sectioner names by hand (MIT-LCP/mimic-cxr, MIT licence,
txt/section_parser.py, custom_mimic_cxr_rules): a section, or the characters from and up to, but not, a position.
"""

_BY_SECTION = {
    "examination": "59363654 53356173 50743547 59215320 55157853",
    "history": "51491012",
    "indication": "57936451 50058765 51966317 55124749 54365831 54654948",
    "note": "56451190",
    "recommendations": "50913680 59768032 59067458 59087630 58157373 56482935 58375018",
    "technique": "59279892 53202765 50808053",
}
_BY_PLACE = """
50196495:59-399 50525523:201-349 51410602:47-320 52119491:179-454 52648681:292-631 52674888:145-296 53182247:59-412
53488209:149-475 53514462:73-377 54875119:234-988 54986978:59-306 55258338:192-568 56412866:522-822 56579911:59-218
56760320:219-457 57150433:61-394 57564132:233-554 59003148:262-505 59330497:140-655 59505494:59-450 59562049:158-348
59889364:172-453 59982525:313-717
"""
# Their reports describe nothing at all.
_NOTHING = "50798377 52035334 53071062 53607029 54168089 54231141 56724958 58235663"

SECTIONS: dict[str, str] = {study: name for name, studies in _BY_SECTION.items() for study in studies.split()}
PLACES: dict[str, tuple[int, int]] = dict.fromkeys(_NOTHING.split(), (0, 0))
for _entry in _BY_PLACE.split():
    _study, _, _place = _entry.partition(":")
    _from, _, _to = _place.partition("-")
    PLACES[_study] = (int(_from), int(_to))
