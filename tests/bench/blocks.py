# SPDX-License-Identifier: Apache-2.0
"""Rows about guards in Python, one JSON object a line; run by the bench program (blocks.cpp).

Each cost is the best of some rounds of a loop, the loop included, on both sides.
"""

import ctypes
import json
import mmap
import sys
import threading
import time

from procguard import MemoryLimitExceeded, ExecutionTimeout, mem_guard, progress, source, time_guard

QUICK = "--quick" in sys.argv
TIMES = 20_000 if QUICK else 200_000
BEST_OF = 9
ROUNDS = 3 if QUICK else 15
LIMIT_KIB = 16 * 1024
SWITCHES = 2


def row(what, ours, **rest):
    print(json.dumps({"what": what, "ours": ours, **rest}), flush=True)


def ns_per(loop, times=TIMES):
    best = float("inf")
    for _ in range(BEST_OF):
        begin = time.perf_counter_ns()
        loop(times)
        best = min(best, (time.perf_counter_ns() - begin) / times)
    return best


def costs():
    lock = threading.Lock()
    guard = time_guard(timeout=3600)
    memory = mem_guard(1 << 40)

    def with_lock(times):
        for _ in range(times):
            with lock:
                pass

    def with_guard(times):
        for _ in range(times):
            with guard:
                pass

    def made(times):
        for _ in range(times):
            with time_guard(timeout=3600):
                pass

    def with_memory(times):
        for _ in range(times):
            with memory:
                pass

    def statm(times):
        for _ in range(times):
            with open("/proc/self/statm", "rb") as file:
                file.read()

    def monotonic(times):
        for _ in range(times):
            time.monotonic_ns()

    def method(times):
        for _ in range(times):
            guard.progress()

    def function(times):
        for _ in range(times):
            progress()

    floor = ns_per(with_lock)
    row("Python time guard, enter + leave", ns_per(with_guard), reference=floor, ratio=10,
        note="reference: with threading.Lock(); Resiliparse recorded 500.6 ms")
    row("Python time guard, made, entered, left", ns_per(made), reference=floor, ratio=20)
    with memory:  # BPF is loaded once
        row("Python memory guard, enter + leave", ns_per(with_memory),
            reference=ns_per(statm, TIMES // 20),
            note=f"source {source()}; reference: a read of statm")
    with guard:
        clock = ns_per(monotonic)
        row("Python guard.progress()", ns_per(method), reference=clock, ratio=1,
            note="reference: time.monotonic_ns(); Resiliparse recorded 34 ns")
        row("Python progress()", ns_per(function), reference=clock, ratio=2,
            note="Resiliparse recorded 356 us and more")


def touch(area, size, done):
    for offset in range(0, size, mmap.PAGESIZE):
        area[offset] = 1
        done[0] = offset


def new_area(size):
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    return area


def overshoot(done):
    """KiB over the limit when the exception was raised, and the KiB touched a second."""
    size = 1 << 30
    area = new_area(size)
    begin = time.perf_counter()
    try:
        with mem_guard(LIMIT_KIB, absolute=False):
            touch(area, size, done)
    except MemoryLimitExceeded:
        pass
    seconds = time.perf_counter() - begin
    area.close()
    kib = done[0] / 1024
    return kib - LIMIT_KIB, kib / seconds


def in_worker(function, *arguments):
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    thread.join()
    return results[0]


class Bare(BaseException):
    pass


def bare_overshoot(done):
    """The floor: a thread that waits for the crossing and sets the exception, nothing else."""
    size = 1 << 30
    area = new_area(size)
    ident = ctypes.c_ulong(threading.get_ident())
    set_async = ctypes.pythonapi.PyThreadState_SetAsyncExc
    crossed = LIMIT_KIB * 1024

    def watch():
        while done[0] < crossed:
            time.sleep(0)
        set_async(ident, ctypes.py_object(Bare))

    done[0] = 0
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        touch(area, size, done)
    except Bare:
        pass
    watcher.join()
    area.close()
    return done[0] / 1024 - LIMIT_KIB


def deliveries():
    interval = sys.getswitchinterval()
    main, workers, rate = [], [], 0
    for _ in range(ROUNDS):
        over, speed = overshoot([0])
        main.append(over)
        rate = max(rate, speed)
        workers.append(in_worker(overshoot, [0])[0])
    floor = max(in_worker(bare_overshoot, [0]) for _ in range(ROUNDS))
    allowed = rate * SWITCHES * interval + 1024
    row("Python overshoot, +16 MiB, main thread", max(main), unit="KiB",
        reference=floor, at_most=allowed,
        note=f"max of {ROUNDS}; reference: bare PyThreadState_SetAsyncExc; Resiliparse recorded 676 MiB")
    row("Python overshoot, +16 MiB, worker", max(workers), unit="KiB",
        reference=floor, at_most=floor + allowed,
        note=f"max of {ROUNDS}; bar: {SWITCHES} switch intervals and 1 MiB over the floor")


def lateness():
    late = []
    for _ in range(ROUNDS * 3):
        begin = time.monotonic_ns()
        try:
            with time_guard(timeout_ms=20):
                count = 0
                while True:
                    count += 1
        except ExecutionTimeout:
            late.append(time.monotonic_ns() - begin - 20_000_000)
    late.sort()
    row("Python timeout 20 ms, lateness, p50", late[len(late) // 2],
        note=f"busy body, main thread; earliest {late[0] / 1000:.0f} us; Resiliparse recorded 408 ms")


if __name__ == "__main__":
    costs()
    deliveries()
    lateness()
