"""A few of the Hub's rules for the front matter of a card."""

import yaml

COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


def check(content: str, kind: str) -> tuple[list[dict], list[dict]]:
    """Tells what is wrong with a card.

    Args:
        content (`str`): the README.
        kind (`str`): `"model"`, `"dataset"` or `"space"`.

    Returns:
        `tuple`: errors and warnings, each a dictionary with a `message`.
    """
    if not content.startswith("---\n"):
        return [], [{"message": "empty or missing yaml metadata in repo card"}]
    front, end, _ = content.removeprefix("---\n").partition("\n---")
    if not end:
        return [{"message": "the front matter does not end"}], []
    try:
        fields = yaml.safe_load(front) or {}
    except yaml.YAMLError as error:
        return [{"message": f"bad YAML: {error}"}], []
    if not isinstance(fields, dict):
        return [{"message": "the front matter is no mapping"}], []
    wrong = []
    if not isinstance(fields.get("license", ""), str | list):
        wrong.append('"license" must be a string or a list')
    if fields.get("license") == "other" and kind != "space" and not fields.get("license_name"):
        wrong.append('"license_name" is required when "license" is "other"')
    if not isinstance(fields.get("tags", []), list):
        wrong.append('"tags" must be a list')
    if kind == "space" and fields.get("sdk") not in ("gradio", "docker", "static"):
        wrong.append('"sdk" must be gradio, docker or static')
    for name in ("colorFrom", "colorTo"):
        if kind == "space" and name in fields and fields[name] not in COLOURS:
            wrong.append(f'"{name}" must be one of {", ".join(COLOURS)}')
    for number, entry in enumerate(fields.get("model-index") or []):
        for result in entry.get("results") or []:
            if not result.get("task", {}).get("type") or not result.get("dataset", {}).get("name"):
                wrong.append(f'"model-index[{number}]" has a result without task type or dataset name')
            for metric in result.get("metrics") or [{}]:
                if "type" not in metric or "value" not in metric:
                    wrong.append(f'"model-index[{number}]" has a metric without type or value')
    return [{"message": message} for message in wrong], []
