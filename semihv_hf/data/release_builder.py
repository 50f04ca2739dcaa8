"""What the dataset scripts share: a builder for `datasets` that reads releases and built folders block by block.

Imported by the scripts only, since it needs `datasets` at once.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from ..errors import SemiHVError
from .building.release import open_release
from .release_folders import built_of, built_shards, folder_digest, is_built, release_digest, shard_rows
from .release_rows import Block, ReleaseRows
from .schema import SPLITS
from .skips import MAX_SKIPPED, Ledger, Tally
from .sources import ADAPTERS, source_class
from .sources.base import Source

# Processes that fill a cache read consecutive blocks, so that each walks the list once. A shuffled stream may walk it
# once for every block.
CACHED_BLOCKS, STREAMED_BLOCKS = 64, 16

logger = datasets.utils.logging.get_logger(__name__)


@dataclass
class ReleaseConfig(datasets.BuilderConfig, ABC):
    """How a release is read.

    Args:
        options (`dict`, *optional*): options of the source's adapter.
        held_out (`float`, *optional*, defaults to 0.0): the share of patients or articles that go to the test split
            where the release states no split.
        seed (`int`, *optional*, defaults to 0): chooses those.
        attestation (`str`, *optional*): a signed statement file, for a source whose use needs one.
        max_skipped (`float`, *optional*, defaults to 0.01): the share of a release that may be damaged.
    """

    options: dict = field(default_factory=dict)
    held_out: float = 0.0
    seed: int = 0
    attestation: str | None = None
    max_skipped: float = MAX_SKIPPED

    @abstractmethod
    def folders(self) -> dict[str, Path]:
        """The folders to read.

        Returns:
            `dict[str, pathlib.Path]`: by source.
        """

    @abstractmethod
    def rows_wanted(self) -> str:
        """Which rows, one of [`semihv_hf.data.configs.ROWS`] or a config of a built folder."""

    def options_of(self, source: str) -> Mapping[str, Any]:
        """The options of one source."""
        return self.options

    def need_folder(self, dataset: str, what: str) -> Path:
        """The folder that the user gave.

        Args:
            dataset (`str`): the dataset, for the message.
            what (`str`): what the folder should be.

        Returns:
            `pathlib.Path`: the folder.

        Raises:
            `SemiHVError`: none was given.
        """
        if not self.data_dir:
            raise SemiHVError(f"The dataset {dataset} needs a folder.", f'Pass data_dir="...", {what}.')
        return Path(self.data_dir).expanduser()

    def open(self, name: str, root: Path) -> Source:
        """Opens a release with these settings."""
        adapter, options = source_class(name), self.options_of(name)
        return open_release(adapter, root, options=options, held_out=self.held_out, seed=self.seed)

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Names the cache folder, so that rows of another state of the release or of the code are never served."""
        from ..registration import sources_hash

        told = {key: value for key, value in config_kwargs.items() if key != "data_files"}
        told["data_dir"] = str(Path(self.data_dir or "").expanduser().resolve())
        told["state"] = [sources_hash([Path(__file__).parent])]
        for name, root in self.folders().items():
            if not is_built(root):
                told["state"].append(release_digest(self.open(name, root), self.options_of(name)))
                continue
            if name in ADAPTERS and built_of(root) != name:
                raise SemiHVError(f"{root} was built of {built_of(root)}, not of {name}.", "Give the other folder.")
            told["state"].append(folder_digest(root))
        return super().create_config_id(told, custom_features)


class ReleaseBuilder(datasets.GeneratorBasedBuilder):
    """Generates the rows of the folders that its config names."""

    DEFAULT_WRITER_BATCH_SIZE = 100
    readers: dict[str, ReleaseRows]
    cut: dict[str, list[Block]]
    ledger: Ledger | None = None

    @abstractmethod
    def _info(self) -> datasets.DatasetInfo:
        """Columns of the config."""

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        self.readers, self.cut = {}, {}
        self.ledger = self.ledger or Ledger()
        rows, cached = self.config.rows_wanted(), self.ledger.folder is not None
        parts: dict[str, list[Block | str]] = {}
        for name, root in self.config.folders().items():
            if is_built(root):
                found = {split: list(map(str, files)) for split, files in built_shards(root, rows).items()}
            else:
                self.readers[name] = self._reader(self.config.open(name, root), rows)
                found = self.readers[name].blocks(CACHED_BLOCKS if cached else STREAMED_BLOCKS)
                self.cut[name] = [block for blocks in found.values() for block in blocks]
            for split, pieces in found.items():
                parts.setdefault(split, []).extend(pieces)
        if not parts:
            raise SemiHVError(*self._nothing(rows))
        if cached:
            self._ask_licences()
        present = [split for split in SPLITS if split in parts]
        # A list is what lets `datasets` hand parts to several processes, and stream them.
        return [datasets.SplitGenerator(name=split, gen_kwargs={"parts": parts[split]}) for split in present]

    def _reader(self, source: Source, rows: str) -> ReleaseRows:
        """What turns a release into the rows that were asked for."""
        return ReleaseRows(source, rows)

    def _nothing(self, rows: str) -> tuple[str, str]:
        left_out = "; ".join(f"{name}: {reader.listed.describe()}" for name, reader in self.readers.items())
        folders = ", ".join(map(str, self.config.folders().values()))
        what = f"{folders} has no {rows}" + (f" ({left_out})" if left_out else "") + "."
        return what, "Choose other rows or another folder."

    def _generate_examples(self, parts: list[Block | str]) -> Iterator[tuple[str, dict]]:
        for part in parts:
            if isinstance(part, str):
                yield from shard_rows(part)
                continue
            tally = Tally()
            yield from self.readers[part.source].read(part, tally)
            self.ledger.add(part.name, tally)
            if self.ledger.folder is None:
                self._close(part)

    def _close(self, block: Block) -> None:
        """While streaming, says what was left out of a split once this process has read all of it."""
        blocks = self.cut[block.source]
        everything = self.ledger.total(other.name for other in blocks)
        split = self.ledger.total(other.name for other in blocks if other.split == block.split)
        if everything is not None:
            self._judge(block.source, everything + self.readers[block.source].listed)
        elif split is not None:
            self._judge(f"{block.source} ({block.split})", split)

    def _judge(self, what: str, tally: Tally) -> None:
        if tally.skipped:
            logger.warning(f"{what}: {tally.describe()}")
        tally.check(what, self.config.max_skipped)

    def _download_and_prepare(self, dl_manager, verification_mode, **options) -> None:
        """Writes the rows into the cache, and judges what was left out before the cache counts as finished."""
        with tempfile.TemporaryDirectory(prefix="semihv-ledger-") as folder:
            self.ledger = Ledger(folder)
            try:
                super()._download_and_prepare(dl_manager, verification_mode, **options)
                for name, reader in self.readers.items():
                    self._judge(name, reader.listed + self.ledger.total(block.name for block in self.cut[name]))
            finally:
                self.ledger = None
        # A split whose cases all lack the rows that were asked for is no split of this config.
        for split in [name for name, info in self.info.splits.items() if info.num_examples == 0]:
            del self.info.splits[split]
        if not self.info.splits:
            raise SemiHVError(*self._nothing(self.config.rows_wanted()))

    def _ask_licences(self) -> None:
        """The cache is a copy on disk, so the gate is asked as for a build; folders that were built asked it then."""
        from .attestations import read_attestation
        from .licences import may_write

        signed = read_attestation(self.config.attestation) if self.config.attestation else None
        for name in self.readers:
            may_write(name, attestation=signed).check(
                'Give a signed statement with attestation="..." (docs/licences.md), or stream without writing.'
            )
