"""Files of Neural Amp Modeler, against what its players make of them.

`data/nam/README.md` says where files and outputs come from.
"""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import neural
from dafx.neural import nam

DATA = pathlib.Path(__file__).parent / 'data/nam'
OUTPUTS = dict(np.load(DATA / 'outputs.npz'))
AUDIO = OUTPUTS.pop('input')
# Written by the trainer as dafx writes them, but for the metadata.
SAME = (
  'a1', 'acts', 'blended', 'bottleneck', 'gated_leaky', 'grouped', 'head1x1',
  'headk', 'linearb', 'posthead',
)  # fmt: skip


# A file of each architecture, and all parts of layers once.
QUICK = (
  'films@1.0', 'acts@1.0', 'convnet@1.0', 'linearb@1.0', 'lstm@1.0',
  'no1x1@1.0', 'slim@0.1', 'slimmable_container@1.0',
)  # fmt: skip


@pytest.fixture(autouse=True)
def _eagerly():
  # Many graphs that run once cost more than they save.
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def play(network, audio=AUDIO):
  return network(tf.constant(audio[np.newaxis]))[0].numpy()


def content_of(name):
  return json.loads((DATA / f'{name}.nam').read_text())


@pytest.mark.parametrize('key', some_quick(OUTPUTS, QUICK))
def test_files_sound_as_in_players_from_the_first_sample(key):
  name, size = key.split('@')
  network, sample_rate = nam.read(DATA / f'{name}.nam', float(size))
  expected = OUTPUTS[key]
  peak = max(1.0, np.max(np.abs(expected)))
  np.testing.assert_allclose(play(network), expected, atol=2e-6 * peak)
  assert np.std(expected) > 1e-5
  assert sample_rate == 48000


def in_float64(content, audio):
  """Returns what a WaveNet of one array of the form of 0.5, with ReLU, gives.

  In NumPy, tap by tap, from weights that are rounded to float32.
  """
  (array,) = content['config']['layers']
  n, n_taps = array['channels'], array['kernel_size']
  values = iter(np.asarray(content['weights'], np.float32).astype(np.float64))

  def take(*shape):
    return np.array([next(values) for _ in range(np.prod(shape))]).reshape(
      shape
    )

  def late(x, n_late):
    return np.concatenate([np.zeros([n_late, n]), x])[: len(x)]

  condition = audio.astype(np.float64)[:, np.newaxis]
  x, head = condition @ take(n, 1).T, 0.0
  for dilation in array['dilations']:
    kernel, bias = take(n, n, n_taps), take(n)
    z = bias + condition @ take(n, 1).T
    for tap in range(n_taps):
      z += late(x, (n_taps - 1 - tap) * dilation) @ kernel[..., tap].T
    z = np.maximum(z, 0.0)
    x = x + z @ take(n, n).T + take(n)
    head += z
  return (head @ take(1, n).T)[:, 0] * next(values)


def test_where_a_file_is_loud_what_differs_from_players_is_rounding():
  """Its peak is 28; the float32 of players is 9e-6 from float64, too."""
  name = 'slimmable_wavenet'
  network, _ = nam.read(DATA / f'{name}.nam')
  settling = np.zeros(network.receptive_field, np.float32)
  whole = np.concatenate([settling, AUDIO])
  exact = in_float64(content_of(name), whole)[len(settling) :]
  theirs, ours = OUTPUTS[f'{name}@1.0'], play(network)
  peak = np.abs(exact).max()
  assert peak > 25.0
  np.testing.assert_allclose(theirs, exact, rtol=0, atol=5e-7 * peak)
  np.testing.assert_allclose(ours, exact, rtol=0, atol=5e-7 * peak)


@pytest.mark.parametrize(
  'name', some_quick(SAME, ('acts', 'grouped', 'linearb', 'posthead'))
)
def test_what_is_written_is_what_the_trainer_writes(name, tmp_path):
  network, sample_rate = nam.read(DATA / f'{name}.nam')
  nam.write(
    tmp_path / 'a.nam', network, sample_rate, None, '0.7.0', measures=False
  )
  written = json.loads((tmp_path / 'a.nam').read_text())
  for key in ('version', 'architecture', 'config', 'weights', 'sample_rate'):
    assert written[key] == content_of(name)[key], key


@pytest.mark.parametrize('name', ['convnet', 'lstm'])
def test_what_was_read_and_written_sounds_the_same(name, tmp_path):
  network, _ = nam.read(DATA / f'{name}.nam')
  nam.write(tmp_path / 'a.nam', network, 48000, measures=False)
  again, _ = nam.read(tmp_path / 'a.nam')
  expected = OUTPUTS[f'{name}@1.0']
  np.testing.assert_allclose(play(again), expected, atol=1e-6)


def test_a_version_holds_what_it_can(tmp_path):
  path = tmp_path / 'a.nam'
  a1, a2 = neural.WaveNet('nano'), neural.WaveNet('a2_small')
  for network, version, expected in (
    (a1, None, '0.5.4'),
    (a1, '0.7.0', '0.7.0'),
    (a2, None, '0.7.0'),
    (neural.Chain([a1, neural.Linear(4)]), None, '0.7.0'),
    (neural.Linear(4), None, '0.5.4'),
  ):
    nam.write(path, network, 48000, None, version, measures=False)
    content = json.loads(path.read_text())
    assert content['version'] == expected
    entry = content['config'].get('layers', [{}])[0]
    assert ('head_size' in entry) == (network is a1 and version is None)
  with pytest.raises(ValueError, match=r'version 0\.5\.4 of the format'):
    nam.write(path, a2, 48000, version='0.5.4')
  with pytest.raises(ValueError, match=r'0\.5\.4 and 0\.7\.0'):
    nam.write(path, a1, 48000, version='0.6.0')


def test_a2_networks_have_their_sizes():
  for size, n_weights in (('a2_small', 1871), ('a2_large', 12146)):
    network = neural.WaveNet(size)
    assert network.n_parameters + 1 == n_weights  # And head_scale.
    assert network.receptive_field == 6347


def test_a_chain_is_its_networks_one_behind_the_other(tmp_path):
  names = ('lstm', 'convnet', 'linearb')
  content = content_of('lstm')
  content['architecture'], content['weights'] = 'Sequential', []
  models = [content_of(name) for name in names]
  content['config'] = {'models': models}
  path = tmp_path / 'a.nam'
  path.write_bytes(b'\xef\xbb\xbf' + json.dumps(content).encode())
  chain, sample_rate = nam.read(path)
  assert sample_rate == 48000
  # Each hears before the start what the one before gives for silence.
  audio = np.concatenate([np.zeros(3000, np.float32), AUDIO])
  expected = audio
  for name in names:
    expected = play(nam.read(DATA / f'{name}.nam')[0], expected)
  np.testing.assert_allclose(play(chain), expected[3000:], atol=1e-5)
  assert np.std(expected) > 1e-4
  nam.write(path, chain, 48000, measures=False)
  np.testing.assert_allclose(play(nam.read(path)[0]), play(chain), atol=1e-6)


def test_an_lstm_is_written_settled_and_starts_settled(tmp_path):
  network = neural.Rnn('lstm', 6, 2, activation='linear', seed=3)
  silence = play(network, np.zeros(3000, np.float32))
  np.testing.assert_allclose(silence, silence[-1], atol=1e-6)
  zeros = neural.Rnn(
    'lstm', 6, 2, activation='linear', initial_state='zeros', seed=3
  )
  assert np.ptp(play(zeros, np.zeros(3000, np.float32))) > 1e-3
  for each in (network, zeros):
    nam.write(tmp_path / 'a.nam', each, 48000, measures=False)
    again = play(nam.read(tmp_path / 'a.nam')[0])
    np.testing.assert_allclose(again, play(network), atol=1e-6)


def test_what_readers_do_not_agree_on_is_not_written():
  network, _ = nam.read(DATA / 'no1x1.nam')
  with pytest.raises(ValueError, match='layer1x1_groups=None'):
    nam.check(network)
  films = {'layer1x1_post_film': neural.Film()}
  network = neural.WaveNet(arrays=[neural.LayerArray(2, 1, (1,), films=films)])
  with pytest.raises(ValueError, match='layer1x1_post_film'):
    nam.check(network)


WRONG = [
  ('a1', ['sample_rate'], None, '$.sample_rate is null'),
  ('a1', ['config', 'layers', 0, 'kernel_sizes'], [3], 'a list of 4 entries'),
  ('a1', ['config', 'layers', 0, 'kernel_size'], 3, 'left out'),
  ('a1', ['config', 'layers', 0, 'gating_mode', 1], 'x', 'gating_mode[1] is'),
  ('a1', ['config', 'layers', 0, 'bottleneck'], 0, '.bottleneck is 0'),
  ('a1', ['config', 'layers', 0, 'head'], 2, '.head is 2'),
  ('a1', ['config', 'layers', 1, 'input_size'], 3, '.input_size is 3'),
  ('a1', ['config', 'layers', 0, 'layer1x1', 'groups'], 3, 'must divide'),
  ('a1', ['config', 'layers', 0, 'groups_input'], 2, 'as the config asks for'),
  ('a1', ['config', 'layers', 0, 'dilations', 0], -1, 'dilations[0] is -1'),
  ('a1', ['config', 'layers', 0, 'new_thing'], 1, '.new_thing is 1'),
  ('a1', ['config', 'in_channels'], 2, '.in_channels is 2'),
  ('a1', ['config', 'layers', 1, 'head', 'out_channels'], 2, 'as the config'),
  ('acts', ['config', 'layers', 0, 'activation', 1, 'x'], 2, '.x is 2'),
  ('acts', ['config', 'layers', 0, 'activation', 5], 'GELU', 'activation[5]'),
  (
    'acts',
    ['config', 'layers', 0, 'activation', 5, 'negative_slopes'],
    [1, 2],
    'PReLU has 2 negative_slopes',
  ),
  ('posthead', ['config', 'head', 'kernel_sizes'], [], 'kernel_sizes is []'),
  ('posthead', ['config', 'head', 'out_channels'], 2, 'as the config asks for'),
  ('convnet', ['weights', 13], -1.0, 'a normalisation'),
  ('convnet', ['config', 'dilations'], [], 'dilations is []'),
  ('linearb', ['config', 'receptive_field'], 10**9, 'receptive_field is'),
  ('films', ['config', 'condition_dsp', 'sample_rate'], 44100, 'it must be 48'),
  ('films', ['config', 'condition_dsp', 'weights', 0], None, 'dsp.weights[0]'),
  (
    'films',
    ['config', 'condition_dsp', 'config'],
    None,
    'condition_dsp.config',
  ),
  (
    'slim',
    ['config', 'layers', 0, 'slimmable', 'kwargs', 'allowed_channels'],
    [4, 2],
    'that rises',
  ),
  ('slim', ['config', 'layers', 0, 'slimmable', 'method'], 'x', 'method is'),
  (
    'slimmable_container',
    ['config', 'submodels', 1, 'max_value'],
    0.1,
    'submodels[1].max_value is 0.1',
  ),
  ('slimmable_container', ['config', 'submodels', 2, 'max_value'], 0.9, '1 or'),
  ('slimmable_container', ['config', 'submodels'], [], 'submodels is []'),
  (
    'slimmable_container',
    ['config', 'submodels', 1, 'model', 'weights', 2],
    'x',
    'submodels[1].model.weights[2] is',
  ),
]


@pytest.mark.parametrize('name, place, value, said', WRONG)
def test_wrong_files_are_refused_with_their_place(
  name, place, value, said, tmp_path
):
  content = inner = content_of(name)
  *parents, last = place
  for key in parents:
    inner = inner[key]
  inner[last] = value
  path = tmp_path / 'a.nam'
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError) as error:
    nam.read(path)
  assert str(error.value).startswith(f'{path}: $.')
  assert said in str(error.value)


def test_networks_inside_of_networks_have_an_end(tmp_path):
  content = content_of('linearb')
  for _ in range(60):
    content = {
      **content,
      'architecture': 'Sequential',
      'config': {'models': [content]},
      'weights': [],
    }
  path = tmp_path / 'a.nam'
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=r'models\[0\] is .* 8 around it'):
    nam.read(path)


def test_groups_ask_for_no_more_than_fits(tmp_path):
  # 2^15 weights, which as a plain kernel are 2^30.
  n = 2**15
  content = content_of('convnet')
  entry = {
    'input_size': 1, 'condition_size': 1, 'head_size': 1, 'channels': n,
    'kernel_size': 1, 'dilations': [1], 'activation': 'Tanh',
    'head_bias': False, 'groups_input': n, 'layer1x1': {'active': True,
    'groups': n},
  }  # fmt: skip
  content['architecture'] = 'WaveNet'
  content['config'] = {'layers': [entry], 'head': None, 'head_scale': 1.0}
  content['weights'] = (n * 7 + 1) * [0]
  path = tmp_path / 'a.nam'
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match='the zeros between their groups'):
    nam.read(path)


@pytest.mark.parametrize(
  'name', some_quick(('posthead', 'convnet'), ('convnet',))
)
def test_loudness_and_gain_are_those_of_the_trainer(name, tmp_path):
  network, _ = nam.read(DATA / f'{name}.nam')
  described = nam.Metadata(
    'An amp', gear_type='amp', input_level_dbu=12.5, validation_esr=0.01
  )
  nam.write(tmp_path / 'a.nam', network, 48000, described)
  written = json.loads((tmp_path / 'a.nam').read_text())['metadata']
  theirs = content_of(name)['metadata']
  assert written['loudness'] == pytest.approx(theirs['loudness'], abs=1e-4)
  assert written['gain'] == pytest.approx(theirs['gain'], abs=1e-4)
  assert set(written['date']) == set(theirs['date'])
  assert written['name'] == 'An amp' and written['gear_type'] == 'amp'
  assert written['input_level_dbu'] == 12.5
  assert written['training'] == {'validation_esr': 0.01}
  assert 'gear_make' not in written


def test_metadata_that_is_none_is_refused():
  with pytest.raises(ValueError, match="gear_type is 'car'"):
    nam.Metadata(gear_type='car')
  with pytest.raises(ValueError, match='output_level_dbu is inf'):
    nam.Metadata(output_level_dbu=float('inf'))
  with pytest.raises(ValueError, match='it is a finite number'):
    nam.Metadata(output_level_dbu=10**400)  # which no double holds


def test_a_silent_network_has_no_loudness():
  silent = neural.Linear(2)
  silent.set_response([0.0, 0.0])
  assert nam.measure(silent) == {}


def test_packed_networks_are_written_as_the_trainer_does(tmp_path):
  networks = [neural.ConvNet(n, (1, 3), name=f'{n}') for n in (2, 3)]
  packed = neural.Packed(networks)
  nam.write(tmp_path / 'a.nam', packed, 48000, nam.Metadata('Packed'))
  content = json.loads((tmp_path / 'a.nam').read_text())
  assert content['architecture'] == 'SlimmableContainer'
  assert content['weights'] == [] and content['version'] == '0.7.0'
  submodels = content['config']['submodels']
  assert [entry['max_value'] for entry in submodels] == [0.5, 1.0]
  inner = [entry['model']['metadata'] for entry in submodels]
  assert content['metadata']['loudness'] == inner[1]['loudness']
  assert inner[0]['loudness'] != inner[1]['loudness']
  for size, network in ((0.49, networks[0]), (0.5, networks[1])):
    again, _ = nam.read(tmp_path / 'a.nam', size)
    np.testing.assert_allclose(play(again), play(network), atol=1e-6)
  assert np.std(play(networks[0]) - play(networks[1])) > 1e-5
  packed.chosen = 0
  np.testing.assert_array_equal(play(packed), play(networks[0]))


@pytest.mark.parametrize(
  'network',
  [
    lambda: neural.WaveNet(
      arrays=[neural.LayerArray(3, 1, (1, 4), gating='gated')],
      n_knobs=2,
      head_scale=1.0,
    ),
    lambda: neural.Rnn('lstm', 4, 2, conditioning='fixed', n_knobs=2),
    lambda: neural.Rnn('gru', 4, conditioning='fixed', n_knobs=2),
  ],
)
def test_knobs_that_stand_still_are_part_of_the_network(network):
  net, setting = network(), np.float32([0.3, 0.8])
  plain = nam.at_setting(net, setting)
  audio = tf.constant(np.concatenate([np.zeros(800), AUDIO])[None], tf.float32)
  expected = net(audio, setting[None])[0, 800:].numpy()
  np.testing.assert_allclose(plain(audio)[0, 800:], expected, atol=1e-6)
  other = net(audio, np.float32([[0.9, 0.1]]))[0, 800:]
  assert np.abs(other - expected).max() > 1e-3
  with pytest.raises(ValueError, match='2 numbers from 0 to 1'):
    nam.at_setting(net, [0.3])


def test_knobs_that_modulate_have_no_network_without():
  net = neural.DilatedConv(2, 3, 2, 4, conditioning='film', n_knobs=1)
  with pytest.raises(ValueError, match='do more than add'):
    nam.at_setting(net, [0.5])


@pytest.mark.parametrize('size', [-0.1, 1.1, float('nan')])
def test_a_size_is_from_0_to_1(size):
  with pytest.raises(ValueError, match='from 0 to 1'):
    nam.read(DATA / 'slim.nam', size)
