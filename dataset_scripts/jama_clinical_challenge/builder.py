"""`load_dataset("jama_clinical_challenge", config, data_dir=...)`: the challenge, read from the user's own copy.

The journal's texts and images are under copyright: nothing of them is shipped or fetched. README.md beside this file
says what the folder must hold. Works as a packaged module of `datasets` (after `import semihv_hf`), and as a loading
script of datasets 3.
"""

from dataclasses import dataclass
from pathlib import Path

import datasets

from semihv_hf.data.configs import CASES
from semihv_hf.data.features import case_features, question_features, record_features
from semihv_hf.data.release_builder import ReleaseBuilder, ReleaseConfig
from semihv_hf.data.release_rows import QuestionRows, ReleaseRows
from semihv_hf.data.sources.base import Source

VERSION = "0.1.0"
QUESTIONS = "questions"
FEATURES = {CASES: case_features, QUESTIONS: question_features, "records": record_features}


@dataclass
class JamaConfig(ReleaseConfig):
    """How the copy is read; its name is the kind of rows: `"cases"`, `"questions"` or `"records"`."""

    def folders(self) -> dict[str, Path]:
        """The user's copy, under the name of its adapter."""
        what = "the folder with your own copy (jama_raw.json or jama_raw.csv, and images/ if you have them)"
        return {"jama": self.need_folder("jama_clinical_challenge", what)}

    def rows_wanted(self) -> str:
        """The config's name."""
        return self.name


class JamaClinicalChallenge(ReleaseBuilder):
    """Cases, questions or records of the challenge; all of them are test data."""

    BUILDER_CONFIG_CLASS = JamaConfig
    BUILDER_CONFIGS = [JamaConfig(name=name, version=datasets.Version(VERSION)) for name in FEATURES]
    DEFAULT_CONFIG_NAME = QUESTIONS

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Cases of the JAMA Clinical Challenge with options and discussion, from the user's own copy.",
            features=FEATURES[self.config.name](),
        )

    def _reader(self, source: Source, rows: str) -> ReleaseRows:
        return QuestionRows(source) if rows == QUESTIONS else ReleaseRows(source, rows)
