# SPDX-License-Identifier: Apache-2.0
# Types of the package's public names. What they do is said where they are defined: see help().

import enum
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Literal, NamedTuple, Optional, TypeVar, Union, final

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

_T = TypeVar("_T")
_Self = TypeVar("_Self", bound=_Guard)
_Function = TypeVar("_Function", bound=Callable[..., Any])

class InterruptType(enum.IntEnum):
    exception = 0
    signal = 1
    exception_then_signal = 2

class ResiliparseGuardException(BaseException):
    guard: Optional[Union[TimeGuard, MemGuard]]
    limit: Optional[float]
    observed: Optional[float]
    elapsed: Optional[float]

class ExecutionTimeout(ResiliparseGuardException):
    guard: Optional[TimeGuard]

class MemoryLimitExceeded(ResiliparseGuardException):
    guard: Optional[MemGuard]

class Trip(NamedTuple):
    resource: str
    step: int
    signal: int
    last: bool
    limit: float
    observed: float
    elapsed: float
    withdrawn: bool
    is_exception: bool
    late: float

class _Guard:
    # What is decorated keeps its type, so the attributes it gains (progress, __guard__) are not in
    # it: no type that has both is understood by checkers for methods, class methods and generics.
    # With one, report progress by progress() or by the guard's own method.
    def __call__(self, func: _Function) -> _Function: ...
    @property
    def last_trip(self) -> Optional[Trip]: ...
    def __enter__(self: _Self) -> _Self: ...
    def __exit__(
        self,
        type: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> Literal[False]: ...
    async def __aenter__(self: _Self) -> _Self: ...
    async def __aexit__(
        self,
        type: Optional[type[BaseException]],
        value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> Literal[False]: ...

@final
class TimeGuard(_Guard):
    def progress(self) -> None: ...

@final
class MemGuard(_Guard): ...

# A guard, or what one decorates; None: the calling thread's innermost TimeGuard.
_Context = Union[TimeGuard, Callable[..., Any], None]

def time_guard(
    timeout: Optional[float] = 60,
    timeout_ms: Optional[float] = None,
    grace_period: Optional[float] = 15,
    grace_period_ms: Optional[float] = None,
    interrupt_type: InterruptType = InterruptType.exception_then_signal,
    send_kill: bool = False,
    check_interval: Optional[float] = 500,
) -> TimeGuard: ...
def mem_guard(
    max_memory: int,
    absolute: bool = True,
    grace_period: Optional[float] = 0,
    grace_period_ms: Optional[float] = 0,
    secondary_grace_period: Optional[float] = 5,
    secondary_grace_period_ms: Optional[float] = None,
    interrupt_type: InterruptType = InterruptType.exception_then_signal,
    send_kill: bool = False,
    check_interval: Optional[float] = 500,
) -> MemGuard: ...
def progress(ctx: _Context = None) -> None: ...
def progress_loop(
    it: Iterable[_T], ctx: _Context = None
) -> Generator[_T, None, None]: ...
def source() -> str: ...
