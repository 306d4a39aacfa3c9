"""A model's plugins at work on audio in chunks, under controls that move."""

import contextlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
from absl import logging

from dafx import processors
from dafx.audio import sources
from dafx.training.models import control

# Samples between values of the controls, which move in straight lines between
# the frames that the network gives, so that nothing is heard of the frames.
CONTROL_STEP = 64
# Samples that are rendered at a time, about.
_CHUNK = 2**16


class _AtOnce:
  """Stands for a `Streamer` where a group cannot be streamed: keeps it all."""

  def __init__(self, group):
    self._group = group
    self._parts = []

  def process(self, audio, **controls):
    self._parts.append({'audio': audio, **controls})
    return np.zeros([1, 0], np.float32)

  def finish(self):
    inputs = {}
    for key in self._parts[0]:
      values = [part[key] for part in self._parts]
      is_static = key != 'audio' and values[0].shape[1] == 1
      inputs[key] = values[0] if is_static else np.concatenate(values, axis=1)
    for node in processors.nodes(self._group).values():
      node.set_length(inputs['audio'].shape[1])
    return self._group.get_signal(self._group.get_controls(inputs))


def _make_streamer(group, control_step):
  nodes = processors.nodes(group).values()
  # Blocks lie as in the whole audio.
  unit = math.lcm(CONTROL_STEP, *(node.block_size for node in nodes))
  try:
    streamer = processors.Streamer(
      group,
      control_step=control_step,
      latency_step=unit,
      is_compiled=False,
    )
  except ValueError as error:
    logging.info('The audio is held in memory as a whole: %s', error)
    streamer = _AtOnce(group)
  return streamer, unit


def _rated(group):
  nodes = processors.nodes(group).values()
  return [node for node in nodes if node.sample_rate is not None]


def can_run_at(group, sample_rate: int) -> bool:
  """Returns whether all of a DAG can work at a rate, in Hz."""
  return all(
    node.has_free_rate or node.sample_rate == sample_rate
    for node in _rated(group)
  )


@contextlib.contextmanager
def at_rate(group, sample_rate: int):
  """Has the plugins of a DAG work at another rate, in Hz, and then as before.

  A model that was used on a file goes on as it was trained.
  """
  former = [(p, p.sample_rate) for p in _rated(group)]
  try:
    for processor, rate in former:
      if rate != sample_rate and processor.has_free_rate:
        processor.set_sample_rate(sample_rate)
    yield
  finally:
    for processor, rate in former:
      if processor.sample_rate != rate:
        processor.set_sample_rate(rate)


def interpolate(controls, point_times_s, times_s):
  """Draws lines between points; [n, n_controls] both."""
  return np.stack(
    [np.interp(times_s, point_times_s, c) for c in controls.T], axis=-1
  ).astype(np.float32)


class Rendering:
  """Audio under controls, rendered chunk by chunk.

  Plugins run at the rate of the audio, so that nothing of it is lost, but not
  below the model's: controls in Hz may lie above half of a lower rate, where
  filters blow up.

  Args:
    model: A `models.ControlModel`.
    source: The audio.
    points: Controls in [0, 1], {input of the DAG: [n_points, n_controls]}.
    point_times_s: When the points are, [n_points]; None for a setting that does
      not move.

  Attributes:
    frame_times_s: When each frame of the controls begins, [n_frames].
  """

  def __init__(
    self,
    model: control.ControlModel,
    source: sources.Source,
    points: Mapping[str, np.ndarray],
    point_times_s: np.ndarray | None,
  ):
    self._group = model.active_group
    self._rate = max(source.sample_rate, model.sample_rate)
    if not can_run_at(self._group, self._rate):
      self._rate = model.sample_rate
    self._source = source
    self._points = points
    self._point_times_s = point_times_s
    self._heard = sources.resampled(source, self._rate)
    n_frames = -(-self._heard.n_samples // CONTROL_STEP)
    self.frame_times_s = np.arange(n_frames) * CONTROL_STEP / self._rate

  def controls(self, start: int = 0, stop: int | None = None):
    """Returns frames of the controls, {input of the DAG: [n, n_controls]}."""
    if self._point_times_s is None:
      return dict(self._points)
    middles_s = self.frame_times_s[start:stop] + 0.5 * CONTROL_STEP / self._rate
    return {
      key: interpolate(frames, self._point_times_s, middles_s)
      for key, frames in self._points.items()
    }

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields what comes out, [n, n_channels], as many samples as went in."""
    with at_rate(self._group, self._rate):
      yield from self._at_rate_of_source()

  def _at_rate_of_source(self):
    rendered = self._rendered()
    if self._rate == self._source.sample_rate:
      yield from rendered
      return
    first = next(rendered)

    def again():
      yield first
      yield from rendered

    out = sources.Source(
      self._rate, self._heard.n_samples, first.shape[1], again
    )
    yield from sources.resample_blocks(
      out, self._source.sample_rate, self._source.n_samples
    )

  def _rendered(self):
    """Yields blocks at the rate of the plugins, without what was filled up."""
    moves = self._point_times_s is not None
    streamer, unit = _make_streamer(
      self._group, CONTROL_STEP if moves else None
    )

    def parts():
      frame, size = 0, max(_CHUNK // unit, 1) * unit
      for block, _ in sources.windows(self._heard.blocks(), size):
        fill = -len(block) % CONTROL_STEP
        audio = np.pad(block, ((0, fill), (0, 0)))[np.newaxis]
        if audio.shape[-1] == 1:
          audio = audio[..., 0]
        end = frame + audio.shape[1] // CONTROL_STEP
        controls = self.controls(frame, end)
        frame = end
        yield streamer.process(
          audio, **{key: value[np.newaxis] for key, value in controls.items()}
        )
      yield streamer.finish()

    signals = (np.asarray(part)[0] for part in parts() if part.shape[1])
    blocks = (signal.reshape(len(signal), -1) for signal in signals)
    left = self._heard.n_samples
    for block in blocks:
      yield block[:left]
      left -= len(block[:left])
