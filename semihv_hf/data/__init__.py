"""Medical image data: what sources give (cases) and what models are trained on (records)."""
