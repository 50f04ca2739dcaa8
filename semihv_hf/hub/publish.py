"""`semihv publish`: a folder becomes a revision on the Hub, or nothing at all happens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semihv_hf.data.attestations import Attestation
from semihv_hf.data.licences import mixture
from semihv_hf.errors import SemiHVError
from semihv_hf.hub import gate, manifest
from semihv_hf.hub.allowed_files import KINDS, check_upload
from semihv_hf.hub.card_rules import check_card
from semihv_hf.hub.file_rules import text_refusal
from semihv_hf.hub.program_data import program_sources
from semihv_hf.hub.repository import Target, check_repo_id, find_target, hub_client, prepare, show
from semihv_hf.hub.upload import LocalFile, upload
from semihv_hf.models.pmc_cambrian.saving_pmc_cambrian import PLACEHOLDER

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
# What the card of a dataset folder says in its example in place of a repository's name.
_HERE = '"path/to/this/folder"'
STATEMENT = "publish_attestation.json"
_SDKS = ("gradio", "docker", "static")
_HOW = {
    "model": "Give a folder that training or `semihv convert` wrote.",
    "dataset": "Give a folder that `semihv build`, `semihv curate` or `semihv review --export` wrote.",
    "metric": "Give a folder of metrics/, and its name as that of the repository.",
    "space": "Give a folder with an app, its requirements and a card.",
}


@dataclass
class PublishReport:
    """What was, or would be, done.

    Args:
        kind (`str`): `"model"`, `"dataset"`, `"metric"` or `"space"`.
        repo_id (`str`): the repository.
        private (`bool`): whether only its owners see it.
        gated (`bool`): whether others must first agree to terms.
        url (`str`): its page; empty after a dry run.
        files (`list[LocalFile]`): everything that the revision consists of.
        decisions (`list[SourceDecision]`): what the licence gate says about each source.
        conflicts (`tuple[str, ...]`): licences of the sources that cannot be kept at once.
        revision (`str`, *optional*): the commit; `None` after a dry run.
        sent (`list[str]`): files that differ from what is there.
        removed (`list[str]`): files of the repository that the folder does not have.
        bytes_sent (`int`): the size of those that differ.
    """

    kind: str
    repo_id: str
    private: bool
    gated: bool
    url: str = ""
    files: list[LocalFile] = field(default_factory=list)
    decisions: list[gate.SourceDecision] = field(default_factory=list)
    conflicts: tuple[str, ...] = ()
    revision: str | None = None
    sent: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    bytes_sent: int = 0

    def lines(self) -> list[str]:
        """The report in words: every file with its size, every source with the gate's decision, and what was done."""
        seen = "private" if self.private else "public"
        told = [f"{file.size:>15,}  {file.name}" for file in self.files]
        told.append(f"{sum(file.size for file in self.files):>15,}  bytes in {len(self.files)} files")
        told += [f"{each.source}, {each.rows:,} rows: {each.decision.reason}" for each in self.decisions]
        told += [f"Take note: {conflict}." for conflict in self.conflicts]
        told.append(f"{self.repo_id}: a {self.kind}, {seen}{', gated' if self.gated else ''}.")
        if self.revision is None:
            return [*told, "Dry run: nothing was uploaded."]
        if self.sent or self.removed:
            removed = f", {len(self.removed)} removed" if self.removed else ""
            told.append(f"{len(self.sent)} files uploaded ({self.bytes_sent:,} bytes){removed}.")
        else:
            told.append("Everything was there already: 0 bytes uploaded, no commit made.")
        return [*told, f"Revision {self.revision}", self.url]


def publish(
    kind: str,
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    dry_run: bool = False,
    revision: str = "main",
    message: str | None = None,
    token_from_env: str | None = None,
    attestation: Attestation | None = None,
    progress: bool = True,
    api: HfApi | None = None,
) -> PublishReport:
    """Uploads a folder as one commit, after everything that can be wrong with it was looked for.

    The repository is made to consist of exactly this folder: what it holds besides is removed, since a shard of an
    earlier build would be read along with the new ones. A second run uploads nothing and makes no commit.

    Args:
        kind (`str`): `"model"`, `"dataset"`, `"metric"` or `"space"`.
        folder (`str` or `Path`): what to publish.
        repo_id (`str`): where, as `namespace/name`, or `name` below the user's own namespace.
        private (`bool`, *optional*):
            who may see it. By default private where the licence of a source binds everybody who has a copy, else
            public; an existing repository stays as it is.
        dry_run (`bool`, *optional*, defaults to `False`): look at everything, upload nothing. No token is needed.
        revision (`str`, *optional*, defaults to `"main"`): the branch; made if missing.
        message (`str`, *optional*): the commit's title.
        token_from_env (`str`, *optional*): the environment variable that holds the token.
        attestation ([`Attestation`], *optional*): a signed statement; published along where it opened a gate.
        progress (`bool`, *optional*, defaults to `True`): whether to show a progress bar.
        api (`HfApi`, *optional*): a client of one's own.

    Returns:
        [`PublishReport`]: what was done.

    Raises:
        SemiHVError: something stands against it. Unless the message says otherwise, nothing was uploaded.
    """
    if kind not in KINDS:
        raise SemiHVError(f"There is no kind {kind!r}.", f"Choose one of {', '.join(KINDS)}.")
    folder = Path(folder)
    check_repo_id(repo_id)
    _check_folder(kind, folder, repo_id)
    decisions = _decisions(kind, folder, attestation)
    gate.check_all_allowed(decisions)
    conflicts = mixture(each.source for each in decisions).conflicts if decisions else ()
    if conflicts and kind != "model":
        raise SemiHVError(f"Nothing was uploaded: {'; '.join(conflicts)}.", "Publish one dataset for each of them.")
    needs_private = any(each.private for each in decisions) or bool(conflicts)
    if needs_private and kind in ("metric", "space"):
        names = ", ".join(each.source for each in decisions if each.private)
        raise SemiHVError(
            f"Nothing was uploaded: {folder} brings rows of {names}, whose terms bind everybody who has a copy; "
            "a Space cannot ask for agreement.",
            "Bring examples of another source.",
        )
    questions = gate.gated_fields(kind, decisions)
    files = _files(kind, folder)
    check_card(folder / CARD, kind)
    if attestation is not None and any(each.decision.attested for each in decisions):
        files.append(LocalFile.of(STATEMENT, _statement(attestation)))
    report = PublishReport(kind, repo_id, needs_private if private is None else private, bool(questions))
    report.decisions, report.conflicts = decisions, conflicts
    if dry_run:
        report.files = with_final_card(files, repo_id, questions)
        return report
    target = find_target(api or hub_client(token_from_env), kind, repo_id, revision)
    report.repo_id, report.url = target.repo_id, target.url
    report.files = with_final_card(files, target.repo_id, questions)
    report.private = visibility(target, private, needs_private)
    sdk = _space_sdk(folder) if target.repo_type == "space" else None
    prepare(target, private=report.private, gated=report.gated, space_sdk=sdk)
    report.revision, plan = upload(
        target,
        report.files,
        message=message or f"Publish a {kind} with semihv-hf",
        description=_description(report),
        progress=progress,
    )
    report.sent, report.removed = [file.name for file in plan.send], plan.remove
    report.bytes_sent = plan.bytes_to_send
    if not report.private:
        show(target)
    return report


def _check_folder(kind: str, folder: Path, repo_id: str) -> None:
    """What a folder of each kind must hold to be of use on the Hub."""
    if not folder.is_dir():
        raise SemiHVError(f"There is no folder {folder}.", "Give the folder that is to be published.")
    if not any(folder.iterdir()):
        raise SemiHVError(f"{folder} is empty.", "There is nothing to publish.")
    needed = {
        "model": ("config.json", "*.safetensors"),
        "dataset": (),  # the manifest says what belongs to it
        "metric": (f"{repo_id.rpartition('/')[2]}.py", "app.py", "requirements.txt"),
        "space": ("app.py", "requirements.txt"),
    }[kind]
    for pattern in needed:
        if not any(folder.glob(pattern)):
            why = (
                " (evaluate looks for a script of the repository's name)"
                if (kind, pattern) == ("metric", needed[0])
                else ""
            )
            raise SemiHVError(f"{folder} is no {kind} that can be published: it has no {pattern}{why}.", _HOW[kind])
    if kind != "dataset" and not (folder / CARD).is_file():
        raise SemiHVError(f"{folder} has no card, {CARD}.", _HOW[kind])


def _decisions(kind: str, folder: Path, attestation: Attestation | None) -> list[gate.SourceDecision]:
    """What the licence gate says; of metrics and Spaces, about the rows that they bring as examples."""
    if kind == "model":
        counts, early = gate.model_sources(folder)
    elif kind == "dataset":
        counts, early = gate.dataset_sources(folder)
    else:
        counts = early = program_sources(folder)  # no such row is looked at for its day
    return gate.decide("model" if kind == "model" else "dataset", counts, early=early, attestation=attestation)


def _statement(attestation: Attestation) -> bytes:
    text = (json.dumps(attestation.manifest(), indent=2, ensure_ascii=False) + "\n").encode()
    if rule := text_refusal(text):
        raise SemiHVError(
            f"The statement, which is published along, {rule}. Nothing was uploaded.", "Mend and sign it."
        )
    return text


def _files(kind: str, folder: Path) -> list[LocalFile]:
    if kind == "model" and not (folder / manifest.MANIFEST).is_file() and manifest.code_files(folder):
        manifest.write_code_manifest(folder)
    return [LocalFile.of(file.name, file.path) for file in check_upload(folder, kind)]


def with_final_card(files: Sequence[LocalFile], repo_id: str, questions: Mapping[str, Any]) -> list[LocalFile]:
    """The files with a card that names the repository, and asks what the sources' licences want to be asked.

    Args:
        files (`Sequence[LocalFile]`): the files.
        repo_id (`str`): the repository, put where the card has a placeholder.
        questions (`Mapping`): fields of the front matter.

    Returns:
        `list[LocalFile]`: the same files but for the card, which is not written back to the folder.
    """
    from huggingface_hub import RepoCard

    final = []
    for file in files:
        if file.name == CARD and isinstance(file.content, Path):
            text = file.content.read_text(encoding="utf-8")
            named = PLACEHOLDER.sub(repo_id, text).replace(_HERE, f'"{repo_id}"')
            if questions:
                card = RepoCard(named, ignore_metadata_errors=False)
                for name, value in questions.items():
                    setattr(card.data, name, value)
                named = str(card)
            if named != text:
                file = LocalFile.of(CARD, named.encode())
        final.append(file)
    return final


def visibility(target: Target, asked: bool | None, needs_private: bool) -> bool:
    """Whether a repository is to be private in the end.

    Args:
        target ([`Target`]): the repository.
        asked (`bool`, *optional*): what the user said.
        needs_private (`bool`): whether the sources' licences ask for it.

    Returns:
        `bool`

    Raises:
        SemiHVError: it is public, its sources ask for more, and the user said nothing.
    """
    if not target.exists or target.untouched:
        return needs_private if asked is None else asked
    if asked is not None:
        return asked
    if needs_private and not target.private:
        raise SemiHVError(
            f"{target.repo_id} is public, but the licences of its sources bind everybody who has a copy. "
            "Nothing was uploaded.",
            "Say --private to make it private, or --public to keep it public behind the questions of its card.",
        )
    return target.private


def _space_sdk(folder: Path) -> str:
    from huggingface_hub import RepoCard

    sdk = RepoCard.load(folder / CARD).data.to_dict().get("sdk")
    if sdk not in _SDKS:
        raise SemiHVError(f"{folder / CARD} names no sdk.", f"Write `sdk:` and one of {', '.join(_SDKS)} into it.")
    return sdk


def _description(report: PublishReport) -> str:
    """The text of the commit: what the gate decided stays with the revision."""
    return "\n".join(f"{each.source}: {each.decision.reason}" for each in report.decisions)
