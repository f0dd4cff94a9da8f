# SPDX-License-Identifier: Apache-2.0
"""Guards as decorators of functions, coroutine functions and generator functions."""

import functools
import inspect
import sys

from procguard import _native
from procguard._support import current_task


def decorate(guard, func):
    """The function under the guard, each call in an activation of its own."""
    if not callable(func):
        raise TypeError(f"a guard decorates a callable, not {func!r}")
    if inspect.iscoroutinefunction(func):
        wrapper = _of_coroutine(guard, func)
    elif inspect.isasyncgenfunction(func):
        wrapper = _of_async_generator(guard, func)
    elif inspect.isgeneratorfunction(func):
        wrapper = _of_generator(guard, func)
    else:
        wrapper = _of_function(guard, func)
    wrapper.__guard__ = guard
    if hasattr(guard, "progress"):
        wrapper.progress = guard.progress
    return wrapper


def _of_function(guard, func):
    @functools.wraps(func)
    def guarded(*args, **kwargs):
        with guard:
            return func(*args, **kwargs)

    return guarded


def _of_coroutine(guard, func):
    @functools.wraps(func)
    async def guarded(*args, **kwargs):
        session = _native.Session(guard, *current_task())
        try:
            return await session.drive(func(*args, **kwargs))
        finally:
            session.close()

    return guarded


def _of_generator(guard, func):
    @functools.wraps(func)
    def guarded(*args, **kwargs):
        session = _native.Session(guard, None, None)
        try:
            return (yield from session.drive(func(*args, **kwargs)))
        finally:
            session.close()

    return guarded


def _of_async_generator(guard, func):
    @functools.wraps(func)
    async def guarded(*args, **kwargs):
        session = _native.Session(guard, *current_task())
        generator = func(*args, **kwargs)
        step = generator.asend(None)
        try:
            while True:
                try:
                    item = await session.drive(step)
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    await session.drive(generator.aclose())
                    raise
                except BaseException as error:  # thrown in by athrow(): it is the generator's
                    step = generator.athrow(error)
                else:
                    step = generator.asend(sent)
        finally:
            session.close()

    return guarded


# Sessions of `async with` blocks, by guard and task: a guard may be in many at once.
_open = {}


def enter_async(guard):
    """What ``__aenter__`` of a guard does; its exception waits until the block has begun."""
    loop, task = current_task()
    if task is None:
        raise RuntimeError("async with a guard needs a running asyncio task")
    session = _native.Session(guard, loop, task)
    session.enter()
    _open.setdefault((id(guard), task), []).append(session)
    return guard


def exit_async(guard, exception):
    """What ``__aexit__`` of a guard does."""
    key = id(guard), current_task()[1]
    sessions = _open.get(key)
    if not sessions:
        raise RuntimeError("the guard is not active in this task")
    session = sessions.pop()
    if not sessions:
        del _open[key]
    try:
        ours = session.convert(exception)
    finally:
        session.close()
    if ours is not None and isinstance(exception, sys.modules["asyncio"].CancelledError):
        raise ours
    return False
