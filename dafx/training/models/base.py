"""What is trained and used: the class that all models keep."""

import tensorflow as tf

from dafx import processors


class Model(tf.keras.Model):
  """What is trained and used.

  Attributes:
    processor_group: The graph, as the user wrote it.
    sample_rate: Rate of the audio, in Hz.
  """

  def meanings(self) -> dict[str, str]:
    """Describes the controls, so that weights for others are refused.

    Returns:
      The URI (or class) by processor that has controls, and by processor/symbol
      the range and scale, or the value at which it is fixed. Driven controls
      lie in the order of what drives them.
    """
    lines = {}
    for node in processors.nodes(self.processor_group).values():
      for member in node.members:
        if member.control_map is None:
          continue
        lines[member.name] = member.identity
        for symbol, meaning in member.control_map.describe().items():
          lines[f'{member.name}/{symbol}'] = meaning
    return lines
