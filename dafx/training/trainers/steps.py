"""Steps of a training: gradients, clipped, and updates by them."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from dafx import processors
from dafx.training.trainers import windows

# What is trained now: number of plugins, whether one setting for all.
Kind = tuple[int | None, bool]


# AutoGraph would read and rewrite the source of all that a step calls, DDSP's
# and Keras's too: half of the first step and more. Python's `if` and `for` over
# tensors need it; a function that has them is to be a tf.function itself.
graph = functools.partial(tf.function, autograph=False)


@contextlib.contextmanager
def unchanged_at_faults(variables: Sequence[tf.Variable]) -> Iterator[None]:
  """Sets variables back where what changes them fails on its way.

  Args:
    variables: Of one replica. What they hold is copied once it changes.
  """
  before = [tf.convert_to_tensor(variable) for variable in variables]
  try:
    yield
  except BaseException:  # Ctrl-C too: what is saved is of whole steps
    for variable, value in zip(variables, before, strict=True):
      variable.assign(value)
    raise


class Steps:
  """Takes steps of a model in this process, which is alone.

  Args:
    model: The `models.Model`.
    optimizer: Keras's.
    grad_clip_norm: As of `Trainer`.
    rate_multipliers: As of `Trainer`.
    tbptt_samples: As of `Trainer`.
  """

  def __init__(
    self,
    model: tf.keras.Model,
    optimizer: tf.keras.optimizers.Optimizer,
    grad_clip_norm: float | None,
    rate_multipliers: Mapping[str, float],
    tbptt_samples: int | None,
  ):
    self.model = model
    self.optimizer = optimizer
    self.grad_clip_norm = grad_clip_norm
    self.rate_multipliers = rate_multipliers
    self.tbptt_samples = tbptt_samples

  def take(
    self, batch: Mapping[str, tf.Tensor], kind: Kind
  ) -> dict[str, tf.Tensor]:
    """Takes one step; returns {name of loss: value before the updates}.

    Where it fails, variables are as they were before.

    Args:
      batch: Features, {'audio', 'target', ...}.
      kind: What is trained.

    Raises:
      ValueError: Crops that hold no window of `tbptt_samples`.
    """
    with unchanged_at_faults(self.changed_variables()):
      if self.tbptt_samples is None:
        return self._update(batch, kind)
      return self._update_by_windows(batch, self.tbptt_samples)

  def local(self, variables: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Returns variables as this worker has them.

    Args:
      variables: Of the model or the optimizer.
    """
    return list(variables)

  def changed_variables(self) -> list[tf.Variable]:
    """Returns the variables that a step changes which fails on its way."""
    if self.tbptt_samples is None:
      return self.local(self.model.non_trainable_variables)
    return self.local([*self.model.variables, *self.optimizer.variables])

  @graph
  def _update(self, batch, kind):
    del kind  # not a tensor: each kind has a graph of its own
    losses, gradients = self._gradients_of(batch)
    return {**losses, 'gradient_norm': self._apply(gradients)}

  def _gradients_of(self, batch):
    with tf.GradientTape() as tape:
      _, losses = self.model(batch, return_losses=True, training=True)
    return losses, self._find_gradients(tape, losses)

  def _update_by_windows(self, batch, size):
    """Goes through a batch window by window; returns mean losses."""
    settling = self.model.settling(batch['audio'].shape[1])
    parts, n_silent = windows.cut(batch, size, settling)
    losses, state = self._update_first_window(*parts[: n_silent + 1])
    rows = [losses]
    for part in parts[n_silent + 1 :]:
      losses, state = self._update_window(part, state)
      rows.append(losses)
    return {key: tf.reduce_mean([r[key] for r in rows]) for key in rows[0]}

  def _update_first_window(self, *parts):
    """Lets the state settle in all windows but the last, and updates there.

    Where the start is trained, its gradient comes through all of them.
    """
    if not self.model.learns_start:
      return self._update_window(parts[-1], self._settle_before(parts))
    losses, gradients, state = self._find_from_start(*parts)
    return {**losses, 'gradient_norm': self._apply(gradients)}, state

  def _find_from_start(self, *parts):
    with tf.GradientTape() as tape:
      losses, state = self._run_window(parts[-1], self._settle_before(parts))
    return losses, self._find_gradients(tape, losses), state

  def _settle_before(self, parts):
    """Returns the state in which the last of some windows begins."""
    state = self.model.initial_state(parts[0]['audio'].shape[0])
    for part in parts[:-1]:
      state = self._settle(part, state)
    return state

  @graph
  def _run_window(self, part, state):
    return self.model.stream(state, part)[1:]

  @graph
  def _settle(self, part, state):
    return self.model.stream(state, part)[2]

  @graph
  def _update_window(self, part, state):
    losses, gradients, state = self._gradients_of_window(part, state)
    return {**losses, 'gradient_norm': self._apply(gradients)}, state

  def _gradients_of_window(self, part, state):
    with tf.GradientTape() as tape:
      _, losses, state = self.model.stream(state, part)
    return losses, self._find_gradients(tape, losses), state

  def _find_gradients(self, tape, losses) -> dict[str, Any]:
    """Returns gradients by the number of their variable.

    The heads of plugins that do not run have none.
    """
    variables = self.model.trainable_variables
    gradients = tape.gradient(losses['total_loss'], variables)
    return {
      str(i): gradient
      for i, gradient in enumerate(gradients)
      if gradient is not None
    }

  def _apply(self, gradients):
    """Updates the variables; returns the norm of all gradients together."""
    variables = self.model.trainable_variables
    pairs = [
      (gradients[k], variables[int(k)]) for k in sorted(gradients, key=int)
    ]
    found = [gradient for gradient, _ in pairs]
    norm = tf.linalg.global_norm(found)
    if self.grad_clip_norm is not None:
      found, _ = tf.clip_by_global_norm(
        found, self.grad_clip_norm, use_norm=norm
      )
    # Adam is deaf to the size of a gradient: what is scaled is the update.
    nodes = processors.modules(self.model.processor_group)
    scaled = [
      (factor, variable, tf.identity(variable))
      for name, factor in self.rate_multipliers.items()
      for variable in nodes[name].trainable_variables
    ]
    self.optimizer.apply_gradients(
      [(g, v) for g, (_, v) in zip(found, pairs)],
      # They are those of all workers by now.
      skip_gradients_aggregation=True,
    )
    for factor, variable, before in scaled:
      variable.assign(before + factor * (variable - before))
    return norm
