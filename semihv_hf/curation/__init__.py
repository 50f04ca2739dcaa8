"""Semi-human curation: expert text where it exists, machine text with retrieved evidence where it does not."""
