"""Which of several cases that are alike stays; see [`semihv_hf.curation.near_duplicates`] for the rule."""

from collections.abc import Iterator

import numpy as np

from .duplicate_options import DuplicateOptions
from .likeness import EMBEDDING_KIND, IMAGE_KIND, TEXT_KIND, Likeness, Lists

IDENTICAL = "identical"
KINDS = {IMAGE_KIND: "image", EMBEDDING_KIND: "embedding", TEXT_KIND: "text"}


class Neighbours:
    """The near nodes of each node, in both directions.

    Args:
        likeness ([`Likeness`]): with its edges.
    """

    def __init__(self, likeness: Likeness):
        edges = likeness.edges
        keys = np.concatenate([edges.left, edges.right])
        self.nodes = Lists(keys, np.concatenate([edges.right, edges.left]), likeness.nodes)
        self._edge = np.concatenate([np.arange(len(edges.left)), np.arange(len(edges.left))])[self.nodes.order]
        self._edges = edges

    def around(self, node: int) -> Iterator[tuple[int, float, int, int]]:
        """A node's near ones.

        Args:
            node (`int`): the node.

        Yields:
            `tuple[int, float, int, int]`: another node, the score, its kind and the differing bits.
        """
        for place in range(self.nodes.offsets[node], self.nodes.offsets[node + 1]):
            edge = self._edge[place]
            values = (self._edges.score[edge], self._edges.kind[edge], self._edges.bits[edge])
            yield int(self.nodes.values[place]), float(values[0]), int(values[1]), int(values[2])


def choose(likeness: Likeness, near: Neighbours, options: DuplicateOptions) -> list[tuple[int, int, str, float]]:
    """Decides which cases repeat one that is kept.

    Args:
        likeness ([`Likeness`]): with its edges.
        near ([`Neighbours`]): of it.
        options ([`DuplicateOptions`]): what counts as the same.

    Returns:
        `list[tuple[int, int, str, float]]`: sorted; the number of a case that is left out, the number of the case that
        is kept in its place, the kind and the score.
    """
    cases = likeness.cases
    rows, nodes = likeness.rows_of, likeness.nodes_of
    # Only cases that share a node, or have a near one, can be duplicates.
    linked = (rows.sizes() > 1) | (near.nodes.sizes() > 0)
    owners = np.repeat(np.arange(len(likeness.ids)), nodes.sizes())
    active = np.unique(owners[linked[nodes.values]])
    active = active[active < cases]
    pictures = nodes.values < likeness.pictures
    area = np.bincount(owners[pictures], likeness.area[nodes.values[pictures]], len(likeness.ids))
    order = active[np.lexsort((active, -area[active], ~likeness.expert[active], -likeness.held[active]))]
    expert_texts = Lists(likeness.expert_texts[:, 0], likeness.expert_texts[:, 1], len(likeness.ids))
    same = _Same(likeness, near, options, expert_texts)
    kept: dict[int, tuple[int, str, float]] = {}
    stays: set[int] = set()
    for case in map(int, order):
        if case in kept:
            continue
        stays.add(case)
        for other in same.candidates(case):
            if other not in kept and other not in stays and (found := same.compare(case, other)):
                kept[other] = (case, *found)
    return sorted((case, *found) for case, found in kept.items())


class _Same:
    """Tells whether two cases are duplicates."""

    def __init__(self, likeness: Likeness, near: Neighbours, options: DuplicateOptions, expert_texts: Lists):
        self.likeness = likeness
        self.near = near
        self.options = options
        self.expert_texts = expert_texts

    def candidates(self, case: int) -> list[int]:
        """The cases that share a node or a near one."""
        found: set[int] = set()
        for node in self.likeness.nodes_of[case].tolist():
            for one in (node, *self.near.nodes[node].tolist()):
                found.update(self.likeness.rows_of[one].tolist())
        return sorted(other for other in found if other != case and other < self.likeness.cases)

    def compare(self, case: int, other: int) -> tuple[str, float] | None:
        """The kind and score of two duplicates, or `None`."""
        likeness = self.likeness
        siblings = bool(likeness.group[case] == likeness.group[other])
        one, two = likeness.nodes_of[case], likeness.nodes_of[other]
        cut = likeness.pictures
        found = self._covers(one[one < cut], two[two < cut], siblings)
        if found and self.options.keep_expert_texts and self._differ(case, other, siblings):
            return None
        textual = self.options.drop_same_texts or not (likeness.images[case] or likeness.images[other])
        if found is None and textual:
            found = self._covers(one[one >= cut], two[two >= cut], siblings)
        return found

    def _differ(self, case: int, other: int, siblings: bool) -> bool:
        one, two = self.expert_texts[case], self.expert_texts[other]
        return bool(len(one) and len(two)) and self._covers(one, two, siblings) is None

    def _covers(self, one: np.ndarray, two: np.ndarray, siblings: bool) -> tuple[str, float] | None:
        """Whether each node has one of the other side that is the same; the weakest link is the score."""
        left, right = set(one.tolist()), set(two.tolist())
        if not left or not right:
            return None
        best: dict[int, tuple[float, str]] = dict.fromkeys(left & right, (1.0, IDENTICAL))
        if len(best) < max(len(left), len(right)):
            if siblings:
                return None
            for node in left:
                for near, score, kind, _ in self.near.around(node):
                    if near in right:
                        for end in (node, near):
                            if end not in left & right:
                                best[end] = max(best.get(end, (-1.0, "")), (score, KINDS[kind]))
        if not (left | right) <= best.keys():
            return None
        score, kind = min(best.values(), key=lambda found: (found[0], found[1] == IDENTICAL, found[1]))
        return kind, round(score, 4)
