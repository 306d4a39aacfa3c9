"""How good gradients to the audio are.

    python benchmarks/audio_gradients.py
    python benchmarks/audio_gradients.py --parts=all --n_plugins=20

Cosine with differences along directions:

- chosen: bands of the audio that rise and fall, for the gradient of a squared
  error and of a log-spectral one; and bursts of tones for a cotangent of noise.
- all: all installed effects, each at a random setting, a squared and a
  log-spectral error (minutes).

Seeds are fixed. A line shows the target, what came out, and whether it was
reached.
"""

import zlib

import gradient_systems as systems
import numpy as np
import results
import scipy.signal
from absl import app, flags

from dafx import effects, gradients, lv2
from dafx.lv2 import stimuli

FLAGS = flags.FLAGS
PARTS = ('chosen', 'all')
flags.DEFINE_list('parts', list(PARTS[:1]), f'Of {", ".join(PARTS)}.')
flags.DEFINE_integer('n_plugins', 0, 'Of part all: a sample; 0 for all.')
flags.DEFINE_integer('n_systems', None, 'Of part chosen: the first ones.')

# Calf's equaliser glides to its settings; in the default 1,024 it is not there.
_WARM_UP = 4096
# Random settings can make a plugin blow up. At 80 dB above full scale and more
# there is nothing to be learned but to keep away.
_MAX_PEAK = 1e4
LEFT_OUT = (
  'is 80 dB and more above full scale',
  'is silent or deaf',
  'does not repeat itself',
  'fails',
)


# ---------------------------------------------------------------- Chosen ----
def altered(audio):
  """Returns audio with its treble raised and its level changed."""
  b, a = scipy.signal.butter(1, 1000, 'high', fs=systems.SAMPLE_RATE)
  return (0.6 * (audio + scipy.signal.lfilter(b, a, audio, axis=1))).astype(
    np.float32
  )


def log_spectral_cotangent(signal, target, n_fft=1024):
  """Returns the gradient of the mean of |log |S| - log |T||, mono."""
  window = scipy.signal.windows.hann(n_fft, sym=False)
  gradient = np.zeros(signal.shape)
  for start in range(0, signal.shape[1] - n_fft + 1, n_fft // 4):
    part = (slice(None), slice(start, start + n_fft))
    spectrum, other = (
      np.fft.rfft(window[:, None] * s[part], axis=1) for s in (signal, target)
    )
    size = np.abs(spectrum)
    sign = np.sign(np.log(size + 1e-3) - np.log(np.abs(other) + 1e-3))
    slope = sign / (size + 1e-3) * spectrum / np.maximum(size, 1e-9)
    slope[:, 1:-1] /= 2  # each stands for its conjugate too
    gradient[part] += window[:, None] * np.fft.irfft(slope, n_fft, axis=1)
  return gradient


def tone_bursts(audio, n_directions):
  """Returns bursts of tones of 512 samples, [n_directions, 1, n_samples, 1]."""
  rng = np.random.default_rng(2)
  n_samples = audio.shape[1]
  directions = np.zeros((n_directions, *audio.shape))
  for k in range(n_directions):
    start = rng.integers(700, n_samples - 1300)
    phase = rng.uniform(0, 2 * np.pi)
    tone = np.cos(2 * np.pi * rng.uniform(0.01, 0.4) * np.arange(512) + phase)
    directions[k, 0, start : start + 512, 0] = np.hanning(512) * tone
  return 0.1 * directions


def audio_cosines(make_plugin, audio, ways, n_directions=32, with_tones=True):
  """Compares gradients to the audio with differences.

  Args:
    make_plugin: From an `audio_gradient` to a plugin.
    audio: Shape [1, n_samples, 1].
    ways: Adjoints by name.
    n_directions: Directions for each cotangent.
    with_tones: Whether to look at tones with a cotangent of noise too.

  Returns:
    ({way: [cosine for each cotangent]}, cosines between slopes at 0.01 and
    0.003). None if the plugin is silent.
  """
  plugins = {name: make_plugin(way) for name, way in ways.items()}
  plugin = next(iter(plugins.values()))
  controls = np.zeros((1, 1, 0), np.float32)

  def render(signals, items, backwards=False):
    del backwards
    return plugin.render(signals.astype(np.float32), controls[0 * items])

  one = np.zeros(1, int)
  output = render(audio, one)
  target = render(altered(audio), one)
  bands = gradients.draw_audio_directions(audio, n_directions, seed=1)
  cases = [
    (output - target, bands),
    (log_spectral_cotangent(output, target), bands),
  ]
  if with_tones:
    noise = np.random.default_rng(9).standard_normal(audio.shape)
    noise *= np.hanning(audio.shape[1])[:, np.newaxis]
    cases.append((noise, tone_bursts(audio, 4 * n_directions)))
  if not np.abs(output).max() > 1e-6 or not np.abs(cases[0][0]).max() > 0.0:
    return None
  found, own = {way: [] for way in ways}, []
  for cotangent, directions in cases:
    slopes, finer = (
      gradients.measure_slopes(
        render, audio, cotangent, directions, epsilon=size
      )
      for size in (0.01, 0.003)
    )
    own.append(systems.cosine(slopes, finer))
    for way, each in plugins.items():
      each.input_choice.assign([-1, 0])  # a training has one kind of loss
      gradient = each.gradient_to_audio(
        audio, controls, cotangent.astype(np.float32)
      )
      agreement = gradients.compare_with_slopes(gradient, directions, slopes)
      found[way].append(agreement.cosine)
  return found, own


def measure_chosen(report: results.Report):
  """Measures the gradient to the audio of chosen plugins."""
  ways = {
    'Straight through': gradients.StraightThrough(),
    'Reversal at 0.1': gradients.Reversal(),
    'Gain times filter': gradients.GainFilter(),
    'Best': gradients.BestAdjoint(),
  }
  rows, chosen = [], list(systems.audio_systems())[: FLAGS.n_systems]
  for system in chosen:

    def make(way, system=system):
      return effects.LV2Plugin(
        system.uri,
        (),
        system.settings,
        sample_rate=systems.SAMPLE_RATE,
        audio_gradient=way,
        host=effects.Host(warm_up=_WARM_UP),
      )

    audio = (system.gain * systems.make_audio(16384)).astype(np.float32)
    found, own = audio_cosines(make, audio, ways)
    for i, case in enumerate(('squared', 'log-spectral', 'noise, tones')):
      values = [found[way][i] for way in ways]
      cosines = ', '.join(
        f'{way} {value:.3f}' for way, value in zip(ways, values, strict=True)
      )
      note = f'{cosines}; differences {own[i]:.3f}'
      label = f'{system.name}: {case}'
      report.add('chosen', label, values[-1], system.target, note)
      if case != 'noise, tones':
        rows.append([system.name, case, *values])
  results.write(
    'audio_gradients',
    ['Plugin', 'Loss', *ways],
    rows,
    [system.uri for system in chosen],
    decimals=3,
  )


# ------------------------------------------------------------------- All ----
def choose_plugins() -> list[str]:
  """Returns URIs of installed effects: all, or a sample of --n_plugins."""
  uris = []
  for uri in lv2.list_uris():
    plugin = lv2.get_plugin(uri)
    if plugin.audio_inputs and plugin.audio_outputs:
      uris.append(uri)
  if not FLAGS.n_plugins:
    return uris
  order = np.random.default_rng(0).permutation(len(uris))
  return [uris[i] for i in sorted(order[: FLAGS.n_plugins])]


def random_cosine(uri: str, audio: np.ndarray) -> tuple[float, float] | str:
  """Measures the best gradient of a plugin at a random setting.

  Args:
    uri: URI of the plugin.
    audio: Shape [1, n_samples, 1].

  Returns:
    (mean cosine, cosine between differences of two sizes), or why there is
    none, one of `LEFT_OUT`.
  """
  plugin = lv2.get_plugin(uri).at_rate(systems.SAMPLE_RATE)
  symbols = stimuli.continuous_symbols(plugin)
  rng = np.random.default_rng(zlib.crc32(uri.encode()))
  values = stimuli.random_settings(plugin, symbols, rng)
  settings = {s: float(v) for s, v in zip(symbols, values, strict=True)}

  def make(way):
    return effects.LV2Plugin(
      uri,
      (),
      settings,
      sample_rate=systems.SAMPLE_RATE,
      audio_gradient=way,
      host=effects.Host(warm_up=_WARM_UP, isolation='process', strict=True),
    )

  try:
    probe = make(gradients.NoAudioGradient())
    nothing = np.zeros((2, 1, 0), np.float32)
    first, second = probe.render(np.repeat(audio, 2, axis=0), nothing)
    if (first != second).any():
      return 'does not repeat itself'
    if np.abs(first).max() > _MAX_PEAK:
      return 'is 80 dB and more above full scale'
    result = audio_cosines(
      make,
      audio,
      {'best': gradients.BestAdjoint()},
      n_directions=12,
      with_tones=False,
    )
  except (lv2.PluginError, ValueError) as error:
    print(f'{uri}: {str(error)[:150]}')
    return 'fails'
  if result is None:
    return 'is silent or deaf'
  found, own = result
  return float(np.mean(found['best'])), float(np.mean(own))


def measure_all(report: results.Report):
  """Measures all installed effects, at a random setting each."""
  audio = systems.make_audio(8192)
  uris = choose_plugins()
  left_out, figures = dict.fromkeys(LEFT_OUT, 0), {}
  for uri in uris:
    found = random_cosine(uri, audio)
    if isinstance(found, str):
      left_out[found] += 1
    else:
      figures[uri] = found
  for uri, (value, own) in sorted(figures.items(), key=lambda e: e[1][0]):
    if value < 0.95:
      report.add('all', uri[-58:], value, note=f'differences {own:.3f}')
  values, own = np.array(list(figures.values())).reshape(-1, 2).T
  rows = []
  for name, each, target in (
    ('compared', values, 0.95),
    ('of these, differences of two sizes agree', values[own > 0.99], None),
  ):
    rows.append([name, len(each), np.mean(each), np.median(each)])
    report.add('all', f'{name}: mean of {len(each)}', rows[-1][2], target)
  rows += [
    [f'left out: {why}', n, None, None] for why, n in left_out.items() if n
  ]
  for row in rows[2:]:
    print(*row[:2])
  results.write(
    'all_audio_gradients',
    ['Plugins', 'How many', 'Mean cosine', 'Median'],
    rows,
    uris,
    decimals=3,
  )


def main(argv):
  """Runs the parts and prints what they found."""
  del argv
  unknown = set(FLAGS.parts) - set(PARTS)
  if unknown:
    raise app.UsageError(
      f'--parts={",".join(sorted(unknown))}: there are {", ".join(PARTS)}.'
    )
  report = results.Report()
  measures = (measure_chosen, measure_all)
  for part, measure in zip(PARTS, measures, strict=True):
    if part in FLAGS.parts:
      measure(report)
  results.keep(report.rows)


if __name__ == '__main__':
  app.run(main)
