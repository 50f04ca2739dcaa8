"""How often the right guideline is among what is retrieved: recall@1 and @5 on hand-written queries, by fusion.

    python benchmarks/retrieval_recall.py --rounds 1 --threads 1 --seed 0

98 case summaries, each with the sections of the embedded guideline corpus that answer it (any of them counts), are
put to an index of that corpus. Queries of the fused run show a picture as well, drawn at random, as a case would:
guidelines have no pictures, so it must not cost anything. Text alone, late score fusion and reciprocal rank fusion
are compared; what a score floor would keep out is shown with 12 off-topic queries.
"""

import io
import json
import tempfile
from pathlib import Path

import numpy as np
from measuring import finish, parse_arguments

from semihv_hf.curation.retrieval import DEFAULT_ENCODER, OpenMedicine, Query, Retriever, build_index

QUERIES = Path(__file__).resolve().parents[1] / "tests" / "curation" / "guideline_queries.jsonl"
OFF_TOPIC = (
    "Recipe for a lemon cake with almonds",
    "The train to Hamburg leaves at noon from platform seven",
    "Quarterly revenue rose by four per cent on strong demand",
    "How to prune an apple tree in winter",
    "The goalkeeper saved two penalties in the final",
    "A sonnet about the sea at night",
    "Replace the brake pads of a bicycle",
    "The court adjourned the hearing until Monday",
    "Install the printer driver and restart the computer",
    "Glaciers carved this valley during the last ice age",
    "She tuned the violin before the concert",
    "Interest rates for mortgages fell again this week",
)


def picture(seed):
    """Random soft blobs as PNG."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def recall(found, rows, count):
    """The share of queries of which one right section is among the first so many."""
    hits = [bool({item.id for item in ranked[:count]} & set(row["sections"])) for ranked, row in zip(found, rows)]
    return sum(hits) / len(hits)


def main() -> None:
    arguments = parse_arguments(__doc__, rounds=1, threads=1)
    rows = [json.loads(line) for line in QUERIES.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        report = build_index(Path(folder) / "index", [OpenMedicine()], DEFAULT_ENCODER)["guidelines"]
        print(f"{report['documents']} sections in {report['entries']} spans; {len(rows)} queries", flush=True)
        runs = {"text": False, "clip_sf": True, "rrf": True}
        facts = {}
        for fusion, shown in runs.items():
            retriever = Retriever(Path(folder) / "index", fusion=fusion, k={"guidelines": 5})
            queries = [
                Query(str(n), row["query"], picture(arguments.seed + n) if shown else None)
                for n, row in enumerate(rows)
            ]
            found = retriever.search(queries)
            facts[fusion] = {f"recall@{count}": round(recall(found, rows, count), 4) for count in (1, 3, 5)}
            guideline = [{**row, "sections": [name.split("/")[0] for name in row["sections"]]} for row in rows]
            for ranked in found:
                for item in ranked:
                    item.id = item.id.split("/")[0]
            facts[fusion]["guideline@5"] = round(recall(found, guideline, 5), 4)
            if fusion == "text":
                best = sorted(ranked[0].score for ranked in found)
                strange = retriever.search([Query(text, text, None) for text in OFF_TOPIC])
                facts["best_score"] = {
                    "on_topic_lowest": best[0],
                    "on_topic_5th_percentile": round(float(np.quantile(best, 0.05)), 3),
                    "off_topic_highest": max(ranked[0].score for ranked in strange),
                }
            print(fusion, facts[fusion], flush=True)
    print(facts["best_score"], flush=True)
    claims = [{"claim": f"recall@5, {name}", "ratio": facts[name]["recall@5"], "bar": None} for name in runs]
    finish("retrieval_recall", claims, arguments, **facts, queries=len(rows))


if __name__ == "__main__":
    main()
