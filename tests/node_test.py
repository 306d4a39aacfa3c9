"""Control maps, and what nodes of a graph say of themselves."""

# First: importing dafx sets up what DDSP needs.

import ddsp
import numpy as np
import pytest
import tensorflow as tf

from dafx import core, effects, processors, synths


def make_map(**kwargs):
  arguments = dict(
    symbols=('gain', 'cutoff'),
    low=np.array([-12.0, 20.0], np.float32),
    high=np.array([12.0, 20000.0], np.float32),
    is_log=np.array([False, True]),
    defaults=np.array([0.5, 0.25], np.float32),
    units=('dB', 'Hz'),
    fixed={'width': 2.0, 'bypass': 0.0},
  )
  return core.ControlMap(**{**arguments, **kwargs})


def test_map_goes_to_port_units_and_back():
  control_map = make_map()
  normalised = np.array([[0.0, 0.0], [0.25, 0.5], [1.0, 1.0]])
  values = np.array([[-12.0, 20.0], [-6.0, 20.0 * 1000**0.5], [12.0, 20000.0]])
  np.testing.assert_allclose(
    control_map.to_port_units(normalised), values, 1e-6
  )
  np.testing.assert_allclose(
    control_map.to_port_units(tf.constant(normalised, tf.float32)), values, 1e-5
  )
  np.testing.assert_allclose(
    control_map.to_normalised(values), normalised, atol=1e-7
  )
  outside = control_map.to_normalised(np.array([-20.0, 1e6]))
  np.testing.assert_array_equal(outside, [0.0, 1.0])


def test_slope_is_the_derivative():
  control_map, step = make_map(), 1e-4
  at = np.array([0.3, 0.7])
  ends = [control_map.to_port_units(at + d) for d in (step, -step)]
  slope = control_map.slope(control_map.to_port_units(at))
  np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), 1e-3)


def test_map_says_what_its_controls_mean():
  assert list(make_map().describe().items()) == [
    ('gain', 'from -12 to 12'),
    ('cutoff', 'from 20 to 20000, logarithmic'),
    ('bypass', 'fixed at 0'),
    ('width', 'fixed at 2'),
  ]


def test_maps_of_several_nodes_are_one():
  both = core.concatenate_maps({'a': make_map(), 'b': make_map()})
  assert both.symbols == ('a/gain', 'a/cutoff', 'b/gain', 'b/cutoff')
  assert both.n_controls == 4
  assert both.units == ('dB', 'Hz', 'dB', 'Hz')
  assert both.fixed['b/width'] == 2.0
  np.testing.assert_array_equal(both.defaults, [0.5, 0.25, 0.5, 0.25])
  np.testing.assert_allclose(
    both.to_port_units(np.full(4, 0.5)), [0.0, 632.4555, 0.0, 632.4555], 1e-4
  )


def test_choices_are_scored_by_combination():
  choices = {'mode': (0.0, 1.0, 2.0)}
  control_map = core.ChoiceMap(
    symbols=('gain', 'mode'),
    low=np.array([-12.0, 0.0]),
    high=np.array([12.0, 2.0]),
    is_log=np.array([False, False]),
    defaults=np.full(4, 0.5),
    units=('dB', ''),
    choices=choices,
    combinations=np.array([[0.0], [1.0], [2.0]], np.float32),
  )
  assert (control_map.n_ranged, control_map.n_controls) == (1, 4)
  assert control_map.describe()['mode'] == 'one of 0, 1, 2'


def test_effects_and_controllers_are_nodes():
  gain = effects.Gain()
  assert processors.as_node(gain) is gain
  assert gain.streams and gain.inputs == ['audio', 'controls']
  assert (gain.identity, gain.receptive_field) == ('Gain', 1)
  assert gain.control_map.units == ('dB',)
  assert gain.members == [gain]
  equaliser = effects.Biquads(('peak',), sample_rate=44100)
  assert equaliser.receptive_field is None
  assert not equaliser.has_free_rate
  equaliser.set_sample_rate(44100)
  with pytest.raises(ValueError, match='works at 44100 Hz, not at 48000 Hz'):
    equaliser.set_sample_rate(48000)
  envelope = effects.Envelope(n_controls=1)
  assert envelope.inputs == ['audio', 'knobs']
  assert envelope.control_map is None and envelope.frame_size == 128


def test_a_curve_says_how_far_it_hears():
  assert effects.Waveshaper('tanh').receptive_field == 1
  curve = effects.Waveshaper('tanh', oversample=4)
  audio = np.zeros([1, 1200], np.float32)
  audio[0, 600] = 0.5
  heard = np.flatnonzero(np.abs(curve(audio)[0]) > 1e-7)
  assert 1 < heard[-1] - heard[0] < curve.receptive_field


@pytest.mark.parametrize(
  'module', [ddsp.processors.Add(), ddsp.processors.Mix()]
)
def test_memoryless_processors_of_ddsp_stream(module):
  node = processors.as_node(module)
  assert node.streams and node.receptive_field == 1
  assert node.name == module.name


def test_other_processors_of_ddsp_do_not_stream_but_run():
  synth = ddsp.synths.Harmonic(n_samples=64, sample_rate=8000)
  node = processors.as_node(synth)
  assert not node.streams and node.sample_rate == 8000
  with pytest.raises(ValueError, match='does not stream. Call it with the wh'):
    node.stream((), amplitudes=None)
  assert node.control_map is None and node.receptive_field is None
  node.set_length(128)
  assert synth.n_samples == 128
  with pytest.raises(ValueError, match=r'harmonic.*Harmonic.*cannot be stream'):
    processors.Streamer(synth)


def test_synths_of_ours_know_their_length_and_the_seed_of_the_run():
  noise = synths.SeededFilteredNoise(64, name='noise')
  noise.set_length(32)
  magnitudes = tf.ones([1, 4, 5])
  first = noise.get_signal(magnitudes)
  assert first.shape == (1, 32)
  noise.draw.assign(0)
  np.testing.assert_array_equal(noise.get_signal(magnitudes), first)
  noise.draw.assign(0)
  noise.run_seed = 1
  assert not np.array_equal(noise.get_signal(magnitudes), first)
