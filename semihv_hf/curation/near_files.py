"""What [`semihv_hf.curation.near_duplicates.find_duplicates`] found, on disk: read without loading it."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SemiHVError
from ..files import atomic_file
from .duplicate_choice import Neighbours
from .likeness import Likeness, Lists

if TYPE_CHECKING:
    import pyarrow

MANIFEST = "duplicates.json"
DUPLICATES = "duplicates.parquet"
CONTAMINATION = "contamination.parquet"
_CASES, _NODES = "near_cases.arrow", "near_nodes.arrow"


class Duplicates:
    """Which cases are left out, and what is near to a case.

    Ids of cases that are left out are in memory; all others, and what is near, stay in memory-mapped files.
    """

    def __init__(self, duplicates: frozenset[str], contaminated: frozenset[str], cases: Any, nodes: Any, inputs: str):
        self.duplicates = duplicates
        """Ids of cases that repeat a case that is kept."""
        self.contaminated = contaminated
        """Ids of cases that share an image or text with a held-out split of a benchmark."""
        self.dropped = duplicates | contaminated
        """Ids of all cases to leave out."""
        self.fingerprint = inputs
        """Changes with the cases, the benchmarks and the settings."""
        self._ids, self._nodes = (cases.column(name).chunk(0) for name in ("id", "nodes"))
        self._rows, self._near = (nodes.column(name).chunk(0) for name in ("cases", "near"))
        self._sorted = _Ids(self._ids)

    @classmethod
    def load(cls, out_dir: str | Path) -> "Duplicates":
        """Opens what `find_duplicates` wrote.

        Args:
            out_dir (`str` or `pathlib.Path`): its folder.

        Returns:
            [`Duplicates`]: the result.

        Raises:
            `SemiHVError`: the folder holds no finished result.
        """
        import pyarrow.compute
        import pyarrow.parquet

        out = Path(out_dir)
        try:
            manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SemiHVError(f"{out} holds no {MANIFEST}.", "Run find_duplicates on the cases first.") from None
        repeats = pyarrow.parquet.read_table(out / DUPLICATES, columns=["id"])["id"]
        found = pyarrow.parquet.read_table(out / CONTAMINATION, columns=["id", "dropped"])
        found = pyarrow.compute.unique(found.filter(found["dropped"])["id"])
        return cls(
            frozenset(repeats.to_pylist()), frozenset(found.to_pylist()), _mapped(out / _CASES), _mapped(out / _NODES),
            manifest["inputs"],
        )  # fmt: skip

    def near(self, case_id: str) -> frozenset[str]:
        """The cases that show or say nearly the same as a case, or are of its group: never its evidence.

        Args:
            case_id (`str`): the case.

        Returns:
            `frozenset[str]`: their ids, without its own.

        Raises:
            `SemiHVError`: the case was not there when duplicates were looked for.
        """
        place = bisect_left(self._sorted, case_id)
        if place == len(self._ids) or self._sorted[place] != case_id:
            raise SemiHVError(f"The case {case_id} was not looked at for duplicates.", "Run find_duplicates again.")
        rows: set[int] = set()
        for node in self._nodes[place].as_py():
            for one in (node, *self._near[node].as_py()):
                rows.update(self._rows[one].as_py())
        rows.discard(place)
        return frozenset(self._sorted[row] for row in rows)


class _Ids(Sequence):
    def __init__(self, ids: Any):
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: int) -> str:
        return self._ids[place].as_py()


def _mapped(path: Path) -> "pyarrow.Table":
    import pyarrow

    return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()


def write_near(likeness: Likeness, near: Neighbours, out: Path) -> None:
    """Writes what is near to each case.

    Args:
        likeness ([`Likeness`]): with its edges.
        near ([`Neighbours`]): of it.
        out (`pathlib.Path`): the folder.
    """

    cases = likeness.cases
    owners = np.repeat(np.arange(len(likeness.ids)), likeness.nodes_of.sizes())
    of_case = owners < cases
    # The group of a case is a node like its pictures and texts.
    groups = np.unique(likeness.group[:cases], return_inverse=True)[1]
    case = np.concatenate([owners[of_case], np.arange(cases)])
    node = np.concatenate([likeness.nodes_of.values[of_case], likeness.nodes + groups])
    total = likeness.nodes + int(groups.max(initial=-1)) + 1
    linked = np.bincount(node, minlength=total) > 1
    linked[: likeness.nodes] |= near.nodes.sizes() > 0
    number = np.cumsum(linked) - 1
    kept = linked[node]
    case, node = case[kept], number[node[kept]]
    count = int(linked.sum())
    left = np.repeat(np.arange(likeness.nodes), near.nodes.sizes())
    around = Lists(number[left], number[near.nodes.values], count)
    _write(out / _CASES, {"id": likeness.ids.slice(0, cases), "nodes": _lists(Lists(case, node, cases))})
    _write(out / _NODES, {"cases": _lists(Lists(node, case, count)), "near": _lists(around)})


def _lists(lists: Lists) -> "pyarrow.LargeListArray":
    import pyarrow

    return pyarrow.LargeListArray.from_arrays(lists.offsets, lists.values.astype(np.int32))


def _write(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow

    table = pyarrow.table(columns)
    with atomic_file(path, "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        # One batch: a list of row numbers is looked up without asking which batch a row is in.
        writer.write_batch(
            pyarrow.RecordBatch.from_arrays([column.chunk(0) for column in table.columns], schema=table.schema)
        )
