# SPDX-License-Identifier: Apache-2.0
"""Process guards: keep a block, a function, a coroutine or a generator inside limits.

    from procguard import time_guard, mem_guard, progress

    with time_guard(timeout=10):
        parse(document)

    @mem_guard(max_memory=500 * 1024)          # KiB
    def convert(document): ...

The names and arguments are those of Resiliparse's process guards. When a limit is broken the guard
raises an exception in the guarded thread, then sends SIGINT and SIGTERM (or SIGKILL) to it: see
``InterruptType``. Guards nest, recurse, and run in any number of threads at once.
"""

import atexit as _atexit
import os as _os

from procguard._support import (
    ExecutionTimeout,
    InterruptType,
    MemoryLimitExceeded,
    ResiliparseGuardException,
    Trip,
)
from procguard._native import MemGuard, TimeGuard, mem_guard, progress, source, time_guard
from procguard import _native

__all__ = [
    "ExecutionTimeout",
    "InterruptType",
    "MemGuard",
    "MemoryLimitExceeded",
    "ResiliparseGuardException",
    "TimeGuard",
    "Trip",
    "mem_guard",
    "progress",
    "progress_loop",
    "source",
    "time_guard",
]

for _function in (time_guard, mem_guard, progress, source):
    assert _function.__doc__
_os.register_at_fork(after_in_child=_native._after_fork)
_atexit.register(_native._shut_down)


def progress_loop(it, ctx=None):
    """Yield the items of ``it``, one at a time, and report progress after each.

    ``ctx``: as for progress(). Lazy: nothing happens before the first item is asked for.
    """
    for item in it:
        yield item
        progress(ctx)


def _make(kind, args, kwargs):
    """Unpickles a guard."""
    return {"time_guard": time_guard, "mem_guard": mem_guard}[kind](*args, **kwargs)


def _describe(kind, args, kwargs):
    """repr() of a guard: the call that made it."""
    parts = [repr(arg) for arg in args]
    parts += [f"{name}={value!r}" for name, value in (kwargs or {}).items()]
    return f"{kind}({', '.join(parts)})"
