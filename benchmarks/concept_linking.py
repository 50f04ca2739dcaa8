"""
Speed of the concept linker of metrics/umls_f1 on made-up reports, against a loop that searches for every phrase.

    python benchmarks/concept_linking.py --rounds 5

The loop does what a first version would: for each phrase of the ontology, is it in the text, between blanks? It sees
no longest match and no denial, and gets the already normalised text, so it does less work than the linker.
"""

import random
import sys
import time

import evaluate
from measuring import finish, median_seconds, parse_arguments, print_row

from semihv_hf.resources import resource_dir

FINDINGS = "cardiomegaly; pleural effusion; atelectasis; pulmonary edema; bronchiectasis; pneumonia; kyphosis; ascites"
SENTENCES = (
    "There is {0} with adjacent {1}.",
    "No {0} or {1} is seen.",
    "The lungs show {0}, unchanged since the prior study of the chest.",
    "Findings are consistent with {0}; {1} cannot be excluded.",
)


def write_report(generator: random.Random) -> str:
    """A report of about 90 words with findings asserted, denied and doubted."""
    names = FINDINGS.split("; ")
    return " ".join(generator.choice(SENTENCES).format(*generator.sample(names, 2)) for _ in range(10))


def main() -> None:
    arguments = parse_arguments(__doc__, reports=1000, naive_reports=10, rounds=3)
    metric = evaluate.load(str(resource_dir("metrics") / "umls_f1"))
    package = type(metric).__module__.rpartition(".")[0]
    started = time.perf_counter()
    metric.compute(predictions=["x"], references=["y"])
    first = time.perf_counter() - started
    linkers, matching = sys.modules[f"{package}.linkers"], sys.modules[f"{package}.phrase_matching"]
    link, _ = linkers.make_linker("hpo")
    phrases = list(link._matcher.meanings)
    generator = random.Random(arguments.seed)
    reports = [write_report(generator) for _ in range(arguments.reports)]
    few = reports[: arguments.naive_reports]

    def linked(texts):
        return [link(text, matching.split_words(text)) for text in texts]

    def searched(texts):
        padded = ["".join(f" {form} " for form in matching.split_words(text)[0]) for text in texts]
        return [[phrase for phrase in phrases if phrase in text] for text in padded]

    found = [len({mention[2] for mention in mentions}) for mentions in linked(few)]
    assert all(len(names) >= count > 0 for names, count in zip(searched(few), found))
    seconds = median_seconds(
        {
            "metric": lambda: metric.compute(predictions=reports, references=reports),
            "linker": lambda: linked(few),
            "loop": lambda: searched(few),
        },
        arguments.rounds,
    )
    print_row(f"{arguments.reports} rows; {len(few)} reports", seconds)
    ratio = seconds["loop"] / seconds["linker"]
    claims = [
        {"claim": "linker over a loop over all phrases, per report", "ratio": ratio, "bar": 10.0},
        {"claim": "reports a second, whole metric", "ratio": 2 * len(reports) / seconds["metric"], "bar": None},
    ]
    finish("concept_linking", claims, arguments, phrases=len(phrases), first_call_seconds=round(first, 1))


if __name__ == "__main__":
    main()
