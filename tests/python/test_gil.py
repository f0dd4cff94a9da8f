# SPDX-License-Identifier: Apache-2.0
"""Native calls that hold the GIL: the ladder goes on, what cannot be delivered is reported."""

import functools
import operator
import signal
import time

import pytest

from procguard import ExecutionTimeout, InterruptType, time_guard
from support import (
    Worker,
    call_in,
    held_call,
    hold_gil,
    recorded_warnings,
    run_python,
    spin,
    spin_for,
    wait_until,
)

EXCEPTION = InterruptType.exception
threads = pytest.mark.parametrize("where", ["main", "worker"])


@threads
def test_the_ladder_goes_on_to_kill(where):
    ended = run_python(
        """
        signal.signal(signal.SIGINT, lambda *_: None)
        def inside():
            with time_guard(timeout=1, grace_period=1, send_kill=True):
                print(time.monotonic(), flush=True)
                hold_gil(10)
        call_in(sys.argv[1], inside)
        """,
        where,
        status=-signal.SIGKILL,
    )
    took = ended.at - float(ended.out)
    print(f"ended after {took:.3f} s")
    assert 3 - 0.1 <= took < 6  # printed after it was entered


@threads
def test_sigterm_ends_it_without_a_handler(where):
    ended = run_python(
        """
        def inside():
            with time_guard(timeout_ms=200, grace_period_ms=200):
                hold_gil(10)
        call_in(sys.argv[1], inside)
        """,
        where,
        status=-signal.SIGTERM,
    )
    assert ended.seconds < 8


@threads
def test_it_is_reported_and_raised_when_the_gil_is_free(where):
    guard = time_guard(timeout_ms=100, grace_period=60, interrupt_type=EXCEPTION)

    def body():
        begin = time.monotonic()
        with pytest.raises(ExecutionTimeout):
            with guard:
                hold_gil(1.5)
                spin()
        return time.monotonic() - begin

    with recorded_warnings() as caught:
        assert 1.5 <= call_in(where, body) < 10
        wait_until(lambda: caught)
    assert caught[0].category is RuntimeWarning
    assert "undelivered" in str(caught[0].message) and "GIL" in str(caught[0].message)
    trip = guard.last_trip
    assert (trip.step, trip.is_exception, trip.withdrawn) == (0, True, False)
    assert 0.1 <= trip.elapsed < 1.4  # the step was not late, its delivery was


@threads
def test_it_is_withdrawn_if_the_block_was_left(where):
    guard = time_guard(timeout_ms=100, grace_period=60, interrupt_type=EXCEPTION)
    leave = functools.partial(guard.__exit__, None, None, None)

    def body():
        guard.__enter__()
        list(map(operator.call, [held_call(1.5), leave]))
        spin_for(0.05)

    with recorded_warnings() as caught:
        call_in(where, body)
        wait_until(lambda: caught)
    assert "undelivered" in str(caught[0].message)
    assert guard.last_trip.withdrawn


@threads
def test_somebody_elses_native_call_delays_it_only(where):
    guard = time_guard(timeout_ms=100, grace_period=60, interrupt_type=EXCEPTION)

    def body():
        with pytest.raises(ExecutionTimeout):
            with guard:
                spin()

    if where == "main":
        other = Worker(hold_gil, 0.3)
        body()
        other.join()
    else:
        worker = Worker(body)
        hold_gil(0.3)
        worker.join()


@pytest.mark.parametrize("preset", ["signal", "exception_then_signal"])
def test_steps_are_on_time_while_it_is_held(preset):
    """SIGTERM at its default ends the program at that very moment: the handler is the kernel's."""
    ended = run_python(
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with time_guard(timeout_ms=300, grace_period_ms=300, interrupt_type=InterruptType[sys.argv[1]]):
            print(time.monotonic(), flush=True)
            hold_gil(10)
        """,
        preset,
        status=-signal.SIGTERM,
    )
    took = ended.at - float(ended.out)
    assert (0.5 if preset == "signal" else 0.8) <= took < 5
