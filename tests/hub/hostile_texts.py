"""Recipes, statements, prompts and cards that lie in wait: YAML, Jinja, Markdown."""

import json
from functools import partial
from pathlib import Path

from hostile_inputs import INERT, Attempt, canary, write, yamls

INJECTIONS = {
    "cycler": "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "self": "{{ self._TemplateReference__context.environment.loader }}",
    "lipsum": "{% set x = lipsum.__globals__['os'].popen('touch CANARY').read() %}",
    "attr filter": "{{ namespace|attr('__init__')|attr('__globals__') }}",
    "format": "{{ '{0.__init__.__globals__}'.format(cycler) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import '../../secret.txt' as x %}",
}


def attempts(folder: Path) -> list[Attempt]:
    """All of them."""
    import semihv_hf.curation.generation.prompts  # noqa: F401  imports what is needed before time is taken
    import semihv_hf.hub.cards  # noqa: F401

    return [*_settings(), *_prompts(), *_cards(folder)]


# --- YAML ------------------------------------------------------------------------------------------------------------


def _curation(path: Path):
    from semihv_hf.curation.pipeline.config import read_config

    return read_config(path, out="out")


def _recipe(path: Path):
    from semihv_hf.training.arguments import StageArguments, check_recipe_keys

    return check_recipe_keys(str(path), StageArguments)


def _attestation(path: Path):
    from semihv_hf.data.attestations import read_attestation

    return read_attestation(path)


def _permission(path: Path):
    from semihv_hf.data.sources.eurorad_permission import read_permission

    return read_permission(path)


def _columns(path: Path):
    from semihv_hf.data.sources.radiopaedia_columns import read_columns

    return read_columns(path)


def _prices(path: Path):
    from semihv_hf.llm.prices import Prices

    return Prices(path)


def _settings():
    readers = {
        "curation": _curation, "recipe": _recipe, "statement": _attestation, "permission": _permission,
        "columns": _columns, "prices": _prices,
    }  # fmt: skip
    for kind, read in readers.items():
        for name, text in yamls().items():

            def run(place, read=read, text=text):
                return read(write(place / "x.yaml", text))

            yield Attempt(f"{kind}: {name}", run)


# --- prompts ---------------------------------------------------------------------------------------------------------


def _prompt(text: str, place: Path):
    from semihv_hf.curation.generation.prompts import Prompts

    body = "{# version: 1 #}{% block system %}x{% endblock %}{% block user %}{{ images }}" + text + "{% endblock %}"
    write(place / "qa.jinja", body)
    return Prompts.load(place)


def _prompts():
    for name, text in INJECTIONS.items():
        yield Attempt(f"prompt template: {name}", partial(_prompt, text.replace("CANARY", canary())))


# --- cards -----------------------------------------------------------------------------------------------------------


def _record(**changes) -> dict:
    return {
        "title": "Alignment", "rows": 1, "seed": 0, "seconds": 1.0, "log": [{"step": 1, "loss": 1.0}],
        "trainable": {"parameters": 1}, "frozen": {"parameters": 0},
        "sources": [{"source": "nilearn", "licence": "BSD-3-Clause", "rows": 1}], **changes,
    }  # fmt: skip


def _model_card(record: dict, repo_id: str | None, place: Path):
    from huggingface_hub import ModelCard

    from semihv_hf.hub.cards import write_model_card

    checkpoint = place / "checkpoint"
    write(checkpoint / "config.json", {"siglip_config": {"hidden_size": 1}})
    card = ModelCard.load(write_model_card(checkpoint, record, repo_id=repo_id))
    if card.data.license != "other" or card.data.library_name != "transformers":
        raise AssertionError(f"a field changed the front matter: {card.data.to_dict()}")
    return card


def _cards(folder: Path):
    texts = {name: text.replace("CANARY", canary()) for name, text in INJECTIONS.items()}
    texts |= {
        "a second front matter": "\n---\nlicense: mit\n---\n",
        "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
        "a table's end": "| x |\n\n# Heading\n",
        "a YAML tag": "!!python/object/apply:os.system ['x']",
        "letters that turn around": "\u202egpj.exe",
    }
    for name, text in texts.items():
        yield Attempt(f"model card: a title with {name}", partial(_model_card, _record(title=text), None), INERT)
        sources = [{"source": text, "licence": text, "rows": 1}]
        yield Attempt(f"model card: a source with {name}", partial(_model_card, _record(sources=sources), None), INERT)
        yield Attempt(f"model card: a repository with {name}", partial(_model_card, _record(), f"a/{text}"), INERT)
        yield Attempt(
            f"model card: a text model with {name}", partial(_model_card, _record(text_model=f"a/{text}"), None), INERT
        )
    for key, value in {
        "rows": "1 million", "seconds": "NaN", "seed": {"a": 1}, "log": "x", "trainable": [], "sources": 7,
    }.items():  # fmt: skip
        yield Attempt(f"model card: {key} that is {value!r}", partial(_model_card, _record(**{key: value}), None))
    for name, text in yamls().items():

        def loaded(place, text=text):
            from huggingface_hub import ModelCard

            from semihv_hf.hub.card_rules import check_card

            write(place / "README.md", f"---\n{text}---\n\n# x\n")
            check_card(place / "README.md", "model")
            return ModelCard.load(place / "README.md")

        yield Attempt(f"a stranger's card with {name}", loaded)
    yield Attempt(
        "a statement file that is JSON of a record",
        lambda place: _attestation(write(place / "x", json.dumps(_record()))),
    )
