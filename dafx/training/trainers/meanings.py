"""What a model's controls mean: weights that set them mean nothing without."""

from collections.abc import Mapping

from dafx import processors


def describe_controls(model) -> dict[str, str]:
  """Says what a model drives, and what the values of it mean.

  Args:
    model: With a `processor_group`.

  Returns:
    The URI (or class) by processor that has controls, and by processor/symbol
    the range and scale, or the value at which it is fixed. Driven controls lie
    in the order of what drives them.
  """
  lines = {}
  for node in processors.nodes(model.processor_group).values():
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


def check_controls(saved: Mapping[str, str], ours: Mapping[str, str]):
  """Raises ValueError for controls that mean something else.

  Args:
    saved: What `describe_controls` said of a model that was saved.
    ours: What it says of the one that is set up now.

  Raises:
    ValueError: They differ; the message says in what.
  """
  if list(saved.items()) == list(ours.items()):
    return
  keys = [k for k in {**saved, **ours} if saved.get(k) != ours.get(k)]
  if not keys:
    names = ', '.join(saved)
    raise ValueError(f'its controls are in another order: {names}')
  parts = [
    f'{key}: {saved.get(key, "not there")}; now {ours.get(key, "not there")}'
    for key in keys[:3]
  ]
  more = f'; and {len(keys) - 3} more' if len(keys) > 3 else ''
  raise ValueError('. '.join(parts) + more)
