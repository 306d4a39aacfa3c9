"""Work that several processes share; what comes of it is the same."""

import collections
import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def run_all(
  function: Callable, jobs: Sequence[Sequence], n_processes: int | None = 1
) -> Iterator[Any]:
  """Calls a function for each job, and yields what it returns, in order.

  Args:
    function: Of a module, so that another process finds it.
    jobs: Its arguments for each job.
    n_processes: How many jobs are done side by side, each in a process of its
      own; with 1 in this one, None for one per processor.

  Yields:
    What the function returns for each job.
  """
  if n_processes == 1:
    for job in jobs:
      yield function(*job)
    return
  # Processes that are started anew: a plugin of a forked one may hang.
  with concurrent.futures.ProcessPoolExecutor(
    n_processes, mp_context=multiprocessing.get_context('spawn')
  ) as pool:
    waiting = collections.deque(pool.submit(function, *job) for job in jobs)
    try:
      while waiting:
        yield waiting.popleft().result()
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
