"""What articles of PubMed Central say about their figures: captions, panels, places, licences; and unsafe XML."""

import io
import re

import pytest
from drawn_articles import CC_BY, NINETEEN, TWENTY, article, everything, fig, graphic, only, picture, write
from PIL import Image

from semihv_hf.data.licences import source_licence
from semihv_hf.data.messages import message_text
from semihv_hf.data.sources.article_files import picture_names
from semihv_hf.data.sources.article_licence import stated_licence
from semihv_hf.data.sources.jats import UnusableArticle, parse_article
from semihv_hf.data.sources.pmc_instruct import PmcInstruct

# --- what a figure says ----------------------------------------------------------------------------------------------


def test_a_figure_becomes_a_case_with_the_facts_of_its_article(tmp_path):
    body = fig("bcr-3-1-055-1", title="Growth of cells.", caption=TWENTY)
    write(
        tmp_path, "PMC13900", article(body), {"bcr-3-1-055-1.jpg": picture(1), "bcr-3-1-055-1.gif": picture(2, "GIF")}
    )
    case = only(tmp_path)
    assert {fact.name: fact.value for fact in case.facts} == {
        "pmcid": "PMC13900", "pmid": "11250746", "doi": "10.9999/invented", "published": "2001-03-02",
        "licence": "CC-BY-4.0", "licence_statement": "Open access under the Creative Commons Attribution License.",
        "figure_label": "Figure 1.",
    }  # fmt: skip
    assert [(text.role, text.text) for text in case.texts] == [
        ("caption", f"Growth of cells. {TWENTY}"),
        ("caption_title", "Growth of cells."),
    ]
    assert {text.annotation for text in case.texts} == {"human"}
    assert (case.licence, case.source_id, case.group) == ("CC-BY-4.0", "PMC13900/bcr-3-1-055-1", "PMC13900")
    assert case.images == [picture(1)], "the GIF beside a JPEG is its thumbnail"


def test_markup_is_dropped_and_white_space_and_entities_are_made_plain(tmp_path):
    caption = (
        'Cells in <italic>Mus  musculus</italic> at 37&#160;&#176;C (<bold>a</bold>\n\t<xref rid="b">ref. 3</xref>), '
        "CO<sub>2</sub>, p &lt; 0.05, R&amp;D, twice &amp;lt; and &amp;#x3b1;, named&nbsp;&alpha;, soft&#173;ly.</p>"
        "<p>Next "
        "<inline-formula><alternatives><tex-math>\\alpha^2</tex-math><mml:math><mml:mi>β</mml:mi></mml:math>"
        f"</alternatives></inline-formula> <inline-graphic xlink:href='x'/>end.<!-- gone --> {TWENTY}"
    )
    write(tmp_path, "PMC1", article(fig("f1", caption=caption)), {"f1.png": picture(1, "PNG")})
    assert only(tmp_path).text("caption").text == (
        "Cells in Mus musculus at 37 °C (a ref. 3), CO2, p < 0.05, R&D, twice < and α, named α, softly. Next β end. "
        + TWENTY
    )


def test_captions_of_fewer_than_twenty_words_are_left_out_and_are_no_damage(tmp_path):
    assert (len(TWENTY.split()), len(NINETEEN.split())) == (20, 19)
    body = fig("f1") + fig("f2", caption=NINETEEN) + "<fig>" + graphic("f3") + "</fig>"
    write(tmp_path, "PMC1", article(body), {f"f{n}.jpg": picture(n) for n in (1, 2, 3)})
    kept, skipped = everything(PmcInstruct(tmp_path))
    assert [case.source_id for case in kept] == ["PMC1/f1"]
    assert [(entry.source_id, entry.reason, entry.detail) for entry in skipped] == [
        ("PMC1/f2", "short caption", "19 words, fewer than 20"),
        ("PMC1/f3", "short caption", "0 words, fewer than 20"),
    ]
    assert not any(entry.is_damage for entry in skipped)
    assert len(everything(PmcInstruct(tmp_path, min_words=19))[0]) == 2


def test_panels_belong_to_one_figure_and_alternatives_are_one_panel(tmp_path):
    several = f"<alternatives>{graphic('c-large.tif')}{graphic('c-small')}</alternatives>"
    body = fig("a", "b", "b", more=several)
    names = {"a.jpg": 1, "b.JPEG": 2, "c-large.jpg": 3, "c-small.jpg": 4}
    write(tmp_path, "PMC1", article(body), {name: picture(seed) for name, seed in names.items()})
    case = only(tmp_path)
    assert case.images == [picture(1), picture(2), picture(3)]
    caption, *more = PmcInstruct(tmp_path).records(case)
    assert not more and len(caption.images) == 3 and message_text(caption.messages[1]) == case.text("caption").text


def test_a_group_lends_its_caption_to_figures_without_one(tmp_path):
    figures = f"<fig>{graphic('a')}</fig>{fig('b', caption='Own. ' + TWENTY)}"
    body = f"<fig-group><caption><p>{TWENTY}</p></caption>{figures}</fig-group>"
    write(tmp_path, "PMC1", article(body), {"a.jpg": picture(1), "b.jpg": picture(2)})
    kept, _ = everything(PmcInstruct(tmp_path))
    assert [case.text("caption").text for case in kept] == [TWENTY, f"Own. {TWENTY}"]


def test_figures_of_appendix_and_supplement_are_kept_with_their_place(tmp_path):
    back = (
        f"<app-group><app>{fig('app')}</app></app-group>"
        f"<sec><supplementary-material>{fig('sup')}</supplementary-material></sec>"
    )
    nxml = article(fig("own"), back=back).replace(
        b"</article>", f"<floats-group>{fig('fl')}</floats-group></article>".encode()
    )
    write(tmp_path, "PMC1", nxml, {f"{name}.jpg": picture(n) for n, name in enumerate(("own", "app", "sup", "fl"))})
    kept, _ = everything(PmcInstruct(tmp_path))
    places = {case.source_id: case.fact("figure_place") and case.fact("figure_place").value for case in kept}
    assert places == {
        "PMC1/own": None, "PMC1/app": "appendix", "PMC1/sup": "supplementary material", "PMC1/fl": None,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "gif", "tif", "tiff", "bmp", "JPG", "Png", "TIFF"])
def test_each_picture_format_is_found_in_either_case(tmp_path, suffix):
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix.lower(), suffix.upper())
    write(tmp_path, "PMC1", article(fig("gkw.f1")), {f"gkw.f1.{suffix}": picture(1, kind)})
    with Image.open(io.BytesIO(only(tmp_path).images[0])) as image:
        assert image.size == (26, 18) and image.format in ("JPEG", "PNG")


def test_a_link_to_the_manuscript_s_file_means_the_one_that_pmc_made_of_it():
    assert picture_names("f1.tif")[:2] == ["f1.tif", "f1.jpg"]
    assert picture_names("f1.eps")[0] == "f1.jpg" and "f1.eps.png" in picture_names("f1.eps")
    assert picture_names("gkw.f1")[0] == "gkw.f1.jpg" and picture_names("gkw.f1")[-1] == "gkw.f1.gif"


# --- licences --------------------------------------------------------------------------------------------------------


COMMONS = "http://creativecommons.org/licenses"


@pytest.mark.parametrize(
    "inside, licence",
    [
        (f"<ali:license_ref>{COMMONS}/by-nc-nd/3.0/</ali:license_ref>", "CC-BY-NC-ND-3.0"),
        (f'<p>See <ext-link xlink:href="{COMMONS}/by-nc-sa/2.5/de">it</ext-link></p>', "CC-BY-NC-SA-2.5"),
        ("<license-p>Creative Commons Attribution Non-Commercial License</license-p>", "CC-BY-NC"),
        ('<p><uri xlink:href="https://creativecommons.org/publicdomain/zero/1.0/">it</uri></p>', "CC0-1.0"),
    ],
)
def test_an_article_s_own_licence_is_the_case_s(tmp_path, inside, licence):
    write(tmp_path, "PMC1", article(fig("a"), rights=f"<license>{inside}</license>"), {"a.jpg": picture(1)})
    assert only(tmp_path).licence == licence


@pytest.mark.parametrize(
    "statement, licence",
    [
        ("under a Creative Commons Attribution-NonCommercial-NoDerivs 3.0 licence", "CC-BY-NC-ND-3.0"),
        (f"the Creative Commons Attribution License ({COMMONS}/by/2.0), which permits", "CC-BY-2.0"),
        ("the Creative Commons Attribution License, which permits non-commercial and other use", "CC-BY"),
        ("the Creative Commons Attribution Share Alike 4.0 International License", "CC-BY-SA-4.0"),
        ("This is a CC BY-NC 4.0 article", "CC-BY-NC-4.0"),
        ("CC BY", "CC-BY"),
        ("the Creative Commons Public Domain Dedication waiver", "CC0-1.0"),
        ("All rights reserved.", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_licences_are_read_from_words(statement, licence):
    assert stated_licence([], statement) == licence


def test_a_figure_with_rights_of_its_own_does_not_take_the_article_s(tmp_path):
    own = f"<permissions>{CC_BY.replace('by/4.0', 'by-nc/3.0')}</permissions>"
    borrowed = "<permissions><copyright-statement>Reprinted, © Other Press</copyright-statement></permissions>"
    body = fig("a", more=own) + fig("b", more=borrowed) + fig("c")
    write(tmp_path, "PMC1", article(body), {f"{name}.jpg": picture(n) for n, name in enumerate("abc")})
    kept, _ = everything(PmcInstruct(tmp_path))
    assert [case.licence for case in kept] == ["CC-BY-NC-3.0", "unclear", "CC-BY-4.0"]
    assert kept[1].fact("figure_permissions").value == "Reprinted, © Other Press"
    kept, skipped = everything(PmcInstruct(tmp_path, licences=["CC0", "cc-by"]))
    assert [case.source_id for case in kept] == ["PMC1/c"]
    assert [(entry.reason, entry.detail) for entry in skipped] == [("licence", "CC-BY-NC-3.0"), ("licence", "unclear")]


def test_rights_that_name_no_licence_are_unclear_and_silence_falls_back_to_the_registry(tmp_path):
    write(tmp_path, "PMC1", article(fig("a"), rights=""), {"a.jpg": picture(1)})
    silent = re.sub(b"<permissions>.*?</permissions>", b"", article(fig("a")))
    write(tmp_path, "PMC2", silent, {"a.jpg": picture(1)})
    old = article(fig("a"), rights="").replace(b"Invented 2001", b"2001. Creative Commons Attribution License.")
    write(tmp_path, "PMC3", old, {"a.jpg": picture(1)})
    kept, _ = everything(PmcInstruct(tmp_path))
    assert [case.licence for case in kept] == ["unclear", source_licence("pmc_instruct").licence, "CC-BY"]
    assert kept[0].fact("licence_statement").value == "© Invented 2001" and kept[0].fact("licence") is None
    assert kept[1].fact("licence_statement") is None


# --- unsafe XML -----------------------------------------------------------------------------------------------------


def test_entities_neither_expand_nor_read_files(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("do not read")
    declared = '<!DOCTYPE article [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    external = f'<!DOCTYPE article [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    for doctype, used in ((declared, "&b;"), (external, "&x;")):
        with pytest.raises(UnusableArticle) as refused:
            parse_article(article(fig("a", caption=used + TWENTY), doctype=doctype))
        assert refused.value.reason == "unsafe file"
    with pytest.raises(UnusableArticle) as unknown:
        parse_article(article(fig("a", caption="&nosuchname; " + TWENTY)))
    assert unknown.value.reason == "malformed row"


def test_deeply_nested_xml_is_read_or_refused_but_never_fatal():
    deep = "<italic>" * 5000 + "x" + "</italic>" * 5000
    figures = parse_article(article(fig("a", caption=deep + TWENTY))).figures
    assert figures[0].caption == "x" + TWENTY
