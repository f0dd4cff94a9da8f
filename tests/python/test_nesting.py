# SPDX-License-Identifier: Apache-2.0
"""Guards in guards, in themselves, again and again; which of those that are due comes first."""

import time

import pytest

from procguard import (
    ExecutionTimeout,
    InterruptType,
    MemoryLimitExceeded,
    ResiliparseGuardException,
    mem_guard,
    time_guard,
)
from support import call_in, hold_gil, spin, spin_for

EXCEPTION = InterruptType.exception
threads = pytest.mark.parametrize("where", ["main", "worker"])


def timeout_of(seconds, grace=10.0):
    return time_guard(timeout=seconds, grace_period=grace, interrupt_type=EXCEPTION)


def collect(count, caught, work=spin):
    """The exceptions that `work` meets, in order: the next one may come while one is handled."""
    try:
        if count > 1:
            collect(count - 1, caught, work)
        else:
            work()
        spin()
    except ResiliparseGuardException as error:
        caught.append(error)


@threads
def test_the_inner_guard_fires_first_if_it_is_shorter(where):
    def body():
        outer, inner = timeout_of(0.5), timeout_of(0.1)
        with pytest.raises(ExecutionTimeout) as second:
            with outer:
                with pytest.raises(ExecutionTimeout) as first:
                    with inner:
                        spin()
                assert first.value.guard is inner
                spin()
        assert second.value.guard is outer

    call_in(where, body)


@threads
def test_an_inner_guard_does_not_lengthen_the_outers_time(where):
    def body():
        outer, inner = timeout_of(0.1), timeout_of(60)
        begin = time.monotonic()
        with pytest.raises(ExecutionTimeout) as raised:
            with outer, inner:
                spin()
        assert raised.value.guard is outer
        assert begin + 0.1 <= time.monotonic() < begin + 10
        assert inner.last_trip is None

    call_in(where, body)


@threads
def test_of_several_that_are_due_the_outermost_comes_first(where):
    def body():
        guards = [timeout_of(0.05) for _ in range(4)]
        with guards[0], guards[1], guards[2], guards[3]:
            caught = []
            collect(4, caught, lambda: hold_gil(0.3))  # due before the first can be raised
        assert [guards.index(error.guard) for error in caught] == [0, 1, 2, 3]

    call_in(where, body)


@threads
def test_those_that_the_outermost_takes_along_are_withdrawn(where):
    def body():
        guards = [timeout_of(0.05) for _ in range(3)]
        with pytest.raises(ExecutionTimeout) as raised:
            with guards[0]:
                with guards[1], guards[2]:
                    hold_gil(0.3)
                    spin()
        assert raised.value.guard is guards[0]
        spin_for(0.05)
        for inner in guards[1:]:
            assert inner.last_trip is not None

    call_in(where, body)


@threads
def test_both_kinds_nest(where):
    def body():
        time_, memory = timeout_of(0.3), mem_guard(1, grace_period_ms=100, interrupt_type=EXCEPTION)
        with pytest.raises(ExecutionTimeout):
            with time_:
                with pytest.raises(MemoryLimitExceeded) as raised:
                    with memory:
                        spin()
                assert raised.value.guard is memory
                spin()

    call_in(where, body)


@threads
def test_a_guard_in_itself(where):
    guard = timeout_of(0.2)

    @guard
    def recursive(depth):
        if depth == 0:
            spin()
        return recursive(depth - 1)

    def body():
        begin = time.monotonic()
        with pytest.raises(ExecutionTimeout) as raised:
            recursive(5)
        assert raised.value.guard is guard
        assert begin + 0.2 <= time.monotonic()
        with guard, guard, guard:
            pass
        for _ in range(3):  # and again
            with pytest.raises(ExecutionTimeout):
                recursive(1)

    call_in(where, body)


@threads
def test_deep_recursion(where):
    guard = time_guard(timeout=60)

    @guard
    def recursive(depth):
        return 0 if depth == 0 else 1 + recursive(depth - 1)

    assert call_in(where, recursive, 200) == 200


@threads
def test_a_guard_is_used_again_after_all_that_can_happen(where):
    guard = timeout_of(0.1)

    def body():
        for _ in range(3):
            with guard:
                pass
            with pytest.raises(ExecutionTimeout):
                with guard:
                    spin()
            with pytest.raises(ZeroDivisionError):
                with guard:
                    1 / 0
            assert guard(lambda: 3)() == 3

    call_in(where, body)


@threads
def test_the_clock_of_each_entry_is_its_own(where):
    guard = timeout_of(0.3)

    def body():
        for _ in range(4):
            with guard:
                spin_for(0.15)
        assert guard.last_trip is None

    call_in(where, body)


def test_left_out_of_order():
    first, second = timeout_of(60), timeout_of(0.1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with pytest.raises(ExecutionTimeout) as raised:
        spin()
    assert raised.value.guard is second
    second.__exit__(None, None, None)


def test_left_by_another_thread():
    guard = timeout_of(0.1)
    guard.__enter__()
    call_in("worker", guard.__exit__, None, None, None)
    spin_for(0.25)
    assert guard.last_trip is None
