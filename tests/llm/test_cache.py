"""The cache: what was reported as kept is there whatever happens, and nothing else is."""

import asyncio
import json
import os
import random
import shutil
import sqlite3
import time
import tracemalloc

import pytest
from cache_processes import PROCESSES, fill_small_disk, key_of, reply_of, write_names, write_until_killed

from semihv_hf.errors import SemiHVError
from semihv_hf.llm.cache import ResponseCache
from semihv_hf.llm.cache_log import Log, json_line
from semihv_hf.llm.types import Failure

LOG, INDEX = "responses.jsonl", "index.sqlite"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def fill(folder, names) -> None:
    with ResponseCache(folder) as cache:
        for future in [cache.submit(key_of(name), {"model": "m"}, reply_of(name)) for name in names]:
            future.result()


def content(cache) -> dict:
    return {key: cache.entry(key) for key in cache.keys()}


def test_a_reply_comes_back_as_it_was_put_also_in_another_process_later(folder):
    reply = {"text": "Kein Pneumothorax \U0001fac1 \ud800 \n end", "usage": {"input_tokens": 3}, "model": None}
    with ResponseCache(folder) as cache:
        assert cache.get(key_of("a")) is None
        assert cache.put(key_of("a"), {"model": "m"}, reply) == reply
        assert cache.get(key_of("a")) == reply and key_of("a") in cache and len(cache) == 1
    with ResponseCache(folder) as cache:
        assert cache.get(key_of("a")) == reply
        assert cache.entry(key_of("a"))["request"] == {"model": "m"}
        assert key_of("b") not in cache


def test_the_first_reply_to_a_request_stays_and_is_what_a_second_put_returns(folder):
    with ResponseCache(folder) as cache:
        cache.put(key_of(1), {}, {"text": "first"})
        assert cache.put(key_of(1), {}, {"text": "second"}) == {"text": "first"}
        both = [cache.submit(key_of(2), {}, {"text": text}) for text in ("third", "fourth")]
        assert {future.result()["text"] for future in both} == {"third"}
    assert len((folder / LOG).read_bytes().splitlines()) == 3  # the header and two replies


def test_coroutines_share_writes_and_each_is_told_when_its_own_reply_is_kept(folder):
    async def work(cache):
        async def one(name):
            await cache.aput(key_of(name), {}, reply_of(name))
            with ResponseCache(folder, read_only=True) as other:  # on the disk, not only in this process
                return other.get(key_of(name)) == reply_of(name)

        return await asyncio.gather(*(one(name) for name in range(40)))

    with ResponseCache(folder) as cache:
        assert asyncio.run(work(cache)) == [True] * 40


def test_what_no_json_can_hold_and_what_is_no_key_is_refused_by_name(folder):
    with ResponseCache(folder) as cache:
        with pytest.raises(SemiHVError, match="cannot be kept"):
            cache.put(key_of(1), {}, {"text": object()})
        with pytest.raises(SemiHVError, match="cannot be kept"):
            cache.put(key_of(1), {}, {"score": float("nan")})
        with pytest.raises(SemiHVError, match="no content key"):
            cache.put("abc", {}, {"text": "x"})
        assert len(cache) == 0
    with pytest.raises(SemiHVError, match="closed"):
        cache.put(key_of(1), {}, {"text": "late"})


def test_failures_are_recorded_with_their_reason_and_never_read_as_replies(folder):
    with ResponseCache(folder) as cache:
        cache.note_failure(key_of(1), "row 1", Failure("refusal", "the model refused", 2)).result()
        assert cache.get(key_of(1)) is None and len(cache) == 0
        cache.put(key_of(1), {}, {"text": "an answer at last"})
    with ResponseCache(folder) as cache:
        (row,) = cache.failures()
        assert row["id"] == "row 1"
        assert row["failure"] == {"kind": "refusal", "detail": "the model refused", "attempts": 2}
        assert cache.get(key_of(1)) == {"text": "an answer at last"}


def test_a_log_that_breaks_off_at_any_byte_of_its_last_line_loses_only_that_line(folder, tmp_path):
    fill(folder, range(3))
    whole = (folder / LOG).read_bytes()
    places = [place for place, byte in enumerate(whole) if byte == 10]
    cuts = list(range(places[-2] + 1, len(whole), max(1, (len(whole) - places[-2]) // 25)))
    assert len(cuts) >= 20
    for number, cut in enumerate(cuts):
        torn = tmp_path / f"torn-{number}"
        shutil.copytree(folder, torn)  # with the index of the whole log, which is ahead of the torn one
        (torn / LOG).write_bytes(whole[:cut])
        with ResponseCache(torn) as cache:
            kept = {name for name in range(3) if cache.get(key_of(name)) == reply_of(name)}
            assert len(kept) == len(cache) == 2
            (lost,) = set(range(3)) - kept
            assert cache.get(key_of(lost)) is None
            cache.put(key_of(lost), {"model": "m"}, reply_of(lost))
            assert all(cache.get(key_of(name)) == reply_of(name) for name in range(3))


def test_zeros_that_a_power_cut_leaves_at_the_end_are_cut_off(folder):
    fill(folder, range(3))
    with open(folder / LOG, "ab") as log:
        log.write(b"\0" * 5000)
    with ResponseCache(folder) as cache:
        cache.put(key_of(9), {}, reply_of(9))
        assert len(cache) == 4
    assert b"\0" not in (folder / LOG).read_bytes()


def test_a_damaged_line_costs_its_own_reply_and_no_other(folder):
    fill(folder, range(5))
    lines = (folder / LOG).read_bytes().splitlines(keepends=True)
    lost = json.loads(lines[3])["key"]
    lines[3] = lines[3][:20] + b"\xff\xfe" + lines[3][22:]
    (folder / LOG).write_bytes(b"".join(lines))
    with ResponseCache(folder) as cache:
        assert cache.get(lost) is None
        others = [name for name in range(5) if key_of(name) != lost]
        assert all(cache.get(key_of(name)) == reply_of(name) for name in others)
        cache.put(lost, {}, {"text": "asked again"})
    with ResponseCache(folder) as cache:
        assert cache.get(lost) == {"text": "asked again"} and len(cache) == 5


def damage_nothing(folder):
    """The log has moved on while the index was away."""


def damage_delete(folder):
    (folder / INDEX).unlink()


def damage_garbage(folder):
    (folder / INDEX).write_bytes(b"no database at all" * 100)


def damage_halve(folder):
    (folder / INDEX).write_bytes((folder / INDEX).read_bytes()[: (folder / INDEX).stat().st_size // 2])


def damage_places(folder):
    connection = sqlite3.connect(folder / INDEX)
    connection.execute("UPDATE entries SET place = place + 7")
    connection.commit()
    connection.close()


def damage_behind(folder):
    connection = sqlite3.connect(folder / INDEX)
    connection.execute("DELETE FROM entries")
    connection.execute("UPDATE log SET indexed = 0")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "damage", [damage_nothing, damage_delete, damage_garbage, damage_halve, damage_places, damage_behind]
)
def test_an_index_that_is_lost_or_wrong_is_built_again_from_the_log(folder, damage):
    fill(folder, range(300))
    with ResponseCache(folder) as cache:
        before = content(cache)
    assert len(before) == 300
    for ending in ("-wal", "-shm"):
        (folder / (INDEX + ending)).unlink(missing_ok=True)
    damage(folder)
    with ResponseCache(folder) as cache:
        assert content(cache) == before
        cache.put(key_of("new"), {}, reply_of("new"))
        assert len(cache) == 301


def test_another_log_in_the_place_of_the_first_is_noticed(folder, tmp_path):
    fill(folder, range(10))
    fill(tmp_path / "other", range(100, 150))
    shutil.copy(tmp_path / "other" / LOG, folder / LOG)
    with ResponseCache(folder) as cache:
        assert set(cache.keys()) == {key_of(name) for name in range(100, 150)}
        assert cache.get(key_of(5)) is None


def test_a_file_that_is_no_log_is_refused_and_left_alone(folder):
    folder.mkdir()
    (folder / LOG).write_text('{"some": "rows"}\n{"of": "the user"}\n')
    with pytest.raises(SemiHVError, match="no log of replies"):
        ResponseCache(folder)
    assert (folder / LOG).read_text() == '{"some": "rows"}\n{"of": "the user"}\n'


def test_replies_that_a_process_logged_before_it_died_are_found_without_their_index(folder):
    with ResponseCache(folder) as cache:
        cache.put(key_of(1), {}, reply_of(1))
        log = Log(folder / LOG)  # another process: its line is on the disk, its index never was
        with log.locked():
            log.append([json_line({"key": key_of(2), "time": "", "request": {}, "response": reply_of(2)})])
        log.close()
        assert cache.get(key_of(2)) == reply_of(2)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_reported_before_a_process_was_killed_is_there(folder, tmp_path, seed):
    rng = random.Random(seed)
    reported = tmp_path / "reported"
    for turn in range(4):
        process = PROCESSES.Process(target=write_until_killed, args=(folder, str(reported), f"{turn}"))
        process.start()
        started = time.monotonic()
        while not reported.exists() or f"\n{turn}-" not in "\n" + reported.read_text():
            assert time.monotonic() - started < 30
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        names = reported.read_text().split("\n")[:-1]
        with ResponseCache(folder) as cache:
            assert all(cache.get(key_of(name)) == reply_of(name) for name in names)
            # At most the one reply that was under way at each kill was kept without having been reported.
            assert len(names) <= len(cache) <= len(names) + turn + 1
    assert names


def test_processes_that_write_the_same_keys_at_once_agree_on_every_reply(folder):
    names = [f"n{number}" for number in range(150)]
    results = PROCESSES.SimpleQueue()
    processes = []
    for who in "abcd":
        order = random.Random(who).sample(names, len(names))
        processes.append(PROCESSES.Process(target=write_names, args=(folder, order, who, results)))
    for process in processes:
        process.start()
    told = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with ResponseCache(folder) as cache:
        standing = {name: cache.get(key_of(name))["text"] for name in names}
        assert len(cache) == 150
    assert all(told[who] == standing for who in "abcd")
    keys = [json.loads(line)["key"] for line in (folder / LOG).read_bytes().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == 150


def test_a_forked_child_opens_files_of_its_own(folder):
    with ResponseCache(folder) as cache:
        cache.put(key_of(1), {}, reply_of(1))
        child = os.fork()
        if child == 0:
            try:
                cache.put(key_of(2), {}, reply_of(2))
                os._exit(0 if cache.get(key_of(1)) == reply_of(1) else 3)
            finally:
                os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert cache.get(key_of(2)) == reply_of(2)
        cache.put(key_of(3), {}, reply_of(3))
        assert len(cache) == 3


def test_a_full_disk_is_an_error_and_harms_no_reply_that_was_reported(folder):
    results = PROCESSES.SimpleQueue()
    process = PROCESSES.Process(target=fill_small_disk, args=(folder, 2_000_000, results))
    process.start()
    kept, message = results.get()
    process.join()
    assert "responses.jsonl" in message and "safe" in message
    assert len(kept) > 20
    with ResponseCache(folder) as cache:
        assert len(cache) == len(kept) and all(cache.get(key_of(name)) for name in kept)
        cache.put(key_of("after"), {}, reply_of("after"))
        assert cache.get(key_of("after")) == reply_of("after")


def test_an_exported_cache_replays_to_the_same_and_exports_to_the_same_bytes(folder, tmp_path):
    fill(folder, range(50))
    with ResponseCache(folder) as cache:
        assert cache.export(tmp_path / "a.jsonl") == 50
        first = content(cache)
    with ResponseCache(tmp_path / "copy") as copy:
        assert copy.replay(tmp_path / "a.jsonl") == 50
        assert copy.replay(tmp_path / "a.jsonl") == 0
        assert content(copy) == first
        copy.export(tmp_path / "b.jsonl")
        assert copy.replay(folder / LOG) == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    (tmp_path / "direct").mkdir()
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "direct" / LOG)
    with ResponseCache(tmp_path / "direct", read_only=True) as direct:
        assert content(direct) == first
    with pytest.raises(SemiHVError, match="cannot be read"), ResponseCache(tmp_path / "copy") as copy:
        copy.replay(tmp_path / "missing.jsonl")


def test_a_cache_opened_for_reading_changes_no_file_and_takes_nothing(folder):
    fill(folder, range(5))
    with open(folder / LOG, "ab") as log:
        log.write(json_line({"key": key_of(7)})[:30])  # torn, and not ours to cut off
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with ResponseCache(folder, read_only=True) as cache:
        assert all(cache.get(key_of(name)) == reply_of(name) for name in range(5))
        with pytest.raises(SemiHVError, match="reading only"):
            cache.put(key_of(8), {}, {"text": "x"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(SemiHVError, match="cannot be opened"):
        ResponseCache(folder / "missing", read_only=True)


def test_memory_does_not_grow_with_the_number_of_replies(folder):
    def peak(names) -> int:
        tracemalloc.start()
        with ResponseCache(folder) as cache:
            for name in names:
                future = cache.submit(key_of(name), {}, {"text": "z" * 500})
                if name % 50 == 0:
                    future.result()
            for key in cache.keys():
                assert cache.get(key) is not None
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    small = peak(range(500))
    large = peak(range(500, 5000))
    assert large < 2 * small + 500_000, (small, large)
