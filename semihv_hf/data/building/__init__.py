"""From an adapter to a dataset folder: list the release, build blocks of it in any order, assemble shards in order."""
