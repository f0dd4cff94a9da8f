# SPDX-License-Identifier: Apache-2.0
"""Memory guards: spikes, grace, recovery, overshoot; with BPF, without it, without privileges."""

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pytest

import procguard
from procguard import InterruptType, MemoryLimitExceeded, ResiliparseGuardException, mem_guard
from support import KIB, MIB, PATIENCE, Worker, call_in, grow, rss, run_python, spin, spin_for

EXCEPTION = InterruptType.exception
LIMIT = 32 * MIB
threads = pytest.mark.parametrize("where", ["main", "worker"])
sources = pytest.mark.parametrize("source", ["bpf", "procfs"])


def growth_guard(**options):
    options = {"interrupt_type": EXCEPTION, "check_interval": 5, **options}
    return mem_guard(LIMIT // KIB, absolute=False, **options)


def a_spike(seconds, size=2 * LIMIT):
    memory = grow(size)
    try:
        spin_for(seconds)
    finally:
        memory.close()


# What follows runs here with the machine's best source, and in programs with the others.


def below_the_limit():
    with growth_guard() as guard:
        a_spike(0.1, LIMIT // 2)
    assert guard.last_trip is None


def a_spike_within_the_grace_passes():
    with growth_guard(grace_period=2) as guard:
        for _ in range(3):
            a_spike(0.05)
            spin_for(0.05)
    assert guard.last_trip is None


def a_plateau_does_not():
    guard = growth_guard(grace_period_ms=200)
    begin = time.monotonic()
    with pytest.raises(MemoryLimitExceeded) as raised:
        with guard:
            a_spike(PATIENCE)
    assert begin + 0.2 <= time.monotonic()
    assert raised.value.observed > raised.value.limit == LIMIT // KIB
    assert guard.last_trip.resource == "memory_growth"


def three_spikes_are_three_interrupts():
    caught = 0
    with growth_guard(secondary_grace_period=60) as guard:
        for _ in range(3):
            try:
                a_spike(PATIENCE)
            except MemoryLimitExceeded as error:
                assert error.guard is guard
                assert guard.last_trip.step == 0
                caught += 1
            spin_for(0.1)  # long enough for the source to see that it is back under
    assert caught == 3


def an_absolute_limit():
    guard = mem_guard((rss() + LIMIT) // KIB, interrupt_type=EXCEPTION, check_interval=5)
    with pytest.raises(MemoryLimitExceeded) as raised:
        with guard:
            a_spike(PATIENCE)
    assert raised.value.observed >= LIMIT // KIB
    assert guard.last_trip.resource == "memory"


def growth_counts_from_the_entry():
    before = grow(2 * LIMIT)
    try:
        below_the_limit()
        a_plateau_does_not()
    finally:
        before.close()


def already_over_at_entry():
    for _ in range(20):
        inside = False
        with pytest.raises(MemoryLimitExceeded):
            with mem_guard(1, interrupt_type=EXCEPTION, check_interval=5):
                inside = True
                spin()
        assert inside


BEHAVIOUR = [
    below_the_limit,
    a_spike_within_the_grace_passes,
    a_plateau_does_not,
    three_spikes_are_three_interrupts,
    an_absolute_limit,
    growth_counts_from_the_entry,
    already_over_at_entry,
]


@threads
@pytest.mark.parametrize("behaviour", BEHAVIOUR, ids=lambda one: one.__name__)
def test_behaviour(behaviour, where):
    call_in(where, behaviour)


ALL = """
    import test_memory
    print(source(), flush=True)
    for where in ("main", "worker"):
        for behaviour in test_memory.BEHAVIOUR:
            call_in(where, behaviour)
    print(source())
"""


@sources
def test_the_source_can_be_forced(source):
    ended = run_python(ALL, env={"PROCGUARD_SOURCE": source})
    assert ended.out.split() == [source, source]
    assert ended.err == ""


def test_a_source_that_there_is_not():
    ended = run_python(
        """
        with time_guard(timeout=50): pass  # needs none
        try:
            mem_guard(1).__enter__()
        except OSError as error:
            print(error)
        """,
        env={"PROCGUARD_SOURCE": "nonsense"},
    )
    assert "Invalid argument" in ended.out
    assert "'nonsense' is none of auto, agent, bpf, procfs" in ended.err


NOBODYS = """
import os, sys, time
from procguard import *
assert os.getuid() == 65534
print(source())
try:
    with time_guard(timeout_ms=50):
        time.sleep(30)
except ExecutionTimeout:
    print("timeout")
kept = []
try:
    with mem_guard(32 * 1024, absolute=False, check_interval=10):
        end = time.monotonic() + 30
        while time.monotonic() < end and len(kept) < 4000:
            kept.append(bytearray(1 << 20))
            time.sleep(0.001)
except MemoryLimitExceeded as error:
    print("memory", error.observed >= 32 * 1024, len(kept) < 2000)
print(source())
"""


def test_without_privileges():
    """Nobody's program: imports, guards time, and memory by /proc."""

    def run(wanted):
        return subprocess.run(
            [sys.executable, "-c", NOBODYS],
            preexec_fn=lambda: os.setuid(65534),
            cwd="/",
            env={**os.environ, "PYTHONPATH": top, "PROCGUARD_SOURCE": wanted},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )

    with tempfile.TemporaryDirectory() as top:  # what is imported has to be readable to him
        os.chmod(top, 0o755)
        shutil.copytree(next(iter(procguard.__path__)), os.path.join(top, "procguard"))
        ended = run("auto")
        assert ended.stdout == "procfs\ntimeout\nmemory True True\nprocfs\n", ended
        assert ended.stderr == ""
        ended = run("bpf")
        assert "timeout\n" in ended.stdout
        assert "source bpf" in ended.stderr and "CAP_BPF" in ended.stderr


def test_what_the_source_is_here():
    """Root has BPF: where it cannot be had the tests of overshoot say nothing."""
    with mem_guard(1 << 40):
        assert procguard.source() == "bpf"


def measure_overshoot(interrupts):
    """Touches memory at full speed until it is interrupted: (overshoot, rate) in bytes."""
    chunk = mmap.PAGESIZE * 16
    fill = ctypes.PyDLL(None).memset
    fill.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    memory = mmap.mmap(-1, 4096 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    entered = rss()
    begin = time.perf_counter()
    try:
        interrupts.__enter__()
        for offset in range(0, 4096 * MIB, chunk):
            fill(base + offset, 1, chunk)
    except ResiliparseGuardException:
        reached = rss()
        seconds = time.perf_counter() - begin
    finally:
        interrupts.__exit__(None, None, None)
        memory.madvise(mmap.MADV_DONTNEED)
    return reached - entered - 64 * MIB, (reached - entered) / seconds


class Bare:
    """What CPython itself can do: a thread that reads RSS all the time and sets the exception."""

    def __enter__(self):
        thread = threading.get_ident()
        self.over = False

        def watch():
            limit = rss() + 64 * MIB
            while rss() < limit:
                pass
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(MemoryLimitExceeded)
            )

        self.worker = Worker(watch)

    def __exit__(self, *_):
        self.worker.join()


@threads
def test_overshoot_at_full_speed(where):
    """At most what is touched in two turns of the GIL, and 1 MiB. The reference: 676 MiB."""
    with mem_guard(1 << 40):  # BPF is there
        measured = []
        for _ in range(5):
            guard = mem_guard(64 * 1024, absolute=False, interrupt_type=EXCEPTION)
            measured.append(call_in(where, measure_overshoot, guard))
        floor = call_in(where, measure_overshoot, Bare())[0]
    overshoot, rate = sorted(measured)[2]
    allowed = rate * 2 * sys.getswitchinterval() + MIB
    print(
        f"{where}: overshoot {overshoot / MIB:.2f} MiB (of 5: {min(measured)[0] / MIB:.2f} to "
        f"{max(measured)[0] / MIB:.2f}), touched {rate / MIB:.0f} MiB/s, "
        f"allowed {allowed / MIB:.2f} MiB; a bare SetAsyncExc {floor / MIB:.2f} MiB"
    )
    assert overshoot <= allowed
