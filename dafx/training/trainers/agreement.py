"""What must agree before a training begins: rates, features, stages."""

import itertools
import json
import pathlib
import secrets
import time
from collections.abc import Mapping, Sequence

import gin
import tensorflow as tf

import dafx
from dafx import core, processors
from dafx.training.trainers import stages as stages_lib

# Seconds for which a disk that hosts share may show one of them what was there
# before, as NFS does of folders; and between looks.
_FOLDER_S, _POLL_S = 60.0, 0.5


def check_agreement(
  model,
  providers: Sequence,
  stages: Sequence[tuple[int, int]] = (),
  single_fraction: float = 0.0,
):
  """Compares a model with what it is to be trained on, and how.

  Args:
    model: The `models.Model`.
    providers: The `data.Provider`s of training and validation.
    stages: (number of plugins, number of steps) of each stage.
    single_fraction: Part of the steps in which one setting is learned.

  Raises:
    ValueError: The model has no losses; data or a node of the graph have
      another rate than the model; the data lack a feature that the model needs,
      or have other knobs; or stages do not fit the plugins. The message says
      what to bind.
  """
  if not model.loss_objs:
    raise ValueError(
      f'{type(model).__name__} has no losses, so nothing can be trained. Bind '
      'its losses, such as losses = [@losses.SpectralLoss()].'
    )
  _check_rates(model, providers)
  for provider in providers:
    _check_features(model, provider)
  stages_lib.check_stages(model, stages, single_fraction)


def check_multipliers(multipliers: Mapping[str, float], model):
  """Raises ValueError for factors of the learning rate that are none.

  Args:
    multipliers: Factor by node of the graph.
    model: The `models.Model`.

  Raises:
    ValueError: A node that there is not, or a factor below 0.
  """
  if not multipliers:
    return
  known = list(processors.nodes(model.processor_group))
  for name, factor in multipliers.items():
    if name not in known or not factor >= 0.0:
      raise ValueError(
        f'rate_multipliers has {name!r}: {factor}; it must be a factor of at '
        f'least 0 for a node of the graph: {", ".join(known)}.'
      )


def check_settings(workers: core.Workers):
  """Compares versions and settings of the workers of a training.

  A model is made by all of them together. Where their settings make other ones,
  they would wait for each other: so this comes before.

  Args:
    workers: Who trains.

  Raises:
    ValueError: A worker has others than the chief.
  """
  if workers.n_workers > 1:
    _compare(workers, _settings())


def check_workers(workers: core.Workers, model, providers: Sequence, seed: int):
  """Compares what the workers of a training are about to do.

  Args:
    workers: Who trains.
    model: The `models.Model`.
    providers: The `data.Provider`s of training and validation.
    seed: Of the run.

  Raises:
    ValueError: A worker has other versions, settings or data than the chief;
      the message names the first difference.
  """
  if workers.n_workers == 1:
    return
  nodes = processors.nodes(model.processor_group).values()
  members = [member for node in nodes for member in node.members]
  _compare(
    workers,
    {
      **_settings(),
      **{f'version of {m.identity}': m.version for m in members if m.version},
      'seed': str(seed),
      'model': json.dumps(model.depends(), sort_keys=True, indent=0),
      **{f'data ({i})': p.summary() for i, p in enumerate(providers)},
    },
  )


def _settings():
  return {
    'version of dafx': dafx.__version__,
    'version of TensorFlow': tf.__version__,
    # TensorFlow reduces among GPUs or among processors.
    'what runs the network': (
      'a GPU' if tf.config.get_visible_devices('GPU') else 'processors'
    ),
    'settings': gin.config_str(),
  }


def _compare(workers, ours):
  """Raises ValueError that names the first difference from the chief's."""
  said = workers.exchange(ours)
  for index, theirs in enumerate(said):
    for what in dict.fromkeys([*said[0], *theirs]):
      chief, other = said[0].get(what, 'none'), theirs.get(what, 'none')
      if chief != other:
        workers.agree_to_end()
        chief, other = _first_difference(chief, other)
        raise ValueError(
          f'Workers differ in {what}: {workers.name(0)} has {chief!r}, '
          f'{workers.name(index)} has {other!r}. Start all with the same '
          'command, data, plugins and versions.'
        )


def _first_difference(ours, theirs):
  """Returns the first lines in which two texts differ."""
  pairs = itertools.zip_longest(
    ours.splitlines(), theirs.splitlines(), fillvalue='nothing'
  )
  return next(((a, b) for a, b in pairs if a != b), (ours, theirs))


def check_folder(workers: core.Workers, folder: pathlib.Path | None):
  """Raises ValueError unless all workers see the folder of the run.

  Args:
    workers: Who trains.
    folder: Where it is saved; None for nowhere.
  """
  if workers.n_workers == 1 or folder is None:
    return
  token = secrets.token_hex(8) if workers.is_chief else ''
  # A name that no host has asked for before, and thus remembers.
  token = workers.exchange(token)[0]
  mark = folder / f'.workers_{token}'
  if workers.is_chief:
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
  workers.exchange('')  # now it is there
  said = workers.exchange(_comes(mark))
  if workers.is_chief:
    mark.unlink(missing_ok=True)
  if not all(said):
    workers.agree_to_end()
    raise ValueError(
      f'{workers.name(said.index(False))} does not see the folder {folder} of '
      f'{workers.name(0)}. Take a save_dir on a disk that all hosts share.'
    )


def _comes(path):
  """Whether a file that another host has made is there, or comes soon."""
  limit = time.monotonic() + _FOLDER_S
  while not path.is_file():
    if time.monotonic() > limit:
      return False
    time.sleep(_POLL_S)
  return True


def check_step(workers: core.Workers, step: int):
  """Raises ValueError unless all workers begin at the same step.

  Args:
    workers: Who trains.
    step: At which this one begins.
  """
  said = workers.exchange(step)
  if len(set(said)) > 1:
    workers.agree_to_end()
    index = next(i for i, each in enumerate(said) if each != said[0])
    raise ValueError(
      f'{workers.name(0)} goes on from step {said[0]}, {workers.name(index)} '
      f'from step {said[index]}: their disk shows them other files. Wait a '
      'while, and start them again.'
    )


def _check_rates(model, providers):
  kind = type(model).__name__
  for provider in providers:
    if provider.sample_rate != model.sample_rate:
      raise ValueError(
        f'{type(provider).__name__} gives audio of {provider.sample_rate} Hz, '
        f'and {kind} is set up for {model.sample_rate} Hz. Set the macro '
        'sample_rate, which data, encoder and plugins share.'
      )
    if None not in (model.frame_rate, provider.frame_rate) and (
      provider.frame_rate != model.frame_rate
    ):
      raise ValueError(
        f'{type(provider).__name__} gives {provider.frame_rate} frames per '
        f'second, and {kind} is set up for {model.frame_rate}. Give both the '
        'same frame_rate: that of the records.'
      )
  for node in processors.nodes(model.processor_group).values():
    for member in node.members:
      if member.sample_rate not in (None, model.sample_rate):
        raise ValueError(
          f'Node {member.name!r} of the graph works at '
          f'{member.sample_rate:g} Hz, and {kind} is set up for '
          f'{model.sample_rate} Hz. Set the macro sample_rate, which data, '
          'encoder and plugins share.'
        )


def _check_features(model, provider):
  given = provider.features
  missing = [key for key in [*model.inputs_used, 'target'] if key not in given]
  if missing:
    advice = ''
    if 'knobs' in missing:
      advice = (
        ' A model with knobs needs data at several settings: recordings with '
        'the settings in their names, or the macro plugin_knobs.'
      )
    elif 'target' not in missing:
      advice = (
        ' An input of the graph is a feature of the data, what a head gives '
        '(output_splits), or what an earlier node does: correct the name, or '
        'take data that have it.'
      )
    raise ValueError(
      f'{type(model).__name__} takes {", ".join(model.inputs_used)}, and '
      f'{type(provider).__name__} gives {", ".join(given)}: '
      f'{", ".join(missing)} is missing.{advice}'
    )
  nodes = processors.nodes(model.processor_group).values()
  n_knobs = max((node.n_knobs for node in nodes), default=0)
  if 'knobs' in model.inputs_used and given['knobs'] != [n_knobs]:
    raise ValueError(
      f'{type(provider).__name__} gives {given["knobs"][-1]} knobs, and '
      f'{type(model).__name__} takes {n_knobs}. Set the macro n_knobs, in '
      'which a switch counts once for each of its positions.'
    )
