"""BERTScore with a model that the user names; nothing is downloaded by default."""

from .overlap import require


def bert_rows(pairs, model, layers, batch_size=32, device=None):
    """BERTScore of each pair, by `bert-score` without rescaling and without inverse document frequencies.

    Args:
        pairs (`list[tuple[str, str]]`): prediction and reference, none of them empty.
        model (`str`): a folder with a transformers encoder and its tokenizer, or a Hub id.
        layers (`int` or `None`): which hidden layer to compare; the model's last one by default, or for models that
            `bert-score` knows its recommended one.
        batch_size (`int`, *optional*, defaults to 32): pairs at a time.
        device (`str`, *optional*): where to run; the accelerator where there is one.

    Returns:
        `list[dict[str, float]]`: `bertscore_precision`, `bertscore_recall`, `bertscore_f1`, -1 to 1.

    Raises:
        ValueError: the model cannot be loaded.
    """
    bert_score = require("bert_score", "bert-score")
    transformers = require("transformers", "transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(model)
        if layers is None and model not in bert_score.utils.model2layers:
            layers = config.num_hidden_layers
        scorer = bert_score.BERTScorer(model_type=model, num_layers=layers, idf=False, device=device)
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise ValueError(f"The BERTScore model {model!r} cannot be loaded: {error}") from error
    # Tokenizers without a limit of their own report a number too large to truncate to.
    limit = getattr(config, "max_position_embeddings", None) or 512
    # RoBERTa's positions start behind the padding index, so two of them are never words.
    limit -= 2 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    scorer._tokenizer.model_max_length = min(scorer._tokenizer.model_max_length, limit)
    precision, recall, f1 = scorer.score(
        [pair[0] for pair in pairs], [pair[1] for pair in pairs], batch_size=batch_size
    )
    return [
        {"bertscore_precision": p, "bertscore_recall": r, "bertscore_f1": f}
        for p, r, f in zip(precision.tolist(), recall.tolist(), f1.tolist())
    ]
