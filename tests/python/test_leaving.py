# SPDX-License-Identifier: Apache-2.0
"""Nothing is raised after a block was left, and no step begins: races near the deadline."""

import functools
import operator
import random
import signal
import time

import pytest

from procguard import (
    ExecutionTimeout,
    InterruptType,
    MemoryLimitExceeded,
    mem_guard,
    time_guard,
)
from support import MIB, call_in, grow, held_call, spin_for

EXCEPTION = InterruptType.exception
threads = pytest.mark.parametrize("where", ["main", "worker"])


def sentinel():
    """Bytecode and calls at which anything that is still on its way would be raised."""
    total = 0
    for i in range(30):
        total += abs(i)
    return total


class Tally:
    def __init__(self):
        self.raised = self.left = 0

    def both_happened(self):
        return self.raised > 20 and self.left > 20


def race(tally, guarded, guard, rounds):
    for _ in range(rounds):
        try:
            guarded()
            tally.left += 1
        except ExecutionTimeout as error:
            assert error.guard is guard
            tally.raised += 1
        sentinel()


def spin_about(seconds):
    end = time.perf_counter() + random.uniform(0.5, 1.5) * seconds
    while time.perf_counter() < end:
        pass


@threads
@pytest.mark.parametrize("form", ["block", "decorator", "native body"])
def test_blocks_that_end_near_their_timeout(where, form, short_switches):
    guard = time_guard(timeout_ms=0.3, interrupt_type=EXCEPTION)
    tally = Tally()

    def block():
        with guard:
            spin_about(0.0004)

    def native_block():  # the last thing in it is a native call
        pause = random.uniform(0.0001, 0.0006)
        with guard:
            time.sleep(pause)

    guarded = {"block": block, "decorator": guard(lambda: spin_about(0.0004))}.get(form, native_block)

    def body():
        race(tally, guarded, guard, 2000)
        for _ in range(20):
            if not tally.both_happened():
                race(tally, guarded, guard, 500)

    call_in(where, body)
    assert tally.both_happened(), vars(tally)


@threads
def test_leaving_by_an_exception_near_the_timeout(where, short_switches):
    guard = time_guard(timeout_ms=0.3, interrupt_type=EXCEPTION)

    def body():
        for _ in range(2000):
            try:
                with guard:
                    spin_about(0.0004)
                    raise KeyError
            except (KeyError, ExecutionTimeout):
                pass
            sentinel()

    call_in(where, body)


@threads
def test_nested_blocks_near_their_timeouts(where, short_switches):
    outer = time_guard(timeout_ms=0.5, interrupt_type=EXCEPTION)
    inner = time_guard(timeout_ms=0.4, interrupt_type=EXCEPTION)

    def body():
        for _ in range(1500):
            try:
                with outer:
                    try:
                        with inner:
                            spin_about(0.0004)
                    except ExecutionTimeout as error:
                        if error.guard is not inner:
                            raise
                    sentinel()
            except ExecutionTimeout as error:
                assert error.guard is outer
            sentinel()

    call_in(where, body)


@threads
def test_steps_that_follow_fast_do_not_follow_out_of_the_block(where, short_switches):
    guard = time_guard(timeout_ms=1, grace_period_ms=10, interrupt_type=EXCEPTION)

    def body():
        for _ in range(60):
            try:
                with guard:
                    try:
                        spin_for(0.05)
                    except ExecutionTimeout:
                        spin_about(0.010)
            except ExecutionTimeout:
                pass
            sentinel()
            time.sleep(0.001)
            sentinel()

    call_in(where, body)


def test_signals_near_the_end_of_a_block_are_handled_in_it():
    """The handler has run when the block is left, or never does."""
    inside = [False]
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append(inside[0]))
    guard = time_guard(timeout_ms=0.3, interrupt_type=InterruptType.signal)
    for _ in range(2000):
        inside[0] = True
        with guard:
            spin_about(0.0004)
        inside[0] = False
        sentinel()
    assert seen.count(True) > 20
    assert seen.count(False) == 0


@threads
def test_what_is_withdrawn_is_told(where):
    guard = time_guard(timeout_ms=50, interrupt_type=EXCEPTION)
    hold = held_call(0.2)
    leave = functools.partial(guard.__exit__, None, None, None)

    def body():
        guard.__enter__()
        list(map(operator.call, [hold, leave]))  # native: nothing can be raised in between
        sentinel()

    call_in(where, body)
    trip = guard.last_trip
    assert trip.is_exception and trip.withdrawn
    time.sleep(0.02)
    sentinel()


@threads
def test_memory_that_was_over_and_is_given_back_in_the_block(where):
    guard = mem_guard(4 * 1024, absolute=False, interrupt_type=EXCEPTION)

    def body():
        raised = 0
        for _ in range(40):
            try:
                with guard:
                    memory = grow(8 * MIB)
                    memory.close()
            except MemoryLimitExceeded as error:
                assert error.guard is guard
                raised += 1
            sentinel()
        return raised

    call_in(where, body)


@threads
def test_a_memory_guard_that_is_over_at_entry_raises_in_its_block(where):
    guard = mem_guard(1, interrupt_type=EXCEPTION, secondary_grace_period_ms=50)

    def body():
        for _ in range(50):
            entered = False
            with pytest.raises(MemoryLimitExceeded):
                with guard:
                    entered = True
                    spin_for(10)
            assert entered
            sentinel()

    call_in(where, body)


@threads
def test_a_timeout_of_zero_raises_in_its_block(where):
    guard = time_guard(timeout=0, interrupt_type=EXCEPTION)

    def body():
        for _ in range(300):
            entered = False
            with pytest.raises(ExecutionTimeout):
                with guard:
                    entered = True
                    spin_for(10)
            assert entered
            sentinel()

    call_in(where, body)
