"""What a checkpoint depends on: written with it, compared when it is read."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

from absl import logging

from dafx import core, processors
from dafx.audio import json_files
from dafx.training import needed_plugins

# Ports whose values differ by less, in parts, are the same.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Description:
  """What a checkpoint depends on.

  Attributes:
    depends: What its weights are for, by name: see `Model.depends`.
    ports: Values of the ports that nobody set, by node and symbol.
    versions: Versions of the plugins by node.
    losses: What was trained.
    learning_rate: What it began at; None if it was not noted.

  Examples:
    >>> from dafx.training import descriptions
    >>> saved = descriptions.Description({'encoder': 'LogMelEncoder'})
    >>> descriptions.Description.from_json(saved.to_json()) == saved
    True
  """

  depends: Mapping[str, str]
  ports: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  losses: Sequence[str] | None = None
  learning_rate: float | None = None

  def to_json(self) -> str:
    """Returns it as JSON."""
    return json.dumps(dataclasses.asdict(self))

  @classmethod
  def from_json(cls, text: str | bytes) -> 'Description':
    """Returns what `to_json` wrote; what 0.2.0 wrote is `depends` alone.

    Raises:
      ValueError: It is something else.
    """
    content = json_files.parse(text, 'The description of a checkpoint')
    if 'depends' not in content.fields():
      return cls(_texts(content))
    ports = content['ports'].fields().items()
    losses, rate = content.get('losses'), content.get('learning_rate')
    return cls(
      _texts(content['depends']),
      {
        node: {k: float(v.number()) for k, v in values.fields().items()}
        for node, values in ports
      },
      _texts(content['versions']),
      None if losses is None else [loss.text() for loss in losses.entries()],
      None if rate is None else float(rate.number()),
    )


def _texts(place):
  return {key: value.text() for key, value in place.fields().items()}


def describe(model, learning_rate: float | None = None) -> Description:
  """Describes all that a checkpoint of a model depends on.

  Args:
    model: A `models.Model`.
    learning_rate: At the start of the training.
  """
  members = members_of(model)
  return Description(
    depends=model.depends(),
    ports={n: dict(m.port_values) for n, m in members.items() if m.port_values},
    versions={name: m.version for name, m in members.items() if m.version},
    losses=[core.describe(loss) for loss in model.loss_objs],
    learning_rate=learning_rate,
  )


def members_of(model) -> dict[str, processors.Node]:
  """Returns the nodes of a model by name, plugins of chains one by one."""
  nodes = processors.nodes(model.processor_group).values()
  return {member.name: member for node in nodes for member in node.members}


def differences(
  saved: Mapping[str, str], ours: Mapping[str, str]
) -> dict[str, str]:
  """Says in what two `Description.depends` differ.

  An argument ('encoder.gain') that one of them lacks is of a later version of
  dafx; the other one had no choice there.

  Args:
    saved: Of the checkpoint.
    ours: Of the model that is set up now.

  Returns:
    Sentences by name; {} where nothing differs.
  """
  is_old = 'model' not in saved  # of 0.2.0: the controls alone
  found = {}
  for key in {**saved, **ours}:
    one, other = saved.get(key), ours.get(key)
    is_argument = '.' in key.rsplit('/', 1)[-1] or key in ('model', 'graph')
    if one == other or (is_argument and (is_old or None in (one, other))):
      continue
    there = 'not there' if one is None else one
    found[key] = f'{key}: {there}; now {other or "not there"}'
  if not found:
    order = [key for key in saved if key in ours]
    if order != [key for key in ours if key in saved]:
      found['order'] = f'its controls are in another order: {", ".join(saved)}'
  return found


def check(saved: Mapping[str, str], ours: Mapping[str, str]):
  """Raises ValueError where a checkpoint is of something else.

  Args:
    saved: `Description.depends` of the checkpoint.
    ours: Of the model that is set up now.

  Raises:
    ValueError: They differ; the message says in what.
  """
  found = list(differences(saved, ours).values())
  if found:
    more = f'; and {len(found) - 3} more' if len(found) > 3 else ''
    raise ValueError('. '.join(found[:3]) + more)


def check_setting(
  folder: str, saved: Mapping[str, str], ours: Mapping[str, str]
):
  """Raises ValueError for a single setting of other controls.

  Args:
    folder: The run that found it.
    saved: What its controls mean.
    ours: What those of the model mean that is to take it.
  """
  try:
    check(saved, ours)
  except ValueError as error:
    raise ValueError(
      f'--single_dir={folder} was trained for controls that mean something '
      f'else ({error}). Train it anew, with single_setting.gin after the same '
      'gin files.'
    ) from error


def take_up(model, saved: Description, is_ours: bool = False):
  """Has plugins sound as they did: sets ports whose defaults have changed.

  What differs is logged as a warning: versions, and defaults.

  Args:
    model: The model, which is set up as it was saved.
    saved: What its checkpoint says.
    is_ours: Whether it comes with dafx. Then it is known which versions of its
      plugins sound alike, and only others are told.

  Raises:
    ValueError: A plugin that does not take a value of before.
  """
  members = members_of(model)
  others = [
    f'{name} is of version {node.version}; the model was trained with '
    f'{saved.versions[name]}'
    for name, node in members.items()
    if saved.versions.get(name, node.version) != node.version
  ]
  if is_ours:
    uris = [node.uri for node in members.values()]
    needed_plugins.warn_of_untested(filter(None, uris))
  elif others:
    logging.warning('%s. Listen to whether it sounds alike.', '. '.join(others))
  for name, node in members.items():
    now, before = node.port_values, saved.ports.get(name, {})
    changed = {
      symbol: value
      for symbol, value in before.items()
      if symbol in now and abs(now[symbol] - value) > _TOLERANCE * abs(value)
    }
    gone = sorted(set(before) - set(now))
    if gone and not is_ours:
      logging.warning(
        '%s had controls which it has no more: %s.', name, ', '.join(gone)
      )
    if changed:
      _hold(name, node, changed, now)


def _hold(name, node, changed, now):
  """Sets ports to what they were, and says so."""
  words = '; '.join(
    f'{symbol} at {value:g}, not at its default of now, {now[symbol]:g}'
    for symbol, value in changed.items()
  )
  try:
    node.hold_ports(changed)
  except ValueError as error:
    raise ValueError(
      f'{name} was trained with {words}, and does not take that now: {error}'
    ) from error
  logging.warning('%s runs as it was trained: %s.', name, words)
