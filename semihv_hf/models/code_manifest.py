"""`code_manifest.json`: the sha256 of every code file that lies beside weights. The model's own code writes it."""

from .pmc_cambrian.saving_pmc_cambrian import (
    CODE_SUFFIXES,
    FORMAT,
    MANIFEST,
    code_digests,
    code_files,
    is_checkpoint,
    write_code_manifest,
)

__all__ = ["CODE_SUFFIXES", "FORMAT", "MANIFEST", "code_digests", "code_files", "is_checkpoint", "write_code_manifest"]
