"""How the scripts of `recipes/` end: an error that a user can mend is one line, whatever the number of processes."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable

from semihv_hf.errors import SemiHVError

# Launchers end the other processes within a second of the first that failed.
_PATIENCE = 5.0


def run_script(main: Callable[[], None]) -> None:
    """
    Runs a script's main function; a [`SemiHVError`] becomes one line on standard error and exit code 1.

    Process 0 says it at once. Another process waits: if all failed alike, the launcher ends it first, and if it is
    the only one (a damaged file in its batch), it is heard after all.

    Args:
        main (`Callable[[], None]`): the script.
    """
    try:
        with warnings.catch_warnings():
            # TRL and PEFT ask by a name that transformers has changed: none of the user's to mend.
            warnings.filterwarnings("ignore", r"`\w*gradient_checkpointing\w*` is deprecated", FutureWarning)
            main()
    except SemiHVError as error:
        rank = int(os.environ.get("RANK", "0"))
        if rank:
            time.sleep(_PATIENCE)
        if "tqdm" in sys.modules:  # a bar that was cut off has left its line open
            print(file=sys.stderr)
        sys.exit(f"error: {error}" if rank == 0 else f"error in process {rank}: {error}")
