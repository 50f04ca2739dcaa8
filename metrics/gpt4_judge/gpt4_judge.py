"""A language model as the judge of medical answers, whose failures stay failures."""

import datasets
import evaluate

from semihv_hf.errors import SemiHVError

# evaluate copies only the siblings that this file imports by name, not those that they import: hence all are here.
from .calls import Calls
from .comparisons import PAIRWISE_FIELDS
from .comparisons import PAIRWISE_PROTOCOLS
from .comparisons import PAIRWISE_SCALE
from .comparisons import RELATIVE_FIELDS
from .comparisons import RELATIVE_PROTOCOLS
from .comparisons import RELATIVE_SCALE
from .comparisons import pairwise
from .comparisons import pairwise_summary
from .comparisons import plan_pairwise
from .comparisons import plan_relative
from .comparisons import relative
from .comparisons import relative_summary
from .connection import connect
from .connection import open_cache
from .connection import read_statement
from .connection import settings_from
from .connection import withheld
from .connection import warnings_about
from .equivalence import PROTOCOLS as HIT_PROTOCOLS
from .equivalence import SCALE as HIT_SCALE
from .equivalence import judge as judge_hit
from .equivalence import plan as plan_hit
from .equivalence import summary as hit_summary
from .fencing import fenced_messages
from .jama import FIELDS as JAMA_FIELDS
from .jama import PROTOCOLS as JAMA_PROTOCOLS
from .jama import SCALE as JAMA_SCALE
from .jama import judge as judge_jama
from .jama import plan as plan_jama
from .jama import summary as jama_summary
from .prompts import PROMPT_VERSION
from .replies import Reply
from .results import by_group
from .results import check_failures
from .results import prompt_hash
from .results import provenance
from .results import summarise
from .rows import blank
from .rows import failed
from .rows import read_rows

__all__ = ["GPT4Judge", "Reply", "fenced_messages"]

_DESCRIPTION = """
Asks a chat-completions server how good medical answers are. `jama` looks up the key points, reasoning steps and pieces
of evidence of a reference discussion in an explanation (three scores of 0 to 5 and their mean); `relative` grades an
answer beside a reference answer, 1 to 10, in both orders; `pairwise` says which of two answers is better, in both
orders; `hit` says whether a short answer means what the reference means. A call that fails gives no score: the row is
counted as failed, with its reason, and the mean stands between bounds.
"""

_CITATION = """
@article{wang2024semihvision,
  title={SemiHVision: Enhancing Medical Multimodal Models with a Semi-Human Annotated Dataset and Fine-Tuned
         Instruction Generation},
  author={Wang, Junda and Ting, Yujan and Chen, Eric Z. and Tran, Hieu and Yu, Hong and Huang, Weijing and
          Chen, Terrence},
  journal={arXiv preprint arXiv:2410.14948},
  year={2024}
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str | None]`): the answers; `None` where there is none because something failed.
    references (`list[str]`): the reference discussion (`jama`), the reference answer (`hit`), or the other answer
        (`relative`, `pairwise`).
    questions (`list[str]`): the questions, with the cases they are about.
    case_ids (`list[str]`, *optional*): the case of each row; the bootstrap draws whole cases.
    contexts (`list[str | None]`, *optional*): what else the judge may know: a caption (`relative`), the right answer
        (`pairwise`).
    groups (`list[str]`, *optional*): a name for each row, such as its modality; adds `by_group`.
    ids (`list[str]`, *optional*): a name for each row, and
    models (`list[str]`, *optional*): who wrote its answer; both only stand in `rows`, for `semihv judge-audit`.
    sources (`list[str]` or `list[list[str]]`, *optional*): the names in the licence registry whose text each row
        holds; what a source forbids is not sent to another machine.
    protocol (`str`, *optional*): `jama`: `"items"` (default) or `"authors"`; `relative`: `"both_orders"` (default) or
        `"llava-med"`; `pairwise`: `"both_orders"`; `hit`: `"equivalence"`.
    base_url (`str`, *optional*): the server, up to and including `/v1`; OpenAI's without it.
    model (`str`): the judge.
    cache_dir (`str`, *optional*): the folder of replies; what stands there is not asked again.
    max_cost_usd (`float`, *optional*): dollars after which no further call is made.
    max_failure_rate (`float`, *optional*, defaults to 0.05): share of rows that may be without a verdict, 0 to 1.
    repeats (`int`, *optional*, defaults to 1): how often each answer is judged; the score is the mean.
    seed (`int`, *optional*, defaults to 0): of the bootstrap.
    dry_run (`bool`, *optional*, defaults to `False`): count the calls and estimate the price; ask nothing.
    cache_only (`bool`, *optional*, defaults to `False`): answer from `cache_dir` alone; a reply that is not there is
        an error.
    attestation (`str`, *optional*): a file with a signed statement for the licence gate.
    prices (*optional*): prices to use instead of the kept table; see `semihv_hf.llm.Budget`.
    max_concurrency, timeout, max_retries, api_key_env, temperature, sampling_seed, max_tokens, extra (*optional*): see
        `semihv_hf.llm.ServerSettings`. The key itself is read from the environment.
    client (`semihv_hf.llm.ChatClient`, *optional*): a client to use instead of one made from the settings.
    progress (`bool`, *optional*, defaults to `False`): show a progress bar.

Returns:
    `dict`: `mean` over the scored rows with `ci95` and `bounds`, `n_total`, `n_scored`, `n_failed` with `failures` by
    kind, `n_empty`, `decided_by`, what the configuration adds, who judged (`model_requested`, `models_returned`,
    `system_fingerprints`, `base_url`, `prompt_version`, `prompt_sha256`), `usage` and `this_run` (tokens and dollars),
    and `rows`.

Examples:

    What a rule can decide costs nothing: here no server is needed at all.

    >>> metric = evaluate.load("metrics/gpt4_judge", "hit")
    >>> result = metric.compute(
    ...     predictions=["Pneumothorax.", "yes", "", None],
    ...     references=["pneumothorax", "no", "MRI", "CT"],
    ...     questions=["What is seen?", "Is it benign?", "Which modality?", "Which modality?"],
    ...     base_url="http://127.0.0.1:8000/v1", model="local-judge",
    ... )
    >>> result["mean"], result["n_scored"], result["failures"], result["n_empty"]
    (0.3333333333333333, 3, {'no_prediction': 1}, 1)
    >>> result["decided_by"]["rules"], result["bounds"]
    ({'empty': 1, 'equal': 1, 'opposite': 1}, [0.25, 0.5])

    A dry run counts the calls: three lists for the one case, and three markings for each of its two answers.

    >>> metric = evaluate.load("metrics/gpt4_judge", "jama")
    >>> plan = metric.compute(
    ...     predictions=["A collapsed lung, since no vessels are seen beyond the pleural line.", "I do not know."],
    ...     references=["The film shows a pleural line without vessels beyond it: a pneumothorax."] * 2,
    ...     questions=["A tall man has sudden chest pain. What does the film show?"] * 2,
    ...     case_ids=["case 1", "case 1"],
    ...     base_url="http://127.0.0.1:8000/v1", model="local-judge", dry_run=True,
    ... )
    >>> plan["n_calls"], plan["n_total"]
    (9, 2)
"""

# For each configuration: its protocols (the first is the default), the scale of a row's score, the fields that only it
# has, and its judge, plan and addition to the result.
_CONFIGURATIONS = {
    "jama": (JAMA_PROTOCOLS, JAMA_SCALE, JAMA_FIELDS, judge_jama, plan_jama, jama_summary),
    "relative": (RELATIVE_PROTOCOLS, RELATIVE_SCALE, RELATIVE_FIELDS, relative, plan_relative, relative_summary),
    "pairwise": (PAIRWISE_PROTOCOLS, PAIRWISE_SCALE, PAIRWISE_FIELDS, pairwise, plan_pairwise, pairwise_summary),
    "hit": (HIT_PROTOCOLS, HIT_SCALE, (), judge_hit, plan_hit, hit_summary),
}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class GPT4Judge(evaluate.Metric):
    """The `evaluate` module; see `_KWARGS_DESCRIPTION` for its arguments."""

    def _info(self):
        if self.config_name == "default":
            self.config_name = "jama"
        if self.config_name not in _CONFIGURATIONS:
            raise SemiHVError(
                f"gpt4_judge has no configuration {self.config_name!r}.", f"Known are: {', '.join(_CONFIGURATIONS)}."
            )
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            # Not "string": for that type evaluate refuses a first prediction that is None.
            features=datasets.Features(
                {"predictions": datasets.Value("large_string"), "references": datasets.Value("large_string")}
            ),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Takes rows as the base class does, but casts no number and no list to text.

        Args:
            predictions (`list[str | None]`): the answers.
            references (`list[str]`): what they are judged against.
            kwargs: passed on.

        Raises:
            `SemiHVError`: names the row that is not text, or the two lengths.
        """
        predictions, references = list(predictions or []), list(references or [])
        if len(predictions) != len(references):
            raise SemiHVError(
                f"`references` has {len(references)} entries for {len(predictions)} predictions.",
                "Give one entry a row.",
            )
        for name, values in (("prediction", predictions), ("reference", references)):
            for index, value in enumerate(values):
                if not isinstance(value, str) and not (value is None and name == "prediction"):
                    raise SemiHVError(f"Row {index}: the {name} {value!r} is not text.")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(
        self,
        predictions,
        references,
        questions=None,
        case_ids=None,
        contexts=None,
        groups=None,
        ids=None,
        models=None,
        sources=None,
        protocol=None,
        base_url=None,
        model=None,
        cache_dir=None,
        max_cost_usd=None,
        max_failure_rate=0.05,
        repeats=1,
        seed=0,
        dry_run=False,
        cache_only=False,
        attestation=None,
        prices=None,
        max_concurrency=16,
        timeout=120.0,
        max_retries=6,
        api_key_env="OPENAI_API_KEY",
        temperature=0.0,
        sampling_seed=0,
        max_tokens=None,
        extra=None,
        client=None,
        progress=False,
    ):
        from semihv_hf.llm.budget import Budget

        protocols, scale, fields, judge, plan, addition = _CONFIGURATIONS[self.config_name]
        protocol = protocols[0] if protocol is None else protocol
        _check_options(self.config_name, protocol, protocols, repeats, max_failure_rate, base_url, model, client)
        rows = read_rows(predictions, references, questions, case_ids, contexts, sources)
        names = {"id": ids, "model": models}
        for name, values in {"groups": groups, "ids": ids, "models": models}.items():
            if values is not None and len(values) != len(rows):
                raise SemiHVError(f"`{name}` has {len(values)} entries for {len(rows)} predictions.")
        if client is None:
            sampling = {"temperature": temperature, "seed": sampling_seed, "max_tokens": max_tokens, "extra": extra}
            limits = {"max_concurrency": max_concurrency, "timeout": timeout, "max_retries": max_retries}
            settings = settings_from(base_url, model, sampling, limits, api_key_env)
        else:
            settings = client.settings
        statement = read_statement(attestation)
        kept_here = withheld(rows, settings, statement)
        may_ask = [row for row in rows if row.number not in kept_here]
        what = {"configuration": self.config_name, "protocol": protocol, "repeats": repeats}
        warned = warnings_about(settings, sources)
        budget = Budget(max_cost_usd, prices)
        with open_cache(cache_dir, cache_only, dry_run) as cache:
            if dry_run:
                estimate = budget.estimate(plan(may_ask, protocol, repeats), settings, cache=cache)
                return {**what, **_dry(estimate, settings), "n_total": len(rows), "warnings": warned}
            calls = Calls(client or connect(settings, cache, budget, cache_only, statement), progress)
            judged = {decision["row"]: decision for decision in judge(may_ask, calls, protocol, repeats)}
        for row in rows:
            if row.number in kept_here:
                judged[row.number] = failed(blank(row, *fields), [("not sent", "licence", kept_here[row.number])])
        decisions = [
            {**{name: values[row.number] for name, values in names.items() if values}, **judged[row.number]}
            for row in rows
        ]
        result = {**what, **summarise(decisions, scale, seed)}
        check_failures(result, max_failure_rate)
        result.update(addition(decisions))
        if groups is not None:
            result["by_group"] = by_group(decisions, groups, scale, seed)
        return {**result, **provenance(calls, settings), "warnings": warned, "rows": decisions}


def _check_options(configuration, protocol, protocols, repeats, max_failure_rate, base_url, model, client):
    if protocol not in protocols:
        raise SemiHVError(
            f"{configuration} has no protocol {protocol!r}.", f"Known are: {', '.join(map(repr, protocols))}."
        )
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise SemiHVError(f"The setting repeats is {repeats!r}.", "Give a whole number of at least 1.")
    if not isinstance(max_failure_rate, (int, float)) or not 0 <= max_failure_rate <= 1:
        raise SemiHVError(f"The setting max_failure_rate is {max_failure_rate!r}.", "Give a share of 0 to 1.")
    if client is not None and (base_url is not None or model is not None):
        raise SemiHVError("Both a client and a server were given.", "The client has its own base_url and model.")


def _dry(estimate, settings):
    return {
        "dry_run": True,
        "n_calls": estimate.calls,
        "estimate": estimate.report(),
        "model_requested": settings.model,
        "base_url": settings.shown_url,
        "prompt_version": PROMPT_VERSION,
        "prompt_sha256": prompt_hash(),
    }
