"""How many calls may be open: the rules of growing, shrinking and pausing."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from semihv_hf.llm.concurrency import AdaptiveLimit


def test_it_grows_by_one_a_round_and_halves_once_for_calls_that_were_open_together():
    async def scenario():
        limit = AdaptiveLimit(16)
        rounds = [await limit.acquire() for _ in range(16)]
        for started in rounds:  # sixteen calls turned away at once are one sign, not sixteen
            limit.overloaded(started)
        assert limit.limit == 8
        for _ in rounds:
            limit.release()
        limit.overloaded(await limit.acquire())
        assert limit.limit == 4
        for _ in range(5):
            limit.succeeded()
        assert 4.9 < limit.limit < 5.3
        for _ in range(10):
            limit.overloaded(limit._round)
        assert limit.limit == 1
        for _ in range(1000):
            limit.succeeded()
        assert limit.limit == 16

    asyncio.run(scenario())


def test_a_pause_holds_for_everybody_and_ends_by_itself():
    async def scenario():
        loop, limit = asyncio.get_running_loop(), AdaptiveLimit(4)
        limit.pause(0.1)
        limit.pause(0.02)  # a shorter one does not end the longer one
        begun = loop.time()
        await asyncio.gather(*(limit.acquire() for _ in range(4)))
        assert 0.09 < loop.time() - begun < 2
        assert limit.active == 4

    asyncio.run(scenario())


@settings(max_examples=60)
@given(st.integers(1, 5), st.lists(st.sampled_from("wait cancel release overload succeed".split()), max_size=60))
def test_slots_are_neither_lost_nor_doubled_whatever_happens(most, steps):
    async def scenario():
        limit, waiting, held = AdaptiveLimit(most), [], 0
        for step in steps:
            if step == "wait":
                waiting.append(asyncio.ensure_future(limit.acquire()))
            elif step == "cancel" and waiting:
                waiting[0].cancel()
            elif step == "release" and held:
                limit.release()
                held -= 1
            elif step == "overload":
                limit.overloaded(limit._round)
            elif step == "succeed":
                limit.succeeded()
            if len(steps) % 2:  # with and without letting the others run in between
                await asyncio.sleep(0)
            held, waiting = settle(held, waiting)
            assert limit.active <= most and 1 <= limit.limit <= most
        for _ in range(3):
            await asyncio.sleep(0)
        held, waiting = settle(held, waiting)
        assert limit.active == held
        while waiting:  # and nobody waits for ever
            if held:
                limit.release()
                held -= 1
            for _ in range(3):
                await asyncio.sleep(0)
            before = len(waiting)
            held, waiting = settle(held, waiting)
            assert len(waiting) < before or held

    def settle(held, waiting):
        got = [task for task in waiting if task.done() and not task.cancelled()]
        return held + len(got), [task for task in waiting if not task.done()]

    asyncio.run(scenario())
