"""An auxiliary objective for small models: image tokens are pulled towards the words of the image's facts.

A randomly initialised tower learns too little from a few thousand question-answer pairs. Every record knows some
facts of its image, so each kept cell of the query grid is assigned one group of facts (modality, body part, ...) and
its image token is trained to be nearest, by cosine, to the text embedding of the right value. The language model then
meets something close to words. The released 8B recipes start from pre-trained towers and leave `alignment_weight` at
0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class FactVocabulary:
    """The values of each group of facts, in a fixed order.

    Args:
        groups (`list[tuple[str, ...]]`): names of facts; the first one that a record has stands for its group.
        values (`list[list[str]]`): known values of each group, sorted.
    """

    groups: list[tuple[str, ...]]
    values: list[list[str]] = field(default_factory=list)

    @classmethod
    def from_records(cls, groups: list[str], facts: list[list[dict]]) -> FactVocabulary:
        """
        Collects the values that occur.

        Args:
            groups (`list[str]`): one entry a group, alternatives separated by `|`, e.g. `"plane|stain"`.
            facts (`list[list[dict]]`): the `facts` column: for each record a list of `{"name", "value", ...}`.

        Raises:
            `ValueError`: if no record has any fact of a group.
        """
        vocabulary = cls([tuple(group.split("|")) for group in groups])
        found = [set() for _ in groups]
        for row in facts:
            for group, value in enumerate(vocabulary._row_values(row)):
                if value is not None:
                    found[group].add(value)
        for group, values in zip(groups, found):
            if not values:
                raise ValueError(f"No record has a fact of the alignment group {group!r}.")
        vocabulary.values = [sorted(values) for values in found]
        return vocabulary

    def _row_values(self, row: list[dict]) -> list[str | None]:
        by_name = {fact["name"]: fact["value"] for fact in row}
        return [next((by_name[name] for name in group if name in by_name), None) for group in self.groups]

    def targets(self, row: list[dict]) -> list[int]:
        """Index of the record's value in each group, -100 where it has none or an unknown one."""
        return [
            values.index(value) if value in values else -100
            for value, values in zip(self._row_values(row), self.values)
        ]


def embed_values(vocabulary: FactVocabulary, tokenizer, embeddings: nn.Embedding) -> list[torch.Tensor]:
    """
    Input embedding of the first token of each value, as it stands within a sentence.

    A language model compares and copies words token by token, so an image token should look like a token that it may
    meet in a question; the mean over a value's tokens looks like none. Values of a group that begin alike are told
    apart by that mean.

    Args:
        vocabulary ([`FactVocabulary`]): the values.
        tokenizer (`PreTrainedTokenizerBase`): the text model's tokenizer.
        embeddings (`nn.Embedding`): the text model's input embeddings.

    Returns:
        `list[torch.Tensor]`: for each group `(values, hidden_size)`, float32, detached.
    """
    matrices = []
    for values in vocabulary.values:
        ids = [tokenizer(" " + value, add_special_tokens=False)["input_ids"] for value in values]
        firsts = [row[0] for row in ids]
        chosen = [row[:1] if firsts.count(row[0]) == 1 else row for row in ids]
        matrices.append(torch.stack([embeddings.weight[row].detach().float().mean(dim=0) for row in chosen]))
    return matrices


class AlignmentObjective(nn.Module):
    """
    Cross-entropy of image tokens over the values of their group.

    Args:
        matrices (`list[torch.Tensor]`): for each group `(values, hidden_size)`.
        temperature (`float`, *optional*, defaults to 0.07): divides the cosine similarities.
        norm_weight (`float`, *optional*, defaults to 0.05):
            weight of the term that keeps the length of an image token near that of a word.
    """

    def __init__(self, matrices: list[torch.Tensor], temperature: float = 0.07, norm_weight: float = 0.05):
        super().__init__()
        self.temperature = temperature
        self.norm_weight = norm_weight
        self.num_groups = len(matrices)
        self.target_norm = float(torch.cat(matrices).norm(dim=-1).mean())
        for index, matrix in enumerate(matrices):
            self.register_buffer(f"matrix_{index}", nn.functional.normalize(matrix, dim=-1), persistent=False)

    def group_of_cells(self, row_start: int, row_stop: int, column_start: int, column_stop: int) -> torch.Tensor:
        """Group of each kept cell, row-major, such that any two neighbouring rows hold as many groups as fit."""
        rows = torch.arange(row_start, row_stop)[:, None]
        columns = torch.arange(column_start, column_stop)[None, :]
        return ((2 * rows + columns) % self.num_groups).flatten()

    def forward(
        self, tokens: list[torch.Tensor], regions: list[tuple[int, int, int, int]], targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            tokens (`list[torch.Tensor]`): for each image `(rows * (columns + 1), hidden_size)`, newlines at row ends.
            regions (`list[tuple]`): for each image `(row_start, row_stop, column_start, column_stop)`.
            targets (`torch.Tensor` of shape `(images, groups)`): index of the right value, -100 where unknown.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: the scalar loss and the accuracy of each group, NaN where untested.
        """
        cells, groups, labels = [], [], []
        for image, region, target in zip(tokens, regions, targets):
            height, width = region[1] - region[0], region[3] - region[2]
            cells.append(image.view(height, width + 1, -1)[:, :width].flatten(0, 1))
            group = self.group_of_cells(*region)
            groups.append(group)
            labels.append(target.cpu()[group])
        cells = torch.cat(cells).float()
        groups, labels = torch.cat(groups), torch.cat(labels)
        norms = cells.norm(dim=-1)
        loss = self.norm_weight * ((norms / self.target_norm - 1) ** 2).mean()
        directions = nn.functional.normalize(cells, dim=-1)
        accuracies, total, count = [], loss.new_zeros(()), 0
        for index in range(self.num_groups):
            chosen = (groups == index) & (labels != -100)
            if not chosen.any():
                accuracies.append(float("nan"))
                continue
            selected = chosen.to(directions.device)
            similarity = directions[selected] @ getattr(self, f"matrix_{index}").T
            logits = similarity / self.temperature
            label = labels[chosen].to(logits.device)
            total = total + nn.functional.cross_entropy(logits, label, reduction="sum")
            # The cross-entropy only ranks the values; this term brings the token to the word itself.
            total = total + (1 - similarity.gather(1, label[:, None])).sum()
            count += len(label)
            accuracies.append(float((logits.argmax(-1) == label).float().mean()))
        return loss + total / max(count, 1), torch.tensor(accuracies)
