"""Networks of networks in .nam files: one of several sizes, or a chain."""

import functools
from collections.abc import Sequence

from dafx.audio import json_files
from dafx.neural.chain import Chain
from dafx.neural.nam import reading as reading_lib
from dafx.neural.nam.reading import Plan, Weights

_MOST_MODELS = 256
_MOST_VALUE = 1e6


def plan_container(
  config: json_files.Place, weights: Weights, reading: reading_lib.Reading
) -> Plan:
  """Plans the network of a SlimmableContainer that its size calls for.

  All are checked. It is the first whose max_value is above the size, or the
  last. `Reading.plan` says the rest.
  """
  del weights  # each network has its own
  entries = config['submodels'].entries(_MOST_MODELS)
  if not entries:
    raise config['submodels'].error('a list of networks')
  values = [e['max_value'].number(-_MOST_VALUE, _MOST_VALUE) for e in entries]
  for before, value, entry in zip(values, values[1:], entries[1:]):
    if value <= before:
      raise entry['max_value'].error(f'above {before}, that of the one before')
  if values[-1] < 1.0:
    raise entries[-1]['max_value'].error('1 or more, in the last network')
  plans = [reading.plan_audio(entry['model']) for entry in entries]
  return next(
    (p for p, value in zip(plans, values) if reading.size < value), plans[-1]
  )


def uniform(models: Sequence[dict]) -> list[dict]:
  """Returns the submodels of a container, each for an equal range of sizes.

  Args:
    models: What files have for them, from small to large.
  """
  return [
    {'max_value': (i + 1) / len(models), 'model': model}
    for i, model in enumerate(models)
  ]


def plan_sequential(
  config: json_files.Place, weights: Weights, reading: reading_lib.Reading
) -> Plan:
  """Plans the networks of a Sequential as a chain; see `Reading.plan`."""
  if weights.count:
    raise weights.place.error('[]: each network has its own')
  entries = config['models'].entries(_MOST_MODELS)
  if not entries:
    raise config['models'].error('a list of networks')
  plans = [reading.plan_audio(entry) for entry in entries]
  return Plan(functools.partial(_make_chain, plans))


def _make_chain(plans):
  return Chain([plan.make() for plan in plans])
