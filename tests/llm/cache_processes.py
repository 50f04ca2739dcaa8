"""What other processes do to a cache in the tests: write until they are killed, or write all at once."""

import hashlib
import multiprocessing
import sys

from semihv_hf.llm.cache import ResponseCache

# A server that forks children: they start fast, and none of the test's threads comes along.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["semihv_hf.llm.cache", "openai"])


def key_of(name) -> str:
    """A content key."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def reply_of(name) -> dict:
    """A reply that can be told from all others, of different lengths."""
    return {"text": f"reply {name} " + "x" * (hash_number(name) % 3000)}


def hash_number(name) -> int:
    """A number that does not depend on the process."""
    return int(key_of(name)[:8], 16)


def write_until_killed(folder, reported: str, prefix: str) -> None:
    """Puts replies, and writes down the name of each as soon as `put` has returned."""
    with ResponseCache(folder) as cache, open(reported, "a", buffering=1) as done:
        for number in range(100_000):
            name = f"{prefix}-{number}"
            cache.put(key_of(name), {"model": "m"}, reply_of(name))
            done.write(name + "\n")


def write_names(folder, names, who: str, results) -> None:
    """Puts a reply of its own under each name, many at a time, and sends back which replies count."""
    with ResponseCache(folder) as cache:
        futures = {name: cache.submit(key_of(name), {"model": "m"}, {"text": f"{name} by {who}"}) for name in names}
        results.put((who, {name: future.result()["text"] for name, future in futures.items()}))


def fill_small_disk(folder, most_bytes: int, results) -> None:
    """Puts replies until the file system allows no larger file, as when a disk is full."""
    import resource

    from semihv_hf.errors import SemiHVError

    cache = ResponseCache(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    kept = []
    for number in range(10_000):
        try:
            cache.put(key_of(number), {}, {"text": "y" * 50_000})
        except SemiHVError as error:
            results.put((kept, str(error)))
            return
        kept.append(number)
    sys.exit("the limit was never met")


def submit_and_die(folder, names) -> None:
    """Hands replies over, waits for none of them, and is gone."""
    import os
    import signal

    cache = ResponseCache(folder)
    for name in names:
        cache.submit(key_of(name), {"model": "m"}, reply_of(name))
    os.kill(os.getpid(), signal.SIGKILL)
