# SPDX-License-Identifier: Apache-2.0
"""The type stubs say what the package has, and a checker understands programs that use it.

By Debian's mypy, whichever interpreter runs the tests: what is judged is text.
"""

import os
import re
import subprocess

PYTHON = "/usr/bin/python3"

# A line that ends in "# wrong: WORD" is an error of that kind; nothing else is one.
PROGRAM = """\
import asyncio
from typing import AsyncIterator, Iterator, List, Tuple, TypeVar

from procguard import (
    ExecutionTimeout,
    InterruptType,
    MemGuard,
    MemoryLimitExceeded,
    ResiliparseGuardException,
    TimeGuard,
    Trip,
    mem_guard,
    progress,
    progress_loop,
    source,
    time_guard,
)

T = TypeVar("T")


@time_guard(timeout=1.5)
def label(number: int, base: int = 10) -> str:
    progress()
    return str(number + base)


@mem_guard(max_memory=1024, absolute=False)
def first(items: List[T]) -> T:
    return items[0]


class Parser:
    @time_guard(timeout_ms=10)
    def parse(self, text: str) -> int:
        return len(text)

    @classmethod
    @mem_guard(1024)
    def make(cls, text: str) -> "Parser":
        return cls()

    @property
    @time_guard()
    def size(self) -> int:
        return 1


@time_guard()
async def fetch(number: int) -> str:
    return ""


@time_guard()
def numbers(end: int) -> Iterator[int]:
    yield from range(end)


@mem_guard(1024)
async def lines(end: int) -> AsyncIterator[str]:
    yield ""


async def main() -> None:
    (await fetch(1)).upper()
    await fetch("1")  # wrong: arg-type
    async with time_guard(grace_period_ms=100) as guard:
        guard.progress()
    async with mem_guard(1024) as memory:
        memory.progress()  # wrong: attr-defined
    async for line in lines(2):
        line.upper()


def block() -> Tuple[int, str]:
    with time_guard(interrupt_type=InterruptType.signal, send_kill=True, check_interval=1) as guard:
        for item in progress_loop([1, 2], guard):
            item + 1
            item + ""  # wrong: operator
        progress(ctx=label)
        progress(ctx=guard)
        progress(ctx="guard")  # wrong: arg-type
    trip = guard.last_trip
    trip.late  # wrong: union-attr
    if trip is not None:
        trip.late + trip.limit + trip.step
        trip.resource.upper()
    try:
        with mem_guard(10, secondary_grace_period=0.5):
            return len(label(1, base=3)), source()
    except ExecutionTimeout as timeout:
        if timeout.guard is not None:
            timeout.guard.progress()
        raise
    except MemoryLimitExceeded as memory:
        raise KeyboardInterrupt from memory
    except ResiliparseGuardException as other:
        guards: Tuple[type, type] = (TimeGuard, MemGuard)
        return int(other.elapsed or 0) + len(guards), ""


label("1")  # wrong: arg-type
label(1).upper()
first([1]) + 1
first([""]).upper()
first([1]).upper()  # wrong: attr-defined
Parser().parse("1") + 1
Parser().parse(1)  # wrong: arg-type
Parser.make("1").size + 1
for number in numbers(3):
    number + 1
time_guard("1")  # wrong: arg-type
mem_guard(1.5)  # wrong: arg-type
mem_guard()  # wrong: call-arg
made: Trip = time_guard()  # wrong: assignment
asyncio.run(main())
"""


def run_mypy(directory, *args):
    package_dir = os.environ["PYTHONPATH"]
    return subprocess.run(
        [PYTHON, *args],
        env={**os.environ, "MYPYPATH": package_dir, "PYTHONPATH": package_dir},
        cwd=directory,  # it leaves a cache
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def test_checker_understands_programs(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checked = run_mypy(
        tmp_path,
        *("-m", "mypy", "--strict", "--no-error-summary"),
        str(program),
    )
    expected = {
        (number, line.rpartition("# wrong: ")[2])
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# wrong: " in line
    }
    found = {
        (int(number), kind)
        for number, kind in re.findall(r"program\.py:(\d+): error: .*\[([\w-]+)\]", checked.stdout)
    }
    assert found == expected, checked.stdout


def test_stubs_say_what_the_package_has(tmp_path):
    # What is private has no stubs.
    config = tmp_path / "mypy.ini"
    private = "procguard._decorate,procguard._support"
    config.write_text(f"[mypy]\n[mypy-{private}]\nignore_errors = True\n")
    checked = run_mypy(
        tmp_path,
        *("-m", "mypy.stubtest", "--mypy-config-file", str(config), "procguard"),
    )
    assert checked.returncode == 0, checked.stdout
