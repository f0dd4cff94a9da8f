# SPDX-License-Identifier: Apache-2.0
"""Each row of the ladders, in real time: both guards, all presets, both forms, both kinds of thread.

Never early; after the last step nothing more.
"""

import signal
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
from support import PATIENCE, call_in, recorded_warnings, run_python, wait_until

TIMEOUT = 0.06  # until step 0
GRACE = 0.08  # between steps
# On a machine that is too busy to raise one exception before the next is due there is only one of
# both. Then the row is tried again with more time.
PACES = [1, 5, 20]
EXCEPTION, INT, TERM = "exception", "SIGINT", "SIGTERM"
LADDERS = {
    InterruptType.exception: [EXCEPTION, EXCEPTION, EXCEPTION],
    InterruptType.signal: [INT, TERM, TERM],
    InterruptType.exception_then_signal: [EXCEPTION, INT, TERM],
}
CLASSES = {"time": ExecutionTimeout, "mem": MemoryLimitExceeded}

kinds = pytest.mark.parametrize("kind", ["time", "mem"])
presets = pytest.mark.parametrize("preset", list(InterruptType), ids=lambda preset: preset.name)
forms = pytest.mark.parametrize("form", ["block", "decorator"])
threads = pytest.mark.parametrize("where", ["main", "worker"])


def make_guard(kind, pace=1, **options):
    """Step 0 comes TIMEOUT after the entry, the next ones GRACE apart, or `pace` times that."""
    first, others = TIMEOUT * pace * 1e3, GRACE * pace * 1e3
    if kind == "time":
        return time_guard(timeout_ms=first, grace_period_ms=others, **options)
    return mem_guard(
        max_memory=1, grace_period_ms=first, secondary_grace_period_ms=others, **options
    )


def call_under(guard, form, function):
    if form == "decorator":
        return guard(function)()
    with guard:
        return function()


class Interrupts:
    """What comes, when: signals' handlers and the guarded body both tell."""

    def __init__(self):
        self.what, self.when, self.exceptions = [], [], []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: self.add(signal.Signals(number).name))

    def add(self, what):
        self.when.append(time.monotonic())
        self.what.append(what)

    def body(self, guard, pace=1):
        """Ends when the last step was taken and nothing followed it for twice the grace."""
        deadline = time.monotonic() + PATIENCE
        last = None
        while time.monotonic() < deadline:
            try:
                pause = 0.001
                while time.monotonic() < deadline:
                    time.sleep(pause)
                    trip = guard.last_trip
                    if trip is not None and trip.last:
                        last = last or time.monotonic()
                        if time.monotonic() > last + 2 * GRACE * pace:
                            return
            except ResiliparseGuardException as error:
                self.exceptions.append(error)
                self.add(EXCEPTION)


@pytest.fixture(scope="module", autouse=True)
def memory_is_watched():
    """The first guard of memory waits for its source: not a part of what is timed."""
    with mem_guard(max_memory=1 << 40):
        pass


@kinds
@presets
@forms
@threads
def test_each_step_is_what_the_preset_says_and_never_early(kind, preset, form, where):
    for pace in PACES:
        interrupts = Interrupts()
        guard = make_guard(kind, pace, interrupt_type=preset)
        with recorded_warnings() as caught:
            begin = time.monotonic()
            call_in(where, call_under, guard, form, lambda: interrupts.body(guard, pace))
            wait_until(lambda: caught)
        if interrupts.what == LADDERS[preset]:
            break
    assert interrupts.what == LADDERS[preset]
    for step, when in enumerate(interrupts.when):
        due = begin + (TIMEOUT + step * GRACE) * pace
        assert due <= when < due + 5
    for error in interrupts.exceptions:
        assert type(error) is CLASSES[kind]
        assert error.guard is guard
    assert {warning.category for warning in caught} == {RuntimeWarning}
    last = guard.last_trip
    assert (last.step, last.last) == (2, True)
    assert last.signal == (0 if preset == InterruptType.exception else signal.SIGTERM)


KILLED = """
    kind, preset, form, where, pace = sys.argv[1:]
    import test_ladder
    from test_ladder import *
    guard = make_guard(kind, int(pace), interrupt_type=InterruptType[preset], send_kill=True)
    with mem_guard(max_memory=1 << 40):  # its source is there from now on
        interrupts = Interrupts()
        begin = time.monotonic()
        print(begin, flush=True)
        call_in(where, call_under, guard, form, lambda: interrupts.body(guard, int(pace)))
    print(*interrupts.what, flush=True)
"""


@kinds
@presets
@forms
@threads
def test_the_last_signal_is_kill_if_wanted(kind, preset, form, where):
    if preset == InterruptType.exception:  # send_kill is ignored
        for pace in PACES:
            ended = run_python(KILLED, kind, preset.name, form, where, pace)
            if ended.out.split()[1:] == LADDERS[preset]:
                break
        assert ended.out.split()[1:] == LADDERS[preset]
        return
    ended = run_python(KILLED, kind, preset.name, form, where, 1, status=-signal.SIGKILL)
    begin, *others = ended.out.split()
    assert not others
    assert float(begin) + TIMEOUT + 2 * GRACE <= ended.at


@kinds
@threads
def test_without_a_handler_sigterm_ends_the_program(kind, where):
    ended = run_python(
        """
        kind, where = sys.argv[1:]
        from test_ladder import make_guard
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        def body():
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                time.sleep(0.001)
        with mem_guard(max_memory=1 << 40):
            guard = make_guard(kind, interrupt_type=InterruptType.signal)
            call_in(where, guard(body))
        """,
        kind,
        where,
        status=-signal.SIGTERM,
    )
    assert ended.out == ""


@kinds
def test_sigint_is_a_keyboard_interrupt_in_the_block(kind):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    guard = make_guard(kind, interrupt_type=InterruptType.signal)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        with guard:
            deadline = begin + PATIENCE
            while time.monotonic() < deadline:
                time.sleep(0.01)
    assert begin + TIMEOUT <= time.monotonic()
    assert guard.last_trip.signal == signal.SIGINT


@kinds
def test_sleep_in_the_main_thread_is_ended_by_the_exception(kind):
    guard = make_guard(kind)
    begin = time.monotonic()
    with pytest.raises(CLASSES[kind]):
        with guard:
            time.sleep(PATIENCE)
    assert begin + TIMEOUT <= time.monotonic() < begin + PATIENCE / 2


@kinds
@threads
@pytest.mark.filterwarnings("ignore:procguard")  # of the last step
def test_no_grace_between_steps_is_ten_milliseconds(kind, where):
    interrupts = Interrupts()
    preset = InterruptType.signal
    if kind == "time":
        guard = time_guard(timeout_ms=100, grace_period_ms=0, interrupt_type=preset)
    else:
        guard = mem_guard(1, grace_period_ms=100, secondary_grace_period=0, interrupt_type=preset)

    def body():
        for step in range(3):
            wait_until(lambda: guard.last_trip is not None and guard.last_trip.step >= step)
            assert guard.last_trip.elapsed >= 0.100 + guard.last_trip.step * 0.010

    begin = time.monotonic()
    call_in(where, call_under, guard, "block", body)
    wait_until(lambda: TERM in interrupts.what)
    assert interrupts.what[0] == INT
    assert begin + 0.100 <= interrupts.when[0]
    assert begin + 0.110 <= interrupts.when[1]


@kinds
@threads
def test_an_exception_says_what_happened(kind, where):
    guard = make_guard(kind, interrupt_type=InterruptType.exception)

    def body():
        with guard:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                time.sleep(0.001)

    with pytest.raises(ResiliparseGuardException) as raised:
        call_in(where, body)
    error = raised.value
    assert error.guard is guard
    assert error.limit == (TIMEOUT if kind == "time" else 1)
    assert error.observed >= error.limit
    assert TIMEOUT <= error.elapsed < PATIENCE
    assert str(error).startswith("ran for" if kind == "time" else "memory")
    trip = guard.last_trip
    assert trip.resource == ("timeout" if kind == "time" else "memory")
    assert (trip.step, trip.signal, trip.is_exception, trip.last) == (0, 0, True, False)
    assert (trip.limit, trip.observed, trip.elapsed) == (error.limit, error.observed, error.elapsed)
    assert not trip.withdrawn
    assert 0 <= trip.late < PATIENCE


@kinds
@threads
def test_a_catch_all_of_exceptions_does_not_swallow_it(kind, where):
    def careless():
        try:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except Exception:
            return "swallowed"
        return "nothing"

    with pytest.raises(CLASSES[kind]):
        call_in(where, make_guard(kind, interrupt_type=InterruptType.exception)(careless))


@kinds
@presets
@forms
@threads
def test_a_block_that_behaves_is_left_alone(kind, preset, form, where):
    interrupts = Interrupts()
    if kind == "time":
        guard = time_guard(timeout_ms=80, grace_period_ms=10, interrupt_type=preset)
    else:
        guard = mem_guard(1 << 40, secondary_grace_period_ms=10, interrupt_type=preset)
    assert call_in(where, call_under, guard, form, lambda: 42) == 42
    time.sleep(0.15)  # its deadlines pass
    assert interrupts.what == []
    assert guard.last_trip is None
