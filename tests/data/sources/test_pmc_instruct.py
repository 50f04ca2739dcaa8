"""PMC figures: articles in folders and archives, the lists of axiong/pmc_oa, and conversations beside them."""

import json
import pickle
import zipfile

import pytest
from drawn_articles import NINETEEN, TWENTY, article, conversation, everything, fig, pack, picture, turns, write

from semihv_hf.data.checks import validate_case, validate_record
from semihv_hf.data.messages import message_text
from semihv_hf.data.sources import article_files
from semihv_hf.data.sources.base import Item
from semihv_hf.data.sources.pmc_instruct import PmcInstruct
from semihv_hf.errors import SemiHVError

# --- defects ---------------------------------------------------------------------------------------------------------


def test_each_defect_of_an_article_is_skipped_with_its_reason(tmp_path):
    body = "".join(
        [fig("good"), fig("good"), fig("absent"), fig("good2", "absent2"), fig("torn"), fig("../PMC2/other"), fig()]
    )
    files = {"good.jpg": picture(1), "good2.jpg": picture(2), "torn.jpg": picture(3)[:-50]}
    write(tmp_path, "PMC1", article(body), files)
    write(tmp_path, "PMC2", article(fig("other"))[:-40], {"other.jpg": picture(4)})
    write(tmp_path, "PMC3", article("<p>no figure</p>"), {})
    write(tmp_path, "PMC4", b"", {})
    kept, skipped = everything(PmcInstruct(tmp_path))
    assert [case.source_id for case in kept] == ["PMC1/good"]
    assert [(entry.source_id, entry.reason) for entry in skipped] == [
        ("PMC1/good (figure 2)", "duplicate row"),
        ("PMC1/absent", "missing image"),
        ("PMC1/good2", "missing image"),
        ("PMC1/torn", "unreadable image"),
        ("PMC1/other", "unsafe file"),
        ("PMC1/figure 7", "missing image"),
        ("PMC2", "malformed row"),
        ("PMC4", "malformed row"),
    ]
    assert skipped[5].detail == "the figure links no graphic"
    assert not any(str(tmp_path) in entry.detail or "\n" in entry.detail for entry in skipped)


def test_a_link_out_of_the_release_is_not_followed(tmp_path):
    root = tmp_path / "release"
    write(root, "PMC1", article(fig("a")), {})
    (tmp_path / "private.jpg").write_bytes(picture(1))
    (root / "oa" / "PMC1" / "a.jpg").symlink_to(tmp_path / "private.jpg")
    kept, skipped = everything(PmcInstruct(root))
    assert not kept and [entry.reason for entry in skipped] == ["unsafe file"]


# --- archives --------------------------------------------------------------------------------------------------------


def test_an_archive_gives_the_same_rows_as_its_folder(tmp_path):
    body = fig("a.tif", title="Title.") + fig("b") + fig("absent") + fig("torn")
    files = {"a.jpg": picture(1), "b.PNG": picture(2, "PNG"), "torn.jpg": picture(3)[:-50]}
    write(tmp_path / "folders", "PMC1", article(body), files)
    (tmp_path / "archives").mkdir()
    # Pictures come before the article here: the archive has to be read twice.
    entries = {**files, "paper.nxml": article(body), "paper.pdf": b"%PDF"}
    pack(tmp_path / "archives" / "PMC1.tar.gz", {f"PMC1/{name}": data for name, data in entries.items()})
    kept, skipped = everything(PmcInstruct(tmp_path / "folders"))
    assert [case.source_id for case in kept] == ["PMC1/a.tif", "PMC1/b"]
    from_archive = everything(PmcInstruct(tmp_path / "archives"))
    assert from_archive[0] == kept
    assert [(e.source_id, e.reason, e.detail) for e in from_archive[1]] == [
        ("PMC1/absent", "missing image", skipped[0].detail),
        ("PMC1/torn", "unreadable image", skipped[1].detail.replace("oa/PMC1/", "")),
    ]


def test_an_article_in_a_folder_and_an_archive_is_read_once(tmp_path):
    write(tmp_path, "PMC1", article(fig("a")), {"a.jpg": picture(1)})
    pack(tmp_path / "PMC1.tar.gz", {"PMC1/x.nxml": article(fig("a")), "PMC1/a.jpg": picture(1)})
    kept, skipped = everything(PmcInstruct(tmp_path))
    assert [case.source_id for case in kept] == ["PMC1/a"]
    assert [(entry.source_id, entry.reason) for entry in skipped] == [("PMC1.tar.gz", "duplicate row")]


def test_damaged_and_unsafe_archives_are_skipped(tmp_path, monkeypatch):
    nxml = article(fig("a") + fig("../../b"))
    pack(tmp_path / "PMC1.tar.gz", {"PMC1/x.nxml": nxml, "../../b.jpg": picture(1)}, {"PMC1/a.jpg": "/etc/hostname"})
    pack(tmp_path / "PMC2.tar.gz", {"PMC2/x.nxml": nxml})
    whole = (tmp_path / "PMC2.tar.gz").read_bytes()
    (tmp_path / "PMC2.tar.gz").write_bytes(whole[: len(whole) // 2])
    pack(tmp_path / "PMC3.tar.gz", {"PMC3/x.txt": b"nothing"})
    pack(tmp_path / "PMC4.tar.gz", {"PMC4/x.nxml": nxml, "PMC4/y.nxml": nxml})
    (tmp_path / "PMC5.tar.gz").write_bytes(b"no archive")
    pack(tmp_path / "PMC6.tar.gz", {"PMC6/x.nxml": nxml, "PMC6/zeros": b"\0" * 300_000})
    monkeypatch.setattr(article_files, "MAX_PACKAGE_BYTES", 200_000)
    kept, skipped = everything(PmcInstruct(tmp_path))
    assert not kept
    assert [(entry.source_id, entry.reason) for entry in skipped] == [
        ("PMC1/a", "missing image"),  # a link in an archive is no file
        ("PMC1/b", "unsafe file"),
        ("PMC2", "malformed row"),
        ("PMC3", "malformed row"),
        ("PMC4", "malformed row"),
        ("PMC5", "malformed row"),
        ("PMC6", "unsafe file"),
    ]
    assert "holds 2 articles" in skipped[4].detail and "unpacks to more than 200000 bytes" in skipped[6].detail
    assert not any(str(tmp_path) in entry.detail for entry in skipped)


# --- conversations and lists -----------------------------------------------------------------------------------------


def test_conversations_of_the_authors_become_records_about_their_picture(tmp_path):
    write(tmp_path, "PMC1", article(fig("a", "b.jpg")), {"a.jpg": picture(1), "b.jpg": picture(2)})
    talk = turns(
        ("user", "What is drawn?\n<image>"), ("assistant", "Noise."), ("human", "Where?"), ("gpt", "All over.")
    )
    conversation(tmp_path, "PMC1", "b", talk)
    source = PmcInstruct(tmp_path)
    (case,), skipped = everything(source)
    caption, talk = source.records(case)
    assert not skipped and caption.task == "caption" and talk.task == "vqa"
    assert [message_text(item) for item in talk.messages] == ["What is drawn?", "Noise.", "Where?", "All over."]
    assert talk.images == [picture(2)] and talk.annotation == ["machine"] * 4
    assert [item["content"][0]["type"] for item in talk.messages] == ["image", "text", "text", "text"]


@pytest.mark.parametrize(
    "content, problem",
    [
        ("{", "it is no JSON"),
        ('"text"', "no list of conversations"),
        (turns(("user", "What?")), "the last question has no answer"),
        (turns(("assistant", "Noise.")), "turn 1 is empty, or not a question and an answer in turn"),
        (turns(("user", "What?"), ("assistant", " ")), "turn 2 is empty"),
        (turns(("system", "Be kind.")), "turn 1"),
    ],
)
def test_a_damaged_conversation_is_skipped_and_the_figure_stays(tmp_path, content, problem):
    write(tmp_path, "PMC1", article(fig("a")), {"a.jpg": picture(1)})
    conversation(tmp_path, "PMC1", "a.jpg" if content == "{" else "a", content)
    conversation(tmp_path, "PMC1", "other", turns(("user", "Whose?")))
    if content == "{":  # also found where the link has the extension
        write(tmp_path, "PMC2", article(fig("a.jpg")), {"a.jpg": picture(1)})
        conversation(tmp_path, "PMC2", "a.jpg", content)
    (case, *_), skipped = everything(PmcInstruct(tmp_path))
    assert [text.role for text in case.texts] == ["caption"]
    assert [entry.reason for entry in skipped] == ["malformed row"] and problem in skipped[0].detail
    assert skipped[0].source_id.startswith("pmc_instruct/PMC")


def test_the_lists_of_pmc_oa_are_read_with_their_splits(tmp_path):
    def line(image, caption=TWENTY, **more):
        return json.dumps({"image": image, "caption": caption, "pmcid": "PMC212319", "url_name": "x_Fig3.jpg", **more})

    (tmp_path / "train.jsonl").write_text(
        "\n".join(
            [
                line("PMC212319_Fig3_4.jpg", "Caption &lt;b&gt;  " + TWENTY),
                line("PMC212319_Fig3_5.jpg", NINETEEN),
                line("PMC212319_Fig3_4.jpg"),
                line("PMC212319_Fig3_6.jpg"),
                line("PMC212319_Fig3_7.jpg"),
                line("", caption=TWENTY),
                line("PMC212319_Fig3_8.jpg", caption=None),
                "",
            ]
        ),
        encoding="utf-8-sig",
    )
    (tmp_path / "valid.jsonl").write_text(line("PMC5_Fig1_1.jpg", pmcid=None, url_name=None) + "\n")
    (tmp_path / "test.jsonl").write_text(line("PMC212319_Fig3_4.jpg") + "\n" + line("PMC6_Fig1_1.jpg", pmcid="PMC6"))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        inside = "caption_T060_filtered_top4_sep_v0_subfigures"
        archive.writestr(f"{inside}/PMC212319_Fig3_4.jpg", picture(1))
        archive.writestr(f"{inside}/PMC212319_Fig3_6.jpg", picture(2)[:90])
        archive.writestr(f"{inside}/PMC5_Fig1_1.jpg", picture(3))
        archive.writestr(f"{inside}/PMC6_Fig1_1.jpg", picture(4))
    conversation(tmp_path, "PMC6", "PMC6_Fig1_1", turns(("user", "What?"), ("assistant", "Noise.")))
    source = PmcInstruct(tmp_path, held_out=0.9)
    kept, skipped = everything(source)
    assert [(case.source_id, case.split, case.group) for case in kept] == [
        ("PMC212319_Fig3_4.jpg", "train", "PMC212319"),
        ("PMC5_Fig1_1.jpg", "validation", "PMC5"),
        ("PMC6_Fig1_1.jpg", "test", "PMC6"),
    ]
    assert kept[0].text("caption").text == f"Caption <b> {TWENTY}"
    assert kept[0].fact("compound_figure").value == "x_Fig3.jpg" and kept[1].fact("compound_figure") is None
    assert {entry.source_id: entry.reason for entry in skipped} == {
        "train.jsonl/2": "short caption", "train.jsonl/3": "duplicate row", "PMC212319_Fig3_6.jpg": "unreadable image",
        "PMC212319_Fig3_7.jpg": "missing image", "train.jsonl/6": "missing image", "train.jsonl/7": "short caption",
        "test.jsonl/1": "duplicate row",
    }  # fmt: skip
    assert len(kept) + len(skipped) == 10
    assert [record.task for record in source.records(kept[2])] == ["caption", "vqa"]
    assert source.metadata() == ["test.jsonl", "train.jsonl", "valid.jsonl"]


def test_rows_pass_the_checks_and_survive_a_second_process(tmp_path):
    write(tmp_path, "PMC1", article(fig("a", "b")), {"a.jpg": picture(1), "b.jpg": picture(2)})
    conversation(tmp_path, "PMC1", "a", turns(("user", "What?"), ("assistant", "Noise.")))
    pack(tmp_path / "PMC2.tar.gz", {"PMC2/x.NXML": article(fig("c"), pmcid="PMC2"), "PMC2/c.jpg": picture(3)})
    source = PmcInstruct(tmp_path, held_out=0.5, seed=3)
    again = pickle.loads(pickle.dumps(source))
    items = list(source.items())
    assert list(again.items()) == items and len({item.source_id for item in items}) == len(items) == 2
    cases = [entry for item in items if isinstance(item, Item) for entry in source.read(item)]
    assert cases == [entry for item in items for entry in again.read(item)]
    seen = 0
    for case in cases:
        validate_case(case.row())
        for record in again.records(case):
            validate_record(record.row())
            seen += 1
    assert seen == 3


def test_articles_are_held_out_whole(tmp_path):
    for number in range(30):
        write(tmp_path, f"PMC{number}", article(fig("a")), {})
    splits = {item.source_id: item.split for item in PmcInstruct(tmp_path, held_out=0.4, seed=1).items()}
    assert len(splits) == 30 and set(splits.values()) == {"train", "test"}
    assert splits == {item.source_id: item.split for item in PmcInstruct(tmp_path, held_out=0.4, seed=1).items()}


def test_a_wrong_folder_says_what_is_there(tmp_path):
    (tmp_path / "paper.xml").write_text("<article/>")
    with pytest.raises(
        SemiHVError, match=r"no pmc_instruct release: missing train.jsonl .*\.tar\.gz.*Found: paper.xml"
    ):
        PmcInstruct(tmp_path)
