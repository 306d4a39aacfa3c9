"""Renders as sleeps of their measured time, on more threads than processors.

What a sleep takes of a processor is next to nothing, so that the threads stand
for as many cores. All else of a step is as it is: threads and locks, NumPy, the
network, and the order in which TensorFlow runs them.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dafx import lv2
from dafx.lv2 import items


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
