"""From a folder of cases to a folder of records: duplicates, labels, evidence, texts, in blocks that a kill spares."""
