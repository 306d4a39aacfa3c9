"""Flags of dafx_run that become options of `Model.render`."""

from typing import Any

from absl import flags

from dafx.commands import instrument_flags

_NAMES = ('n_plugins', 'amount', 'size', *instrument_flags.NAMES)


def options_of(values: flags.FlagValues, model: Any) -> dict[str, Any]:
  """Returns the options that flags give.

  Args:
    values: All flags of the command.
    model: The `models.Model`.

  Raises:
    ValueError: A flag that the kind of model has no use for.
  """
  knobs = [float(knob) for knob in values.knobs or ()] or None
  given = {**{name: values[name].value for name in _NAMES}, 'knobs': knobs}
  options = {name: value for name, value in given.items() if value is not None}
  flags_of = {f'--{name}': name for name in options}
  if values.single_dir:
    flags_of['--single_dir'] = 'setting'
  for flag, option in flags_of.items():
    try:
      model.check_options([option])
    except ValueError as error:
      raise ValueError(f'{flag} is not for this model: {error}') from error
  return options
