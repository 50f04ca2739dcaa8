"""`semihv serve`: a checkpoint behind transformers' own OpenAI-compatible server."""

from semihv_hf.serving.server import NEEDED_PACKAGES, serve

__all__ = ["NEEDED_PACKAGES", "serve"]
