# SPDX-License-Identifier: Apache-2.0
"""What the native module needs from Python: exceptions, enum, and the asyncio side of a trip."""

import enum
import signal
import sys
import typing
import weakref


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


def wake_task(session, loop, task):
    """Sees to it that a task that sleeps wakes up with its guard's exception. Any thread may ask."""
    loop.call_soon_threadsafe(_cancel_for, session, loop, task)


def _cancel_for(session, loop, task):
    """In the loop's thread, between steps: wakes the task if something is (still) pending."""
    if task.done():
        return
    if _is_being_cancelled(task):  # its user came first; then it is our turn
        loop.call_later(0.001, _cancel_for, session, loop, task)
    elif session.take():
        _cancellations[task] = _cancelling(task)
        task.cancel()


_cancellations = weakref.WeakKeyDictionary()  # what a task's count was before we cancelled it


def _cancelling(task):
    """How often a task was asked to end; before 3.11 nobody counts."""
    count = getattr(task, "cancelling", None)
    return 0 if count is None else count()


def _is_being_cancelled(task):
    """Will it be resumed with a CancelledError, as things are?"""
    waits_for = task
    while waits_for is not None:
        if getattr(waits_for, "_must_cancel", False) or waits_for.cancelled():
            return True
        if getattr(waits_for, "_cancel_requested", False):  # gather()
            return True
        waits_for = getattr(waits_for, "_fut_waiter", None)
    return False


def is_users_cancellation(task, woke_with):
    """A task that we had cancelled woke up: was it cancelled by its user since then, too?

    Takes our cancellation back.
    """
    before = _cancellations.pop(task, 0)
    uncancel = getattr(task, "uncancel", None)
    if uncancel is None:
        return False
    return uncancel() > before and isinstance(woke_with, sys.modules["asyncio"].CancelledError)
