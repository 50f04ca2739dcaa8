"""What the speed benchmarks share: contenders take turns, the median of several rounds counts, and a bar is a bar."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any


def parse_arguments(doc: str, **defaults: int) -> argparse.Namespace:
    """
    The settings every speed benchmark takes: `--rounds`, `--threads`, `--seed` and what `defaults` adds.

    Args:
        doc (`str`): the script's docstring, shown by `--help`.
        defaults (`int`): further whole-number options, or other values of the three.

    Returns:
        `argparse.Namespace`: with torch set to the asked number of threads.
    """
    import torch

    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"rounds": 5, "threads": 2, "seed": 0, **defaults}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default: {value}")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    torch.set_num_threads(arguments.threads)
    return arguments


def median_seconds(
    contenders: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """
    Times contenders that take turns, so that what else the machine does meets all of them alike.

    Args:
        contenders (`dict[str, Callable]`): what to run, by name. Each has been run before, so nothing is warmed up.
        rounds (`int`): turns of each.
        clock (`Callable`, *optional*): seconds that pass; wall-clock time by default. `time.process_time` leaves out
            the time of other processes, where both sides use one thread.

    Returns:
        `dict[str, float]`: median seconds by name.
    """
    seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            started = clock()
            result = contender()
            seconds[name].append(clock() - started)
            del result
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_row(title: str, seconds: dict[str, float]) -> None:
    """One line of the table: a title and the milliseconds of each contender."""
    times = "   ".join(f"{name} {1000 * value:9.1f} ms" for name, value in seconds.items())
    print(f"{title:<34} {times}", flush=True)


def finish(benchmark: str, claims: list[dict], arguments: argparse.Namespace, **facts: Any) -> None:
    """
    Prints one JSON line and ends the script with an error if a claim misses its bar.

    Args:
        benchmark (`str`): name of the script.
        claims (`list[dict]`): each with `claim`, `ratio` and `bar`; a bar of `None` is for information.
        arguments (`argparse.Namespace`): the settings of the run.
        facts (`Any`): what else belongs to the result.

    Raises:
        `SystemExit`: if a ratio is below its bar.
    """
    claims = [{**claim, "ratio": round(claim["ratio"], 2)} for claim in claims]
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    result = {"benchmark": benchmark, "claims": claims, **vars(arguments), "load": load, **facts}
    print(json.dumps(result), flush=True)
    missed = [claim for claim in claims if claim["bar"] is not None and claim["ratio"] < claim["bar"]]
    if missed:
        what = "; ".join(f"{claim['claim']}: {claim['ratio']} < {claim['bar']}" for claim in missed)
        raise SystemExit(f"error: below the bar: {what}")
