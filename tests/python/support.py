# SPDX-License-Identifier: Apache-2.0
"""What the tests share. Nothing here sleeps and hopes: conditions are waited for, with a deadline."""

import contextlib
import ctypes
import functools
import mmap
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings

PATIENCE = 30.0  # seconds; the machine is shared: what takes longer than this does not come
KIB = 1024
MIB = 1024 * 1024


class Nothing(Exception):
    """What was waited for did not come."""


def wait_until(condition, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise Nothing(f"not within {patience} s")
        time.sleep(0.001)


def spin(patience=PATIENCE):
    """Runs bytecode until something is raised here."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        pass
    raise Nothing(f"nothing was raised within {patience} s")


def spin_for(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


HOLD = """
#include <time.h>
int hold(double seconds) {
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  long long ns = end.tv_nsec + (long long)(seconds * 1e9);
  end.tv_sec += ns / 1000000000;
  end.tv_nsec = ns % 1000000000;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, 0) != 0) {
  }
  return 0;
}
"""


def build_hold(directory):
    """Builds what hold_gil() needs; programs that are started later find it, too."""
    library = os.path.join(directory, "hold.so")
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=HOLD, text=True, check=True
    )
    os.environ["PROCGUARD_TEST_HOLD"] = library


def held_call(seconds):
    """A native callable that does not give the GIL up, whatever signals come."""
    library = ctypes.PyDLL(os.environ["PROCGUARD_TEST_HOLD"])
    return functools.partial(library.hold, ctypes.c_double(seconds))


def hold_gil(seconds):
    held_call(seconds)()


class Worker:
    """A thread whose exception is the caller's in the end."""

    def __init__(self, function, *args):
        self.result = None
        self.error = None
        self._function, self._args = function, args
        self._done = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.result = self._function(*self._args)
        except BaseException as error:
            self.error = error
        self._done = True

    def join(self, patience=PATIENCE):
        # In short waits: the handlers of signals run in the main thread between them.
        wait_until(lambda: self._done, patience)
        self._thread.join()
        if self.error is not None:
            raise self.error
        return self.result


def call_in(where, function, *args):
    """Calls it in the main thread or in another one."""
    if where == "main":
        return function(*args)
    return Worker(function, *args).join()


@contextlib.contextmanager
def recorded_warnings():
    """Those of all threads: the list grows as they come."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def rss():
    """Bytes, read as the kernel has them."""
    with open("/proc/self/statm", "rb", buffering=0) as file:
        return int(file.read(200).split()[1]) * mmap.PAGESIZE


def grow(size):
    """Touched memory; close() gives it back to the kernel at once."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset] = 1
    return memory


PRELUDE = """\
import os, signal, sys, threading, time, warnings
sys.path[:0] = {paths!r}
from procguard import *
from support import *
"""


def start_python(code, *args, python=sys.executable, env=None, **kwargs):
    """Starts an interpreter on it, with the package and this module imported."""
    paths = [os.environ["PYTHONPATH"], os.path.dirname(__file__)]
    text = PRELUDE.format(paths=paths) + textwrap.dedent(code)
    return subprocess.Popen(
        [python, "-c", text, *map(str, args)],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


class Ended:
    """How a program ended; `seconds` since it was started."""

    def __init__(self, process, begin, patience):
        try:
            self.out, self.err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            self.out, self.err = process.communicate()
            raise AssertionError(
                f"still running after {patience} s\n{self.out}\n{self.err}"
            ) from None
        self.at = time.monotonic()
        self.seconds = self.at - begin
        self.status = process.returncode

    def __repr__(self):
        return f"status {self.status} after {self.seconds:.3f} s\n{self.out}\n{self.err}"


def run_python(code, *args, patience=60.0, status=0, **kwargs):
    """Runs it to its end. `status`: what it has to be, None: anything."""
    begin = time.monotonic()
    ended = Ended(start_python(code, *args, **kwargs), begin, patience)
    assert status is None or ended.status == status, ended
    return ended
