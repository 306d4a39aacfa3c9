"""Exact filters and dynamics against the usual ways, in time and in error.

    python benchmarks/filters.py
    python benchmarks/filters.py --seconds=1 --write_results

Filters: an equaliser of five sections on a batch of noise, forwards and
backwards, by `core.sosfilt` and by one-FFT frequency sampling (the responses of
all sections on the grid of one FFT over the whole audio, as dasp and NablAFx
have it). Errors are against `scipy.signal.sosfilt` in float64, for gradients
against SciPy's filters run backwards and, for settings, against central
differences of SciPy's output; frequencies go down to 20 Hz.

Dynamics: attack and release by `core.ballistics` and by `tf.scan`. The scan is
timed on a part and its time is proportional to the length.

All times are of the processor, and medians of runs that take turns.
"""

import time

import dafx  # isort: skip  What makes TensorFlow's Keras the one of DDSP.
import numpy as np
import results
import scipy.signal
import tensorflow as tf
from absl import app, flags

from dafx import core

FLAGS = flags.FLAGS
flags.DEFINE_integer('batch_size', 8, 'Items.')
flags.DEFINE_float('seconds', 3.0, 'Length of an item.')
flags.DEFINE_integer('n_runs', 5, 'Runs of each.')

SAMPLE_RATE = 48000
TYPES = ['low_shelf', 'peak', 'peak', 'peak', 'high_shelf']
LOW_HZ = [20, 20, 200, 2000, 4000]
HIGH_HZ = [2000, 200, 2000, 12000, 16000]
N_SCAN_SAMPLES = 2400
# What is asked for.
TARGETS = {
  'filter speed-up': (10, 'at least'),
  'filter error': (1e-5, 'at most'),
  'filter gradient error': (1e-3, 'at most'),
  'dynamics speed-up': (300, 'at least'),
  'dynamics gradient error': (1e-5, 'at most'),
}


def random_settings(rng, n_frames):
  """Returns f0_hz, q and gain_db, each [batch, n_frames, 5], float64."""
  shape = [FLAGS.batch_size, n_frames, len(TYPES)]
  f0_hz = np.exp(rng.uniform(np.log(LOW_HZ), np.log(HIGH_HZ), shape))
  q = np.exp(rng.uniform(np.log(0.1), np.log(10), shape))
  return f0_hz, q, rng.uniform(-12, 12, shape)


def frequency_sampling(audio, sos):
  """Filters by the responses on the grid of one FFT; [batch, n_samples]."""
  n_samples = audio.shape[1]
  n_fft = 2 ** int(np.ceil(np.log2(2 * n_samples - 1)))
  sos = tf.cast(sos[:, 0], tf.float32)
  above = tf.signal.rfft(sos[..., :3], [n_fft])
  below = tf.signal.rfft(sos[..., 3:], [n_fft])
  response = tf.reduce_prod(above / below, axis=1)
  spectrum = tf.signal.rfft(audio, [n_fft]) * response
  return tf.signal.irfft(spectrum, [n_fft])[:, :n_samples]


def with_gradients(function):
  """Returns a compiled function to (output, gradients of weights * output)."""

  @tf.function
  def run(weights, *inputs):
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      out = function(*inputs)
      total = tf.reduce_sum(out * tf.cast(weights, out.dtype))
    return out, tape.gradient(total, inputs)

  return run


def seconds_of(runs):
  """Times callables, which take turns; returns their medians."""
  for run in runs:
    run()
  times = [[] for _ in runs]
  for _ in range(FLAGS.n_runs):
    for run, of_run in zip(runs, times):
      start = time.process_time()
      for tensor in tf.nest.flatten(run()):
        tensor.numpy()
      of_run.append(time.process_time() - start)
  return [float(np.median(of_run)) for of_run in times]


def relative_error(value, reference):
  """Returns the norm of the difference over the reference's."""
  difference = np.asarray(value, np.float64) - reference
  return float(np.linalg.norm(difference) / np.linalg.norm(reference))


def scipy_filter(audio, settings):
  """Filters in float64 by SciPy; [batch, n_samples]."""
  sos = core.design_biquads(TYPES, *settings, sample_rate=SAMPLE_RATE).numpy()
  return np.stack([scipy.signal.sosfilt(s[0], x) for s, x in zip(sos, audio)])


def scipy_gradients(audio, settings, weights):
  """Gradients of weights * output, to the audio and to each setting."""
  backwards = scipy_filter(weights[:, ::-1], settings)[:, ::-1]
  gradients = [backwards]
  for which in range(3):
    gradient = np.zeros_like(settings[which])
    for k in range(len(TYPES)):
      moved = []
      for sign in (1, -1):
        at = [s.copy() for s in settings]
        # By a part of each value, for q and frequencies of all sizes.
        step = 1e-5 if which == 2 else 1e-5 * at[which][:, 0, k]
        at[which][:, 0, k] += sign * step
        moved.append(np.sum(weights * scipy_filter(audio, at), axis=1))
      gradient[:, 0, k] = (moved[0] - moved[1]) / (2 * step)
    gradients.append(gradient)
  return gradients


def measure_filters():
  """Compares filters; returns figures by name."""
  rng = np.random.default_rng(0)
  n_samples = int(FLAGS.seconds * SAMPLE_RATE)
  shape = [FLAGS.batch_size, n_samples]
  audio, weights = (
    rng.standard_normal(shape).astype(np.float32) for _ in range(2)
  )
  settings = random_settings(rng, 1)
  n_frames = -(-n_samples // 128)
  moving = [tf.constant(s) for s in random_settings(rng, n_frames)]

  def exact(audio, *settings):
    sos = core.design_biquads(TYPES, *settings, sample_rate=SAMPLE_RATE)
    return core.sosfilt(audio, sos)[0]

  def sampled(audio, *settings):
    sos = core.design_biquads(TYPES, *settings, sample_rate=SAMPLE_RATE)
    return frequency_sampling(audio, sos)

  inputs = [tf.constant(weights), tf.constant(audio)]
  fixed = [tf.constant(s) for s in settings]
  exact, sampled = with_gradients(exact), with_gradients(sampled)
  times = seconds_of(
    [
      lambda: exact(*inputs, *fixed),
      lambda: sampled(*inputs, *fixed),
      lambda: exact(*inputs, *moving),
    ]
  )
  doubles = [x.astype(np.float64) for x in (audio, weights)]
  reference = scipy_filter(doubles[0], settings)
  gradients = scipy_gradients(doubles[0], settings, doubles[1])
  figures = {
    'filter seconds': times[0],
    'frequency sampling seconds': times[1],
    'filter speed-up': times[1] / times[0],
    'filter seconds, settings of their own for each frame of 128': times[2],
  }
  peak = np.abs(reference).max()
  for prefix, function in (('filter', exact), ('frequency sampling', sampled)):
    out, ours = function(*inputs, *fixed)
    error = np.abs(out.numpy() - reference).max() / peak
    figures[f'{prefix} error'] = float(error)
    figures[f'{prefix} gradient error'] = max(
      relative_error(g, r) for g, r in zip(ours, gradients)
    )
  return figures


def measure_dynamics():
  """Compares smoothing with attack and release; returns figures by name."""
  rng = np.random.default_rng(1)
  n_samples = int(FLAGS.seconds * SAMPLE_RATE)
  shape = [FLAGS.batch_size, n_samples]
  level = 20 * np.abs(rng.standard_normal(shape)).astype(np.float32)
  weights = rng.standard_normal(shape)
  n_part = min(N_SCAN_SAMPLES, n_samples)
  coefficients = [
    tf.constant(rng.uniform(low, high, [FLAGS.batch_size, 1]))
    for low, high in ((1e-3, 0.1), (1e-5, 1e-2))
  ]
  start = tf.zeros([FLAGS.batch_size], tf.float64)

  def compiled(level, attack, release):
    return core.ballistics(level, attack, release, start)[0]

  def scanned(level, attack, release):
    def step(y, x):
      return y + tf.where(x > y, attack[:, 0], release[:, 0]) * (x - y)

    level = tf.transpose(tf.cast(level, tf.float64))
    return tf.transpose(tf.scan(step, level, start))

  compiled, scanned = with_gradients(compiled), with_gradients(scanned)
  whole = [tf.constant(weights), tf.constant(level)]
  part = [tensor[:, :n_part] for tensor in whole]
  times = seconds_of(
    [
      lambda: compiled(*whole, *coefficients),
      lambda: scanned(*part, *coefficients),
    ]
  )
  scan_seconds = times[1] * n_samples / n_part
  ours, reference = (f(*part, *coefficients)[1] for f in (compiled, scanned))
  return {
    'dynamics seconds': times[0],
    'tf.scan seconds': scan_seconds,
    'dynamics speed-up': scan_seconds / times[0],
    'dynamics gradient error': max(
      relative_error(g, r.numpy()) for g, r in zip(ours, reference)
    ),
  }


def main(argv):
  """Prints what was measured beside what is asked for."""
  del argv
  figures = {**measure_filters(), **measure_dynamics()}
  print(
    f'{FLAGS.batch_size} items of {FLAGS.seconds:g} s at {SAMPLE_RATE} Hz, '
    f'dafx {dafx.__version__}, TensorFlow {tf.__version__}'
  )
  rows = []
  for name, value in figures.items():
    target, wanted = '', None
    if name in TARGETS:
      bound, which = TARGETS[name]
      met = value >= bound if which == 'at least' else value <= bound
      wanted = f'{which} {bound:g}'
      target = f'{wanted}: {"reached" if met else "NOT reached"}'
    print(f'{name:62s} {value:10.3g}  {target}')
    text = f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'
    rows.append([name, text, wanted])
  results.write('filters', ['What', 'Measured', 'Wanted'], rows)
  results.keep(figures)


if __name__ == '__main__':
  app.run(main)
