"""PMC-Cambrian: the files that are published beside the weights."""
