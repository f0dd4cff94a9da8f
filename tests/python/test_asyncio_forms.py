# SPDX-License-Identifier: Apache-2.0
"""Guards within what asyncio offers beside tasks: generators, groups, wait_for, the loop's end."""

import asyncio
import sys

import pytest

from procguard import ExecutionTimeout, InterruptType, time_guard
from support import PATIENCE, call_in, run_python

threads = pytest.mark.parametrize("where", ["main", "worker"])


def guard_of(seconds=0.1):
    return time_guard(
        timeout=seconds, grace_period=PATIENCE, interrupt_type=InterruptType.exception
    )


def run_in(where, coroutine_function):
    return call_in(where, lambda: asyncio.run(coroutine_function()))


async def sleeps():
    await asyncio.sleep(PATIENCE)


@threads
def test_an_asynchronous_generator(where):
    guard = guard_of(0.2)

    @guard
    async def numbers(pause):
        try:
            for i in range(3):
                await asyncio.sleep(pause)
                got = yield i
                if got is not None:
                    yield got
        finally:
            closed.append(True)

    closed = []

    async def main():
        assert [i async for i in numbers(0.001)] == [0, 1, 2]
        with pytest.raises(ExecutionTimeout):
            async for _ in numbers(PATIENCE):
                pass
        one = numbers(0)
        assert await one.asend(None) == 0
        assert await one.asend((7, 8)) == (7, 8)
        with pytest.raises(KeyError):
            await one.athrow(KeyError())
        two = numbers(0)
        await two.asend(None)
        await two.aclose()
        with pytest.raises(ExecutionTimeout):  # the consumer's pauses count
            async for _ in numbers(0):
                await asyncio.sleep(0.15)

    run_in(where, main)
    assert len(closed) == 5


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is newer")
def test_in_a_task_group():
    async def main():
        with pytest.raises(BaseExceptionGroup) as raised:
            async with asyncio.TaskGroup() as group:
                group.create_task(guard_of()(sleeps)())
                other = group.create_task(sleeps())
        assert [type(error) for error in raised.value.exceptions] == [ExecutionTimeout]
        assert other.cancelled()

    asyncio.run(main())


def test_wait_for_around_it():
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(guard_of(PATIENCE)(sleeps)(), 0.05)
        with pytest.raises(ExecutionTimeout):
            await asyncio.wait_for(guard_of(0.05)(sleeps)(), PATIENCE)

    asyncio.run(main())


def test_the_program_ends_with_tasks_in_guards():
    for ending in ("asyncio.run(main())", "asyncio.new_event_loop().run_until_complete(main())"):
        ended = run_python(
            f"""
            import asyncio
            async def sleeps():
                async with time_guard(timeout=0.2):
                    await asyncio.sleep(60)
            async def main():
                asyncio.ensure_future(sleeps())
                asyncio.ensure_future(time_guard(timeout=0.2)(asyncio.sleep)(60))
                await asyncio.sleep(0.1)
            {ending}
            """
        )
        assert ended.seconds < 10
