"""Tests that were written but not yet seen to pass. They say so in every run, until they are run and mended."""

import pytest

unproven = pytest.mark.skip(reason="written, but not yet seen to pass on this code: curation is unfinished")
