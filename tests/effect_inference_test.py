"""Tests of models of effects in use."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import json
import resource
import subprocess
import sys

import ddsp
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx import effects, losses, metrics, neural, processors
from dafx.neural import nam
from dafx.training import inference
from dafx.training.data import recordings
from dafx.training.evaluation import evaluate as evaluators
from dafx.training.evaluation import measures, tables
from dafx.training.models import effect, rendering

RATE = 8000


def model_of(*nodes, inputs=('audio',)):
  dag = [(nodes[0], list(inputs))]
  for before, node in zip(nodes, nodes[1:]):
    dag.append((node, [f'{before.name}/signal']))
  group = ddsp.processors.ProcessorGroup(dag=dag)
  return effect.EffectModel(group, [losses.EsrLoss()], RATE)


def network(**kwargs):
  return neural.DilatedConv(
    n_blocks=2, kernel_size=3, n_channels=4, seed=1, **kwargs
  )


def noise(n_samples, n_channels=1, seed=0):
  rng = np.random.default_rng(seed)
  return 0.3 * rng.standard_normal([n_samples, n_channels]).astype(np.float32)


class Foreign(processors.Processor):
  """Runs outside of TensorFlow, as a plugin does."""

  def get_controls(self, audio):
    return {'audio': audio}

  def initial_state(self, batch_size):
    del batch_size
    return ()

  def stream(self, state, audio):
    out = tf.numpy_function(np.negative, [audio], tf.float32)
    return tf.ensure_shape(out, audio.shape), state

  def get_signal(self, audio):
    return self.stream((), audio)[0]


@pytest.mark.parametrize('n_channels', [1, 2])
def test_a_stream_equals_the_whole_channel_by_channel(n_channels, monkeypatch):
  monkeypatch.setattr(rendering, '_CHUNK', 1000)
  model, audio = model_of(network()), noise(2500, n_channels)
  out = inference.process_audio(model, audio, RATE).audio
  whole = model({'audio': tf.constant(audio.T)})['audio_synth'].numpy().T
  assert out.shape == audio.shape and np.std(whole) > 1e-3
  np.testing.assert_allclose(out, whole, atol=1e-5)


def test_latency_is_taken_out():
  shaper = effects.Waveshaper('tanh', oversample=4)
  model, audio = model_of(shaper), noise(3000)
  assert shaper.latency > 0
  out = inference.process_audio(model, audio, RATE).audio
  whole = model({'audio': tf.constant(audio.T)})['audio_synth'].numpy().T
  np.testing.assert_allclose(out, whole, atol=1e-5)


@pytest.mark.parametrize('n_channels', [1, 2])
def test_channels_that_a_plugin_makes_lie_side_by_side(n_channels):
  plugin = effects.LV2Plugin(
    'urn:dafx-test:cross', [], channels='stereo', sample_rate=RATE, name='two'
  )
  # The effect takes one channel, so that each is an item of its own.
  model, audio = model_of(effects.Waveshaper('tanh'), plugin), noise(900)
  audio = np.repeat(audio, n_channels, axis=1)
  out = inference.process_audio(model, audio, RATE).audio
  whole = model({'audio': tf.constant(audio.T)})['audio_synth'].numpy()
  assert whole.shape == (n_channels, 900, 2)
  np.testing.assert_allclose(out, np.concatenate(whole, axis=1), atol=1e-6)


def test_other_rates_are_brought_to_the_models():
  time = np.arange(44100) / 44100
  sine = 0.5 * np.sin(2 * np.pi * 440 * time)[:, np.newaxis]
  model = model_of(effects.Waveshaper('tanh'))
  out = inference.process_audio(model, sine, 44100).audio
  assert out.shape == sine.shape
  middle = slice(4000, -4000)
  np.testing.assert_allclose(out[middle], np.tanh(sine[middle]), atol=2e-3)


def test_knobs_reach_the_model():
  model = model_of(
    network(conditioning='film', n_knobs=2), inputs=('audio', 'knobs')
  )
  audio = noise(600, 2)
  outs = [
    inference.process_audio(model, audio, RATE, knobs=knobs).audio
    for knobs in ([0.1, 0.9], [0.9, 0.1], None, [0.5, 0.5])
  ]
  assert np.max(np.abs(outs[0] - outs[1])) > 1e-4
  np.testing.assert_array_equal(outs[2], outs[3])
  for knobs in ([0.5], [0.5, 1.5], [0.5, np.nan]):
    with pytest.raises(ValueError, match='2 numbers from 0 to 1'):
      inference.process_audio(model, audio, RATE, knobs=knobs)
  with pytest.raises(ValueError, match='has none'):
    inference.process_audio(model_of(network()), audio, RATE, knobs=[0.5])


def test_options_that_an_effect_has_no_use_for_are_refused():
  model = model_of(network())
  with pytest.raises(ValueError, match='EffectModel does not take n_plugins'):
    inference.process_audio(model, noise(600), RATE, n_plugins=1)


@pytest.mark.parametrize(
  'audio', [np.zeros([0, 1]), np.zeros(5), np.full([5, 1], np.nan)]
)
def test_bad_audio_is_named(audio):
  with pytest.raises(ValueError, match='must be|NaN'):
    inference.process_audio(model_of(network()), audio, RATE)


def test_files_and_folders_are_processed(tmp_path):
  model = model_of(effects.Waveshaper('tanh'))
  soundfile.write(tmp_path / 'a b.wav', noise(3000, 2), RATE, 'FLOAT')
  (written,) = inference.process(
    model, str(tmp_path / 'a b.wav'), str(tmp_path / 'out.wav')
  )
  out, rate = soundfile.read(written, always_2d=True)
  assert rate == RATE
  np.testing.assert_allclose(out, np.tanh(noise(3000, 2)), atol=1e-4)
  assert written.with_suffix('.png').exists()
  folder = inference.process(model, str(tmp_path), str(tmp_path / 'to'))
  assert sorted(p.name for p in folder) == ['a b.wav', 'out.wav']


@pytest.mark.slow
def test_length_costs_no_memory(tmp_path):
  model, peaks_kb = model_of(effects.Waveshaper('tanh', oversample=2)), []
  for minutes in (2, 50):
    path = tmp_path / f'{minutes}.wav'
    with soundfile.SoundFile(path, 'w', RATE, 1) as file:
      for i in range(minutes):
        file.write(noise(60 * RATE, seed=i))
    inference.process(model, path, tmp_path / 'out.wav')
    peaks_kb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
  # The longer one takes 92 MB more as floats.
  assert peaks_kb[1] - peaks_kb[0] < 30_000


def test_evaluation_knows_error_and_polarity(tmp_path, caplog):
  dry = noise(4000)[:, 0]
  provider = recordings.Recordings(
    [
      ('right', dry, np.tanh(dry), np.zeros(0), ''),
      ('half', dry, 0.5 * np.tanh(dry), np.zeros(0), ''),
      ('upside down', dry, -np.tanh(dry), np.zeros(0), ''),
    ],
    (),
    RATE,
    1000,
  )
  model = model_of(effects.Waveshaper('tanh'))
  with caplog.at_level('WARNING'):
    rows = evaluators.evaluate(model, provider, str(tmp_path), 1)
  own = [row for row in rows if row['system'] == evaluators.DAFX]
  assert [row['name'] for row in own] == ['right', 'half', 'upside down']
  np.testing.assert_allclose(
    [row['esr'] for row in own], [0.0, 1.0, 4.0], atol=1e-4
  )
  # What is measured of one channel is what is measured of [n_samples].
  target, untreated = -np.tanh(dry).astype('d'), dry.astype('d')
  for key in model.measures:
    assert rows[-3][key] == getattr(metrics, key)(target, untreated), key
  assert 'upside down comes out upside down' in caplog.text
  assert json.loads((tmp_path / 'metrics.json').read_text()) == rows
  names = sorted(p.name for p in (tmp_path / 'audio').iterdir())
  assert names == ['right.input.wav', 'right.output.wav', 'right.target.wav']
  text = tables.describe_recordings(rows, evaluators.DAFX)
  assert 'mean ESR 1.6667: something went wrong' in text
  head = text.splitlines()[0]
  assert head.endswith(
    'Error-to-signal ratio, raw  MR-STFT, raw  SI-SDR (dB), at equal level'
  )
  assert set(rows[0]) - {'name', 'system'} <= set(measures.MEASURES)
  of_one = tables.describe_recordings(own[:1], evaluators.DAFX)
  assert 'very close' in of_one
  # What sets plugins is not measured sample by sample.
  assert tables.describe_recordings([{'system': evaluators.DAFX}], 'dafx') == ''


def test_what_settles_is_left_out_at_any_rate(monkeypatch):
  lengths = []

  def measure(model, target, audio, *_):
    lengths.append((len(target), len(audio)))
    return {}

  monkeypatch.setattr(evaluators, 'measure', measure)
  model = model_of(effects.Waveshaper('tanh'))
  model.burn_in = 300
  for rate, n_left in ((RATE, 3700), (2 * RATE, 3400), (RATE // 2, 3850)):
    dry = noise(4000)[:, 0]
    recording = ('noise', dry, dry, np.zeros(0), '')
    provider = recordings.Recordings([recording], (), rate, 1000)
    evaluators.evaluate(model, provider)
    assert set(lengths) == {(n_left, n_left)}
    lengths.clear()


def test_recordings_at_several_knobs_are_evaluated_at_theirs():
  net = network(conditioning='film', n_knobs=2)
  model = model_of(net, inputs=('audio', 'knobs'))
  dry, settings = noise(4000), np.float32([[0.1, 0.9], [0.9, 0.1]])
  made = []
  for knobs in settings:
    wet = inference.process_audio(model, dry, RATE, knobs=knobs).audio
    made.append((f'at {knobs}', dry[:, 0], wet[:, 0], knobs, ''))
  provider = recordings.Recordings(made, ('drive', 'tone'), RATE, 1000)
  rows = evaluators.evaluate(model, provider)
  own = [row for row in rows if row['system'] == evaluators.DAFX]
  np.testing.assert_allclose([row['knobs'] for row in own], settings)
  np.testing.assert_allclose([row['esr'] for row in own], 0.0, atol=1e-10)
  assert np.std(made[0][2] - made[1][2]) > 1e-3
  assert len(rows) == 3 * len(own)


@pytest.mark.slow
def test_a_network_becomes_a_nam_file_or_a_saved_model(tmp_path):
  wavenet = neural.WaveNet('nano', seed=3)
  model, audio = model_of(wavenet), noise(500)
  inference.export(model, tmp_path / 'x' / 'model.nam')
  again = model_of(nam.read(tmp_path / 'x' / 'model.nam')[0])
  np.testing.assert_allclose(
    inference.process_audio(again, audio, RATE).audio,
    inference.process_audio(model, audio, RATE).audio,
    atol=1e-6,
  )
  inference.export(model, tmp_path / 'saved', block_size=64)
  assert (tmp_path / 'saved' / 'saved_model.pb').exists()


def group_of(*rows):
  group = ddsp.processors.ProcessorGroup(dag=rows)
  return effect.EffectModel(group, [losses.EsrLoss()], RATE)


def boxes():
  return group_of(
    (effects.Const(name='set'), ['audio']),
    (effects.Biquads(['peak', 'low_pass']), ['audio', 'set/controls']),
    (effects.Const(start='random', name='ratio'), ['audio']),
    (
      effects.Dynamics(sample_rate=RATE),
      ['biquads/signal', 'ratio/controls'],
    ),
    (effects.Envelope(name='follow'), ['audio']),
    (effects.Gain(), ['dynamics/signal', 'follow/controls']),
    (effects.Fir(8, 'siren'), ['gain/signal']),
    (effects.Waveshaper('rational'), ['fir/signal']),
  )


def knobs_and_boxes():
  return group_of(
    (network(conditioning='film', n_knobs=1), ['audio', 'knobs']),
    (effects.Fc(name='fc'), ['knobs']),
    (effects.Gain(), ['dilated_conv/signal', 'fc/controls']),
  )


# By a loader that knows nothing of dafx.
PLAIN = """
import sys
import numpy as np
import tensorflow as tf
for folder in sys.argv[1:]:
  given = dict(np.load(folder + '/in.npz'))
  model = tf.saved_model.load(folder)
  state, signals = model.signatures['initial_state'](), []
  for chunk in np.split(given.pop('audio'), given.pop('n_chunks'), axis=1):
    inputs = {k: tf.constant(v) for k, v in {'audio': chunk, **given}.items()}
    state = model.signatures['stream'](**inputs, **state)
    signals.append(state.pop('signal').numpy())
  np.save(folder + '/out.npy', np.concatenate(signals, axis=1))
assert 'dafx' not in sys.modules
"""


def test_whole_models_are_exported_and_stream_without_dafx(tmp_path):
  expected = {}
  for name, model, size, knobs in (
    ('boxes', boxes(), 32, {}),
    ('knobs', knobs_and_boxes(), 128, {'knobs': np.float32([[0.3]])}),
  ):
    folder = tmp_path / name
    audio = noise(384, seed=2).T
    features = {'audio': audio, **knobs}
    features = {key: tf.constant(value) for key, value in features.items()}
    expected[folder] = model(features)['audio_synth'].numpy()
    assert np.std(expected[folder]) > 1e-3
    inference.export(model, folder, block_size=size)
    np.savez(folder / 'in.npz', audio=audio, n_chunks=384 // size, **knobs)
  run = subprocess.run(
    [sys.executable, '-c', PLAIN, *map(str, expected)],
    check=False,
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  assert run.returncode == 0, run.stderr
  for folder, whole in expected.items():
    out = np.load(folder / 'out.npy')
    np.testing.assert_allclose(out, whole, atol=1e-5)


def test_what_cannot_be_exported_is_named(tmp_path):
  late = model_of(effects.Waveshaper('tanh', oversample=2))
  with pytest.raises(ValueError, match='latency of 31'):
    inference.export(late, tmp_path / 'late')
  foreign = model_of(Foreign(name='foreign'))
  with pytest.raises(ValueError, match=r'outside of TensorFlow .*PyFunc'):
    inference.export(foreign, tmp_path / 'foreign')
  chain = model_of(network(), effects.Waveshaper('tanh'))
  with pytest.raises(ValueError, match='dilated_conv, waveshaper'):
    inference.export(chain, tmp_path / 'model.nam')
  with pytest.raises(ValueError, match='has no DilatedConv'):
    inference.export(model_of(network()), tmp_path / 'model.nam')
  with pytest.raises(ValueError, match='do more than add'):
    film = network(conditioning='film', n_knobs=1)
    inference.check_nam(model_of(film, inputs=('audio', 'knobs')))
  with pytest.raises(ValueError, match='takes its knobs'):
    inference.export(model_of(network()), tmp_path / 'model', knobs=[0.5])
  assert not any(tmp_path.rglob('*.nam'))


def test_knobs_become_a_setting_or_a_saved_model(tmp_path):
  arrays = [neural.LayerArray(2, 1, (1, 2))]
  net = neural.WaveNet(arrays=arrays, n_knobs=1, head_scale=1.0)
  model, path = model_of(net, inputs=('audio', 'knobs')), tmp_path / 'a.NAM'
  with pytest.raises(ValueError, match=r'1 knob\(s\).*a\.saved_model.*=0\.5'):
    inference.export(model, path)
  assert (tmp_path / 'a.saved_model/saved_model.pb').exists()
  assert not path.exists()
  metadata = nam.Metadata('At 3', tone_type='fuzz')
  inference.export(model, path, metadata=metadata, knobs=[0.3])
  content = json.loads(path.read_text())
  assert content['metadata']['name'] == 'At 3'
  assert content['sample_rate'] == RATE
  again, audio = nam.read(path)[0], np.pad(noise(300), ((99, 0), (0, 0))).T
  knobs = np.float32([[0.3]])
  expected = net(tf.constant(audio), knobs)[:, 99:]
  np.testing.assert_allclose(again(audio)[:, 99:], expected, atol=1e-6)
