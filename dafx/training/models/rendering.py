"""A graph at work on audio in chunks, under frames that may move."""

import contextlib
import math
import pathlib
from collections.abc import Iterator, Mapping

import ddsp
import numpy as np
from absl import logging

from dafx import processors
from dafx.audio import sources
from dafx.training.models import outputs

# Samples between values of the controls, which move in straight lines between
# the frames that the network gives, so that nothing is heard of the frames.
CONTROL_STEP = 64
# Samples that are rendered at a time, about.
_CHUNK = 2**16


@contextlib.contextmanager
def at_length(group, n_samples: int):
  """Has the synthesisers of a DAG make so many samples, and then as before."""
  nodes = list(processors.nodes(group).values())
  former = [node.length for node in nodes]
  try:
    for node in nodes:
      node.set_length(n_samples)
    yield
  finally:
    for node, length in zip(nodes, former):
      if length is not None:
        node.set_length(length)


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
    with at_length(self._group, inputs['audio'].shape[1]):
      return self._group.get_signal(self._group.get_controls(inputs))


def _make_streamer(group, control_step, n_items):
  nodes = processors.nodes(group).values()
  # Blocks and frames lie as in the whole audio.
  sizes = [math.lcm(node.block_size, node.frame_size) for node in nodes]
  unit = math.lcm(control_step or CONTROL_STEP, *sizes)
  streamer: processors.Streamer | _AtOnce
  try:
    streamer = processors.Streamer(
      group,
      n_items,
      control_step=control_step,
      latency_step=unit,
      is_compiled=not any(node.is_black_box for node in nodes),
    )
  except ValueError as error:
    # What could be done about it is meant for a `Streamer`.
    reason, _, _ = str(error).partition(':')
    logging.info('The audio is held in memory as a whole: %s.', reason)
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


def goes_whole(group) -> bool:
  """Returns whether channels go through a DAG together, not each by itself."""
  return all(node.takes_channels for node in processors.nodes(group).values())


def check_channels(group, n_channels: int):
  """Raises ValueError for audio of so many channels that a DAG does not take.

  Args:
    group: The graph.
    n_channels: Channels of its audio.
  """
  if not goes_whole(group):
    return
  nodes = processors.nodes(group)
  counts = {'audio': n_channels}
  for row in group.dag:
    heard = [counts[key] for key in processors.node_keys(row) if key in counts]
    if heard:
      counts[f'{row[0]}/signal'] = nodes[row[0]].n_channels_out(heard[0])


def interpolate(controls, point_times_s, times_s):
  """Draws lines between points; [n, n_controls] both."""
  return np.stack(
    [np.interp(times_s, point_times_s, c) for c in controls.T], axis=-1
  ).astype(np.float32)


class Rendering:
  """Audio through a graph, chunk by chunk, under frames for its inputs.

  The length of the audio costs time and no memory but for the frames; unless a
  node of the graph cannot stream, which is logged. Channels go through the
  graph together if all nodes take them, otherwise each as an item of its own.
  A graph without black boxes is compiled.

  Args:
    group: The graph; None where it is not run.
    source: The audio.
    sample_rate: Rate that the graph runs at, in Hz: audio is brought to it and
      back.
    points: Frames of the inputs of the graph besides audio, by name, [n_points,
      n_values].
    point_times_s: When the points are, [n_points]; None for frames that hold.
    driven: The nodes that inputs set, by the name of the input.
    automation: What a network set, to be written and drawn.
    control_step: Samples between values of inputs that move.

  Attributes:
    group: As above.
    automation: As above.
    heard: The audio at the rate of the graph.
    frame_times_s: When each frame of the controls begins, [n_frames].
  """

  def __init__(
    self,
    group: ddsp.processors.ProcessorGroup | None,
    source: sources.Source,
    sample_rate: int,
    points: Mapping[str, np.ndarray],
    point_times_s: np.ndarray | None = None,
    driven: Mapping[str, processors.Node] | None = None,
    automation: outputs.Automation | None = None,
    control_step: int = CONTROL_STEP,
  ):
    self.group = group
    self._rate = sample_rate
    self._source = source
    self._points = points
    self._point_times_s = point_times_s
    self._driven = dict(driven or {})
    self.automation = automation or outputs.Automation()
    self._step = control_step
    self.heard = sources.resampled(source, self._rate)

  @property
  def frame_times_s(self) -> np.ndarray:
    """When each frame of the controls begins, [n_frames]."""
    n_frames = -(-self.heard.n_samples // self._step)
    return np.arange(n_frames) * self._step / self._rate

  def _frames(self, start, stop):
    """Returns frames of the inputs, {name: [n, n_values]}."""
    if self._point_times_s is None:
      return dict(self._points)
    starts_s = np.arange(start, stop) * self._step / self._rate
    middles_s = starts_s + 0.5 * self._step / self._rate
    return {
      key: interpolate(frames, self._point_times_s, middles_s)
      for key, frames in self._points.items()
    }

  def controls(self) -> dict[str, np.ndarray]:
    """Returns controls as they are rendered.

    Returns:
      In port units, {name of the node: [n_frames, n_controls]}; one frame if
      they do not move.
    """
    frames = self._frames(0, -(-self.heard.n_samples // self._step))
    return outputs.in_port_units(self._driven, frames)

  def figures(self) -> list:
    """Returns figures of what was set."""
    return self.automation.figures()

  def write_beside(self, base: pathlib.Path):
    """Writes what was set beside an audio file; see `Automation.write`.

    Args:
      base: Path of the audio file, without its suffix.
    """
    self.automation.write(base)

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields what comes out, [n, n_channels], as many samples as went in."""
    with at_rate(self.group, self._rate):
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
      self._rate, self.heard.n_samples, first.shape[1], again
    )
    yield from sources.resample_blocks(
      out, self._source.sample_rate, self._source.n_samples
    )

  def _rendered(self):
    """Yields blocks at the rate of the graph, without what was filled up."""
    moves = self._point_times_s is not None
    folds = not goes_whole(self.group)
    n_items = self.heard.n_channels if folds else 1
    streamer, unit = _make_streamer(
      self.group, self._step if moves else None, n_items
    )

    def parts():
      frame, size = 0, max(_CHUNK // unit, 1) * unit
      for block, _ in sources.windows(self.heard.blocks(), size):
        audio = np.pad(block, ((0, -len(block) % self._step), (0, 0)))
        end = frame + len(audio) // self._step
        # [n_items, n_samples(, n_channels)]
        audio = audio.T if folds else audio[np.newaxis]
        if audio.shape[-1] == 1 and not folds:
          audio = audio[..., 0]
        frames = self._frames(frame, end)
        frame = end
        yield streamer.process(
          audio,
          **{
            key: np.repeat(value[np.newaxis], n_items, axis=0)
            for key, value in frames.items()
          },
        )
      yield streamer.finish()

    left = self.heard.n_samples
    for part in parts():
      if not part.shape[1]:
        continue
      signal = np.asarray(part)  # [n_items, n_samples(, n_channels)]
      # The channels of all items lie side by side.
      block = np.moveaxis(signal, 0, 1).reshape(signal.shape[1], -1)
      yield block[:left]
      left -= len(block[:left])


class Untouched(Rendering):
  """Audio as it is, where nothing of a graph is done.

  Args:
    source: The audio.
  """

  def __init__(self, source: sources.Source):
    super().__init__(None, source, source.sample_rate, {})

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields the audio, [n, n_channels]."""
    yield from self._source.blocks()
