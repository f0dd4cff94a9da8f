# SPDX-License-Identifier: Apache-2.0
"""What has to work with every interpreter, in a few seconds; plain asserts: some have no pytest.

Prints the version and "ok".
"""

import asyncio
import gc
import os
import pickle
import random
import sys
import threading
import time
import traceback
import warnings

from procguard import (
    ExecutionTimeout,
    InterruptType,
    MemoryLimitExceeded,
    ResiliparseGuardException,
    mem_guard,
    progress,
    progress_loop,
    source,
    time_guard,
)

EXCEPTION = InterruptType.exception
gc.disable()  # what is raised in a destructor is lost and printed, as any other exception there


def spin(seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    raise AssertionError("nothing was raised")


def spin_until(end):
    """A loop of its own function: 3.13.0 does not cover the jump of one in a with or try block."""
    while time.perf_counter() < end:
        sum(())


def everywhere(function):
    """In the main thread and in another one."""
    function()
    errors = []

    def run():
        try:
            function()
        except BaseException as error:
            traceback.print_exc()
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not errors, errors


def an_exception_of_each_kind():
    for guard, kind in (
        (time_guard(timeout_ms=50, interrupt_type=EXCEPTION), ExecutionTimeout),
        (mem_guard(1, interrupt_type=EXCEPTION), MemoryLimitExceeded),
        (time_guard(timeout=0, interrupt_type=EXCEPTION), ExecutionTimeout),
    ):
        for function in (spin, guard(spin)):
            begin = time.monotonic()
            try:
                if function is spin:
                    with guard:
                        function()
                else:
                    function()
                raise AssertionError("nothing was raised")
            except ResiliparseGuardException as error:
                assert type(error) is kind
                assert error.guard is guard, error.guard
                assert error.elapsed <= time.monotonic() - begin
                assert sys.exc_info()[1] is error
                pickle.loads(pickle.dumps(error))


def raised_again_it_is_the_same():
    guard = time_guard(timeout_ms=20, interrupt_type=EXCEPTION)

    def deep(depth):
        try:
            if depth == 0:
                spin()
            deep(depth - 1)
        finally:
            depth += 1

    try:
        with guard:
            try:
                deep(10)
            except BaseException as error:
                first = error
                raise
    except ExecutionTimeout as error:
        assert error is first and error.guard is guard


def nothing_strays():
    guard = time_guard(timeout_ms=0.3, interrupt_type=EXCEPTION)
    raised = rounds = 0
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # whoever tells of the timeout has to be let in
    while rounds < 400 or (raised < 10 and rounds < 10000):
        rounds += 1
        end = time.perf_counter() + random.uniform(0, 0.0008)
        try:
            with guard:
                spin_until(end)
        except ExecutionTimeout:
            raised += 1
        for _ in range(20):
            sum(())
    sys.setswitchinterval(switch_interval)
    assert raised >= 10


def progress_of_all_kinds():
    guard = time_guard(timeout_ms=400, interrupt_type=EXCEPTION)
    with guard:
        for report in (progress, guard.progress, lambda: progress(guard)):
            time.sleep(0.2)
            report()
        assert list(progress_loop([1, 2])) == [1, 2]
    try:
        progress()
        raise AssertionError("no error")
    except RuntimeError:
        pass


def generators():
    @time_guard(timeout_ms=100, interrupt_type=EXCEPTION)
    def items():
        got = yield 1
        yield got
        spin()

    one = items()
    assert next(one) == 1
    assert one.send((1, 2)) == (1, 2)
    try:
        next(one)
    except ExecutionTimeout as error:
        assert error.guard is not None


def coroutines():
    guard = time_guard(timeout_ms=50, interrupt_type=EXCEPTION)

    async def sleeps():
        await asyncio.sleep(20)

    async def busy():
        spin()

    async def block(work):
        async with guard:
            await work()

    async def main():
        for work in (sleeps, busy):
            for guarded in (guard(work), lambda: block(work)):
                try:
                    await guarded()
                    raise AssertionError("nothing was raised")
                except ExecutionTimeout as error:
                    assert error.guard is guard, work
                for _ in range(5):
                    await asyncio.sleep(0.001)

    asyncio.run(main())


def many_threads():
    errors = []

    def run(seed):
        try:
            own = random.Random(seed)
            for _ in range(30):
                guards = [
                    time_guard(timeout_ms=own.uniform(1, 9), interrupt_type=EXCEPTION)
                    for _ in range(2)
                ]
                try:
                    with guards[0], guards[1]:
                        spin_until(time.perf_counter() + own.uniform(0, 0.01))
                except ExecutionTimeout as error:
                    assert error.guard in guards
        except BaseException as error:
            traceback.print_exc()
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def signals():
    try:
        with time_guard(timeout_ms=50, interrupt_type=InterruptType.signal):
            time.sleep(20)
        raise AssertionError("nothing was raised")
    except KeyboardInterrupt:
        pass
    began = time.monotonic()
    try:
        with time_guard(timeout_ms=50):
            time.sleep(20)
        raise AssertionError("nothing was raised")
    except ExecutionTimeout:
        assert time.monotonic() < began + 10


def forks():
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a program with threads
    with time_guard(timeout=60):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with time_guard(timeout_ms=20, interrupt_type=EXCEPTION):
                    spin()
            except ExecutionTimeout:
                status = 7
            finally:
                os._exit(status)
    assert os.waitpid(pid, 0)[1] >> 8 == 7


def ends_with_a_daemon_thread_in_a_guard():
    def inside():
        for _ in range(10**9):
            try:
                with time_guard(timeout_ms=3, interrupt_type=EXCEPTION):
                    spin()
            except ExecutionTimeout:
                pass

    threading.Thread(target=inside, daemon=True).start()


everywhere(an_exception_of_each_kind)
everywhere(raised_again_it_is_the_same)
everywhere(nothing_strays)
everywhere(progress_of_all_kinds)
everywhere(generators)
everywhere(coroutines)
many_threads()
signals()
forks()
ends_with_a_daemon_thread_in_a_guard()
print("%d.%d" % sys.version_info[:2], source(), "ok")
