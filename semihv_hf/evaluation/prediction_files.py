"""The files of answers that `semihv predict` writes, and that scores and reports are made from."""

from pathlib import Path

from semihv_hf.errors import SemiHVError
from semihv_hf.evaluation.run_folder import read_json
from semihv_hf.files import read_jsonl

_TEXTS = ("id", "case_id", "model", "question", "reference", "answer_type", "template", "modality", "source_id")
_TEXTS_OR_NULL = ("prediction", "error")


def read_predictions(path: str | Path) -> list[dict]:
    """Reads a file of answers and checks that every row has what scores and reports take from it.

    Args:
        path (`str` or `Path`): a `.jsonl` file as [`semihv_hf.evaluation.predict.predict`] writes it. A file made
            elsewhere may hold more columns, but needs these: the texts `id`, `case_id`, `model`, `question`,
            `reference`, `answer_type`, `template`, `modality`, `source_id`; the list `options`; `prediction` and
            `error`, of which `null` says that there is none.

    Returns:
        `list[dict]`: the rows.

    Raises:
        SemiHVError: a line is not a JSON object, lacks a column or has one of another type, or an id stands twice;
            names the line.
    """
    rows = read_jsonl(path)
    lines: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        wrong = [name for name in _TEXTS if not isinstance(row.get(name), str)]
        wrong += [name for name in _TEXTS_OR_NULL if name not in row or not isinstance(row[name], str | None)]
        if not isinstance(row.get("options"), list) or not all(isinstance(text, str) for text in row["options"]):
            wrong.append("options")
        if wrong:
            raise SemiHVError(
                f"{path}, line {number}: {', '.join(wrong)} missing or of another type.",
                "Write the file with `semihv predict`, or give every row these columns.",
            )
        first = lines.setdefault(row["id"], number)
        if first != number:
            raise SemiHVError(
                f"{path}: lines {first} and {number} have the same id {row['id']!r}.", "Predict it anew."
            )
    return rows


def asked_dataset(path: str | Path, data: str | Path) -> dict:
    """Which questions a file of answers is about, for what is published of their scores.

    Args:
        path (`str` or `Path`): the file of answers; `<name>.meta.json` beside it tells config and split.
        data (`str` or `Path`): the dataset folder, or a Hub id.

    Returns:
        `dict`: `name`, that on the folder's card, else the folder's or the Hub id; `hub_id`, `None` for a folder; and
        `config` and `split`, each `None` where the answers were not made by `semihv predict`.

    Raises:
        SemiHVError: the file beside the answers is not JSON.
    """
    path, folder = Path(path), Path(data)
    settings = (read_json(path.with_name(f"{path.stem}.meta.json")) or {}).get("settings", {})
    asked = {"config": settings.get("config"), "split": settings.get("split")}
    if not folder.is_dir():
        return {"name": str(data), "hub_id": str(data), **asked}
    return {"name": _card_name(folder / "README.md") or folder.resolve().name, "hub_id": None, **asked}


def _card_name(card: Path) -> str | None:
    import yaml
    from huggingface_hub import metadata_load

    try:
        name = (metadata_load(card) or {}).get("pretty_name") if card.is_file() else None
    except (ValueError, yaml.YAMLError):  # a card of the user's that is none
        return None
    return name if isinstance(name, str) else None
