# SPDX-License-Identifier: Apache-2.0
"""Names, signatures, arguments, pickles: what a program sees before anything is due."""

import copy
import enum
import functools
import inspect
import pickle
import subprocess
import sys

import pytest

import procguard
from procguard import (
    ExecutionTimeout,
    InterruptType,
    MemGuard,
    MemoryLimitExceeded,
    ResiliparseGuardException,
    TimeGuard,
    mem_guard,
    progress,
    progress_loop,
    time_guard,
)

ETS = InterruptType.exception_then_signal
SIGNATURES = {
    time_guard: {
        "timeout": 60,
        "timeout_ms": None,
        "grace_period": 15,
        "grace_period_ms": None,
        "interrupt_type": ETS,
        "send_kill": False,
        "check_interval": 500,
    },
    mem_guard: {
        "max_memory": inspect.Parameter.empty,
        "absolute": True,
        "grace_period": 0,
        "grace_period_ms": 0,
        "secondary_grace_period": 5,
        "secondary_grace_period_ms": None,
        "interrupt_type": ETS,
        "send_kill": False,
        "check_interval": 500,
    },
    progress: {"ctx": None},
    progress_loop: {"it": inspect.Parameter.empty, "ctx": None},
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__name__)
def test_signatures_are_the_specifications(function):
    parameters = inspect.signature(function).parameters
    assert {name: p.default for name, p in parameters.items()} == SIGNATURES[function]
    assert all(p.kind == p.POSITIONAL_OR_KEYWORD for p in parameters.values())
    assert function.__doc__


def test_all_names_are_there_and_documented():
    for name in procguard.__all__:
        assert getattr(procguard, name).__doc__, name
    for name in ("TimeGuard", "MemGuard", "ExecutionTimeout", "InterruptType", "Trip"):
        assert getattr(procguard, name).__module__ == "procguard"


def test_interrupt_types():
    assert [(one.name, one.value) for one in InterruptType] == [
        ("exception", 0),
        ("signal", 1),
        ("exception_then_signal", 2),
    ]
    assert issubclass(InterruptType, enum.Enum)
    assert InterruptType(1) is InterruptType.signal
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for one in InterruptType:
            assert pickle.loads(pickle.dumps(one, protocol)) is one


def test_exceptions():
    assert ResiliparseGuardException.__bases__ == (BaseException,)
    assert ExecutionTimeout.__bases__ == (ResiliparseGuardException,)
    assert MemoryLimitExceeded.__bases__ == (ResiliparseGuardException,)
    error = ExecutionTimeout("by hand")
    assert (error.guard, error.limit, error.observed, error.elapsed) == (None,) * 4
    assert str(pickle.loads(pickle.dumps(error))) == "by hand"


def test_guards_are_made_by_the_factories():
    assert type(time_guard()) is TimeGuard
    assert type(mem_guard(1)) is MemGuard
    assert hasattr(TimeGuard, "progress") and not hasattr(MemGuard, "progress")
    for kind in (TimeGuard, MemGuard):
        with pytest.raises(TypeError):
            kind()


def test_no_timeout():
    with pytest.raises(ValueError, match="^No timeout set$"):
        time_guard(timeout=None)
    with pytest.raises(ValueError, match="^No timeout set$"):
        time_guard(None, None)
    time_guard(None, 1)
    with pytest.raises(TypeError):
        mem_guard()


NEGATIVE = [-1, -0.001, float("nan"), float("-inf"), -(10**30)]
HUGE = [1e30, float("inf"), 10**30, 2**63, 2**64]
TIMES = [
    (time_guard, name)
    for name in ("timeout", "timeout_ms", "grace_period", "grace_period_ms", "check_interval")
] + [
    (functools.partial(mem_guard, 1), name)
    for name in (
        "grace_period",
        "grace_period_ms",
        "secondary_grace_period",
        "secondary_grace_period_ms",
        "check_interval",
    )
]


@pytest.mark.parametrize("value", NEGATIVE + HUGE, ids=repr)
@pytest.mark.parametrize("make, name", TIMES)
def test_absurd_times_are_refused_by_name(make, name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        make(**{name: value})


@pytest.mark.parametrize("value", ["1", b"1", [1], object(), 1j, True, False], ids=repr)
@pytest.mark.parametrize("make, name", TIMES)
def test_what_is_no_time_is_refused_by_name(make, name, value):
    with pytest.raises(TypeError, match=f"^{name}: "):
        make(**{name: value})


class Seven:
    def __index__(self):
        return 7


@pytest.mark.parametrize("value", [0, 0.0, 1, 0.25, 1e-9, 4294968, 3e9, Seven()], ids=repr)
@pytest.mark.parametrize("make, name", TIMES)
def test_times_are_numbers(make, name, value):
    make(**{name: value})


@pytest.mark.parametrize("value", [-1, 2**53 + 1, 10**40], ids=repr)
def test_absurd_memory_is_refused(value):
    with pytest.raises(ValueError, match="^max_memory: "):
        mem_guard(value)


@pytest.mark.parametrize("value", [None, 1.5, "1", True, float("nan")], ids=repr)
def test_what_is_no_memory_is_refused(value):
    with pytest.raises(TypeError, match="^max_memory: "):
        mem_guard(value)


@pytest.mark.parametrize("make", [time_guard, functools.partial(mem_guard, 1)])
def test_other_arguments_are_checked_by_name(make):
    for value in ("signal", None, 1.0, True):
        with pytest.raises(TypeError, match="^interrupt_type: "):
            make(interrupt_type=value)
    for value in (-1, 3, 10**30):
        with pytest.raises(ValueError, match="^interrupt_type: "):
            make(interrupt_type=value)
    make(interrupt_type=1, send_kill=1, check_interval=None)
    with pytest.raises(TypeError, match="^send_kill: "):
        make(send_kill="yes")
    with pytest.raises(TypeError, match="nonsense"):
        make(nonsense=1)


def test_absolute_is_checked_by_name():
    with pytest.raises(TypeError, match="^absolute: "):
        mem_guard(1, absolute="no")


@pytest.mark.parametrize(
    "guard",
    [
        time_guard(),
        time_guard(3, grace_period_ms=7, interrupt_type=InterruptType.signal, send_kill=True),
        mem_guard(5, False),
        mem_guard(max_memory=1024, secondary_grace_period=2.5),
    ],
    ids=repr,
)
def test_guards_pickle(guard):
    for again in (
        *(pickle.loads(pickle.dumps(guard, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
        copy.copy(guard),
        copy.deepcopy(guard),
    ):
        assert again is not guard
        assert type(again) is type(guard)
        assert repr(again) == repr(guard)
        with mem_guard(1 << 40) if type(guard) is MemGuard else again:
            pass


def test_repr_is_the_call():
    assert repr(time_guard(3, send_kill=True)) == "time_guard(3, send_kill=True)"
    assert repr(mem_guard(1)) == "mem_guard(1)"


@time_guard(timeout=50)
def documented(one, *, two: int = 2) -> str:
    """What it does."""
    return f"{one} {two}"


@mem_guard(max_memory=1 << 40)
@time_guard(timeout=50)
def of_two(one):
    progress()
    return one


def test_a_decorated_function_is_still_itself():
    assert documented.__name__ == documented.__qualname__ == "documented"
    assert documented.__doc__ == "What it does."
    assert documented.__module__ == __name__
    assert str(inspect.signature(documented)) == "(one, *, two: int = 2) -> str"
    assert inspect.getsource(documented).startswith("@time_guard(timeout=50)\ndef documented")
    assert documented.__wrapped__("a", two=3) == documented("a", two=3) == "a 3"
    assert inspect.isfunction(documented)


def test_decorated_functions_and_bound_methods_pickle():
    assert pickle.loads(pickle.dumps(documented)) is documented
    assert pickle.loads(pickle.dumps(of_two))(4) == 4
    assert pickle.loads(pickle.dumps(functools.partial(documented, "a")))() == "a 2"


def test_a_decorated_function_shows_the_guards_methods():
    assert documented.progress() is None
    assert of_two.progress() is None  # of the guard within
    assert not hasattr(mem_guard(1)(lambda: 1), "progress")


class WithMethods:
    @time_guard(timeout=50)
    def method(self):
        return self

    @classmethod
    @time_guard(timeout=50)
    def of_class(cls):
        return cls

    @staticmethod
    @time_guard(timeout=50)
    def static():
        progress()
        return 1

    @property
    @time_guard(timeout=50)
    def value(self):
        return 2


def test_methods_can_be_decorated():
    one = WithMethods()
    assert one.method() is one
    assert one.of_class() is WithMethods
    assert one.static() == 1
    assert one.value == 2
    one.method.progress()


def test_any_callable_can_be_decorated():
    assert time_guard()(functools.partial(max, 3))(4) == 4
    assert time_guard()(max)(1, 2) == 2
    assert isinstance(time_guard()(WithMethods)(), WithMethods)
    for value in (None, 1, "f"):
        with pytest.raises(TypeError, match="callable"):
            time_guard()(value)
    with pytest.raises(TypeError):
        time_guard()()


def test_a_decorated_functions_exception_and_result_pass():
    @time_guard(timeout=50)
    def fails():
        raise KeyError("x")

    with pytest.raises(KeyError):
        fails()
    with pytest.raises(TypeError):
        documented()


def test_coroutine_and_generator_functions_stay_what_they_are():
    guard = time_guard(timeout=50)

    async def coroutine():
        pass

    def generator():
        yield

    async def async_generator():
        yield

    assert inspect.iscoroutinefunction(guard(coroutine))
    assert inspect.isgeneratorfunction(guard(generator))
    assert inspect.isasyncgenfunction(guard(async_generator))
    for function in (coroutine, generator, async_generator):
        assert guard(function).__wrapped__ is function


def test_source_tells():
    assert procguard.source() in ("bpf", "procfs")


def test_exit_without_enter():
    with pytest.raises(RuntimeError, match="not active"):
        time_guard().__exit__(None, None, None)


def test_last_trip_is_none_before_anything_happened():
    assert time_guard().last_trip is None
    with pytest.raises(AttributeError):
        time_guard().last_trip = 1


DROP_IN = '''
import sys
import time

from resiliparse.process_guard import (
    ExecutionTimeout, InterruptType, MemoryLimitExceeded, ResiliparseGuardException, MemGuard,
    TimeGuard, mem_guard, progress, progress_loop, time_guard)


@time_guard(timeout=20, grace_period=10, interrupt_type=InterruptType.exception)
def process(records):
    for record in records:
        progress()
        process.progress()
    return len(records)


@mem_guard(max_memory=1024 * 1024 * 8, absolute=True, grace_period=10, check_interval=100)
def convert(data):
    return data * 2


@time_guard(timeout_ms=100, check_interval=10, interrupt_type=InterruptType.exception)
def hangs():
    while True:
        time.sleep(0.001)


print(process([1, 2, 3]), convert("ab"))
try:
    hangs()
except ExecutionTimeout as e:
    print("timeout", isinstance(e, ResiliparseGuardException))
with time_guard(timeout=20) as guard:
    for i in progress_loop(range(3), ctx=guard):
        print(i)
    guard.progress()
    progress(ctx=guard)
try:
    with mem_guard(max_memory=1, interrupt_type=InterruptType.exception):
        for i in range(1000):
            time.sleep(0.01)
except MemoryLimitExceeded:
    print("memory")
'''


def test_a_program_for_the_reference_changes_only_its_import():
    text = DROP_IN.replace("resiliparse.process_guard", "procguard")
    ended = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "3 abab\ntimeout True\n0\n1\n2\nmemory\n"
    assert ended.stderr == ""
