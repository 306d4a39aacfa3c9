"""Work that is shared out; what comes of it is the same, whoever does it."""

import abc
import collections
import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class Workers(abc.ABC):
  """Who does the jobs of a preparation."""

  @abc.abstractmethod
  def run_all(
    self, function: Callable, jobs: Sequence[Sequence]
  ) -> Iterator[Any]:
    """Calls a function for each job, and yields what it returns, in order.

    Args:
      function: Of a module, so that another process finds it.
      jobs: Its arguments for each job.

    Yields:
      What the function returns for each job, as soon as those before are done.
    """


@dataclasses.dataclass(frozen=True)
class Processes(Workers):
  """Processes of this machine.

  Args:
    n_processes: How many jobs are done side by side, each in a process of its
      own; with 1 in this one, None for one per processor.
  """

  n_processes: int | None = 1

  def run_all(
    self, function: Callable, jobs: Sequence[Sequence]
  ) -> Iterator[Any]:
    """Calls a function for each job; see `Workers`."""
    if self.n_processes == 1:
      for job in jobs:
        yield function(*job)
      return
    # Processes that are started anew: a plugin of a forked one may hang.
    with concurrent.futures.ProcessPoolExecutor(
      self.n_processes, mp_context=multiprocessing.get_context('spawn')
    ) as pool:
      waiting = collections.deque(pool.submit(function, *job) for job in jobs)
      try:
        while waiting:
          yield waiting.popleft().result()
      except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


HERE = Processes(1)
ON_ALL_PROCESSORS = Processes(None)
