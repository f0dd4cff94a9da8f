# SPDX-License-Identifier: Apache-2.0
"""Forks, pools, and the end of the program inside a guard."""

import concurrent.futures
import multiprocessing
import os
import signal
import time
import traceback

import pytest

from procguard import ExecutionTimeout, InterruptType, progress, time_guard
from support import PATIENCE, Worker, run_python, spin

EXCEPTION = InterruptType.exception


def run_in_child(function):
    """Forks; the function's result is the status that the child ends with."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            status = function()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found == pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


def own_guards_work():
    guard = time_guard(timeout_ms=50, interrupt_type=EXCEPTION)
    try:
        with guard:
            spin()
    except ExecutionTimeout as error:
        assert error.guard is guard
        return 7
    return 1


@pytest.mark.parametrize("where", ["main", "worker"])
def test_fork_in_a_block(where):
    """The parent's guards are void in the child, which makes its own; the parent's go on."""
    guard = time_guard(timeout_ms=300, grace_period_ms=50)

    def child():
        time.sleep(0.5)  # past the parent's deadlines
        assert guard.last_trip is None
        guard.progress()
        try:
            progress()
            return 2
        except RuntimeError:
            pass
        status = own_guards_work()
        with guard:
            pass
        return status

    def body():
        with pytest.raises(ExecutionTimeout):
            with guard:
                pid = os.fork()
                if pid == 0:
                    status = 255
                    try:
                        status = child()
                    finally:
                        os._exit(status)
                spin()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    status = body() if where == "main" else Worker(body).join()
    assert status == 7


def test_fork_and_leave_the_block_in_the_child():
    def child():
        for _ in range(3):
            with time_guard(timeout_ms=200, interrupt_type=EXCEPTION):
                pass
        return own_guards_work()

    guard = time_guard(timeout_ms=50, interrupt_type=EXCEPTION)
    with guard:
        pid = os.fork()
    if pid == 0:
        os._exit(child())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_forks_while_other_threads_are_in_guards():
    stop = []

    def busy():
        while not stop:
            try:
                with time_guard(timeout_ms=1, interrupt_type=EXCEPTION):
                    spin(0.002)
            except (ExecutionTimeout, Exception):
                pass

    workers = [Worker(busy) for _ in range(3)]
    try:
        assert [run_in_child(own_guards_work) for _ in range(20)] == [7] * 20
    finally:
        stop.append(True)
        for worker in workers:
            worker.join()


def test_forks_of_forks():
    assert run_in_child(lambda: run_in_child(lambda: run_in_child(own_guards_work))) == 7


def test_a_program_started_in_a_block_is_not_guarded():
    ended = run_python(
        """
        import subprocess
        with time_guard(timeout_ms=100, interrupt_type=InterruptType.exception) as guard:
            try:
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
                spin()
            except ExecutionTimeout:
                pass
        print(child.wait())
        """
    )
    assert ended.out == "0\n"


def guarded_task(seconds):
    guard = time_guard(timeout_ms=100, interrupt_type=EXCEPTION)
    begin = time.monotonic()
    try:
        with guard:
            while time.monotonic() < begin + seconds:
                time.sleep(0.001)
        return "done"
    except ExecutionTimeout:
        return "timeout"


@time_guard(timeout=50)
def decorated_task(value):
    decorated_task.progress()
    return 2 * value


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes(method):
    context = multiprocessing.get_context(method)
    with time_guard(timeout=60), context.Pool(2) as pool:
        assert pool.map(guarded_task, [0, PATIENCE, 0, PATIENCE]) == ["done", "timeout"] * 2
        assert pool.map(decorated_task, range(5)) == [0, 2, 4, 6, 8]
        pool.close()
        pool.join()


def raises_timeout():
    with time_guard(timeout_ms=50, interrupt_type=EXCEPTION):
        spin()


def test_an_exception_comes_back_from_an_executor():
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(ExecutionTimeout) as raised:
            executor.submit(raises_timeout).result(PATIENCE)
        assert raised.value.limit == 0.05
        assert repr(raised.value.guard).startswith("time_guard(timeout_ms=50")
        assert executor.submit(decorated_task, 3).result(PATIENCE) == 6


def test_a_pool_of_threads():
    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        results = list(executor.map(guarded_task, [0, PATIENCE] * 10))
        assert results == ["done", "timeout"] * 10
        future = executor.submit(raises_timeout)
        with pytest.raises(ExecutionTimeout):
            future.result(PATIENCE)
        assert list(executor.map(decorated_task, range(50))) == list(range(0, 100, 2))


ENDINGS = {
    "sys.exit": ("with time_guard(timeout_ms=100): sys.exit(3)", 3),
    "os._exit": ("with time_guard(timeout_ms=100): os._exit(3)", 3),
    "an exception": ("with time_guard(timeout_ms=100): 1 / 0", 1),
    "the exception": ("with time_guard(timeout_ms=100): spin()", 1),
    "entered": ("time_guard(timeout_ms=20, grace_period_ms=20).__enter__()", 0),
    "entered with memory": ("mem_guard(1, interrupt_type=InterruptType.exception).__enter__()", None),
    "a daemon thread in a guard": (
        """
        def inside():
            while True:
                try:
                    with time_guard(timeout_ms=5, interrupt_type=InterruptType.exception):
                        spin()
                except ExecutionTimeout:
                    pass
        for _ in range(3): threading.Thread(target=inside, daemon=True).start()
        time.sleep(0.1)
        """,
        0,
    ),
    "a daemon thread that sleeps": (
        """
        def inside():
            with time_guard(timeout_ms=50, grace_period_ms=10, interrupt_type=InterruptType.exception):
                time.sleep(60)
        threading.Thread(target=inside, daemon=True).start()
        time.sleep(0.045)
        """,
        0,
    ),
    "a thread that is waited for": (
        """
        def inside():
            try:
                with time_guard(timeout_ms=100, interrupt_type=InterruptType.exception): spin()
            except ExecutionTimeout: print("raised")
        threading.Thread(target=inside).start()
        """,
        0,
    ),
    "guards at exit": (
        """
        import atexit
        @atexit.register
        def last():
            try:
                with time_guard(timeout_ms=50, interrupt_type=InterruptType.exception): spin(5)
            except ExecutionTimeout: print("raised")
        """,
        0,
    ),
    "a guarded generator that is left over": (
        """
        @time_guard(timeout_ms=20)
        def items():
            yield 1
            yield 2
        one = items()
        next(one)
        time.sleep(0.04)
        """,
        0,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_program_ends_inside_a_guard(ending):
    code, status = ENDINGS[ending]
    ended = run_python(code, status=status, patience=20)
    if ending == "the exception":
        assert "procguard.ExecutionTimeout: ran for 0.1" in ended.err
    elif status == 0:
        assert ended.err == ""


def test_the_program_ends_while_steps_are_due():
    """The moment of the end is swept across that of the steps."""
    code = """
    def inside():
        with time_guard(timeout_ms=20, grace_period_ms=10, interrupt_type=InterruptType.exception):
            try: spin()
            except ExecutionTimeout: spin()
    for _ in range(4): threading.Thread(target=inside, daemon=True).start()
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end: pass
    """
    for i in range(10):
        ended = run_python(code, 0.015 + 0.002 * i, patience=20, status=None)
        assert ended.status == 0, ended
