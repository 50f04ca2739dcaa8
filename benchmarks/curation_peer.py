"""The calls of a curation through distilabel's own pipeline: the other side of `curation_overhead.py --peer`.

It runs under the Python of another environment, where `pip install 'distilabel[openai]' requests` was done, and needs
nothing of this repository. Each line of the file of calls is one call: `shape`, `instruction`, `image`. What
a pipeline costs once (its processes, its imports) is measured with a few calls and taken off.

    <other environment>/bin/python benchmarks/curation_peer.py http://127.0.0.1:8000/v1 calls.jsonl 16
"""

import json
import resource
import sys

FEW = 8


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run(url: str, calls: list[dict], at_once: int) -> float:
    """CPU seconds of a pipeline whose calls have one shape."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGenerationWithImage

    started = cpu_seconds()
    llm = OpenAILLM(
        model="bench-1",
        base_url=url,
        api_key="none",
        generation_kwargs={"extra_body": {"response_format": calls[0]["shape"]}, "max_new_tokens": 1024},
    )
    with Pipeline(name="peer") as pipeline:
        load = LoadDataFromDicts(data=[{name: call[name] for name in ("instruction", "image")} for call in calls])
        ask = TextGenerationWithImage(llm=llm, image_type="base64", input_batch_size=at_once)
        load >> ask
    answers = pipeline.run(use_cache=False)["default"]["train"]["generation"]
    answered = sum(answer is not None for answer in answers)
    if answered != len(calls):
        raise SystemExit(f"{answered} of {len(calls)} calls were answered")
    return cpu_seconds() - started


def main() -> None:
    url, path, at_once = sys.argv[1], sys.argv[2], int(sys.argv[3])
    groups: dict[str, list[dict]] = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            call = json.loads(line)
            groups.setdefault(json.dumps(call["shape"]), []).append(call)
    seconds = calls = 0
    for group in groups.values():
        if len(group) > 2 * FEW:
            once = run(url, group[:FEW], at_once)
            seconds += (run(url, group, at_once) - once) / (len(group) - FEW) * len(group)
            calls += len(group)
    print(json.dumps({"seconds": seconds, "calls": calls}))


if __name__ == "__main__":
    main()
