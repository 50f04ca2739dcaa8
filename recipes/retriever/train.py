"""Fine-tunes a CLIP-family model as the fused encoder of the retriever.

    # laptop, CPU only (a minute, with a model folder and pairs of your own)
    python recipes/retriever/train.py --config recipes/retriever/smoke.yaml --model <clip folder> --data pairs.jsonl

    # several GPUs: the batch of each is its own set of candidates
    accelerate launch --num_processes 8 recipes/retriever/train.py --config recipes/retriever/clip_large.yaml \
        --data data/eurorad

Every key of the recipe can be overridden by `--key value`. Unknown keys are errors.
"""

import sys

from semihv_hf.errors import SemiHVError


def main(argv: list[str] | None = None) -> dict:
    from transformers import HfArgumentParser, TrainingArguments

    from semihv_hf.curation.retrieval.contrastive import RetrieverArguments, train_retriever

    parser = HfArgumentParser((RetrieverArguments, TrainingArguments))
    given, settings = parser.parse_args_into_dataclasses(_with_recipe(list(sys.argv[1:] if argv is None else argv)))
    done = train_retriever(given, settings)
    print(f"Loss {done['first_loss']} -> {done['last_loss']} on {done['pairs']} pairs; saved {settings.output_dir}.")
    return done


def _with_recipe(argv: list[str]) -> list[str]:
    """The recipe's keys as options in front of those of the command line, which so have the last word."""
    from transformers import TrainingArguments

    from semihv_hf.curation.retrieval.contrastive import RetrieverArguments
    from semihv_hf.training.arguments import check_recipe_keys

    if "--config" not in argv[:-1]:
        return argv
    at = argv.index("--config")
    recipe, rest = argv[at + 1], argv[:at] + argv[at + 2 :]
    check_recipe_keys(recipe, RetrieverArguments, TrainingArguments)
    import yaml

    options = []
    with open(recipe, encoding="utf-8") as file:
        for key, value in yaml.safe_load(file).items():
            if value is not None:
                values = value if isinstance(value, list) else [value]
                options += [f"--{key}", *map(str, values)]
    return options + rest


if __name__ == "__main__":
    try:
        main()
    except SemiHVError as error:
        sys.exit(f"error: {error}")
