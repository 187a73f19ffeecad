"""Work on many samples at once, results in order, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from qinterp.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 2  # tasks a worker that are under way or waiting to be taken


def in_order(
    tasks: Iterable[T],
    work: Callable[[T], R],
    workers: int | None = None,
    stop: Event | None = None,
) -> Generator[R]:
    """``work`` of every task, in the order of the tasks.

    Parameters
    ----------
    tasks : drawn one by one, from the calling thread, and only a few ahead.
    workers : threads; one for each core by default.
    stop : set when no more results are wanted: the error of a task, an interrupt, or a caller
        that closes this iterator. Work that looks at it ends sooner.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    count = workers or os.cpu_count() or 1
    if count == 1:
        yield from map(work, tasks)
        return
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(count)
    try:
        for task in tasks:
            pending.append(pool.submit(work, task))
            if len(pending) > _AHEAD * count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(cancel_futures=True)
