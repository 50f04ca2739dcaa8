"""A reply is in the log at once, counts when it is synced, and shares that with those that come in the same moment."""

import asyncio
import errno
import json
import os
import threading
import time

import pytest
from cache_processes import PROCESSES, key_of, reply_of, submit_and_die

from semihv_hf.errors import SemiHVError
from semihv_hf.llm import cache_writer
from semihv_hf.llm.cache import ResponseCache
from semihv_hf.llm.cache_log import Log, json_line

LOG = "responses.jsonl"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    with ResponseCache(folder) as cache:
        yield cache


@pytest.fixture
def held_syncs(monkeypatch):
    """Syncs wait until the event is set; their number is in the list."""
    sync, go, seen = os.fsync, threading.Event(), []

    def wait(file):
        seen.append(file)
        assert go.wait(30)
        sync(file)

    monkeypatch.setattr("semihv_hf.llm.cache_log.os.fsync", wait)
    yield go, seen
    go.set()


def keys_in(folder) -> list[str]:
    return [json.loads(line)["key"] for line in (folder / LOG).read_bytes().splitlines()[1:]]


def foreign(folder):
    """The log as another process has it open."""
    return Log(folder / LOG)


def test_a_process_that_is_killed_loses_nothing_that_it_had_handed_over(folder):
    names = [f"n{number}" for number in range(80)]
    process = PROCESSES.Process(target=submit_and_die, args=(folder, names))
    process.start()
    process.join()
    assert process.exitcode == -9
    with ResponseCache(folder) as cache:
        assert [cache.get(key_of(name)) for name in names] == [reply_of(name) for name in names]


def test_a_reply_counts_only_when_the_disk_has_it_and_its_line_is_there_before(folder, cache, held_syncs):
    go, seen = held_syncs
    future = cache.submit(key_of(1), {}, reply_of(1))
    assert keys_in(folder) == [key_of(1)]
    deadline = time.monotonic() + 30
    while not seen:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert not future.done()
    go.set()
    assert future.result(30) == reply_of(1)
    assert cache.get(key_of(1)) == reply_of(1) and len(cache) == 1


def test_replies_of_one_moment_share_a_sync(cache, monkeypatch):
    monkeypatch.setattr(cache_writer, "_GATHERING", 0.5)
    syncs, sync = [], os.fsync
    monkeypatch.setattr("semihv_hf.llm.cache_log.os.fsync", lambda file: (syncs.append(file), sync(file)))
    futures = [cache.submit(key_of(name), {}, reply_of(name)) for name in range(40)]
    assert [future.result(30) for future in futures] == [reply_of(name) for name in range(40)]
    assert 1 <= len(syncs) <= 5 and len(cache) == 40


def test_who_waits_for_one_reply_and_who_closes_do_not_wait_for_others(folder, monkeypatch):
    monkeypatch.setattr(cache_writer, "_GATHERING", 60.0)
    started = time.monotonic()
    with ResponseCache(folder) as cache:
        for name in range(5):
            assert cache.put(key_of(name), {}, reply_of(name)) == reply_of(name)
        cache.submit(key_of("last"), {}, reply_of("last"))
    assert time.monotonic() - started < 30
    with ResponseCache(folder) as cache:
        assert len(cache) == 6 and cache.get(key_of("last")) == reply_of("last")


def test_while_another_process_writes_nobody_waits_and_the_reply_comes_behind_its_lines(folder, cache):
    other = foreign(folder)
    with other.locked():
        future = cache.submit(key_of(1), {}, reply_of(1))
        other.append([json_line({"key": key_of(2), "time": "", "request": {}, "response": reply_of(2)})])
        assert keys_in(folder) == [key_of(2)] and not future.done()
    assert future.result(30) == reply_of(1)
    other.close()
    assert keys_in(folder) == [key_of(2), key_of(1)] and cache.get(key_of(2)) == reply_of(2)


def test_what_another_process_logged_first_counts_and_is_not_logged_again(folder, cache):
    other = foreign(folder)
    with other.locked():
        other.append_unsynced(json_line({"key": key_of(1), "time": "", "request": {}, "response": {"text": "first"}}))
    other.close()
    assert cache.submit(key_of(1), {}, {"text": "second"}).result(30) == {"text": "first"}
    assert keys_in(folder) == [key_of(1)]


def test_an_index_that_another_process_brought_up_to_date_first_is_taken_as_it_is(folder, cache, held_syncs):
    go, _ = held_syncs
    futures = [cache.submit(key_of(name), {}, reply_of(name)) for name in range(3)]
    with ResponseCache(folder) as other:  # opening it reads the whole log into the index that they share
        assert len(other) == 3
        go.set()
        assert [future.result(30) for future in futures] == [reply_of(name) for name in range(3)]
        assert other.put(key_of("other"), {}, reply_of("other")) == reply_of("other")
    assert cache.put(key_of("own"), {}, reply_of("own")) == reply_of("own")
    assert keys_in(folder) == [key_of(name) for name in (0, 1, 2, "other", "own")] and len(cache) == 5


def test_a_line_that_nobody_has_synced_yet_is_synced_by_who_reads_it(folder, cache, monkeypatch):
    cache.put(key_of(0), {}, reply_of(0))
    syncs, sync = [], os.fsync
    monkeypatch.setattr("semihv_hf.llm.cache_log.os.fsync", lambda file: (syncs.append(file), sync(file)))
    assert cache.get(key_of(0)) == reply_of(0) and not syncs
    other = foreign(folder)
    with other.locked():
        other.append_unsynced(json_line({"key": key_of(1), "time": "", "request": {}, "response": reply_of(1)}))
    other.close()
    assert cache.get(key_of(1)) == reply_of(1) and len(syncs) == 1
    assert cache.get(key_of(1)) == reply_of(1) and len(syncs) == 1


def test_a_disk_that_does_not_take_a_reply_is_an_error_and_the_reply_is_not_there(folder, cache, monkeypatch):
    cache.put(key_of(0), {}, reply_of(0))
    sync, broken = os.fsync, [True]

    def fail(file):
        if broken.pop() if broken else False:
            raise OSError(errno.EIO, "Input/output error")
        sync(file)

    monkeypatch.setattr("semihv_hf.llm.cache_log.os.fsync", fail)
    with pytest.raises(SemiHVError, match="responses.jsonl"):
        cache.put(key_of(1), {}, reply_of(1))
    assert cache.get(key_of(1)) is None and keys_in(folder) == [key_of(0)]
    assert cache.put(key_of(1), {}, {"text": "asked again"}) == {"text": "asked again"}
    assert cache.get(key_of(0)) == reply_of(0) and len(cache) == 2


def test_a_miss_asks_for_no_lock_as_long_as_nobody_else_writes(folder, cache, monkeypatch):
    cache.put(key_of(0), {}, reply_of(0))
    locks, locked = [], Log.locked
    monkeypatch.setattr(Log, "locked", lambda self, **how: (locks.append(how), locked(self, **how))[1])
    assert all(cache.get(key_of(name)) is None for name in range(1, 50)) and not locks
    with ResponseCache(folder) as other:
        other.put(key_of(7), {}, reply_of(7))
    assert cache.get(key_of(7)) == reply_of(7)


def test_an_event_loop_that_ended_before_its_replies_were_written_stops_nothing(cache):
    async def hand_over():
        for name in range(10):
            cache.asubmit(key_of(name), {}, reply_of(name))

    asyncio.run(hand_over())
    assert cache.put(key_of("after"), {}, reply_of("after")) == reply_of("after")
    assert len(cache) == 11


def test_a_child_forked_while_the_lock_is_held_does_not_keep_it(folder, cache):
    log = foreign(folder)
    reading, writing = os.pipe()
    with log.locked():
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # lives until the parent has looked
            os._exit(0)
    try:
        with log.locked(wait=False) as held:
            assert held
    finally:
        os.close(writing)
        os.waitpid(child, 0)
        os.close(reading)
        log.close()
