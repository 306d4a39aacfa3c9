"""Signals that ask a process to end, held until a step is over."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def deferred_signals() -> Iterator[threading.Event]:
  """Lets a step end before a signal ends the work.

  These are Ctrl-C, and what batch schedulers, `kill` and terminals that close
  send: SIGTERM, SIGUSR1 and SIGHUP. Of the latter, those stay ignored that the
  process was started to ignore, as by `nohup`.

  Yields:
    An event that is set by the first signal. A second Ctrl-C ends at once.

  Examples:
    >>> from dafx.training import signals
    >>> with signals.deferred_signals() as requested:
    ...   signal.raise_signal(signal.SIGTERM)
    >>> requested.is_set()
    True
  """
  requested = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield requested
    return

  def handle(number, frame):
    del frame
    if number == signal.SIGINT and requested.is_set():
      raise KeyboardInterrupt
    requested.set()

  asked = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
  heard = [s for s in asked if signal.getsignal(s) != signal.SIG_IGN]
  former = {s: signal.signal(s, handle) for s in (signal.SIGINT, *heard)}
  try:
    yield requested
  finally:
    for number, handler in former.items():
      signal.signal(number, handler)
