"""Models of semihv-hf."""
