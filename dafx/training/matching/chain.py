"""A graph as what a search turns: its controls as numbers, its renders."""

import dataclasses
from collections.abc import Mapping, Sequence

import ddsp
import numpy as np
import scipy.fft
import tensorflow as tf

from dafx import core, effects, processors

# An impulse response that stands for a linear plugin: its samples, its height,
# and how far both renders may differ, of the root mean square: a low cut rings
# longer.
_IMPULSE_SAMPLES = 16384
_IMPULSE_HEIGHT = 0.1
_LINEAR_TOLERANCE = 0.02
# Responses that are kept: of trials side by side, and of where they began.
_N_RESPONSES = 16
# Scores of the combination of choices that is taken, and of the others.
_TAKEN, _LEFT = 0.9, 0.1


@dataclasses.dataclass(frozen=True)
class Point:
  """One setting of all that a search turns.

  Attributes:
    controls: In [0, 1], shape [n_controls]: those of all stages with a range.
    choices: Which combination of single values each stage takes, by stage.
  """

  controls: np.ndarray
  choices: tuple[int, ...]


class Stage:
  """A node of the graph, with its part of the controls.

  Attributes:
    name: That of the node.
    node: The node.
    keys: Where its inputs come from: names of stages, or 'audio'.
    driven_by: The input of the graph that sets it; None for none.
    part: Which of all controls are its own.
    n_choices: How many combinations of single values it has; 1 for none.
    is_linear: Whether its impulse response stands for it; see `find_linear`.
  """

  def __init__(
    self,
    node: processors.Node,
    module: tf.Module,
    keys: Sequence[str],
    driven_by: str | None,
    first_control: int,
  ):
    self.name, self.node, self.keys = node.name, node, list(keys)
    self._module = module
    self.driven_by = driven_by
    self.is_linear = False
    known = node.control_map if driven_by is not None else None
    self.n_choices, n_ranged = 1, 0
    if isinstance(known, core.ChoiceMap):
      self.n_choices, n_ranged = len(known.combinations), known.n_ranged
    elif known is not None:
      n_ranged = known.n_controls
    self._known = known
    self._n_ranged = n_ranged
    self.part = slice(first_control, first_control + n_ranged)
    # The audio that was convolved last, and its spectra; the last responses,
    # by size, controls and choice.
    self._convolved: tuple[np.ndarray, np.ndarray] | None = None
    self._responses: dict[tuple, np.ndarray] = {}

  @property
  def n_controls(self) -> int:
    """Number of its controls with a range."""
    return self._n_ranged

  @property
  def symbols(self) -> tuple[str, ...]:
    """Names of its controls, those with a range first."""
    return () if self._known is None else self._known.symbols

  def defaults(self) -> np.ndarray:
    """Returns where the node starts, in [0, 1], [n_controls]."""
    if self._known is None:
      return np.zeros(0)
    return np.asarray(self._known.defaults[: self._n_ranged], np.float64)

  def default_choice(self) -> int:
    """Returns the combination of the node's defaults."""
    if not isinstance(self._known, core.ChoiceMap):
      return 0
    return int(np.argmax(self._known.defaults[self._n_ranged :]))

  def port_values(self, controls: np.ndarray, choice: int) -> np.ndarray:
    """Returns what the ports are set to.

    Args:
      controls: Its own, in [0, 1], [n_controls].
      choice: The combination of single values.

    Returns:
      Port units, [n_symbols], float32.
    """
    if self._known is None:
      return np.zeros(0, np.float32)
    known, n = self._known, self._n_ranged
    values = core.unit_to_range(
      np.clip(controls, 0.0, 1.0), known.low[:n], known.high[:n],
      known.is_log[:n],
    )  # fmt: skip
    if isinstance(known, core.ChoiceMap):
      values = np.append(values, known.combinations[choice])
    return np.asarray(values, np.float32)

  def normalised(self, controls: np.ndarray, choice: int) -> np.ndarray:
    """Returns what the graph's input takes: [0, 1] and scores, [1, n]."""
    if not isinstance(self._known, core.ChoiceMap):
      return np.asarray(controls, np.float32)[np.newaxis]
    scores = np.full(self.n_choices, _LEFT)
    scores[choice] = _TAKEN
    return np.asarray(np.append(controls, scores), np.float32)[np.newaxis]

  def render(
    self, inputs: Sequence[np.ndarray], controls: np.ndarray, choice: int
  ) -> np.ndarray:
    """Renders the node itself, each item from a fresh state.

    Args:
      inputs: Audio, each [n_items, n_samples, n_channels].
      controls: Its own, in [0, 1].
      choice: The combination of single values.

    Returns:
      Audio of that shape, float32.
    """
    values = self.port_values(controls, choice)
    if isinstance(self.node, effects.BlackBoxProcessor):
      # Item by item, so that all is rendered on the thread that asks for it.
      values = values[np.newaxis, np.newaxis]
      parts = [self.node.render(a[np.newaxis], values) for a in inputs[0]]
      return np.concatenate(parts)
    return self._call(inputs, controls, choice)

  def _call(self, inputs, controls, choice):
    """Renders a node of TensorFlow, channels as items where it takes none."""
    n_items, n_samples, n_channels = inputs[0].shape
    folds = not self.node.takes_channels or n_channels == 1
    tensors = [
      tf.constant(np.moveaxis(a, -1, 1).reshape(-1, n_samples) if folds else a)
      for a in inputs
    ]
    if self.driven_by is not None:
      frames = self.normalised(controls, choice)[np.newaxis]
      tensors.append(tf.repeat(frames, tensors[0].shape[0], axis=0))
    self.node.set_length(n_samples)
    signal = np.asarray(self._module(*tensors), np.float32)
    if folds:
      signal = signal.reshape(n_items, n_channels, -1)
      signal = np.moveaxis(signal, 1, -1)
    return signal

  # ---------------------- Impulse responses -----------------------------------
  def impulse_response(self, controls: np.ndarray, choice: int) -> np.ndarray:
    """Returns the response of its first channel, [n_samples]."""
    impulse = np.zeros([1, _IMPULSE_SAMPLES, 1], np.float32)
    impulse[0, 0] = _IMPULSE_HEIGHT
    return self.render([impulse], controls, choice)[0, :, 0] / _IMPULSE_HEIGHT

  def convolve(
    self, audio: np.ndarray, controls: np.ndarray, choice: int
  ) -> np.ndarray:
    """Returns what `render` would, by the impulse response."""
    n_samples = audio.shape[1]
    n_fft = scipy.fft.next_fast_len(n_samples + _IMPULSE_SAMPLES, real=True)
    kept = self._convolved
    if kept is None or kept[0] is not audio:
      kept = (audio, scipy.fft.rfft(audio, n_fft, axis=1))
      self._convolved = kept
    response = self._response(controls, choice, n_fft)
    spectra = kept[1] * response[:, np.newaxis]
    return scipy.fft.irfft(spectra, n_fft, axis=1)[:, :n_samples]

  def _response(self, controls, choice, n_fft):
    """Returns the spectrum of an impulse response, one of the last or anew.

    While stages before this one are moved, it stays.
    """
    key = n_fft, choice, np.asarray(controls).tobytes()
    known = self._responses
    if (response := known.get(key)) is None:
      impulse = self.impulse_response(controls, choice)
      response = scipy.fft.rfft(impulse, n_fft)
      # Replaced as a whole: other threads read it meanwhile.
      latest = list(known.items())[1 - _N_RESPONSES :]
      self._responses = dict([*latest, (key, response)])
    return response

  def find_linear(self, n_channels: int, seed: int):
    """Finds out whether the impulse response stands for the node.

    It does where noise, other in each channel, comes out alike in both ways, at
    the defaults and at a random setting.

    Args:
      n_channels: Channels of the audio.
      seed: Of noise and setting.
    """
    if not (self.node.is_black_box and self.n_controls) or len(self.keys) > 1:
      return
    rng = np.random.default_rng(seed)
    audio = 0.1 * rng.standard_normal([1, 2 * _IMPULSE_SAMPLES, n_channels])
    audio = np.asarray(audio, np.float32)
    settings = self.defaults(), rng.uniform(0.2, 0.8, self.n_controls)
    for controls in settings:
      rendered = self.render([audio], controls, self.default_choice())
      short = self.convolve(audio, controls, self.default_choice())
      if rendered.shape != short.shape:
        return
      error = np.linalg.norm(rendered - short)
      if not error <= _LINEAR_TOLERANCE * np.linalg.norm(rendered):
        return
    self.is_linear = True


class Chain:
  """The stages of a graph, in their order, and renders of all of it.

  Args:
    group: The graph.

  Attributes:
    stages: The nodes; of a chain of plugins, its members.
    n_controls: Number of controls with a range.

  Raises:
    ValueError: Nothing in it can be set, or a node takes inputs that a match
      cannot give.
  """

  def __init__(self, group: ddsp.processors.ProcessorGroup):
    driven = {
      node.name: key
      for key, node in processors.controlled_inputs(group).items()
    }
    self.stages: list[Stage] = []
    self.n_controls = 0
    last_of: dict[str, str] = {}
    modules = processors.modules(group)
    for node, row in zip(processors.nodes(group).values(), group.dag):
      taken = [k for k in processors.node_keys(row) if k not in driven.values()]
      keys = [last_of.get(k.split('/')[0], k) for k in taken]
      for key in keys:
        if key not in ('audio', *last_of.values()):
          raise ValueError(
            f'Node {node.name!r} of the graph takes {key!r}; a match gives '
            "'audio', controls, and what earlier nodes make of them."
          )
      for member in node.members:
        module = modules.get(member.name, member)
        driven_by = driven.get(member.name)
        stage = Stage(member, module, keys, driven_by, self.n_controls)
        self.stages.append(stage)
        self.n_controls = stage.part.stop
        keys = [member.name]
      last_of[node.name] = node.members[-1].name
    n_choices = sum(stage.n_choices - 1 for stage in self.stages)
    if not self.n_controls + n_choices:
      names = ', '.join(stage.name for stage in self.stages)
      raise ValueError(
        f'Nothing in the graph can be set: {names} have no controls that come '
        "from outside. Give a plugin `trainable` controls, and name them in "
        "the graph, as in (@eq/effects.LV2Plugin(), ['audio', 'eq_controls'])."
      )  # fmt: skip

  def start(self) -> Point:
    """Returns the defaults of the nodes."""
    return Point(
      np.concatenate([stage.defaults() for stage in self.stages]),
      tuple(stage.default_choice() for stage in self.stages),
    )

  def find_linear(self, n_channels: int, seed: int = 0):
    """Finds out which stages their impulse response stands for."""
    for stage in self.stages:
      stage.find_linear(n_channels, seed)

  def stage_of(self, control: int) -> int:
    """Returns which stage a control belongs to."""
    stops = [stage.part.stop for stage in self.stages]
    return int(np.searchsorted(stops, control, 'right'))

  def signals(
    self,
    audio: np.ndarray,
    point: Point,
    known: Mapping[str, np.ndarray] | None = None,
    first: int = 0,
  ) -> dict[str, np.ndarray]:
    """Renders all stages, or those that depend on one.

    Args:
      audio: Shape [n_items, n_samples, n_channels].
      point: The setting.
      known: Signals of a setting that differs in one stage alone.
      first: That stage.

    Returns:
      {'audio': the audio, name of the stage: its signal}, each of that shape.
    """
    if known is None:
      signals = {'audio': audio}
      changed = {stage.name for stage in self.stages}
    else:
      signals, changed = dict(known), {self.stages[first].name}
    for stage, choice in zip(self.stages, point.choices, strict=True):
      if not (stage.name in changed or changed & set(stage.keys)):
        continue
      changed.add(stage.name)
      inputs = [signals[key] for key in stage.keys]
      controls = point.controls[stage.part]
      if stage.is_linear:
        signals[stage.name] = stage.convolve(inputs[0], controls, choice)
      else:
        signals[stage.name] = stage.render(inputs, controls, choice)
    return signals

  def output(self, signals: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the signal of the last stage."""
    return signals[self.stages[-1].name]

  def cost(self, first: int = 0) -> int:
    """Returns how many renders of one plugin a change of a stage takes."""
    return len(self.stages) - first

  # ---------------------- What is told of a setting ---------------------------
  def setting(self, point: Point) -> dict[str, np.ndarray]:
    """Returns what the inputs of the graph take, {name: [1, n_controls]}."""
    pairs = zip(self.stages, point.choices, strict=True)
    return {
      stage.driven_by: stage.normalised(point.controls[stage.part], choice)
      for stage, choice in pairs
      if stage.driven_by is not None
    }

  def point(self, setting: Mapping[str, np.ndarray]) -> Point:
    """Returns the point of a setting of the inputs; undoes `setting`."""
    controls, choices = self.start().controls.copy(), []
    for stage in self.stages:
      values = setting.get(stage.driven_by or '')
      choices.append(stage.default_choice())
      if values is not None:
        controls[stage.part] = values[0, : stage.n_controls]
        if stage.n_choices > 1:
          choices[-1] = int(np.argmax(values[0, stage.n_controls :]))
    return Point(controls, tuple(choices))

  def blend(self, point: Point, amount: float) -> Point:
    """Returns a setting on the way from the defaults to another.

    Args:
      point: The other.
      amount: How far, from 0 to 1, each control on its scale. Single values
        are the other's from 0.5 on.
    """
    start = self.start()
    controls = start.controls + amount * (point.controls - start.controls)
    return Point(controls, point.choices if amount >= 0.5 else start.choices)

  def in_port_units(self, point: Point) -> dict[str, dict[str, float]]:
    """Returns all controls that are set, those that are fixed too.

    Returns:
      In port units, {name of the node: {symbol: value}}.
    """
    found = {}
    for stage, choice in zip(self.stages, point.choices, strict=True):
      known = stage.node.control_map
      if known is None:
        continue
      values = dict(known.fixed)
      if stage.driven_by is not None:
        ports = stage.port_values(point.controls[stage.part], choice)
        values.update(zip(known.symbols, ports.tolist(), strict=True))
      found[stage.name] = {s: float(v) for s, v in values.items()}
    return found

  def at_bounds(self, point: Point) -> list[str]:
    """Returns names of controls that ended at a bound, 'stage/symbol'."""
    found = []
    for stage in self.stages:
      for i, value in enumerate(point.controls[stage.part]):
        if not 1e-3 < value < 1.0 - 1e-3:
          found.append(f'{stage.name}/{stage.symbols[i]}')
    return found


def make_group(
  graph: ddsp.processors.ProcessorGroup | Sequence[processors.Node],
) -> ddsp.processors.ProcessorGroup:
  """Returns a graph; of nodes in a row, that in which each feeds the next.

  >>> from dafx import effects, processors
  >>> from dafx.training.matching import chain
  >>> group = chain.make_group([effects.Gain(name='trim')])
  >>> processors.input_names(group.dag)
  ['audio', 'trim_controls']

  Args:
    graph: A group, or nodes that take audio and controls.

  Raises:
    ValueError: There are no nodes.
  """
  if isinstance(graph, ddsp.processors.ProcessorGroup):
    return graph
  dag: list[tuple] = []
  key = 'audio'
  for node in graph:
    dag.append((node, [key, f'{node.name}_controls']))
    key = f'{node.name}/signal'
  if not dag:
    raise ValueError('The graph has no nodes; give a plugin at least.')
  return processors.ProcessorGroup(dag)
