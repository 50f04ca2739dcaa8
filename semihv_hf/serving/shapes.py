"""Answers of a given shape: the tokens that a `response_format` allows next, and no other.

What is allowed is told by llguidance (the grammar engine that several inference servers use), which knows the
tokenizer's bytes. Here it becomes one more logits processor of `generate`, so that greedy search, sampling, beams and
drafts work as they do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor

if TYPE_CHECKING:
    from llguidance import LLMatcher

# As `json.dumps` writes, and as a model has read it. Free blanks are none: a weak model would never leave them.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Grammars of one server that are kept: those of a run are few.
_KEPT = 64
_LONGEST_REASON = 300
# What another processor forbids, although the shape has nothing else, is unlikely instead of impossible. Far from
# the least float, which a low temperature would make infinite again.
_UNLIKELY = -1e9


class Shapes:
    """The response formats of one tokenizer.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): its backend knows every token's bytes.
        eos_token_id (`int` or `Sequence[int]`, *optional*):
            tokens that end an answer; by default the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, eos_token_id: int | Sequence[int] | None = None):
        ends = tokenizer.eos_token_id if eos_token_id is None else eos_token_id
        self.ends = [ends] if isinstance(ends, int) else list(ends or ())
        self._tokenizer = tokenizer
        self._vocabulary = None
        self._grammar = lru_cache(maxsize=_KEPT)(self._compile)

    def keeper(self, wanted: Any) -> KeepsShape | None:
        """What keeps one call of `generate` to a response format.

        Args:
            wanted (`dict`, *optional*): the `response_format` of a request, or the `text.format` of the Responses API.

        Returns:
            [`KeepsShape`] or `None`: `None` for plain text.

        Raises:
            `ValueError`: the format is unknown, its schema cannot be kept, or llguidance is not installed. One line.
        """
        schema = _schema(wanted)
        if schema is None:
            return None
        if find_spec("llguidance") is None:
            raise ValueError(
                "This server does not know response_format: ask in words, or install llguidance beside it "
                "(pip install 'semihv-hf[serve]')."
            )
        from llguidance import LLMatcher

        try:
            root = self._grammar(LLMatcher.grammar_from_json_schema(schema, overrides=_LAYOUT))
        except ValueError as error:
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise ValueError(f"Invalid schema for response_format: {reason}") from error
        return KeepsShape(root)

    def _compile(self, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        if self._vocabulary is None:  # a third of a second, for who asks for a shape
            self._vocabulary = from_tokenizer(self._tokenizer, eos_token=self.ends)
        root = LLMatcher(self._vocabulary, grammar, log_level=0)
        _allowed(root.deep_copy(), len(self._tokenizer))  # a shape that only holds itself has no first token
        return root


class KeepsShape(LogitsProcessor):
    """Forbids every token that would leave the shape. For one call of `generate`.

    Args:
        root (`llguidance.LLMatcher`): the shape before its first token; it is not changed.
    """

    def __init__(self, root: LLMatcher):
        self._states: dict[tuple[int, ...], LLMatcher | None] = {(): root}
        self._root = root
        self._begin: int | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(rows, length)`): prompt and answer so far.
            scores (`torch.FloatTensor` of shape `(rows, vocabulary)`): of the next token.

        Returns:
            `torch.FloatTensor` of shape `(rows, vocabulary)`: minus infinity where a token is not allowed.
        """
        if self._begin is None:
            self._begin = input_ids.shape[1]
        rows = [tuple(row) for row in input_ids[:, self._begin :].tolist()]
        # Beams change places and drafts are taken back: a state belongs to what was written, not to a row.
        self._states = {(): self._root} | {written: self._state(written) for written in rows}
        allowed = torch.stack([_allowed(self._states[written], scores.shape[1]) for written in rows])
        return torch.where(allowed.to(scores.device), scores.clamp(min=_UNLIKELY), -torch.inf)

    def _state(self, written: tuple[int, ...]) -> LLMatcher | None:
        """After these tokens; `None` behind the end, and behind a draft that will not be taken."""
        known = next(end for end in range(len(written), -1, -1) if written[:end] in self._states)
        before, rest = self._states[written[:known]], list(written[known:])
        if before is None or not rest:
            return before
        state = before.deep_copy()
        return state if state.try_consume_tokens(rest) == len(rest) else None


def _allowed(state: LLMatcher | None, size: int) -> torch.BoolTensor:
    """Which of `size` tokens may follow; all of them where nothing is kept any more."""
    allowed = torch.zeros(size, dtype=torch.bool)
    if state is None:
        return ~allowed
    # One byte a token. A model may have more rows of logits than the tokenizer has tokens.
    known = torch.frombuffer(bytearray(state.compute_logit_bias()), dtype=torch.uint8)[:size]
    if state.is_error():
        raise ValueError(state.get_error())
    allowed[: known.numel()] = known > 0
    return allowed


def _schema(wanted: Any) -> dict | None:
    if wanted is None:
        return None
    kind = wanted.get("type", "text") if isinstance(wanted, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise ValueError("A response_format is an object whose type is text, json_object or json_schema.")
    schema = wanted.get("json_schema", wanted)  # the Responses API puts name and schema beside the type
    schema = schema.get("schema") if isinstance(schema, dict) else None
    if not isinstance(schema, dict):
        raise ValueError("A response_format of type json_schema needs json_schema.schema, an object.")
    return schema
