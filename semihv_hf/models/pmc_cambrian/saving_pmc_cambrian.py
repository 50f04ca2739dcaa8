# Copyright 2026 The semihv-hf authors. Licensed under the Apache License, Version 2.0.
"""What saving and pushing PMC-Cambrian add to what the library does: the sha256 of the code, and an honest card."""

import filecmp
import hashlib
import json
import os
import re
from pathlib import Path

MANIFEST = "code_manifest.json"
FORMAT = 1
# What transformers runs from a model's folder: Python files, and chat templates in Jinja's sandbox.
CODE_SUFFIXES = (".py", ".jinja")
CARD = "README.md"
SETTINGS = ("config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json")
# The library writes a card that says this where a repository has none.
LIBRARY_CARD = "This model card has been automatically generated"
# What a card that was written before its repository had a name says in the name's place.
PLACEHOLDER = re.compile(r"your-name/[\w.-]*\w")
# For weights about which nothing is known: it states how to load them and claims nothing.
PLAIN_CARD = """---
license: unknown
library_name: transformers
pipeline_tag: image-text-to-text
tags:
- medical
- vision-language-model
- pmc_cambrian
- custom_code
---

# {name}

A PMC-Cambrian vision-language model, pushed without the record of a run. So this card states nothing about how the
weights came to be or what they can do.

> **Not a medical device.** Do not use it for diagnosis, treatment or any other clinical decision.

## Intended use

Research and tests by those who made it, or who know from them what it is.

## Out of scope

Clinical use of any kind, advice to patients, triage, and any use as ground truth for labels.

## How to load it

Read the code beside the weights before you trust it, and pin the revision that you read.

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

revision = "<commit hash you have read>"  # 40 hexadecimal digits: a branch can be moved, a commit cannot
model = AutoModelForImageTextToText.from_pretrained("{repo_id}", trust_remote_code=True, revision=revision)
processor = AutoProcessor.from_pretrained("{repo_id}", trust_remote_code=True, revision=revision)
```

`code_manifest.json` holds the sha256 of every code file; `semihv verify {repo_id} --revision <commit hash>` compares a
download with it and runs nothing.

## Training data

Not stated: no record of the training came with the weights. Nor is it stated which licences bind them.

## Evaluation

Not stated: no scores came with the weights.
"""


def code_files(folder: str | Path) -> list[str]:
    """The code files of a checkpoint folder.

    Args:
        folder (`str` or `Path`): the folder.

    Returns:
        `list[str]`: names relative to it, with forward slashes, sorted. Checkpoints inside it, which hold code and a
        manifest of their own, are left out.
    """
    folder = Path(folder)
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_checkpoint(name)]
        names += [Path(place, name).relative_to(folder).as_posix() for name in files]
    return sorted(name for name in names if name.lower().endswith(CODE_SUFFIXES))


def is_checkpoint(name: str) -> bool:
    """Whether a folder's name is that of a checkpoint inside the folder of a run.

    Args:
        name (`str`): the name.

    Returns:
        `bool`
    """
    return re.fullmatch(r"checkpoint-\d+", name) is not None


def code_digests(folder: str | Path) -> dict[str, str]:
    """The sha256 of every code file of a folder.

    Args:
        folder (`str` or `Path`): the folder.

    Returns:
        `dict[str, str]`: by name, sorted.
    """
    return {name: hashlib.sha256(Path(folder, name).read_bytes()).hexdigest() for name in code_files(folder)}


def write_code_manifest(folder: str | Path, digests: dict[str, str] | None = None) -> Path:
    """Writes the manifest of the code that lies in a checkpoint folder.

    Args:
        folder (`str` or `Path`): the folder; its code must be complete.
        digests (`dict[str, str]`, *optional*): what to write. By default what lies there.

    Returns:
        `Path`: the manifest.
    """
    digests = code_digests(folder) if digests is None else dict(sorted(digests.items()))
    path = Path(folder, MANIFEST)
    _write_json(path, {"format": FORMAT, "sha256": digests})
    return path


def hide_places(folder: str | Path) -> None:
    """Leaves only the name of a local folder that a part was loaded from: checkpoints are published.

    Args:
        folder (`str` or `Path`): a checkpoint folder; its settings are rewritten where they name a place.
    """
    for path in [Path(folder, name) for name in SETTINGS]:
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if (after := _without_places(before)) != before:
                _write_json(path, after)


class PMCCambrianSavingMixin:
    """Completes what `save_pretrained` and `push_to_hub` of a model or processor write."""

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Saves as the library does, without this machine's folders, and lists the code that lies there then."""
        done = super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True) and os.path.isdir(save_directory) and code_files(save_directory):
            hide_places(save_directory)
            write_code_manifest(save_directory)
        return done

    def _upload_modified_files(self, working_dir, repo_id, files_timestamps, *args, **kwargs):
        """Completes the files of a push; the library calls this for each, between writing and sending them."""
        working_dir = Path(working_dir)
        hide_places(working_dir)
        hub = {"token": kwargs.get("token"), "revision": kwargs.get("revision")}
        sent = {
            name: digest
            for name, digest in code_digests(working_dir).items()
            if _is_sent(working_dir / Path(name).parts[0], files_timestamps)
        }
        # Model and processor are pushed one after the other: what the other one brought stays listed.
        write_code_manifest(working_dir, {**_listed_in(repo_id, **hub), **sent})
        card = working_dir / CARD
        if hasattr(self, "config") and card.is_file() and LIBRARY_CARD in card.read_text(encoding="utf-8"):
            card.write_text(_card(self.config.name_or_path, working_dir, repo_id), encoding="utf-8")
        return super()._upload_modified_files(working_dir, repo_id, files_timestamps, *args, **kwargs)


def _write_json(path: Path, content: dict) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def _without_places(value):
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: Path(item).name
        if key.endswith("name_or_path") and isinstance(item, str) and (os.path.isabs(item) or Path(item).is_dir())
        else _without_places(item)
        for key, item in value.items()
    }


def _is_sent(path: Path, timestamps: dict[str, float]) -> bool:
    """What the library sends: what is newer than it was before it was saved."""
    return path.name not in timestamps or path.stat().st_mtime > timestamps[path.name]


def _listed_in(repo_id: str, token=None, revision: str | None = None) -> dict[str, str]:
    """The code that a repository's manifest lists; of a branch that is not there yet, that of the main one."""
    from transformers.utils import cached_file

    for branch in dict.fromkeys((revision, None)):
        try:
            path = cached_file(
                repo_id, MANIFEST, revision=branch, token=token, _raise_exceptions_for_missing_entries=False
            )
            return {} if path is None else dict(json.loads(Path(path).read_text(encoding="utf-8"))["sha256"])
        except OSError:  # no such branch; that there is no such repository, the upload will say
            continue
        except (ValueError, KeyError, TypeError):  # not a manifest: the new one takes its place
            return {}
    return {}


def _card(loaded_from: str, working_dir: Path, repo_id: str) -> str:
    """The card of the folder that a model was loaded from, if its weights are still those; else one without claims."""
    source = Path(loaded_from) if loaded_from else working_dir
    weights = [path.name for path in working_dir.glob("*.safetensors")]
    unchanged = weights and all(
        (source / name).is_file() and filecmp.cmp(source / name, working_dir / name, shallow=False) for name in weights
    )
    # A run's record beside a card shows that the card was made from it.
    if source != working_dir and unchanged and (source / "stage.json").is_file() and (source / CARD).is_file():
        return PLACEHOLDER.sub(repo_id, (source / CARD).read_text(encoding="utf-8"))
    return PLAIN_CARD.format(name=repo_id.rpartition("/")[2], repo_id=repo_id)
