"""What must hold of every plugin's renders, measured in a worker process."""

import numpy as np

from dafx import lv2
from dafx.lv2 import stimuli
from dafx.lv2.cards import experiments

RATE = 44100
BLOCK_SIZE = 256
_N_ITEMS = 4
_N_SAMPLES = 24 * BLOCK_SIZE  # 0.14 s
_CHUNKS = (1000, 17, 301)  # the rest is the last


def _error(a, b) -> float:
  return float(np.max(np.abs(a - b)))


def measure(uri: str) -> dict:
  """Returns the largest differences between renders that must be equal.

  Args:
    uri: URI of the plugin.

  Returns:
    Of `experiments.repeatability` its errors, and by property: 'fresh' after
    other sound and settings, 'order' of the items reversed, 'threads' two
    instead of one, 'chunks' a stream against one render: of any size where the
    block size makes no difference ('depends_on_block' is false), else of whole
    blocks.
  """
  settings = dict(uri=uri, sample_rate=RATE, block_size=BLOCK_SIZE)
  found = experiments.repeatability(**settings)
  del found['digest']
  plugin = lv2.get_plugin(uri).at_rate(RATE)
  symbols = stimuli.continuous_symbols(plugin)
  rng = np.random.default_rng(1)
  n_channels = max(len(plugin.audio_inputs), 1)
  audio = np.stack(
    [
      stimuli.test_signal(n_channels, _N_SAMPLES, seed).T
      for seed in range(_N_ITEMS)
    ]
  )
  # The first item is at the defaults, the others change once on their way.
  controls = np.stack(
    [
      [stimuli.random_settings(plugin, symbols, rng) for _ in '12']
      for _ in range(_N_ITEMS)
    ]
  )

  def renderer(n_threads=1, **kwargs):
    kwargs = {'block_size': BLOCK_SIZE, **kwargs}
    return lv2.Renderer(
      uri,
      RATE,
      symbols,
      n_threads=n_threads,
      compensate_latency=False,
      **kwargs,
    )

  one = renderer()
  controls[0] = one.default_controls()
  want = one.render(audio, controls).copy()
  one.render(4.0 * audio[:, ::-1], controls[::-1])
  found['fresh'] = _error(one.render(audio, controls), want)
  backwards = one.render(audio[::-1], controls[::-1])[::-1]
  found['order'] = _error(backwards, want)
  two = renderer(2)
  found['threads'] = _error(two.render(audio, controls), want)

  # One setting: control frames are each chunk's own.
  audio, controls = audio[:2], controls[:2, :1]
  whole = one.render(audio, controls).copy()
  found['depends_on_block'] = False
  for n in (64, *_CHUNKS):
    try:
      out = renderer(block_size=n).render(audio, controls)
    except lv2.PluginError:  # it takes powers of two alone
      found['depends_on_block'] = True
    else:
      found['depends_on_block'] |= bool(_error(out, whole))
  sizes = _CHUNKS
  if found['depends_on_block'] or plugin.needs_fixed_block:
    sizes = (BLOCK_SIZE, 3 * BLOCK_SIZE)
  stream = renderer(stateful=True)
  parts = [
    stream.render(chunk, controls)
    for chunk in np.split(audio, np.cumsum(sizes), axis=1)
  ]
  found['chunks'] = _error(np.concatenate(parts, axis=1), whole)
  return found
