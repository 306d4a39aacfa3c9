"""How good gradients are for what they cost in plugin renders.

    python benchmarks/gradients.py
    python benchmarks/gradients.py --parts=audio --all_plugins --json=audio.json

Parts:

- parameters: cosine of the gradient to the controls with central differences.
- audio: cosine of the gradient to the audio with differences along directions:
  bands of the audio that rise and fall, for the gradient of a squared error and
  of a log-spectral one; and, as the first measurements had it, bursts of tones
  for a cotangent of noise. --all_plugins goes through all that is installed, at
  random settings (minutes).
- trajectories, chain: how many renders learning takes, of every estimator, of
  finite differences and of CMA-ES; see learning.py, which needs the package cma
  (minutes each, not by default).

Seeds are fixed. Each line shows the target, what came out, and whether it was
reached.
"""

import json
import zlib

import numpy as np
import scipy.signal
from absl import app, flags

from dafx import effects, gradients, lv2
from dafx.lv2 import stimuli

FLAGS = flags.FLAGS
flags.DEFINE_list('parts', ['parameters', 'audio'], 'Parts to run.')
flags.DEFINE_bool('all_plugins', False, 'Audio: all installed effects too.')
flags.DEFINE_integer('n_plugins', 0, 'With --all_plugins: a sample; 0 for all.')
flags.DEFINE_string('json', '', 'File to write figures to.')

_LEARNING = ('trajectories', 'chain')
_PARTS = ('parameters', 'audio', *_LEARNING)

_CALF = 'http://calf.sourceforge.net/plugins/'
_LSP = 'http://lsp-plug.in/plugins/lv2/'
_TUBE = 'http://invadarecords.com/plugins/lv2/tube/mono'
_SAMPLE_RATE = 22050
_HOP_SIZE = 1024
_N_FRAMES = 20
# Calf's equaliser glides to its settings; in the default 1,024 it is not there.
_WARM_UP = 4096
# Random settings can make a plugin blow up. At 80 dB above full scale and more
# there is nothing to be learned but to keep away.
_MAX_PEAK = 1e4


def make_audio(n_samples: int) -> np.ndarray:
  """Returns decaying chords over soft noise, shape [1, n_samples, 1]."""
  t = np.arange(n_samples) / _SAMPLE_RATE
  decay = np.exp(-3.0 * (2.0 * t % 1.0))
  tones = ((110, 0.3), (220, 0.2), (440, 0.15), (1500, 0.1), (5000, 0.05))
  audio = sum(a * decay * np.sin(2 * np.pi * f * t) for f, a in tones)
  audio += 0.02 * np.random.default_rng(0).standard_normal(n_samples)
  return audio.astype(np.float32)[np.newaxis, :, np.newaxis]


def cosine(a, b) -> float:
  """Returns the cosine between two arrays, 0 if one of them is zero."""
  size = np.linalg.norm(a) * np.linalg.norm(b)
  return float((a * b).sum() / size) if size > 0.0 else 0.0


class Report:
  """Prints figures beside their targets and keeps them."""

  def __init__(self):
    self.rows = []

  def add(self, part, name, value, target=None, note=''):
    """Prints and keeps one figure; the target is what it must reach."""
    reached = None if target is None else bool(value >= target)
    self.rows.append(
      dict(part=part, name=name, value=value, target=target, reached=reached)
    )
    wanted = '' if target is None else f'at least {target:.2f}'
    verdict = {None: '', True: 'reached', False: 'MISSED'}[reached]
    print(f'{name:58} {value:6.3f}  {wanted:14} {verdict:8} {note}', flush=True)


# ------------------------------------------------------------ Parameters ----
def parameter_systems():
  """Yields (name, plugin, number of frames, targets by number of probes)."""
  bands = range(4)
  yield (
    'Calf multiband compressor, 12 x 20',
    effects.LV2Plugin(
      _CALF + 'MultibandCompressor',
      [
        f'{kind}{b}' for b in bands for kind in ('threshold', 'ratio', 'makeup')
      ],
      {f'bypass{b}': 0 for b in bands},
      sample_rate=_SAMPLE_RATE,
    ),
    _N_FRAMES,
    {1: 0.30, 4: 0.50, 16: 0.85},
  )
  yield (
    'Invada tube, 3 x 20',
    effects.LV2Plugin(
      _TUBE,
      ['drive', 'dcoffset', 'mix'],
      sample_rate=_SAMPLE_RATE,
    ),
    _N_FRAMES,
    {1: 0.40, 4: 0.75, 16: 0.90},
  )
  yield (
    'LSP graphic equaliser, 33 static',
    effects.LV2Plugin(
      _LSP + 'graph_equalizer_x32_mono',
      [*(f'g_{band}' for band in range(32)), 'g_out'],
      sample_rate=_SAMPLE_RATE,
    ),
    1,
    {1: 0.15, 4: 0.35, 16: 0.65},
  )


def measure_parameters(report: Report, n_points: int = 2, n_seeds: int = 6):
  """Measures the gradient to controls, at a few points and for a few seeds."""
  audio = make_audio(_N_FRAMES * _HOP_SIZE)
  n_samples = audio.shape[1]
  for name, plugin, n_frames, targets in parameter_systems():
    points = []
    for seed in range(n_points):
      rng = np.random.default_rng(seed)
      shape = (1, n_frames, plugin.n_controls)
      steady = (1, 1, plugin.n_controls)
      controls = rng.uniform(0.3, 0.7, steady) + rng.uniform(-0.05, 0.05, shape)
      wanted = controls + rng.uniform(-0.15, 0.15, steady)
      wanted = np.clip(wanted + rng.uniform(-0.1, 0.1, shape), 0.0, 1.0)

      def render(points, items, plugin=plugin):
        values = plugin.control_map.to_port_units(points).astype(np.float32)
        return plugin.render(audio[items], values)

      base = render(controls, np.zeros(1, int))
      error = (base - render(wanted, np.zeros(1, int))) / n_samples
      references = [
        gradients.CentralDifferences(epsilon=size).estimates(
          render, controls, error
        )[0]
        for size in (0.005, 0.02)
      ]
      points.append((render, controls, error, base, references))
    agreement = np.mean([cosine(*point[-1]) for point in points])
    report.add('parameters', f'{name}: references at 0.005, 0.02', agreement)

    def quality(n_probed=n_frames, points=points, n_frames=n_frames, **options):
      found = []
      estimator = gradients.Spsa(**options)
      for render, controls, error, base, references in points:
        spread = np.repeat(controls, n_probed // n_frames, axis=1)
        for seed in range(n_seeds):
          estimate = estimator.estimates(
            render, spread, error, signal=base, seed=seed
          ).mean(0)
          if n_probed > n_frames:
            estimate = estimate.sum(1, keepdims=True)
          found.append(cosine(estimate, sum(references)))
      return float(np.mean(found))

    for n_probes, target in targets.items():
      # A static setting is perturbed in frames, as LV2Plugin does it.
      n_probed = n_frames
      if n_frames == 1:
        n_probed = gradients.frames_of_probes(
          plugin.measure_memory, n_samples, plugin.n_controls, n_probes
        )
      memory = plugin.measure_memory(n_samples, n_probed)
      # Smoothed where a frame's own probes do not tell its controls apart.
      smoothing = 2 if n_frames > 1 and n_probes < plugin.n_controls else 0
      value = quality(
        n_probed, n_probes=n_probes, memory=memory, smoothing=smoothing
      )
      label = f'{name}: {n_probes} probes, smoothing {smoothing}'
      report.add('parameters', label, value, target)
      whole = quality(n_probes=n_probes, memory=None, directions='rademacher')
      report.add('parameters', '  whole item, Rademacher', whole)
      if n_frames > 1 and n_probes == 4:
        ratio = value / whole
        report.add('parameters', '  ratio to the whole item', ratio, 3.0)
      for other, options in (
        (f'not smoothed, memory auto ({memory})', {}),
        ('not smoothed, Rademacher', dict(directions='rademacher')),
        ('not smoothed, one-sided', dict(sides=1)),
        ('not smoothed, memory 0', dict(memory=0)),
        ('not smoothed, memory 1', dict(memory=1)),
        ('not smoothed, memory 2', dict(memory=2)),
      ):
        if n_frames > 1 or 'memory' not in other:
          options = dict(memory=memory) | options
          value = quality(n_probed, n_probes=n_probes, **options)
          report.add('parameters', f'  {other}', value)


# ----------------------------------------------------------------- Audio ----
def audio_systems():
  """Yields (name, URI, settings, gain of the audio)."""
  bands = {f'bypass{band}': 0 for band in range(4)}
  yield 'LSP limiter', _LSP + 'limiter_mono', {}, 1.0
  yield 'Calf multiband compressor', _CALF + 'MultibandCompressor', bands, 1.0
  yield (
    'Calf 8-band EQ',
    _CALF + 'Equalizer8Band',
    dict(ls_active=1, ls_level=4, p1_active=1, p1_level=0.1, p1_freq=800),
    1.0,
  )
  yield 'Calf reverb', _CALF + 'Reverb', {}, 1.0
  yield 'LSP compressor', _LSP + 'compressor_mono', dict(al=0.05), 1.0
  yield 'Calf vintage delay', _CALF + 'VintageDelay', {}, 1.0
  # 18 dB is all that the plugin gives; 2 more come with the audio.
  drive = dict(drive=18, mix=100)
  yield 'Invada tube, driven by 20 dB', _TUBE, drive, 10 ** (2 / 20)
  yield (
    'Calf compressor, hard',
    _CALF + 'Compressor',
    dict(threshold=0.02, ratio=8, attack=2, release=50),
    1.0,
  )


def hard_systems():
  """Yields more systems like those, which have no target."""
  hard = dict(alr=0, boost=1, th=0.1)
  yield 'LSP limiter, 20 dB of limiting', _LSP + 'limiter_mono', hard, 1.0
  bands = {f'bypass{band}': 0 for band in range(4)}
  bands.update({f'threshold{band}': 0.02 for band in range(4)})
  bands.update({f'ratio{band}': 8 for band in range(4)})
  yield 'Calf multiband, hard', _CALF + 'MultibandCompressor', bands, 1.0


def altered(audio):
  """Returns audio with its treble raised and its level changed."""
  b, a = scipy.signal.butter(1, 1000, 'high', fs=_SAMPLE_RATE)
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
    own.append(cosine(slopes, finer))
    for way, each in plugins.items():
      each.input_choice.assign([-1, 0])  # a training has one kind of loss
      gradient = each.gradient_to_audio(
        audio, controls, cotangent.astype(np.float32)
      )
      agreement = gradients.compare_with_slopes(gradient, directions, slopes)
      found[way].append(agreement.cosine)
  return found, own


def measure_audio(report: Report):
  """Measures the gradient to the audio of chosen plugins."""
  others = {
    'straight through': gradients.StraightThrough(),
    'reversal': gradients.Reversal(),
    'gain times filter': gradients.GainFilter(),
  }
  ways = {**others, 'best': gradients.BestAdjoint()}
  systems = [(*system, 0.99) for system in audio_systems()]
  systems += [(*system, None) for system in hard_systems()]
  for name, uri, settings, gain, target in systems:

    def make(way, uri=uri, settings=settings):
      return effects.LV2Plugin(
        uri,
        (),
        settings,
        sample_rate=_SAMPLE_RATE,
        audio_gradient=way,
        host=effects.Host(warm_up=_WARM_UP),
      )

    audio = (gain * make_audio(16384)).astype(np.float32)
    found, own = audio_cosines(make, audio, ways)
    for i, case in enumerate(('squared', 'log-spectral', 'noise, tones')):
      cosines = ', '.join(f'{w} {found[w][i]:.3f}' for w in others)
      note = f'{cosines}; differences {own[i]:.3f}'
      report.add('audio', f'{name}: {case}', found['best'][i], target, note)


def measure_all_plugins(report: Report, n_plugins: int):
  """Measures it for all installed effects, at a random setting each."""
  audio = make_audio(8192)
  uris = lv2.list_uris()
  if n_plugins:
    order = np.random.default_rng(0).permutation(len(uris))
    uris = [uris[i] for i in sorted(order[:n_plugins])]
  figures, left_out = {}, {}
  for uri in uris:
    plugin = lv2.get_plugin(uri).at_rate(_SAMPLE_RATE)
    if not (plugin.audio_inputs and plugin.audio_outputs):
      left_out.setdefault('no effect', []).append(uri)
      continue
    symbols = stimuli.continuous_symbols(plugin)
    rng = np.random.default_rng(zlib.crc32(uri.encode()))
    values = stimuli.random_settings(plugin, symbols, rng)
    settings = {s: float(v) for s, v in zip(symbols, values, strict=True)}

    def make(way, uri=uri, settings=settings):
      return effects.LV2Plugin(
        uri,
        (),
        settings,
        sample_rate=_SAMPLE_RATE,
        audio_gradient=way,
        host=effects.Host(warm_up=_WARM_UP, isolation='process', strict=True),
      )

    try:
      probe = make(gradients.NoAudioGradient())
      nothing = np.zeros((2, 1, 0), np.float32)
      first, second = probe.render(np.repeat(audio, 2, axis=0), nothing)
      if (first != second).any():
        left_out.setdefault('not repeatable', []).append(uri)
        continue
      if np.abs(first).max() > _MAX_PEAK:
        left_out.setdefault('blows up', []).append(uri)
        continue
      result = audio_cosines(
        make,
        audio,
        {'best': gradients.BestAdjoint()},
        n_directions=12,
        with_tones=False,
      )
    except (lv2.PluginError, ValueError) as error:
      left_out.setdefault('fails', []).append(f'{uri}: {error}')
      continue
    if result is None:
      left_out.setdefault('silent or deaf', []).append(uri)
      continue
    found, own = result
    figures[uri] = float(np.mean(found['best'])), float(np.mean(own))
  ranked = sorted(figures.items(), key=lambda entry: entry[1][0])
  for uri, (value, own) in ranked:
    if value < 0.95:
      report.add('all', uri[-58:], value, note=f'differences {own:.3f}')
  values, own = np.array(list(figures.values())).T
  print({reason: len(found) for reason, found in left_out.items()})
  for text in left_out.get('fails', []):
    print(f'  {text[:150]}')
  report.add('all', f'Mean over {len(values)} effects', values.mean(), 0.95)
  report.add('all', 'Median', float(np.median(values)))
  is_smooth = own > 0.99
  report.add(
    'all',
    f'Mean over the {is_smooth.sum()} whose differences agree (0.99)',
    values[is_smooth].mean(),
  )


def main(argv):
  """Runs the parts and prints what they found."""
  del argv
  parts = FLAGS.parts
  unknown = set(parts) - set(_PARTS)
  if unknown:
    raise app.UsageError(
      f'--parts={",".join(sorted(unknown))}: there are {", ".join(_PARTS)}.'
    )
  report = Report()
  if 'parameters' in parts:
    measure_parameters(report)
  if 'audio' in parts:
    measure_audio(report)
    if FLAGS.all_plugins:
      measure_all_plugins(report, FLAGS.n_plugins)
  if set(parts) & set(_LEARNING):
    import learning  # which needs cma

    for name in _LEARNING:
      if name in parts:
        learning.run(name)
  if FLAGS.json:
    with open(FLAGS.json, 'w', encoding='utf-8') as file:
      json.dump(report.rows, file, indent=1)
      file.write('\n')


if __name__ == '__main__':
  app.run(main)
