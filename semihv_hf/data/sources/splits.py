"""Splits where a release states none: by group, and the same on every machine."""

import hashlib


def held_out_split(group: str, share: float, seed: int) -> str:
    """Sends a share of all groups to the test split.

    Args:
        group (`str`): the patient, study or article.
        share (`float`): how many of all groups, from 0 up to 1.
        seed (`int`): chooses which.

    Returns:
        `str`: `"train"` or `"test"`; groups that are held out at one share are held out at every larger share.
    """
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < share * 2**64 else "train"
