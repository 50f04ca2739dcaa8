"""Openly licensed medical images that ship inside registry packages."""
