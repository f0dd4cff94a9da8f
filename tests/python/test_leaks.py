# SPDX-License-Identifier: Apache-2.0
"""Guards by the hundred thousand leave nothing behind: memory and descriptors stay what they were."""

import textwrap

import pytest

from support import run_python

LOOPS = {
    "blocks": (
        1_000_000,
        """
        guard = time_guard(timeout=50)
        def once():
            with guard: pass
            guard.progress(), guard.last_trip
        """,
    ),
    "guards made, entered, left": (
        1_000_000,
        """
        def once():
            with time_guard(timeout=50, interrupt_type=InterruptType.exception): progress()
        """,
    ),
    "guards that are refused": (
        100_000,
        """
        def once():
            try: time_guard(timeout=-1)
            except ValueError: pass
            try: progress(object())
            except RuntimeError: pass
        """,
    ),
    "memory guards": (
        30_000,
        """
        guard = mem_guard(1 << 40)
        def once():
            with guard: pass
            mem_guard(1 << 40)
        """,
    ),
    "decorated": (
        100_000,
        """
        @time_guard(timeout=50)
        def once():
            once.progress()
        """,
    ),
    "decorating": (
        20_000,
        """
        def once():
            time_guard(timeout=50)(lambda: 1)()
        """,
    ),
    "generators": (
        50_000,
        """
        @time_guard(timeout=50)
        def items():
            yield 1
            yield 2
        def once():
            list(items())
            next(items())
        """,
    ),
    "exceptions": (
        3_000,
        """
        def once():
            try:
                with time_guard(timeout_ms=0, interrupt_type=InterruptType.exception): spin()
            except ExecutionTimeout: pass
        """,
    ),
    "exceptions in workers": (
        2_000,
        """
        def once():
            def inside():
                try:
                    with time_guard(timeout_ms=0, interrupt_type=InterruptType.exception): spin()
                except ExecutionTimeout: pass
            thread = threading.Thread(target=inside)
            thread.start()
            thread.join()
        """,
    ),
    "withdrawn": (
        20_000,
        """
        import functools
        def once():
            guard = time_guard(timeout_ms=0, interrupt_type=InterruptType.exception)
            leave = functools.partial(guard.__exit__, None, None, None)
            list(map(functools.partial.__call__, [functools.partial(guard.__enter__), leave]))
        """,
    ),
    "coroutines": (
        20_000,
        """
        import asyncio
        loop = asyncio.new_event_loop()
        @time_guard(timeout=50)
        async def decorated(): await asyncio.sleep(0)
        async def main():
            await decorated()
            async with time_guard(timeout=50): await asyncio.sleep(0)
        def once(): loop.run_until_complete(main())
        """,
    ),
    "tasks woken": (
        1_000,
        """
        import asyncio
        loop = asyncio.new_event_loop()
        async def main():
            for form in range(2):
                guard = time_guard(timeout_ms=0.5, interrupt_type=InterruptType.exception)
                try:
                    if form: await guard(asyncio.sleep)(60)
                    else:
                        async with guard: await asyncio.sleep(60)
                except ExecutionTimeout: pass
        def once(): loop.run_until_complete(main())
        """,
    ),
    "tasks that are never finished": (
        5_000,
        """
        import asyncio, gc, logging
        logging.disable()
        loop = asyncio.new_event_loop()
        @time_guard(timeout=50)
        async def waits():
            kept = bytearray(20000)
            await loop.create_future()
        def once():
            task = loop.create_task(waits())
            loop.run_until_complete(asyncio.sleep(0))
        """,
    ),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_flat(loop):
    rounds, definition = LOOPS[loop]
    ended = run_python(
        textwrap.dedent(definition)
        + textwrap.dedent(
            f"""
            import gc
            def some(count):
                for _ in range(count): once()
                gc.collect()
                return rss(), len(os.listdir("/proc/self/fd"))
            some({rounds} // 4)
            before = some({rounds} // 8)
            after = some({rounds})
            print((after[0] - before[0]) // KIB, after[1] - before[1])
            """
        ),
        patience=120,
    )
    growth, fds = map(int, ended.out.split())
    print(f"{rounds} rounds: {growth} KiB, {fds} descriptors; {ended.seconds:.1f} s")
    assert growth < 1024  # of which an allocator may keep some
    assert fds == 0
