"""`load_dataset("semihvision", config, data_dir=...)`: reads a built dataset folder, or builds it first.

The configs `cases`, `alignment`, `instruction`, `annealing`, `benchmark` and `jama_style` read the folder that
`semihv build` wrote. The config `open_packages` gives the cases of the images that ship inside registry packages, and
finishes their build in `data_dir` when it was interrupted. (`datasets` itself refuses a folder without any file.)
"""

from collections.abc import Iterator
from pathlib import Path

import datasets

from semihv_hf.data.build import build
from semihv_hf.data.features import case_features, record_features
from semihv_hf.errors import SemiHVError

VERSION = "0.1.0"
CASE_CONFIGS = ("cases", "open_packages")
RECORD_CONFIGS = ("alignment", "instruction", "annealing", "benchmark", "jama_style")


class SemiHVision(datasets.GeneratorBasedBuilder):
    """Cases and records of a dataset folder."""

    BUILDER_CONFIGS = [
        datasets.BuilderConfig(name=name, version=datasets.Version(VERSION))
        for name in (*CASE_CONFIGS, *RECORD_CONFIGS)
    ]
    DEFAULT_CONFIG_NAME = "instruction"
    DEFAULT_WRITER_BATCH_SIZE = 100

    def _info(self) -> datasets.DatasetInfo:
        features = case_features() if self.config.name in CASE_CONFIGS else record_features()
        return datasets.DatasetInfo(
            description="Medical images with facts, captions and questions, each with its provenance.",
            features=features,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if not self.config.data_dir:
            raise SemiHVError(
                "The dataset semihvision needs a folder.", 'Pass data_dir="...", a folder that `semihv build` wrote.'
            )
        root = Path(self.config.data_dir)
        if not (root / "build_manifest.json").is_file():
            if self.config.name != "open_packages":
                raise SemiHVError(
                    f"{root} is not a finished dataset folder: it has no build_manifest.json.",
                    f"Run: semihv build open_packages --out {root}",
                )
            build("open_packages", root)
        folder = root / "data" / ("cases" if self.config.name == "open_packages" else self.config.name)
        shards: dict[str, list[str]] = {}
        for path in sorted(folder.glob("*.parquet")):
            shards.setdefault(path.name.split("-")[0], []).append(str(path))
        if not shards:
            raise SemiHVError(f"{folder} holds no shards.", f"The build in {root} has no config {self.config.name!r}.")
        order = [split for split in ("train", "validation", "test") if split in shards]
        # A list is what lets `datasets` hand shards to several processes, and stream them.
        return [datasets.SplitGenerator(name=split, gen_kwargs={"files": shards[split]}) for split in order]

    def _generate_examples(self, files: list[str]) -> Iterator[tuple[str, dict]]:
        import pyarrow.parquet

        for path in files:
            with pyarrow.parquet.ParquetFile(path) as shard:
                for batch in shard.iter_batches(batch_size=100):
                    for row in batch.to_pylist():
                        yield row["id"], row
