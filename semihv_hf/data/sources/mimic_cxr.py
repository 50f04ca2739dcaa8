"""MIMIC-CXR-JPG with the reports of its sibling MIMIC-CXR: one case a study, with all its views.

Johnson et al., "MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs", arXiv 1901.07042.
The two releases are downloaded apart; neither may be passed on. The labels were read out of the reports by programs
(CheXpert's labeller, NegBio) and are marked as written by a machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import SemiHVError
from ..licences import source_licence
from ..messages import message
from ..release import Release
from ..report_sections import conclusion, find_section, split_sections, unwrapped
from ..schema import Case, Fact, Record, Text, case_id
from ..tables import DiskTable
from ..zip_index import UnsafeFile, ZipIndex
from .base import Item, Skipped, Source
from .conversations import REPORT_FINDINGS, record_of, wording
from .grouping import grouped
from .mimic_cxr_rules import PLACES, SECTIONS
from .reading import read_picture
from .release_tables import numbered_rows, require_columns

REPORTS_ZIP = "mimic-cxr-reports.zip"
LABELLERS = ("chexpert", "negbio")
FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
# A blank means that the report does not speak of it. That is not the same as its absence, which is "negative".
VALUES = {"1": "positive", "0": "negative", "-1": "uncertain", "": "not mentioned"}
SPLITS = {"train": "train", "validate": "validation", "test": "test"}
VIEWS = {
    "LATERAL": "lateral", "LL": "left lateral", "RL": "right lateral", "LAO": "left anterior oblique",
    "RAO": "right anterior oblique", "antero-posterior": "AP", "postero-anterior": "PA",
}  # fmt: skip
WRITE_IMPRESSION = (
    "Write the impression of this chest X-ray study.",
    "What is your impression of this study?",
    "Summarise this chest X-ray study as in the impression of a report.",
    "Give the impression section of the report.",
)
WRITE_REPORT = (
    "Write the findings and the impression of this chest X-ray study.",
    "Report this chest X-ray study with findings and impression.",
    "Dictate findings and impression for this study.",
    "Please report this examination: findings, then impression.",
)
_VIEW_COLUMNS = ("ViewPosition", "ViewCodeSequence_CodeMeaning")
_PROCEDURE = "PerformedProcedureStepDescription"
_HISTORY = ("indication", "history")


class MimicCxr(Source):
    """The release of PhysioNet, version 2.1.0; credentialed access.

    Args:
        root (`str` or `pathlib.Path`): the folder of MIMIC-CXR-JPG: `files/` and the four tables.
        held_out (`float`, *optional*, defaults to 0.0): unused: the release states its splits, by patient.
        seed (`int`, *optional*, defaults to 0): unused.
        reports_root (`str`, *optional*, defaults to `""`): the folder of MIMIC-CXR with `mimic-cxr-reports.zip` or
            its `files/`; by default the reports are looked for in `root`.
        labels (`str`, *optional*, defaults to `"chexpert"`): whose labels are taken, or `"both"`.
        without_reports (`bool`, *optional*, defaults to `False`): whether studies without a report are kept.

    Raises:
        `SemiHVError`: a folder does not hold what it should, or an option is none.
    """

    name = "mimic_cxr"
    layout = (
        ("files", "the images, files/p10/p10000032/s50414267/<dicom_id>.jpg"),
        ("mimic-cxr-2*-metadata.csv.gz | mimic-cxr-2*-metadata.csv", "the table of images"),
        ("mimic-cxr-2*-split.csv.gz | mimic-cxr-2*-split.csv", "the split of each image"),
        (
            "mimic-cxr-2*-chexpert.csv.gz | mimic-cxr-2*-chexpert.csv | "
            "mimic-cxr-2*-negbio.csv.gz | mimic-cxr-2*-negbio.csv",
            "the labels of each study",
        ),
    )
    path_options = ("reports_root",)

    def __init__(
        self,
        root: str | Path,
        *,
        held_out: float = 0.0,
        seed: int = 0,
        reports_root: str = "",
        labels: str = "chexpert",
        without_reports: bool = False,
    ):
        super().__init__(root, held_out=held_out, seed=seed)
        if labels not in (*LABELLERS, "both"):
            raise SemiHVError(f"labels is {labels!r}.", f"Use one of: {', '.join(LABELLERS)}, both.")
        self.without_reports = without_reports
        self.labellers = LABELLERS if labels == "both" else (labels,)
        self.tables = {kind: self._table(kind) for kind in ("metadata", "split", *self.labellers)}
        require_columns(
            self.release, self.name, self.tables["metadata"], ("dicom_id", "subject_id", "study_id", *_VIEW_COLUMNS)
        )
        require_columns(self.release, self.name, self.tables["split"], ("dicom_id", "study_id", "split"))
        for labeller in self.labellers:
            require_columns(self.release, self.name, self.tables[labeller], ("study_id", *FINDINGS))
        self.reports = Reports(reports_root or root)
        if not without_reports and not self.reports.are_there():
            raise SemiHVError(
                f"{self.reports.release.root} holds no reports: MIMIC-CXR-JPG ships none.",
                f"Put {REPORTS_ZIP} of MIMIC-CXR there, name its folder in reports_root, or allow without_reports.",
            )

    def _table(self, kind: str) -> str:
        names = (f"mimic-cxr-2*-{kind}.csv.gz", f"mimic-cxr-2*-{kind}.csv")
        found = next(filter(None, map(self.release.first, names)), None)
        if found is None:
            raise SemiHVError(f"{self.release.root} holds no {names[0]}.", "Download that table, or use other labels.")
        return found

    def metadata(self) -> list[str]:
        """The tables that are read."""
        return sorted(self.tables.values())

    def items(self) -> Iterator[Item | Skipped]:
        """Lists the studies in the order of the table of images; rows that cannot be used come first.

        Yields:
            [`Item`] or [`Skipped`]: an item a study; a skipped one a row or a study.
        """
        splits = ((row["study_id"].strip(), row["split"].strip()) for _, row in self._rows("split"))
        with DiskTable(splits) as split_of, DiskTable(self._labels()) as labels, DiskTable() as seen:
            for group in grouped(self._views(seen)):
                if isinstance(group, Skipped):
                    yield group
                    continue
                study, views = group
                yield self._study(study, views, split_of.get(study), labels.get)

    def _study(self, study: str, views: list[dict[str, Any]], split: str | None, label) -> Item | Skipped:
        subject = views[0]["subject"]
        source_id = f"p{subject}/s{study}"
        if any(view["subject"] != subject for view in views):
            return Skipped(source_id, "malformed row", "its images are of several subjects")
        if split not in SPLITS:
            stated = "no split" if split is None else f"split {split!r}"
            return Skipped(source_id, "malformed row", f"the table of splits states {stated} for it")
        found = {labeller: label(f"{labeller} {study}") for labeller in self.labellers}
        for labeller, values in found.items():
            unknown = sorted(set(values or ()) - set(VALUES.values()))
            if unknown:
                return Skipped(source_id, "unknown label", f"{labeller}: {unknown[0]}")
        data = {"subject": subject, "study": study, "views": views, "labels": found}
        return Item(source_id, SPLITS[split], data)

    def _rows(self, kind: str) -> Iterator[tuple[int, dict[str, str]]]:
        return numbered_rows(self.release, self.tables[kind])

    def _views(self, seen: DiskTable) -> Iterator[tuple[str, dict[str, Any]] | Skipped]:
        for number, row in self._rows("metadata"):
            dicom, subject, study = (row[column].strip() for column in ("dicom_id", "subject_id", "study_id"))
            source_id = f"{dicom or 'no dicom_id'} in row {number}"
            if row.get("") or not dicom or not (subject.isdigit() and study.isdigit()):
                detail = f"dicom_id {dicom!r}, subject_id {subject!r}, study_id {study!r}"
                yield Skipped(source_id, "malformed row", detail)
            elif not seen.add(dicom):
                yield Skipped(source_id, "duplicate row", "an earlier row names the same image")
            else:
                position, meaning = (row[column].strip() for column in _VIEW_COLUMNS)
                procedure = row.get(_PROCEDURE, "").strip()
                view = VIEWS.get(position or meaning, position or meaning)
                yield study, {"dicom": dicom, "subject": subject, "view": view, "procedure": procedure}

    def _labels(self) -> Iterator[tuple[str, list[str]]]:
        """The values of each study in the order of `FINDINGS`; what is no known value is kept for the message."""
        for labeller in self.labellers:
            for _, row in self._rows(labeller):
                values = [_value(row[finding].strip()) for finding in FINDINGS]
                yield f"{labeller} {row['study_id'].strip()}", values

    def read(self, item: Item) -> Iterator[Case | Skipped]:
        """Reads the report and the images of a study.

        Args:
            item ([`Item`]): as [`items`] gave it.

        Yields:
            [`Case`] or [`Skipped`]: one case with the views that can be read, after a skipped one for each that
            cannot; or no case, where there is no report or no view.
        """
        data = item.data
        report = self.reports.read(data["subject"], data["study"])
        if report is None and not self.without_reports:
            yield Skipped(item.source_id, "missing text", f"there is no report s{data['study']}.txt, or it is blank")
            return
        if isinstance(report, UnsafeFile | UnicodeDecodeError | OSError):
            yield Skipped(item.source_id, *_why_unread(report, f"s{data['study']}.txt"))
            return
        images, views = [], []
        for view in data["views"]:
            picture = self._image(data, view["dicom"], f"{item.source_id}/{view['dicom']}")
            if isinstance(picture, Skipped):
                yield picture
            else:
                images.append(picture)
                views.append(view)
        if not images:
            yield Skipped(item.source_id, "missing image", f"none of its {len(data['views'])} images can be read")
            return
        texts = [*_report_texts(report or "", data["study"]), *_label_texts(data["labels"])]
        yield Case(
            id=case_id(self.name, item.source_id, images),
            source=self.name,
            source_id=item.source_id,
            group=f"p{data['subject']}",
            split=item.split,
            licence=source_licence(self.name).licence,
            images=images,
            facts=[*_view_facts(views), *_label_facts(data["labels"])],
            texts=texts,
        )

    def _image(self, data: Mapping[str, Any], dicom: str, source_id: str) -> bytes | Skipped:
        name = f"{_folder(data['subject'])}/s{data['study']}/{dicom}.jpg"
        try:
            self.release.path(name)  # the release has no archives of images: searching its 300,000 folders is in vain
        except FileNotFoundError:
            return Skipped(source_id, "missing image", name)
        except UnsafeFile as error:
            return Skipped(source_id, "unsafe file", f"{name} {error.reason}")
        return read_picture(self.release, name, source_id)

    def records(self, case: Case) -> Iterator[Record]:
        """The report of a study: findings and impression, or what the report has of them.

        Args:
            case ([`Case`]): a case of this source.

        Yields:
            [`Record`]: none where the report describes no image.
        """
        findings, impression, described = (case.text(role) for role in ("findings", "impression", "description"))
        if findings and impression:
            asked, answer = WRITE_REPORT, f"Findings:\n{findings.text}\n\nImpression:\n{impression.text}"
        elif impression:
            asked, answer = WRITE_IMPRESSION, impression.text
        elif findings or described:
            asked, answer = REPORT_FINDINGS, (findings or described).text
        else:
            return
        question = message("user", wording(case.id, asked), images=len(case.images))
        yield record_of(case, "report", [question, message("assistant", answer)], ["rule", "human"])


class Reports:
    """The reports of MIMIC-CXR, unpacked or in `mimic-cxr-reports.zip`.

    Args:
        root (`str` or `pathlib.Path`): the folder.
    """

    def __init__(self, root: str | Path):
        self.release = Release(root)
        self._zip: ZipIndex | None = None

    def __getstate__(self) -> dict:
        return {"root": str(self.release.root)}  # an open archive does not travel to other processes

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["root"])

    def are_there(self) -> bool:
        """Whether there is the archive, or a report in one of the first folders."""
        if self.release.first(REPORTS_ZIP):
            return True
        folders = islice(self.release.find("files/p[0-9][0-9]/p[0-9]*"), 20)
        return any(self.release.first(f"{folder}/s*.txt") for folder in folders)

    def read(self, subject: str, study: str) -> str | UnsafeFile | UnicodeDecodeError | OSError | None:
        """The report of a study.

        Args:
            subject (`str`): the digits of its patient.
            study (`str`): its own digits.

        Returns:
            `str`, or `None` where there is none or a blank one, or the error that came of reading it.
        """
        name = f"{_folder(subject)}/s{study}.txt"
        try:
            try:
                data = self.release.path(name).read_bytes()
            except FileNotFoundError:
                data = self._archive().read(name)
            report = data.decode("utf-8-sig")
            return report if unwrapped(report) else None
        except FileNotFoundError:
            return None
        except (UnsafeFile, UnicodeDecodeError, OSError) as error:
            return error

    def _archive(self) -> ZipIndex:
        # Only this archive: looking for others would walk through the folders of all images.
        if self._zip is None:
            self._zip = ZipIndex(self.release.root, list(self.release.find(REPORTS_ZIP)))
        return self._zip


def _folder(subject: str) -> str:
    return f"files/p{subject[:2]}/p{subject}"


def _value(cell: str) -> str:
    try:
        return VALUES[cell and f"{float(cell):g}"]
    except (ValueError, KeyError):
        return repr(cell)


def _why_unread(error: Exception, name: str) -> tuple[str, str]:
    if isinstance(error, UnsafeFile):
        return "unsafe file", f"{name} {error.reason}"
    if isinstance(error, UnicodeDecodeError):
        return "missing text", f"{name} is no UTF-8 text"
    return "missing text", f"{name}: {error.strerror or error}"


def _report_texts(report: str, study: str) -> list[Text]:
    """The report and its sections; a `description` stands for findings and impression where it has neither."""
    if not report:
        return []
    sections = split_sections(report)
    found = {name: find_section(sections, name) for name in ("findings", "impression", "comparison", *_HISTORY)}
    texts = {name: unwrapped(section.text) for name, section in found.items() if section}
    if study in PLACES or study in SECTIONS:
        # The headings of these reports mislead, so no section is taken at its word.
        start, end = PLACES.get(study, (0, 0))
        named = find_section(sections, SECTIONS.get(study, ""))
        texts = {"description": unwrapped(named.text if named else report[start:end])}
    elif not texts.keys() & {"findings", "impression"}:
        best = conclusion(sections)
        texts["description"] = unwrapped(best.text) if best else ""
    told = [Text("report", unwrapped(report), "human")]
    for name, text in texts.items():
        if text:
            told.append(Text("history" if name in _HISTORY else name, text, "human"))
    return told


def _label_texts(labels: Mapping[str, Sequence[str] | None]) -> list[Text]:
    told = []
    for values in labels.values():
        mentioned = [f"{name}: {value}" for name, value in zip(FINDINGS, values or ()) if value != VALUES[""]]
        if mentioned:
            told.append(Text("labels", "; ".join(mentioned), "machine"))
    return told


def _view_facts(views: Sequence[Mapping[str, str]]) -> list[Fact]:
    release = "MIMIC-CXR, a release of chest X-rays"
    facts = [Fact("modality", "X-ray", release), Fact("body_part", "chest", release)]
    for number, view in enumerate(views):
        if view["view"]:
            facts.append(Fact("view", view["view"], f"metadata column ViewPosition, image {number}"))
    procedure = next((view["procedure"] for view in views if view["procedure"]), "")
    return [*facts, *([Fact("procedure", procedure, f"metadata column {_PROCEDURE}")] if procedure else [])]


def _label_facts(labels: Mapping[str, Sequence[str] | None]) -> list[Fact]:
    return [
        Fact(f"{labeller} {name.lower()}", value, f"{labeller} column {name}, read out of the report by a program")
        for labeller, values in labels.items()
        for name, value in zip(FINDINGS, values or ())
    ]
