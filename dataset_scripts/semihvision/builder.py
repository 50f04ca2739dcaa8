"""`load_dataset("semihvision", config, data_dir=...)`: rows of a release as downloaded, or of a built dataset folder.

* The name of a source (`"deeplesion"`, ...) reads that release, or a folder that `semihv build` made of it; `rows`
  chooses which of its rows. Nothing is written but the cache of `datasets`; streaming writes nothing.
* `"all"` reads a folder with one sub-folder per source.
* `cases`, `alignment`, `instruction`, `annealing`, `benchmark` and `jama_style` read a built folder.
* `open_packages` gives the cases of the images that ship inside registry packages, and finishes their build in
  `data_dir` when it was interrupted.

Works as a packaged module of `datasets` (after `import semihv_hf`), and as a loading script of datasets 3.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from semihv_hf.data.build import build
from semihv_hf.data.configs import CASES, ROWS
from semihv_hf.data.features import case_features, record_features
from semihv_hf.data.release_builder import ReleaseBuilder, ReleaseConfig
from semihv_hf.data.release_folders import is_built, sub_folders
from semihv_hf.data.sources import ADAPTERS
from semihv_hf.errors import SemiHVError

VERSION = "0.2.0"
FOLDER_CONFIGS = ("cases", "alignment", "instruction", "annealing", "benchmark", "jama_style")

logger = datasets.utils.logging.get_logger(__name__)


@dataclass
class SemiHVisionConfig(ReleaseConfig):
    """What to read, and how.

    Args:
        rows (`str`, *optional*, defaults to `"cases"`): which rows of a source, or of all: `"cases"`, `"alignment"`,
            `"instruction"`, `"annealing"`, or `"records"` for the last three together. The other configs say it by
            their name.
        options (`dict`, *optional*): options of the source's adapter; with `"all"`, such a dictionary per source.
        held_out, seed, attestation, max_skipped: see [`ReleaseConfig`].
    """

    rows: str = CASES

    def folders(self) -> dict[str, Path]:
        """The folders to read, by source."""
        root = self.need_folder("semihvision", "the folder of a release, or one that `semihv build` wrote")
        if self.name == "all":
            return sub_folders(root)
        if self.name in ADAPTERS:
            return {self.name: root}
        if not is_built(root) and self.name != "open_packages":
            raise SemiHVError(
                f"{root} is not a finished dataset folder: it has no build_manifest.json.",
                f"Run: semihv build open_packages --out {root}; or name the release that it holds: "
                f"{', '.join(ADAPTERS)}.",
            )
        return {self.name: root}

    def rows_wanted(self) -> str:
        """Which rows, in the words of a built folder."""
        if self.name in FOLDER_CONFIGS:
            return self.name
        return CASES if self.name == "open_packages" else self.rows

    def options_of(self, source: str) -> Mapping[str, Any]:
        """The options of one source."""
        return self.options.get(source, {}) if self.name == "all" else self.options

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Names the cache folder; see [`ReleaseConfig`]."""
        if self.rows not in ROWS:
            raise SemiHVError(f"rows is {self.rows!r}.", f"Choose one of {', '.join(ROWS)}.")
        if self.rows not in (CASES, self.rows_wanted()):
            raise SemiHVError(
                f"The config {self.name} has rows of its own, so it takes no rows={self.rows!r}.",
                "Name a source, or the config that you want.",
            )
        if self.name == "all" and set(self.options) - set(ADAPTERS):
            raise SemiHVError(
                f"options names {', '.join(sorted(set(self.options) - set(ADAPTERS)))}.",
                'With "all", options has one entry per source, each a dictionary.',
            )
        if self.name == "open_packages" and not is_built(self.need_folder("semihvision", "a folder to build in")):
            # What the build will give is not known yet, so no cache folder can hold it already.
            return f"{self.name}-{os.urandom(8).hex()}"
        return super().create_config_id(config_kwargs, custom_features)


class SemiHVision(ReleaseBuilder):
    """Cases and records of releases and of built folders."""

    BUILDER_CONFIG_CLASS = SemiHVisionConfig
    BUILDER_CONFIGS = [
        SemiHVisionConfig(name=name, version=datasets.Version(VERSION))
        for name in (*FOLDER_CONFIGS, "open_packages", *ADAPTERS, "all")
    ]
    DEFAULT_CONFIG_NAME = "instruction"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Medical images with facts, texts and questions, each with its provenance.",
            features=case_features() if self.config.rows_wanted() == CASES else record_features(),
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        folders = self.config.folders()
        if self.config.name == "open_packages" and not is_built(folders["open_packages"]):
            build("open_packages", folders["open_packages"])
        if self.config.name == "all":
            absent = [name for name in ADAPTERS if name not in folders]
            logger.warning(
                f"semihvision: reading {', '.join(folders)}" + (f"; not there: {', '.join(absent)}" if absent else "")
            )
        return super()._split_generators(dl_manager)
