# SPDX-License-Identifier: Apache-2.0
"""Progress: by method, by function, by loop; from the thread itself and from others."""

import operator
import signal
import threading
import time

import pytest

from procguard import (
    ExecutionTimeout,
    InterruptType,
    mem_guard,
    progress,
    progress_loop,
    time_guard,
)
from support import PATIENCE, Worker, call_in, held_call, spin, spin_for, wait_until

TIMEOUT = 0.15
threads = pytest.mark.parametrize("where", ["main", "worker"])


def guard_of(seconds=TIMEOUT, **options):
    options.setdefault("interrupt_type", InterruptType.exception)
    return time_guard(timeout=seconds, **options)


def keep_going(report, rounds=4):
    """Works longer than the timeout, and reports in time."""
    for _ in range(rounds):
        spin_for(TIMEOUT / 3)
        report()


@guard_of(0.5)
def decorated():
    keep_going(decorated.progress, 15)


@guard_of(0.5)
def decorated_and_named():
    keep_going(lambda: progress(decorated_and_named), 15)


@threads
def test_progress_of_a_decorated_function(where):
    call_in(where, decorated)
    call_in(where, decorated_and_named)


@threads
def test_progress_moves_the_timeout_and_counts_from_the_call(where):
    def body():
        guard = guard_of(0.4, check_interval=1000)
        for report in (guard.progress, progress, lambda: progress(guard), lambda: progress(ctx=guard)):
            with pytest.raises(ExecutionTimeout) as raised:
                with guard:
                    entered = time.monotonic()
                    spin_for(0.2)
                    at = time.monotonic()
                    report()
                    spin()
            assert at + 0.4 <= time.monotonic() < at + 10
            assert raised.value.elapsed >= at - entered + 0.4
            assert 0.4 <= raised.value.observed <= raised.value.elapsed

    call_in(where, body)


@threads
def test_progress_puts_the_ladder_back_to_its_foot(where):
    guard = guard_of(0.05, grace_period=60)

    def body():
        with guard:
            for _ in range(4):
                with pytest.raises(ExecutionTimeout):
                    spin()
                assert guard.last_trip.step == 0
                guard.progress()

    call_in(where, body)


@pytest.mark.filterwarnings("ignore:procguard")  # of the last step
def test_progress_does_not_revive_a_guard_after_its_last_step():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    guard = guard_of(0.02, grace_period_ms=10, interrupt_type=InterruptType.signal)
    with guard:
        wait_until(lambda: guard.last_trip is not None and guard.last_trip.last)
        at = guard.last_trip.elapsed
        guard.progress()
        spin_for(0.2)
        assert guard.last_trip.elapsed == at


@threads
def test_progress_withdraws_what_is_due_and_not_raised(where):
    guard = guard_of(0.05)
    # One native call of two: no bytecode in between at which it could be raised.
    calls = [held_call(0.3), guard.progress]

    def body():
        with guard:
            assert list(map(operator.call, calls)) == [0, None]
            spin_for(0.02)

    call_in(where, body)
    assert guard.last_trip is not None


@threads
def test_without_context_it_is_the_innermost_time_guards(where):
    outer, inner = guard_of(0.3), guard_of(60)

    def body():
        with pytest.raises(ExecutionTimeout) as raised:
            with outer, inner, mem_guard(1 << 40):
                deadline = time.monotonic() + PATIENCE
                while time.monotonic() < deadline:
                    progress()
        assert raised.value.guard is outer
        with outer, mem_guard(1 << 40):
            for _ in range(5):
                spin_for(0.1)
                progress()

    call_in(where, body)


@threads
def test_without_a_guard_it_is_an_error(where):
    def body():
        for attempt in (progress, lambda: progress(None), lambda: progress(ctx=None)):
            with pytest.raises(RuntimeError, match="no valid TimeGuard"):
                attempt()
        with mem_guard(1 << 40), pytest.raises(RuntimeError, match="no valid TimeGuard"):
            progress()

    call_in(where, body)
    with time_guard(), pytest.raises(RuntimeError):
        Worker(progress).join()  # the guard is another thread's


@pytest.mark.parametrize("ctx", [1, "guard", object(), len, lambda: 1, mem_guard(1), time_guard], ids=repr)
def test_nonsense_is_no_context(ctx):
    with time_guard(), pytest.raises(RuntimeError, match="no valid TimeGuard"):
        progress(ctx)
    with pytest.raises(RuntimeError, match="no valid TimeGuard"):
        list(progress_loop([1], ctx))


def test_too_many_arguments():
    with pytest.raises(TypeError):
        progress(None, None)
    with pytest.raises(TypeError):
        progress(context=None)
    with pytest.raises(TypeError):
        time_guard().progress(1)


def test_the_method_never_fails():
    guard = time_guard()
    guard.progress()
    with guard:
        guard.progress()
    guard.progress()
    Worker(guard.progress).join()
    progress(guard)
    progress(decorated)


@threads
def test_a_loop_reports_after_each_item(where):
    def body():
        guard = guard_of(0.4)
        for ctx in (None, guard):
            with guard:
                for _ in progress_loop(range(3), ctx):
                    spin_for(0.2)
        with pytest.raises(ExecutionTimeout):
            with guard:
                for _ in progress_loop(range(4)):
                    spin_for(0.6)
        with pytest.raises(RuntimeError):
            list(progress_loop([1]))

    call_in(where, body)


def test_a_loop_is_lazy():
    seen = []

    def items():
        for i in range(3):
            seen.append(i)
            yield i

    loop = progress_loop(items())  # no guard needed yet
    assert seen == []
    with time_guard():
        assert next(loop) == 0
        assert seen == [0]
        assert list(loop) == [1, 2]
    assert list(progress_loop([])) == []


def test_any_thread_may_report():
    guard = guard_of(0.4)
    stop = threading.Event()

    def report():
        while not stop.wait(0.05):
            guard.progress()

    reporter = Worker(report)
    try:
        with guard:
            spin_for(1.2)
    finally:
        stop.set()
        reporter.join()


def test_of_a_guard_in_many_threads_it_is_the_callers_activation():
    guard = guard_of(0.6, interrupt_type=InterruptType.exception)
    entered = threading.Event()

    def other():
        with pytest.raises(ExecutionTimeout):
            with guard:
                entered.set()
                spin()
        return time.monotonic()

    with guard:
        worker = Worker(other)
        entered.wait(PATIENCE)
        begin = time.monotonic()
        while time.monotonic() < begin + 1.2:
            guard.progress()
            time.sleep(0.02)
    assert worker.join() < begin + 10


def test_from_outside_it_is_for_all_activations():
    guard = guard_of(0.6)
    stop = threading.Event()

    def inside():
        with guard:
            wait_until(stop.is_set)

    workers = [Worker(inside) for _ in range(3)]
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        guard.progress()
        time.sleep(0.02)
    stop.set()
    for worker in workers:
        worker.join()
    assert guard.last_trip is None
