"""Tests of figures of a gray box's blocks: what is drawn is what they do."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import ddsp
import numpy as np
import scipy.signal
import tensorflow as tf

from dafx import effects, losses, processors
from dafx.training.models import effect
from dafx.training.plotting import blocks

RATE = 48000


def drawn(figure):
  return [np.array(line.get_data()) for line in figure.axes[0].lines]


def test_responses_are_those_of_the_filters():
  fir = effects.Fir(ir=[0.5, 0.25, -0.25])
  ((at_hz, gain_db),) = drawn(blocks.frequency_response(fir, RATE))
  z = np.exp(-2j * np.pi * at_hz / RATE)
  expected = 20 * np.log10(np.abs(0.5 + 0.25 * z - 0.25 * z**2))
  np.testing.assert_allclose(gain_db, expected, atol=1e-3)
  low_pass = effects.Biquads(['low_pass'], sample_rate=RATE)
  controls = np.float32([[3000.0, np.sqrt(0.5)], [9000.0, np.sqrt(0.5)]])
  curves = drawn(blocks.frequency_response(low_pass, RATE, controls))
  for (at_hz, gain_db), f0_hz in zip(curves, (3000.0, 9000.0, 9000.0)):
    sos = scipy.signal.butter(2, f0_hz, fs=RATE, output='sos')
    h = scipy.signal.sosfreqz(sos, at_hz, fs=RATE)[1]
    expected = 20 * np.log10(np.maximum(np.abs(h), 1e-6))
    audible = expected > -60
    np.testing.assert_allclose(gain_db[audible], expected[audible], atol=0.01)
  assert len(curves) == 3


def test_curves_are_those_of_waveshaper_and_dynamics():
  ((x, y),) = drawn(blocks.transfer_curve(effects.Waveshaper('hard_clip')))
  np.testing.assert_allclose(y, np.clip(x, -1, 1))
  dynamics = effects.Dynamics(
    trainable=['threshold_db'],
    fixed={'ratio': 4.0, 'knee_db': 0.0, 'makeup_db': 3.0},
  )
  ((x, y),) = drawn(blocks.static_curve(dynamics, np.float32([[-20.0]])))
  expected = np.where(x > -20, -20 + (x + 20) / 4, x) + 3
  np.testing.assert_allclose(y, expected, atol=1e-3)


def test_model_draws_all_its_blocks_and_files_are_written(tmp_path):
  const = effects.Const(name='gain_controls')
  dag = [
    (const, ['audio']),
    (effects.Gain(name='gain'), ['audio', 'gain_controls/controls']),
    (effects.Waveshaper(name='shaper'), ['gain/signal']),
    (effects.Fir(name='speaker'), ['shaper/signal']),
  ]
  group = ddsp.processors.ProcessorGroup(dag=dag)
  processors.connect_controllers(group)
  model = effect.EffectModel(group, [losses.TimeDomainLoss()], RATE)
  figures = model.figures(model({'audio': tf.zeros([2, 64])})).blocks
  names = ['gain/controls', 'shaper/curve', 'speaker/response']
  assert list(figures) == names
  paths = blocks.write(figures, tmp_path / 'blocks')
  assert [p.name for p in paths] == [
    'gain_controls.png',
    'shaper_curve.png',
    'speaker_response.png',
  ]
  assert all(p.read_bytes()[1:4] == b'PNG' for p in paths)
