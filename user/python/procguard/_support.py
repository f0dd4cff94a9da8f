# SPDX-License-Identifier: Apache-2.0
"""What the native module needs from Python: exceptions, enum, and the asyncio side of a trip."""

import enum
import signal
import sys
import typing


class InterruptType(enum.IntEnum):
    """How a guard interrupts."""

    exception = 0
    """Send only exceptions."""
    signal = 1
    """Send only signals: SIGINT, SIGTERM, then SIGTERM or SIGKILL."""
    exception_then_signal = 2
    """Send an exception first and follow up with signals."""


class ResiliparseGuardException(BaseException):
    """Base of what guards raise. Not an ``Exception``: ``except Exception`` does not catch it.

    ``guard``: the guard that fired. ``limit``, ``observed``: seconds of a TimeGuard, KiB of a
    MemGuard. ``elapsed``: seconds since the guard was entered. None where unknown.
    """

    guard = None
    limit = None
    observed = None
    elapsed = None


class ExecutionTimeout(ResiliparseGuardException):
    """A TimeGuard's time is over."""


class MemoryLimitExceeded(ResiliparseGuardException):
    """A MemGuard's memory is exceeded."""


for _public in (InterruptType, ResiliparseGuardException, ExecutionTimeout, MemoryLimitExceeded):
    _public.__module__ = "procguard"


class Trip(typing.NamedTuple):
    """A step of a guard's ladder. ``limit`` and ``observed``: seconds or KiB, as the guard's."""

    resource: str  # timeout, memory, memory_growth
    step: int  # 0, 1, 2
    signal: int  # 0: an exception
    last: bool  # the guard does nothing more
    limit: float
    observed: float
    elapsed: float  # seconds since the guard was entered
    withdrawn: bool  # an exception that was not raised before its block was left
    is_exception: bool
    late: float  # seconds after it was due


Trip.__module__ = "procguard"


def reserve_signal():
    """The number of a real-time signal that nobody used; guards raise in its handler.

    ValueError: not in the main thread. RuntimeError: there is none.
    """
    from procguard import _native

    for number in range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _native._interrupt)
            signal.siginterrupt(number, False)  # native code's system calls go on where they can
            return number
    raise RuntimeError("no real-time signal is free")


def current_task():
    """(loop, task) of the caller; (None, None) outside of asyncio. Does not import it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None, None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no running loop
        return None, None
    return (None, None) if task is None else (asyncio.get_running_loop(), task)


def is_current_task(loop, task):
    """Does the task run at this moment? Any thread may ask."""
    return sys.modules["asyncio"].current_task(loop) is task


def cancel_task(loop, task):
    """Wakes a task that sleeps, from any thread: its cancellation is replaced by our exception."""
    loop.call_soon_threadsafe(task.cancel)


def uncancel_task(task):
    """Takes one cancellation back where the task counts them (3.11)."""
    uncancel = getattr(task, "uncancel", None)
    if uncancel is not None:
        uncancel()
