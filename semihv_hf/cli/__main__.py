"""`python -m semihv_hf.cli` is `semihv`."""

from . import main

main()
