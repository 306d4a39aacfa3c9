"""Reading and writing .nam files."""

import datetime
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dafx import processors
from dafx.audio import disk, json_files, nam_words
from dafx.neural import base
from dafx.neural.chain import Chain
from dafx.neural.conv_net import ConvNet, Linear
from dafx.neural.nam import containers, plain, wavenet
from dafx.neural.nam import metadata as metadata_lib
from dafx.neural.nam import reading as reading_lib
from dafx.neural.packed import Packed
from dafx.neural.recurrent import Rnn
from dafx.neural.wavenet import WaveNet

_OLD, _NEW = nam_words.OLD_VERSION, nam_words.NEW_VERSION
_MOST_BYTES = 2**24
_PLANNERS: Mapping[str, reading_lib.Planner] = {
  'WaveNet': wavenet.plan,
  'LSTM': plain.plan_lstm,
  'ConvNet': plain.plan_conv_net,
  'Linear': plain.plan_linear,
  'SlimmableContainer': containers.plan_container,
  'Sequential': containers.plan_sequential,
}


def read(
  path: str | os.PathLike, size: float = 1.0
) -> tuple[base.SettlingNetwork, float | None]:
  """Reads a .nam file, of versions 0.5 to 0.7.

  WaveNets of any layers, LSTM, ConvNet, Linear, SlimmableContainer and
  Sequential are read as players do. A Linear is the impulse response from time
  0 on (the trainer up to 0.13 reads it backwards), and a WaveNet's layer
  without a linear map gives the next one what it got. Files with unknown keys
  in a layer, with more than one channel in, and chains of bare configs with one
  list of weights (of trainer 0.13) are refused.

  Args:
    path: The file.
    size: Of a file with networks of several sizes, which to take, from 0 to 1,
      the largest.

  Returns:
    The network, and the sample rate in Hz (None where the file has none, by
    which 48 kHz is meant).

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: No .nam file, one with what dafx has no network for, or one that
      is larger than files of such networks are; the message says at which place
      of the file. Or a size that is not from 0 to 1.

  Examples:
    >>> from dafx.neural import nam
    >>> nam.read('no_such.nam')
    Traceback (most recent call last):
    FileNotFoundError: no_such.nam: there is no such file.
  """
  if not 0.0 <= size <= 1.0:
    raise ValueError(f'size is {size}; it is a number from 0 to 1.')
  place = json_files.read(path, _MOST_BYTES)
  reading = reading_lib.Reading(_PLANNERS, size)
  plan = reading.plan_audio(place)
  return plan.make(), reading.sample_rate


def check(model: processors.Node, version: str | None = None):
  """Checks that a .nam file can hold a model.

  Args:
    model: As of `write`.
    version: As of `write`.

  Raises:
    ValueError: It cannot; the message says what is in the way.

  Examples:
    >>> from dafx import neural
    >>> from dafx.neural import nam
    >>> nam.check(neural.Rnn('gru', activation='linear'))
    Traceback (most recent call last):
    ValueError: The .nam format has LSTMs with cell='lstm' alone; ...
  """
  if version not in (None, *nam_words.VERSIONS):
    raise ValueError(
      f'version is {version!r}; dafx writes {" and ".join(nam_words.VERSIONS)}.'
    )
  if isinstance(model, (WaveNet, Rnn)) and model.n_knobs:
    raise ValueError(
      f'{model.name!r} has {model.n_knobs} knob(s), and the .nam format has '
      'none, nor have its players: the size that they choose of a container is '
      'for computing power. Write it at one setting (`at_setting`), or take '
      'export_saved_model, which keeps the knobs.'
    )
  if isinstance(model, WaveNet):
    wavenet.check(model)
    if version == _OLD and not wavenet.is_old(model):
      raise ValueError(
        f'{model.name!r} has parts that version {_OLD} of the format has not; '
        f'{_NEW} has them.'
      )
    if model.condition is not None:
      check(model.condition, version)
  elif isinstance(model, Rnn):
    plain.check_lstm(model)
  elif isinstance(model, (Chain, Packed)):
    if version == _OLD:
      raise ValueError(
        f'Version {_OLD} of the format has no {type(model).__name__}; {_NEW} '
        'has it.'
      )
    for network in model.networks:
      check(network, version)
  elif not isinstance(model, (ConvNet, Linear)):
    raise ValueError(
      f'The .nam format has no {type(model).__name__}: it takes a WaveNet, a '
      "ConvNet, a Linear, an Rnn with cell='lstm' and activation='linear', or "
      'a Chain or Packed of these.'
    )


def write(
  path: str | os.PathLike,
  model: processors.Node,
  sample_rate: float,
  metadata: metadata_lib.Metadata | None = None,
  version: str | None = None,
  measures: bool = True,
):
  """Writes a network as a .nam file.

  An LSTM is written with the state that silence leads to, from which players
  begin.

  Args:
    path: Where to.
    model: A `WaveNet`, `ConvNet`, `Linear`, an `Rnn` of LSTM cells with a
      linear output, or a `Chain` or `Packed` of these; without knobs.
    sample_rate: Rate that it was trained at, in Hz.
    metadata: What else the file says, such as name and gear.
    version: Of the format: '0.5.4', which players of before read, or '0.7.0',
      which the trainer reads from 0.13 on. None for the first that can hold the
      model.
    measures: Whether it says loudness and gain; see `measure`. A `Packed` has
      those of its largest network, and each network its own.

  Raises:
    ValueError: A network that the format has no place for; the message says
      what is in the way.

  Examples:
    >>> import json
    >>> import pathlib
    >>> import tempfile
    >>> from dafx import neural
    >>> from dafx.neural import nam
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   nam.write(f'{folder}/amp.nam', neural.WaveNet('a2_small'), 48000)
    ...   content = json.loads(pathlib.Path(folder, 'amp.nam').read_text())
    >>> content['version']
    '0.7.0'
  """
  check(model, version)
  content = _content(model, sample_rate, version, measures)
  if metadata is not None:
    content['metadata'] |= metadata.to_json()
  with disk.replacing(path) as temporary:
    temporary.write_text(json.dumps(content, allow_nan=False), encoding='utf-8')


def _content(model, sample_rate, version, measures):
  """Returns what a file has for a model."""
  weights: list = []

  def nested(network):
    return _content(network, sample_rate, _NEW, measures)

  if isinstance(model, WaveNet):
    architecture = 'WaveNet'
    if version is None:
      version = _OLD if wavenet.is_old(model) else _NEW
    config = wavenet.config(model, version == _OLD, nested)
    weights = wavenet.weights(model)
  elif isinstance(model, Rnn):
    architecture, config = 'LSTM', plain.lstm_config(model)
    weights = plain.lstm_weights(model)
  elif isinstance(model, ConvNet):
    architecture, config = 'ConvNet', plain.conv_net_config(model)
    weights = plain.conv_net_weights(model)
  elif isinstance(model, Linear):
    architecture, config = 'Linear', plain.linear_config(model)
    weights = plain.linear_weights(model)
  else:
    version, models = _NEW, [nested(network) for network in model.networks]
    if isinstance(model, Packed):
      architecture = 'SlimmableContainer'
      config = {'submodels': containers.uniform(models)}
    else:
      architecture, config = 'Sequential', {'models': models}
  numbers = [float(w) for part in weights for w in np.ravel(part)]
  if not np.all(np.isfinite(numbers)):
    raise ValueError(f'{model.name!r} has weights that are not finite.')
  date = ('year', 'month', 'day', 'hour', 'minute', 'second')
  now = datetime.datetime.now().timetuple()  # begins with these
  metadata: dict[str, Any] = {'date': dict(zip(date, now))}
  if isinstance(model, Packed):
    largest = config['submodels'][-1]['model']['metadata']
    metadata = {**largest, **metadata}
  elif measures and model.n_outputs == 1:
    metadata |= metadata_lib.measure(model)
  return {
    'version': version or _OLD,
    'metadata': metadata,
    'architecture': architecture,
    'config': config,
    'weights': numbers,
    'sample_rate': sample_rate,
  }
