"""Training: the stages, their trainer, the alignment objective and the tower warm-up."""
