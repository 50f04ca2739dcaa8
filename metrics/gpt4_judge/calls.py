"""The calls of one run: each question is put once, and what it cost and who answered is kept for the result."""

import json
from collections import Counter
from dataclasses import replace

from semihv_hf.llm.types import ChatRequest
from semihv_hf.llm.types import Usage

from .prompts import PROMPT_VERSION

# Ends of a call before there was one.
_NEVER_SENT = ("licence", "budget")


def question_to_judge(name, messages, schema, row, repeat=0):
    """Builds one request.

    Args:
        name (`str`): what is asked, such as `"mark evidence"`.
        messages (`list[dict]`): the messages.
        schema (`type[pydantic.BaseModel]`): what the reply must be.
        row (`Row`): the row it is about.
        repeat (`int`, *optional*, defaults to 0): which of several samples.

    Returns:
        `ChatRequest`: the request.
    """
    return ChatRequest(f"row {row.number}: {name}", messages, schema, PROMPT_VERSION, repeat, row.sources)


def once_each(requests):
    """Merges requests that ask the same, as rows of one case do for the lists drawn from its discussion.

    Args:
        requests (`list[ChatRequest]`): the requests.

    Returns:
        `tuple[list[ChatRequest], list[int]]`: each different request once, with the sources of all its likes, and for
        each of `requests` the place of its like.
    """
    merged, places, known = [], [], {}
    for request in requests:
        schema = request.schema.__name__ if request.schema else None
        content = json.dumps([request.messages, schema, request.prompt_version, request.repeat], sort_keys=True)
        place = known.setdefault(content, len(merged))
        if place == len(merged):
            merged.append(request)
        elif not set(request.sources) <= set(merged[place].sources):
            sources = tuple(dict.fromkeys((*merged[place].sources, *request.sources)))
            merged[place] = replace(merged[place], sources=sources)
        places.append(place)
    return merged, places


class Calls:
    """Puts requests to a client and adds up what came back.

    Args:
        client (`semihv_hf.llm.ChatClient`): the client.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.
    """

    def __init__(self, client, progress=False):
        self.client = client
        self.progress = progress
        self.models = Counter()
        self.fingerprints = Counter()
        self.answers = Counter()
        self.usage = Usage(cost_usd=0.0)
        self.this_run = Usage(cost_usd=0.0)

    def ask(self, requests):
        """Asks, each different request once.

        Args:
            requests (`list[ChatRequest]`): the requests.

        Returns:
            `list[ChatResult]`: one result a request, in order; a failure is one of them.
        """
        merged, places = once_each(requests)
        results = self.client.run(merged, progress=self.progress) if merged else []
        for result in results:
            self._count(result)
        return [results[place] for place in places]

    def _count(self, result):
        if result.failure is not None:
            self.answers["never_sent" if result.failure.kind in _NEVER_SENT else "failed"] += 1
        else:
            self.answers["cached" if result.cached else "answered"] += 1
            self.models[result.model or "not named"] += 1
            self.fingerprints[result.system_fingerprint or "not given"] += 1
        if result.usage is not None:
            if result.failure is None:
                self.usage += result.usage
            if not result.cached:
                self.this_run += result.usage
        elif result.failure is None:
            # The server counted nothing, so neither the tokens nor the dollars of the whole are known.
            self.usage = replace(self.usage, cost_usd=None)


def verdict_or_failure(results):
    """Splits the results of one row.

    Args:
        results (`dict[str, ChatResult]`): what was asked, and the result.

    Returns:
        `tuple[dict, list]`: the parsed replies, and `(what, kind, detail)` of each failure.
    """
    replies = {what: result.parsed for what, result in results.items() if result.failure is None}
    failures = [
        (what, result.failure.kind, result.failure.detail)
        for what, result in results.items()
        if result.failure is not None
    ]
    return replies, failures
