"""What a network set for a file: as CSV, as LV2 presets, as figures."""

import csv
import dataclasses
import os
import pathlib
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.signal

from dafx import core, lv2, processors
from dafx.audio import disk
from dafx.audio import files as audio_files
from dafx.training import plotting

# What is faster than half the highest rate that frames can show is taken out of
# the controls first, by a filter of order 4 without shift of phase (DeepAFx).
_SMOOTHING = scipy.signal.butter(4, 0.5, output='sos')


def smooth(frames: np.ndarray) -> np.ndarray:
  """Takes what is fast out of frames that a network gave; [n, n_values]."""
  if len(frames) < 2:
    return frames
  padding = min(15, len(frames) - 1)
  smoothed = scipy.signal.sosfiltfilt(_SMOOTHING, frames, 0, padlen=padding)
  return smoothed.astype(np.float32)


def control_map_of(node: processors.Node) -> core.ControlMap:
  """Returns the control map of a node that is set from outside."""
  if node.control_map is None:
    raise ValueError(f'{node.name!r} is not set from outside.')
  return node.control_map


def in_port_units(
  driven: Mapping[str, Any], frames: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Maps controls to port units.

  Args:
    driven: The nodes that are set, by the input of the graph that sets them.
    frames: Controls in [0, 1], {input of the graph: [n_frames, n_controls]}.

  Returns:
    {name of the node: [n_frames, n_controls]}.
  """
  audio = np.zeros([1, 1], np.float32)
  return {
    node.name: np.asarray(
      node.get_controls(audio, frames[key][np.newaxis])['controls'][0]
    )
    for key, node in driven.items()
  }


def draw(node: processors.Node, frames: np.ndarray, times_s: np.ndarray):
  """Returns figures of the controls of a node.

  Args:
    node: A plugin, or an effect with controls.
    frames: In port units, [n_frames, n_controls]; one frame for a setting.
    times_s: Times of the frames, [n_frames].
  """
  if node.uri is not None:
    return plotting.plugin_figures(node, frames, times_s)
  known = control_map_of(node)
  return [
    plotting.control_trajectories(
      frames,
      symbols=known.symbols,
      units=known.units,
      ranges=list(zip(known.low, known.high)),
      logarithmic=[bool(log) for log in known.is_log],
      frame_times_s=times_s[: len(frames)],
      title=f'{node.name}: {node.identity}',
    )
  ]


def of_batch(
  nodes: Sequence[processors.Node],
  port_values: Mapping[str, Any],
  seconds: float,
) -> tuple[dict[str, np.ndarray], dict[str, list]]:
  """Returns what is shown of a batch.

  Args:
    nodes: What was set.
    port_values: Tensors in port units by node, [batch, n_frames, n_controls].
    seconds: Length of an item.

  Returns:
    (Arrays by control, figures of the first item by node).
  """
  values, plots = {}, {}
  for node in nodes:
    frames = port_values[node.name].numpy()
    for i, symbol in enumerate(control_map_of(node).symbols):
      values[f'controls/{node.name}/{symbol}'] = frames[..., i]
    times_s = np.arange(frames.shape[1]) * seconds / frames.shape[1]
    plots[f'controls/{node.name}'] = draw(node, frames[0], times_s)
  return values, plots


@dataclasses.dataclass(frozen=True)
class _Curve:
  """How a curve is drawn."""

  symbol: str
  unit: str
  span: tuple[float, float]
  is_log: bool


_CURVES = {
  'f0_hz': _Curve('pitch', 'Hz', (30.0, 4000.0), True),
  'loudness_db': _Curve('loudness', 'dB', (-80.0, 20.0), False),
}


@dataclasses.dataclass(frozen=True)
class Automation:
  """What a network set for one piece of audio; of an effect it is empty.

  Attributes:
    nodes: What was set, in the order of the graph.
    points: What trajectories are drawn through, smoothed, in port units, by
      node, [n_points, n_controls].
    raw_points: The same as the network gave them.
    point_times_s: When the points are, [n_points].
    moves: Whether the network gives controls that move in time.
    curves: What the network heard, where that is not audio: 'f0_hz' and
      'loudness_db', [n_points] each.
  """

  nodes: Sequence[processors.Node] = ()
  points: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  raw_points: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  point_times_s: np.ndarray = dataclasses.field(
    default_factory=lambda: np.zeros(0)
  )
  moves: bool = False
  curves: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def figures(self, raw: bool = False) -> list:
    """Returns figures of the controls of all nodes.

    Args:
      raw: Whether to draw them as the network gave them, not smoothed.
    """
    points = self.raw_points if raw else self.points
    return [
      plotting.control_trajectories(
        values[:, np.newaxis],
        symbols=[_CURVES[name].symbol],
        units=[_CURVES[name].unit],
        ranges=[_CURVES[name].span],
        # Where no pitch was found it is 0 Hz.
        logarithmic=[_CURVES[name].is_log and values.min() > 0.0],
        frame_times_s=self.point_times_s,
        title=_CURVES[name].symbol,
      )
      for name, values in self.curves.items()
    ] + [
      figure
      for node in self.nodes
      for figure in draw(node, points[node.name], self.point_times_s)
    ]

  def write(self, base: pathlib.Path):
    """Writes it beside an audio file.

    Trajectories become <base>.controls.csv. Of a setting that does not move,
    plugins get LV2 presets in <base>.presets/.

    Args:
      base: Path of the audio file, without its suffix.
    """
    if not self.nodes and not self.curves:
      return
    if self.moves:
      write_controls(self, base.with_name(f'{base.name}.controls.csv'))
    else:
      write_presets(self, preset_folder(base), base.name)


def write_controls(
  automation: Automation, path: str | os.PathLike, raw: bool = False
):
  """Writes controls as CSV: a column per control, with its unit.

  A row is a point of the trajectories, in the middle of one of the network's
  frames; between them a control moves in a straight line, on its scale.

  Args:
    automation: What was set.
    path: The file.
    raw: Whether to write them as the network gave them, not smoothed.
  """
  points = automation.raw_points if raw else automation.points
  header, columns = ['time_s'], [automation.point_times_s]
  for name, values in automation.curves.items():
    header.append(name)
    columns.append(values)
  for node in automation.nodes:
    known = control_map_of(node)
    names = zip(known.symbols, known.units, strict=True)
    for i, (symbol, unit) in enumerate(names):
      header.append(f'{node.name}/{symbol}' + (f' [{unit}]' if unit else ''))
      columns.append(points[node.name][:, i])
  with (
    disk.replacing(path) as temporary,
    open(temporary, 'w', newline='', encoding='utf-8') as file,
  ):
    writer = csv.writer(file)
    writer.writerow(header)
    for row in zip(*columns, strict=True):
      writer.writerow([f'{value:.6g}' for value in row])


def write_presets(
  automation: Automation, folder: str | os.PathLike, label: str
) -> list[pathlib.Path]:
  """Writes a setting that does not move as presets of its plugins.

  Args:
    automation: What was set, with one frame of controls.
    folder: Gets a bundle per plugin. Where it is on LV2_PATH, hosts show them.
    label: Name of the presets; see `preset_label`.

  Returns:
    Paths of the bundles.
  """
  paths = []
  for node in automation.nodes:
    if node.uri is None:
      continue
    known = control_map_of(node)
    ports = lv2.get_plugin(node.uri).controls
    values = {
      **{
        symbol: value
        for symbol, value in node.port_values.items()
        if not ports[symbol].per_sample_rate
      },
      **known.fixed,
      **dict(zip(known.symbols, automation.points[node.name][0])),
    }
    values = {symbol: float(value) for symbol, value in values.items()}
    values |= node.parameter_values
    name = f'{preset_label(label)} ({node.name})'
    from_preset = node.state_preset or None
    paths.append(lv2.write_preset(folder, node.uri, name, values, from_preset))
  return paths


def preset_label(name: str) -> str:
  """Returns the name of a file as a preset may be called.

  Args:
    name: The name; what a host would not show of it (line breaks, bytes that
      are no text) becomes '_'.
  """
  return ''.join(
    '_' if unicodedata.category(c) in ('Cc', 'Cs') else c for c in name
  )


def preset_folder(base: pathlib.Path) -> pathlib.Path:
  """Returns where the presets of an output lie; `base` has no suffix."""
  return base.with_name(f'{base.name}.presets')


def describe_presets(
  outputs: Sequence[pathlib.Path], node: processors.Node
) -> str:
  """Says where presets were written, and how a host finds them.

  Args:
    outputs: The audio files that they lie beside.
    node: The first one that was set.

  Returns:
    Text for people.
  """
  bases = audio_files.without_suffixes(outputs)
  folder = preset_folder(bases[0])
  more = f', and {len(bases) - 1} more like it' if len(bases) > 1 else ''
  return (
    f"LV2 presets in {folder}{more}, named '{preset_label(bases[0].name)} "
    f"({node.name})' and so on. To use them:\n"
    f'  mkdir -p ~/.lv2 && cp -r {shlex.quote(str(folder))}/*.preset.lv2 '
    '~/.lv2/\n'
    'and start your DAW anew: they are in the preset menu of each plugin.'
  )
