# SPDX-License-Identifier: Apache-2.0
"""Guarded generators: from the first item asked for to the end, pauses included."""

import time

import pytest

from procguard import ExecutionTimeout, InterruptType, progress, time_guard
from support import Worker, call_in, spin, spin_for

threads = pytest.mark.parametrize("where", ["main", "worker"])


def guard_of(seconds=0.2, grace=30):
    return time_guard(timeout=seconds, grace_period=grace, interrupt_type=InterruptType.exception)


@threads
def test_a_pipeline(where):
    @guard_of(50)
    def read():
        for i in range(100):
            progress()
            yield i

    @guard_of(50)
    def double(items):
        for item in items:
            progress()
            yield 2 * item

    @guard_of(50)
    def chunks(items):
        chunk = []
        for item in items:
            chunk.append(item)
            if len(chunk) == 10:
                yield chunk
                chunk = []

    def body():
        assert sum(sum(chunk) for chunk in chunks(double(read()))) == 9900
        with pytest.raises(RuntimeError):
            progress()

    call_in(where, body)


@threads
def test_a_stage_that_hangs(where):
    guard = guard_of()

    @guard
    def hangs():
        yield 1
        spin()

    def body():
        items = hangs()
        assert next(items) == 1
        with pytest.raises(ExecutionTimeout) as raised:
            next(items)
        assert raised.value.guard is guard
        with pytest.raises(StopIteration):
            next(items)

    call_in(where, body)


@threads
def test_pauses_count_and_are_not_interrupted(where):
    """Due while the consumer works: raised in the generator when it goes on."""
    where_raised = []

    @guard_of()
    def items():
        try:
            for i in range(10):
                yield i
        except ExecutionTimeout:
            where_raised.append("generator")
            raise

    def body():
        one = items()
        next(one)
        spin_for(0.4)
        with pytest.raises(ExecutionTimeout):
            next(one)

    call_in(where, body)
    assert where_raised == ["generator"]


@threads
def test_not_before_the_first_item(where):
    guard = guard_of(0.05)

    @guard
    def items():
        yield 1

    def body():
        one = items()
        spin_for(0.1)
        assert list(one) == [1]

    call_in(where, body)
    assert guard.last_trip is None


@threads
def test_send_throw_close_and_return(where):
    @guard_of(50)
    def echo():
        got = None
        try:
            while True:
                try:
                    got = yield got
                    if got == "end":
                        return (1, 2)
                except KeyError as error:
                    got = ("caught", error.args)
        finally:
            log.append("closed")

    log = []

    def body():
        one = echo()
        assert next(one) is None
        assert one.send((3, 4)) == (3, 4)
        assert one.send(()) == ()
        assert one.send(ValueError("as a value")).args == ("as a value",)
        assert one.throw(KeyError("x")) == ("caught", ("x",))
        assert one.throw(KeyError) == ("caught", ())
        with pytest.raises(StopIteration) as stopped:
            one.send("end")
        assert stopped.value.value == (1, 2)
        two = echo()
        next(two)
        two.close()
        three = echo()
        next(three)
        with pytest.raises(ZeroDivisionError):
            three.throw(ZeroDivisionError())
        del three
        four = echo()
        next(four)
        del four
        echo().close()

    call_in(where, body)
    assert log == ["closed"] * 4


@threads
def test_yield_from_a_guarded_generator(where):
    @guard_of(50)
    def inner():
        got = yield 1
        return got

    def outer():
        return (yield from inner())

    def body():
        one = outer()
        assert next(one) == 1
        with pytest.raises(StopIteration) as stopped:
            one.send("x")
        assert stopped.value.value == "x"

    call_in(where, body)


@threads
def test_progress_of_a_generator(where):
    guard = guard_of(0.3)

    @guard
    def items():
        for i in range(4):
            spin_for(0.15)
            progress()
            yield i

    def body():
        for _ in items():
            spin_for(0.1)
            items.progress()
        guard.progress()

    call_in(where, body)
    assert guard.last_trip is None


@threads
def test_many_at_once(where):
    guard = guard_of(0.2)

    @guard
    def items():
        while True:
            yield 1

    def body():
        many = [items() for _ in range(20)]
        for one in many:
            next(one)
        spin_for(0.3)
        for one in many:
            with pytest.raises(ExecutionTimeout):
                next(one)
        spin_for(0.01)

    call_in(where, body)


def test_begun_in_a_thread_that_ended():
    guard = guard_of(0.2)

    @guard
    def items():
        yield 1
        spin(5)

    one = items()
    assert Worker(next, one).join() == 1
    with pytest.raises(ExecutionTimeout) as raised:
        next(one)
    assert raised.value.guard is guard


def test_handed_from_thread_to_thread():
    guard = guard_of(0.5)

    @guard
    def items():
        while True:
            time.sleep(0.01)
            yield 1

    one = items()
    deadline = time.monotonic() + 10
    with pytest.raises(ExecutionTimeout):
        while time.monotonic() < deadline:
            Worker(next, one).join()


@threads
def test_items_asked_for_near_the_timeout(where, short_switches):
    guard = time_guard(timeout_ms=1, interrupt_type=InterruptType.exception)

    @guard
    def items():
        while True:
            spin_for(0.0002)
            yield 1

    def body():
        for _ in range(300):
            begin = time.monotonic()
            with pytest.raises(ExecutionTimeout):
                for _ in items():
                    sum(range(10))
            assert time.monotonic() >= begin + 0.001
            sum(range(10))

    call_in(where, body)
