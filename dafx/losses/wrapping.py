"""What losses that wrap other losses share."""

from collections.abc import Sequence

import ddsp
import tensorflow as tf

from dafx import core


class WrappedLosses(core.Recorded, ddsp.losses.Loss):
  """Losses of what a subclass makes of target and audio.

  A subclass gives `views`: what the wrapped losses compare.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import losses
    >>> class LouderLoss(losses.WrappedLosses):
    ...   def views(self, target_audio, audio):
    ...     return {'': (target_audio, 2.0 * tf.constant(audio))}
    >>> loss = LouderLoss(losses.TimeDomainLoss(), weight=1.0, name='louder')
    >>> {
    ...   name: float(x)
    ...   for name, x in loss.get_losses_dict([[1.0]], [[0.5]]).items()
    ... }
    {'louder_time_domain_loss': 0.0}
  """

  def __init__(
    self,
    losses: tf.keras.layers.Layer | Sequence[tf.keras.layers.Layer],
    weight: float,
    name: str,
  ):
    """Constructor.

    Args:
      losses: Losses to wrap, each called `(target_audio, audio)`; a list, or
        one loss. Names must differ.
      weight: Factor on all the losses.
      name: Name of the layer; `get_losses_dict` puts it before the names of the
        wrapped losses, as in 'aligned_spectral_loss'.

    Raises:
      ValueError: If there is no loss, or two have one name.
    """
    super().__init__(name=name, autocast=False)
    losses = list(losses) if isinstance(losses, (list, tuple)) else [losses]
    names = [loss.name for loss in losses]
    if not losses or len(set(names)) < len(names):
      raise ValueError(
        f'{type(self).__name__} got losses named {names}; it needs at least '
        'one, and names that differ. Give each loss its own name=.'
      )
    self.wrapped_losses = losses
    self.weight = weight

  def views(
    self, target_audio: tf.Tensor, audio: tf.Tensor
  ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """Returns {suffix of the name: (target, audio)}; losses are their mean."""
    raise NotImplementedError  # abstract

  def get_losses_dict(
    self, target_audio: tf.Tensor, audio: tf.Tensor, **kwargs
  ) -> dict[str, tf.Tensor]:
    """Returns the wrapped losses, {'<name>_<name of the loss>': scalar}.

    Args:
      target_audio: Target audio. Shape [batch, n_samples] or [batch, n_samples,
        n_channels].
      audio: Audio of the same shape.
      **kwargs: Passed on to the wrapped losses; `ddsp.losses.LossGroup` gives
        `training`.

    Returns:
      Dictionary of the weighted losses, scalars.
    """
    views = self.views(target_audio, audio)
    losses_dict = {}
    for suffix, pair in views.items():
      for loss in self.wrapped_losses:
        values = loss.get_losses_dict(*pair, **kwargs)
        for name, value in values.items():
          key = f'{self.name}_{name}{suffix}'
          losses_dict[key] = self.weight / len(views) * value
    return losses_dict

  def call(self, target_audio: tf.Tensor, audio: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the wrapped losses, a scalar."""
    return tf.add_n(list(self.get_losses_dict(target_audio, audio).values()))
