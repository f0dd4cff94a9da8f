# SPDX-License-Identifier: Apache-2.0
"""Coroutines and asyncio: guarded from the first step to the last, suspension included."""

import asyncio
import signal
import sys
import time

import pytest

from procguard import (
    ExecutionTimeout,
    InterruptType,
    MemoryLimitExceeded,
    mem_guard,
    progress,
    time_guard,
)
from support import MIB, PATIENCE, call_in, grow, hold_gil, spin, spin_for

EXCEPTION = InterruptType.exception
threads = pytest.mark.parametrize("where", ["main", "worker"])


def guard_of(seconds=0.1, grace=PATIENCE):
    return time_guard(timeout=seconds, grace_period=grace, interrupt_type=EXCEPTION)


def run_in(where, coroutine_function, *args):
    return call_in(where, lambda: asyncio.run(coroutine_function(*args)))


def form_of(form, guard):
    """A coroutine function that awaits its argument under the guard."""

    async def decorated(awaitable):
        return await awaitable

    async def block(awaitable):
        async with guard:
            return await awaitable

    return guard(decorated) if form == "decorator" else block


forms = pytest.mark.parametrize("form", ["decorator", "async with"])


async def busy():
    spin()


async def sleeps():
    await asyncio.sleep(PATIENCE)


async def sleeps_in_small_steps():
    while True:
        await asyncio.sleep(0.001)


@threads
@forms
@pytest.mark.parametrize("work", [busy, sleeps, sleeps_in_small_steps])
def test_running_or_sleeping_it_is_interrupted(where, form, work):
    guard = guard_of()

    async def main():
        begin = time.monotonic()
        with pytest.raises(ExecutionTimeout) as raised:
            await form_of(form, guard)(work())
        assert raised.value.guard is guard
        assert begin + 0.1 <= time.monotonic() < begin + 10
        for _ in range(20):  # nothing follows
            await asyncio.sleep(0.001)
        if sys.version_info >= (3, 11):
            assert asyncio.current_task().cancelling() == 0

    run_in(where, main)


@threads
@forms
def test_what_behaves_is_left_alone(where, form):
    async def value():
        await asyncio.sleep(0.01)
        progress()
        return (1, 2)

    async def main():
        assert await form_of(form, guard_of(PATIENCE))(value()) == (1, 2)
        await asyncio.sleep(0.01)

    if form == "async with":  # without context: only a decorated coroutine is the thread's
        async def value():  # noqa: F811
            await asyncio.sleep(0.01)
            return (1, 2)

    run_in(where, main)


@threads
def test_the_clock_goes_on_while_it_is_suspended(where):
    guard = guard_of(0.3)

    @guard
    async def guarded():
        await asyncio.sleep(0.2)
        await asyncio.sleep(0.2)

    async def main():
        with pytest.raises(ExecutionTimeout):
            await guarded()

    run_in(where, main)


@threads
@forms
def test_due_while_another_task_runs_it_is_not_raised_there(where, form):
    guard = guard_of(0.05)
    raised_in = []

    async def victim():
        try:
            await form_of(form, guard)(asyncio.sleep(PATIENCE))
        except ExecutionTimeout:
            raised_in.append("victim")

    async def bystander():
        for _ in range(20):
            spin_for(0.02)  # the guard becomes due in here
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(victim(), bystander())

    run_in(where, main)
    assert raised_in == ["victim"]


@threads
@forms
def test_of_many_tasks_each_gets_its_own(where, form):
    guards = [guard_of(0.02 + 0.002 * i) for i in range(30)]

    async def one(guard):
        try:
            await form_of(form, guard)(sleeps_in_small_steps())
        except ExecutionTimeout as error:
            return error.guard is guard

    async def main():
        return await asyncio.gather(*map(one, guards))

    assert run_in(where, main) == [True] * 30


@threads
@forms
def test_one_guard_in_many_tasks(where, form):
    guard = guard_of(0.1)
    guarded = form_of(form, guard)

    async def one(seconds):
        try:
            await guarded(asyncio.sleep(seconds))
            return "done"
        except ExecutionTimeout:
            return "timeout"

    async def main():
        return await asyncio.gather(*(one(s) for s in [0, PATIENCE, 0.001, PATIENCE]))

    assert run_in(where, main) == ["done", "timeout", "done", "timeout"]


@threads
@forms
def test_cancelled_by_its_user(where, form):
    async def main():
        task = asyncio.ensure_future(form_of(form, guard_of(PATIENCE))(sleeps()))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_in(where, main)


@threads
@forms
@pytest.mark.parametrize("first", ["user", "guard"])
def test_cancelled_by_its_user_at_the_same_time(where, form, first):
    """The user's cancellation is not swallowed."""
    guard = guard_of(0.1)

    async def main():
        task = asyncio.ensure_future(form_of(form, guard)(sleeps()))
        await asyncio.sleep(0.02)
        if first == "user":
            hold_gil(0.2)  # due by now, and nobody can tell the loop
            task.cancel()
        else:
            time.sleep(0.2)  # told: the task is cancelled by us in the loop's next round
            asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises((asyncio.CancelledError, ExecutionTimeout)) as raised:
            await task
        if first == "user" or sys.version_info >= (3, 11):
            assert raised.type is asyncio.CancelledError
        await asyncio.sleep(0.02)

    run_in(where, main)
    assert guard.last_trip is not None


@threads
@forms
@pytest.mark.filterwarnings("ignore:coroutine")  # that it was never awaited
def test_nothing_strays_after_it_ended_near_its_timeout(where, form):
    """Due in the last moment: the rest of the task is neither cancelled nor interrupted."""
    guard = time_guard(timeout_ms=3, interrupt_type=EXCEPTION)
    guarded = form_of(form, guard)

    async def main():
        counts = {"timeout": 0, "done": 0}
        for i in range(200):
            try:
                await guarded(asyncio.sleep(0.002 + 0.00001 * i))
                counts["done"] += 1
            except ExecutionTimeout:
                counts["timeout"] += 1
            for _ in range(3):
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        if sys.version_info >= (3, 11):
            assert asyncio.current_task().cancelling() == 0
        return counts

    counts = run_in(where, main)
    print(counts)
    assert counts["timeout"] > 5


@threads
@forms
@pytest.mark.filterwarnings("ignore:coroutine")  # that it was never awaited
def test_busy_steps_that_end_near_the_timeout(where, form, short_switches):
    guard = time_guard(timeout_ms=1, interrupt_type=EXCEPTION)

    async def work(seconds):
        spin_for(seconds)
        await asyncio.sleep(0)
        spin_for(seconds)

    guarded = form_of(form, guard)

    async def main():
        for i in range(600):
            try:
                await guarded(work(0.0003 + 0.000001 * i))
            except ExecutionTimeout as error:
                assert error.guard is guard
            sum(range(20))
            await asyncio.sleep(0)

    run_in(where, main)


@threads
@forms
@pytest.mark.filterwarnings("ignore:coroutine")  # that its argument was never awaited
def test_a_timeout_of_zero(where, form):
    async def main():
        for _ in range(50):
            guard = guard_of(0)
            with pytest.raises(ExecutionTimeout):
                await form_of(form, guard)(sleeps_in_small_steps())
            await asyncio.sleep(0)

    run_in(where, main)


@threads
@forms
def test_nested(where, form):
    outer, inner = guard_of(0.3), guard_of(0.05)

    async def within():
        with pytest.raises(ExecutionTimeout) as raised:
            await form_of(form, inner)(sleeps())
        assert raised.value.guard is inner
        await sleeps()

    async def main():
        with pytest.raises(ExecutionTimeout) as raised:
            await form_of(form, outer)(within())
        assert raised.value.guard is outer

    run_in(where, main)


@threads
@forms
@pytest.mark.filterwarnings("ignore:procguard")  # of the last step
def test_the_ladder_goes_on_if_it_is_caught(where, form):
    guard = guard_of(0.05, grace=0.5)

    async def stubborn():
        caught = 0
        while caught < 2:
            try:
                await asyncio.sleep(PATIENCE)
            except (ExecutionTimeout, asyncio.CancelledError):
                caught += 1
        await asyncio.sleep(PATIENCE)

    async def main():
        with pytest.raises(ExecutionTimeout):
            await form_of(form, guard)(stubborn())

    if form == "decorator":
        run_in(where, main)
        assert guard.last_trip.step == 2


@threads
def test_progress_of_a_coroutine(where):
    guard = guard_of(0.4)

    @guard
    async def reports():
        for report in (progress, guard.progress, reports.progress, lambda: progress(guard)):
            await asyncio.sleep(0.2)
            report()

    async def main():
        await reports()
        with pytest.raises(RuntimeError):
            progress()

    run_in(where, main)
    assert guard.last_trip is None


@threads
@forms
def test_progress_by_another_task(where, form):
    guard = guard_of(0.4)

    async def main():
        task = asyncio.ensure_future(form_of(form, guard)(asyncio.sleep(0.8)))
        while not task.done():
            await asyncio.sleep(0.02)
            guard.progress()
        await task

    run_in(where, main)
    assert guard.last_trip is None


@threads
@forms
def test_memory(where, form):
    guard = mem_guard(16 * 1024, absolute=False, interrupt_type=EXCEPTION)

    async def main():
        kept = []

        async def grows():
            while True:
                kept.append(grow(MIB))
                await asyncio.sleep(0)

        with pytest.raises(MemoryLimitExceeded) as raised:
            await form_of(form, guard)(grows())
        assert raised.value.guard is guard
        assert len(kept) < 2000

    run_in(where, main)


def test_signal_steps_wait_until_it_runs():
    guard = time_guard(timeout=0.05, grace_period=60, interrupt_type=InterruptType.signal)
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append(asyncio.current_task().get_name()))

    @guard
    async def sleeps_then_runs():
        await asyncio.sleep(0.2)
        deadline = time.monotonic() + PATIENCE
        while not seen and time.monotonic() < deadline:
            pass

    async def bystander():
        for _ in range(15):
            spin_for(0.01)
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(asyncio.create_task(sleeps_then_runs(), name="guarded"), bystander())

    asyncio.run(main())
    assert seen == ["guarded"]


@threads
@forms
def test_exceptions_and_results_pass(where, form):
    async def fails():
        await asyncio.sleep(0)
        raise KeyError("x")

    async def main():
        with pytest.raises(KeyError):
            await form_of(form, guard_of())(fails())
        with pytest.raises(KeyError):
            await form_of(form, guard_of())(asyncio.ensure_future(fails()))

    run_in(where, main)


def test_async_with_outside_of_a_task():
    guard = guard_of()
    with pytest.raises(RuntimeError, match="asyncio task"):
        guard.__aenter__().__await__().__next__()

    async def main():
        with pytest.raises(RuntimeError, match="not active"):
            await guard.__aexit__(None, None, None)

    asyncio.run(main())
