"""How gradients are estimated and plugins are run: options, known to gin."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import gin

from dafx import core, gradients, processors

_GRADIENTS = 'dafx.gradients'
_EFFECTS = 'dafx.effects'

for _strategy in (
  gradients.Spsa,
  gradients.CentralDifferences,
  gradients.BestAdjoint,
  gradients.Reversal,
  gradients.GainFilter,
  gradients.StraightThrough,
  gradients.NoAudioGradient,
):
  gin.external_configurable(_strategy, module=_GRADIENTS)
  processors.register_record(_strategy)
processors.register_record(core.ControlMap)


@gin.register(module=_EFFECTS)
@processors.register_record
@dataclasses.dataclass(frozen=True, kw_only=True)
class Host:
  """How a plugin is run; the arguments of `lv2.Renderer` of the same names.

  >>> from dafx import effects
  >>> effects.Host(isolation='process').block_size
  1024

  Args:
    block_size: Largest number of samples per run of the plugin.
    n_threads: Items rendered side by side; all processors by default.
    warm_up: Samples of silence before each item, which hide what plugins do at
      their start.
    compensate_latency: Whether to take the plugin's latency out.
    strict: Whether output that is not finite is an error.
    isolation: Where the plugin runs: 'thread' (of this process) or 'process',
      in which one that crashes or hangs is an lv2.CrashError: it costs a
      training the item, not the run.
    time_limit_s: With isolation='process', seconds after which a render of an
      item counts as hung.
  """

  block_size: int = 1024
  n_threads: int | None = None
  warm_up: int = 1024
  compensate_latency: bool = True
  strict: bool = False
  isolation: str = 'thread'
  time_limit_s: float = 60.0


def default_control_gradient() -> gradients.ControlEstimator:
  """Returns `gradients.Spsa()` as gin has it, in the scope that is open."""
  return gin.get_configurable(f'{_GRADIENTS}.Spsa')()


def default_audio_gradient() -> gradients.AudioAdjoint:
  """Returns `gradients.BestAdjoint()` as gin has it."""
  return gin.get_configurable(f'{_GRADIENTS}.BestAdjoint')()


def default_host() -> Host:
  """Returns `Host()` as gin has it."""
  return gin.get_configurable(f'{_EFFECTS}.Host')()


_EXAMPLES = {
  gradients.ControlEstimator: 'gradients.Spsa()',
  gradients.AudioAdjoint: 'gradients.Reversal()',
  Host: 'effects.Host()',
}
_OF_ESTIMATORS = ('epsilon', 'epsilons', 'epsilon_decay', 'epsilon_decay_steps')
_OF_SPSA = ('n_probes', 'sides', 'memory', 'hold', 'smoothing', 'directions')
# Arguments that plugins and chains had; what to write now in Python, in gin.
_MOVED = {
  'scales': ("ranges={'symbol': (low, high, 'log')}", 'ranges'),
  'gradient': (
    'control_gradient=gradients.Spsa() or CentralDifferences()',
    'control_gradient = @gradients.Spsa()',
  ),
  'input_gradient': (
    'audio_gradient=gradients.BestAdjoint(), Reversal(), GainFilter(), '
    'StraightThrough() or NoAudioGradient()',
    'audio_gradient = @gradients.Reversal()',
  ),
  'input_epsilon': (
    'audio_gradient=gradients.Reversal(epsilon=...) or '
    'BestAdjoint(epsilons=(...,))',
    'gradients.Reversal.epsilon or gradients.BestAdjoint.epsilons',
  ),
  'seed': (
    'run_seed, an attribute, which a training sets to its seed',
    'dafx.training.train.seed',
  ),
  'log_gradients': (
    'gradient_figures(), which a training writes',
    'not needed',
  ),
  **{
    name: (
      f'control_gradient=gradients.Spsa({name}=...) or CentralDifferences',
      f'gradients.Spsa.{name}',
    )
    for name in _OF_ESTIMATORS
  },
  **{
    name: (
      f'control_gradient=gradients.Spsa({name}=...)',
      f'gradients.Spsa.{name}',
    )
    for name in _OF_SPSA
  },
  **{
    field.name: (
      f'host=effects.Host({field.name}=...)',
      f'effects.Host.{field.name}',
    )
    for field in dataclasses.fields(Host)
  },
}


def where_moved(argument: str) -> str:
  """Says where an argument of plugins of 0.1.0 is now; '' if it was none.

  Args:
    argument: Its name.
  """
  if argument not in _MOVED:
    return ''
  in_python, in_gin = _MOVED[argument]
  return f'Since version 0.2.0 it is {in_python}; in gin: {in_gin}.'


def refuse_moved(cls: type, arguments: Mapping[str, Any]):
  """Raises TypeError for an argument of 0.1.0 that a class has no more.

  Args:
    cls: The class that is made.
    arguments: Its arguments by name.

  Raises:
    TypeError: One of them has moved; the message says where to.
  """
  known = inspect.signature(cls).parameters
  for name in arguments:
    if name in _MOVED and name not in known:
      raise TypeError(
        f'{cls.__name__} has no argument {name!r}. {where_moved(name)}'
      )


def check_type(strategy: Any, wanted: type):
  """Raises TypeError for what is no strategy of a kind.

  Args:
    strategy: What was given.
    wanted: `gradients.ControlEstimator`, `gradients.AudioAdjoint` or `Host`.

  Raises:
    TypeError: It is of another type; the message gives an example.
  """
  if not isinstance(strategy, wanted):
    raise TypeError(
      f'{strategy!r} must be a {wanted.__name__}, such as {_EXAMPLES[wanted]}.'
    )


def check_channels(
  adjoint: gradients.AudioAdjoint, n_in: int, n_out: int, name: str
) -> None:
  """Raises ValueError where there is no gradient to the audio.

  Args:
    adjoint: What is to estimate it.
    n_in: Channels that go in.
    n_out: Channels that come out.
    name: Of the processor.

  Raises:
    ValueError: It has none, or none for such channels.
  """
  if adjoint.takes(n_in, n_out):
    return
  if isinstance(adjoint, gradients.NoAudioGradient):
    raise ValueError(
      f'The gradient to the audio of {name!r} is asked for, but its '
      'audio_gradient is NoAudioGradient(). Choose BestAdjoint(), or do not '
      f'train what comes before {name!r}.'
    )
  raise ValueError(
    f'{name!r} makes {n_out} channels of {n_in}: {adjoint} has no gradient for '
    'that. Choose BestAdjoint().'
  )
