"""Answers of a model on held-out images, their scores, and the report."""
