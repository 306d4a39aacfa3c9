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
      for processor in getattr(node, 'plugins', [node]):
        if not hasattr(processor, 'symbols'):
          continue
        kind = getattr(processor, 'uri', type(processor).__name__)
        lines[processor.name] = kind
        for symbol, meaning in _meanings(processor).items():
          lines[f'{processor.name}/{symbol}'] = meaning
    return lines


def _meanings(processor) -> dict[str, str]:
  """Says what a processor's driven and fixed controls mean, by symbol."""
  choices = getattr(processor, 'choices', {})  # of a DiscreteLV2Plugin
  plugin = processor.variants[0] if choices else processor
  plugin = getattr(plugin, 'processor', plugin)  # of a ProxyLV2Plugin
  rows = zip(plugin.symbols, plugin.low, plugin.high, plugin.is_log)
  meanings = {
    symbol: f'from {low:.6g} to {high:.6g}' + (', logarithmic' * bool(is_log))
    for symbol, low, high, is_log in rows
  }
  for symbol, values in choices.items():
    meanings[symbol] = 'one of ' + ', '.join(f'{v:.6g}' for v in values)
  is_lv2 = hasattr(plugin, 'renderer')
  fixed = plugin.renderer.fixed if is_lv2 else plugin.fixed
  # Of these the order says nothing, and gin changes it.
  for symbol, value in sorted(fixed.items()):
    meanings.setdefault(symbol, f'fixed at {value:.6g}')
  return meanings
