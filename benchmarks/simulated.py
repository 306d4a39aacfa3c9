"""Renders as sleeps of their measured time, on more threads than processors.

What a sleep takes of a processor is next to nothing, so that the threads stand
for as many cores. All else of a step is as it is: threads and locks, NumPy, the
network, and the order in which TensorFlow runs them.
"""

import contextlib
import heapq
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dafx import lv2
from dafx.lv2 import items


class Call(NamedTuple):
  """A batch that a plugin renders in a step.

  Attributes:
    plugin: Number of the plugin.
    n_items: Items of the batch.
    is_ahead: Whether nothing waits for it until the gradients are asked for.
  """

  plugin: int
  n_items: int
  is_ahead: bool


def most_busy(
  calls: Sequence[Call], seconds: Sequence[float], n_threads: int
) -> float:
  """Returns how busy threads are where nothing but dependencies stops them.

  Each call that is waited for begins when the one before has ended, and with it
  what its plugin renders ahead, which fills the threads that are left.

  Args:
    calls: Of a step, in their order.
    seconds: What a render of an item takes, of each plugin.
    n_threads: How many.

  Returns:
    Their share of the time in which any of them renders.
  """
  chain = [call for call in calls if not call.is_ahead]
  ahead = [call for call in calls if call.is_ahead]
  first: list[float] = []
  behind: list[float] = []
  running: list[tuple[float, bool]] = []  # when it ends, whether waited for
  now = busy = 0.0
  n_waited_for = 0
  while chain or first or behind or running:
    if chain and not n_waited_for:
      call = chain.pop(0)
      first = [seconds[call.plugin]] * call.n_items
      n_waited_for = call.n_items
      behind += [
        seconds[each.plugin]
        for each in ahead
        if each.plugin == call.plugin
        for _ in range(each.n_items)
      ]
      ahead = [each for each in ahead if each.plugin != call.plugin]
    while len(running) < n_threads and (first or behind):
      is_first = bool(first)
      takes = (first or behind).pop(0)
      heapq.heappush(running, (now + takes, is_first))
      busy += takes
    now, is_first = heapq.heappop(running)
    n_waited_for -= is_first
  return busy / (n_threads * now)


class Cores:
  """Threads that stand for cores, and how busy they are.

  Args:
    n_threads: How many.

  Attributes:
    busy_s: Time that all of them have slept, added.
    rendering_s: Time in which at least one of them slept.
  """

  def __init__(self, n_threads: int):
    self.n_threads = n_threads
    self.busy_s = self.rendering_s = 0.0
    self._lock = threading.Lock()
    self._n_busy = 0
    self._began = 0.0
    self._outputs: dict[tuple, np.ndarray] = {}

  @contextlib.contextmanager
  def stand_for(self, plugins: Sequence[Any], seconds: Sequence[float]):
    """Has plugins render by sleeping.

    Args:
      plugins: Which, `effects.LV2Plugin`.
      seconds: What a render of an item takes, of each.
    """
    for plugin, each in zip(plugins, seconds, strict=True):
      plugin.renderer.render = self._sleeper(plugin.renderer, each)
    try:
      yield
    finally:
      for plugin in plugins:
        del plugin.renderer.render  # the class's own is behind it

  def _sleeper(self, renderer: lv2.Renderer, each: float):
    def sleep(item):
      del item
      self._begin()
      time.sleep(each)
      self._end(each)

    def render(audio, *args):
      del args
      with items.Stop(holds_interrupts=False) as stop:
        items.render_all(sleep, len(audio), self.n_threads, stop)
      shape = (*audio.shape[:2], renderer.n_channels_out)
      if shape not in self._outputs:
        noise = np.random.default_rng(0).normal(0.0, 0.1, shape)
        self._outputs[shape] = noise.astype(np.float32)
      return self._outputs[shape]

    return render

  def _begin(self):
    with self._lock:
      if not self._n_busy:
        self._began = time.perf_counter()
      self._n_busy += 1

  def _end(self, each):
    with self._lock:
      self.busy_s += each  # not what waking up takes
      self._n_busy -= 1
      if not self._n_busy:
        self.rendering_s += time.perf_counter() - self._began
