# SPDX-License-Identifier: Apache-2.0
"""Many threads, each in guards of its own."""

import _thread
import ctypes
import random
import threading
import time

import pytest

from procguard import (
    ExecutionTimeout,
    InterruptType,
    MemoryLimitExceeded,
    mem_guard,
    time_guard,
)
from support import MIB, PATIENCE, Worker, grow, run_python, spin, spin_for

EXCEPTION = InterruptType.exception
THREADS, ROUNDS = 50, 200  # 10,000 rounds


class Rounds:
    """What one thread goes through: a guard and three nested ones, random timeouts."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.caught = [0] * 4
        self.strays = []

    def one(self):
        guards = [
            time_guard(timeout_ms=self.random.uniform(1, 40), interrupt_type=EXCEPTION)
            for _ in range(4)
        ]
        self.at = time.monotonic()
        try:
            self.enter(guards, 0)
        except BaseException as error:
            self.strays.append(error)

    def enter(self, guards, depth):
        if depth == len(guards):
            end = time.monotonic() + self.random.uniform(0, 0.03)
            while time.monotonic() < end:
                sum(range(10))
            return
        guard = guards[depth]
        try:
            with guard:
                self.enter(guards, depth + 1)
        except ExecutionTimeout as error:
            if error.guard in guards[:depth]:
                raise
            if error.guard is not guard or time.monotonic() < self.at + error.limit:
                self.strays.append(error)
            self.caught[depth] += 1

    def run(self):
        for _ in range(ROUNDS):
            self.one()
            for i in range(20):  # outside: nothing is raised here
                sum((i, i))
        return self


def test_fifty_threads_of_four_guards(short_switches):
    workers = [Worker(Rounds(seed).run) for seed in range(THREADS)]
    rounds = [worker.join(4 * PATIENCE) for worker in workers]
    assert [one.strays for one in rounds if one.strays] == []
    by_depth = [sum(one.caught[depth] for one in rounds) for depth in range(4)]
    print("raised by depth:", by_depth)
    assert all(count > 20 for count in by_depth)


@pytest.mark.parametrize("threads", [1, 10, 100])
def test_one_guard_each_one_try(threads):
    """Nobody is refused because others are in guards."""
    barrier = threading.Barrier(threads)

    def once():
        barrier.wait(PATIENCE)
        with time_guard(timeout=50):
            barrier.wait(PATIENCE)
        return True

    assert all([worker.join() for worker in [Worker(once) for _ in range(threads)]])


def test_one_guard_in_many_threads():
    guard = time_guard(timeout_ms=100, interrupt_type=EXCEPTION)

    def once(seconds):
        begin = time.monotonic()
        try:
            with guard:
                deadline = begin + seconds
                while time.monotonic() < deadline:
                    time.sleep(0.001)
        except ExecutionTimeout as error:
            assert error.guard is guard
            return time.monotonic() - begin
        return None

    short = [Worker(once, 0.001) for _ in range(10)]
    long = [Worker(once, PATIENCE) for _ in range(10)]
    for worker in short:
        worker.join()
    assert all(worker.join() >= 0.1 for worker in long)


def test_the_exception_of_a_worker_is_not_the_main_threads():
    guard = time_guard(timeout_ms=50, interrupt_type=EXCEPTION)

    def inside():
        with pytest.raises(ExecutionTimeout):
            with guard:
                spin()

    worker = Worker(inside)
    spin_for(0.3)
    worker.join()


def test_any_threads_memory_interrupts_the_guarded_one():
    guard = mem_guard(32 * 1024, absolute=False, interrupt_type=EXCEPTION)
    inside = threading.Event()

    def allocate():
        inside.wait(PATIENCE)
        return grow(64 * MIB)

    worker = Worker(allocate)
    with pytest.raises(MemoryLimitExceeded):
        with guard:
            inside.set()
            spin()
    worker.join().close()


def test_threads_that_end_inside_a_guard():
    """Nobody left it: no step goes to a thread that is no more."""
    guards = [time_guard(timeout_ms=100, grace_period_ms=10) for _ in range(20)]
    for guard in guards:
        Worker(guard.__enter__).join()
    time.sleep(0.3)
    assert [guard.last_trip for guard in guards] == [None] * 20
    with pytest.raises(ExecutionTimeout):
        with guards[0]:
            spin()


def test_exit_of_a_thread_in_a_block():
    guard = time_guard(timeout_ms=100)

    def inside():
        with guard:
            _thread.exit()

    with pytest.raises(SystemExit):
        Worker(inside).join()
    time.sleep(0.15)
    assert guard.last_trip is None


def test_a_thread_of_another_kind():
    """Started by native code, known to Python for the time of one call."""
    libc = ctypes.CDLL(None, use_errno=True)
    caught = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def run(_):
        try:
            with time_guard(timeout_ms=50, interrupt_type=EXCEPTION):
                spin()
        except ExecutionTimeout as error:
            caught.append(error)
        return None

    for _ in range(3):
        thread = ctypes.c_ulong()
        assert libc.pthread_create(ctypes.byref(thread), None, run, None) == 0
        assert libc.pthread_join(thread, None) == 0
    assert len(caught) == 3


def test_signals_of_a_workers_guard_interrupt_its_system_call():
    """They go to the guarded thread, which native code sees; Python runs handlers in the main one."""
    ended = run_python(
        """
        import ctypes
        handled = []
        signal.signal(signal.SIGINT, lambda *_: handled.append(threading.current_thread().name))
        def inside():
            libc = ctypes.CDLL(None, use_errno=True)
            with time_guard(timeout_ms=100, interrupt_type=InterruptType.signal):
                print(libc.pause(), flush=True)
        Worker(inside).join()
        print(handled)
        """
    )
    assert ended.out == "-1\n['MainThread']\n"


def test_a_signal_is_handled_while_the_main_thread_waits():
    ended = run_python(
        """
        def inside():
            with time_guard(timeout_ms=100, grace_period=60, interrupt_type=InterruptType.signal):
                spin()
        worker = threading.Thread(target=inside, daemon=True)
        worker.start()
        try:
            time.sleep(PATIENCE)
        except KeyboardInterrupt:
            print("interrupted")
        os._exit(0)
        """
    )
    assert ended.out == "interrupted\n"
    assert ended.seconds < PATIENCE / 2


def test_growth_ends_with_the_threads():
    ended = run_python(
        """
        def once():
            with time_guard(timeout=50), time_guard(timeout=40):
                pass
        def batch():
            for _ in range(10):
                threads = [threading.Thread(target=once) for _ in range(20)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
        batch()
        before = rss(), len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            batch()
        print((rss() - before[0]) // KIB, len(os.listdir("/proc/self/fd")) - before[1])
        """
    )
    growth, fds = map(int, ended.out.split())
    assert growth < 1024 and fds == 0
