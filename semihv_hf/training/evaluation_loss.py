"""The loss of an evaluation as the mean over its tokens: the same for every batch size and number of processes."""

from __future__ import annotations

import torch

from semihv_hf.errors import SemiHVError

from .collation import REPORT_KEY
from .sampling import EvaluationBatches, own_dataloader


class TokenWeightedEvaluation:
    """
    Put it before a trainer whose batches are those of `self.eval_collator`.

    transformers gives the mean of the batches' losses: short answers weigh as much as long ones, and rows that fill
    the last batch up count twice. Here every row is evaluated once, and the sum of the tokens' losses is divided by
    their number. Beside `eval_loss` stand `eval_tokens`, that number, and `eval_left_out`, rows that cannot be used.
    """

    _loss_sum = 0.0
    _tokens = 0
    _left_out = 0

    def get_eval_dataloader(self, eval_dataset=None):
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, str):
            rows = self.eval_dataset[rows]
        args = self.args
        batches = EvaluationBatches(len(rows), args.eval_batch_size, args.world_size, args.process_index)
        return own_dataloader(self, rows, self.eval_collator, batch_sampler=batches)

    def prediction_step(self, model, inputs, *args, **kwargs):
        report = inputs.get(REPORT_KEY)
        tokens = int((inputs["labels"][:, 1:] != -100).sum())
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        self._loss_sum += float(loss) * tokens
        self._tokens += tokens
        self._left_out += 0 if report is None else len(report.left_out)
        return loss, logits, labels

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        self._loss_sum, self._tokens, self._left_out = 0.0, 0, 0
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        sums = [self._loss_sum, self._tokens, self._left_out]
        if self.args.world_size > 1:
            own = torch.tensor(sums, dtype=torch.float64, device=self.args.device)
            sums = self.accelerator.reduce(own, reduction="sum").tolist()
        loss, tokens, left_out = sums
        if not tokens:
            raise SemiHVError(
                f"The rows to evaluate on have no token with a label; {int(left_out)} of them could not be used.",
                "Look at eval_dataset and max_length.",
            )
        output.metrics[f"{metric_key_prefix}_loss"] = loss / tokens
        output.metrics[f"{metric_key_prefix}_tokens"] = int(tokens)
        output.metrics[f"{metric_key_prefix}_left_out"] = int(left_out)
        return output
