"""Whole files of any rate, length and channels through a model."""

import csv
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import ddsp
import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
import tensorflow as tf
from cases import some_quick

from dafx import effects, losses, lv2, metrics, neural, processors
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.training import (
  checkpoints,
  data,
  inference,
  labels,
  models,
  trainers,
)
from dafx.training import progress as progress_bar
from dafx.training.data import preprocessing
from dafx.training.evaluation import evaluate as evaluators
from dafx.training.evaluation import measures, tables
from dafx.training.inference import files
from dafx.training.models import encoders, rendering

RATE = 16000
HOP = 512
TEST = 'urn:dafx-test:'


def noise(n_samples, n_channels=1, seed=0, level=0.1):
  rng = np.random.default_rng(seed)
  return (level * rng.standard_normal([n_samples, n_channels])).astype('f')


def make_model(
  kinds=('gain', 'onepole'), encoder=None, as_chain=False, **kwargs
):
  tf.keras.utils.set_random_seed(0)
  dag, signal_key = [], 'audio'
  for kind in kinds:
    plugin = effects.LV2Plugin(
      TEST + kind,
      name=kind,
      sample_rate=RATE,
      host=effects.Host(warm_up=0, block_size=256),
      **kwargs,
    )
    dag.append((plugin, [signal_key, f'{kind}_controls']))
    signal_key = f'{kind}/signal'
  if as_chain:
    keys = [f'{kind}_controls' for kind in kinds]
    chain = effects.LV2Chain([node[0] for node in dag], name='chain')
    dag = [(chain, ['audio', *keys])]
  model = models.ControlModel(
    encoder or encoders.LogMelEncoder(RATE, HOP, 4, n_mels=8, fft_size=512),
    ddsp.processors.ProcessorGroup(dag=dag),
    [losses.TimeDomainLoss('L1')],
    RATE,
  )
  model.predict_controls(tf.zeros([1, HOP]))
  for head in model.heads.values():  # so that controls move
    kernel = head.kernel
    kernel.assign(0.5 * np.random.default_rng(0).standard_normal(kernel.shape))
  return model


@pytest.fixture(scope='module')
def model():
  return make_model()


def read_csv(path):
  with open(path, newline='', encoding='utf-8') as file:
    header, *rows = csv.reader(file)
  return header, np.array(rows, float)


def render_by_hand(audio, rate, controls):
  """Renders the chain of `make_model` at values by node, 64 samples each.

  At the rate of the model if that of the audio is lower.
  """
  if rate < RATE:
    above = sources.resample(audio, rate, RATE)
    out = sources.resample(render_by_hand(above, RATE, controls), RATE, rate)
    return out[: len(audio)]
  signal = audio.T[..., np.newaxis]  # channels as items
  for node, values in controls.items():
    renderer = lv2.Renderer(TEST + node, rate, ['amount'])
    values = np.repeat(np.asarray(values, 'f')[np.newaxis], len(signal), axis=0)
    signal = renderer.render(signal, values, hop_size=64)
  return signal[..., 0].T


# --------------------------------------------------------- process_audio ----
@pytest.mark.parametrize('n_channels', [1, 2])
@pytest.mark.parametrize(
  'rate, n_samples',
  [
    (16000, 16000),
    (44100, 44101),
    (48000, 2400),
    (8000, 8001),
    (22050, 1103),
    (44100, 1),
    (16000, 257),
    (192000, 4001),
  ],
)
def test_length_rate_and_channels_are_kept(model, rate, n_samples, n_channels):
  audio = noise(n_samples, n_channels)
  result = inference.process_audio(model, audio, rate)
  assert result.audio.shape == audio.shape
  assert result.sample_rate == rate
  own_rate = max(rate, RATE)
  n_frames = -(-n_samples * own_rate // rate // 64)
  np.testing.assert_allclose(
    result.frame_times_s, np.arange(n_frames) * 64 / own_rate
  )
  assert {k: v.shape for k, v in result.controls.items()} == {
    'gain': (n_frames, 1),
    'onepole': (n_frames, 1),
  }
  by_hand = render_by_hand(audio, rate, result.controls)
  np.testing.assert_allclose(result.audio, by_hand, atol=1e-6)


def test_controls_are_those_that_the_network_gives_for_what_it_hears(model):
  audio = noise(3 * 44100, 2) * np.linspace(0, 4, 3 * 44100)[:, np.newaxis]
  result = inference.process_audio(model, audio, 44100)
  heard = librosa.resample(audio.mean(axis=1), orig_sr=44100, target_sr=RATE)
  frames = model.predict_controls(heard[np.newaxis])['gain_controls'][0, :, 0]
  middles = (np.arange(len(frames)) + 0.5) * HOP / RATE
  np.testing.assert_allclose(result.automation.point_times_s, middles)
  np.testing.assert_allclose(
    result.automation.raw_points['gain'][:, 0], 4.0 * frames, rtol=1e-5
  )
  # Smoothed, without shift.
  b, a = scipy.signal.butter(4, 0.5)
  smooth = scipy.signal.filtfilt(b, a, 4.0 * frames.numpy())
  points = result.automation.points['gain'][:, 0]
  np.testing.assert_allclose(points, smooth, atol=1e-4)
  # Where a frame of the network is in its middle, its value is heard.
  times = result.frame_times_s + 32 / 44100
  gains = np.interp(middles, times, result.controls['gain'][:, 0])
  np.testing.assert_allclose(gains, points, atol=0.01)
  assert np.ptp(result.controls['gain']) > 0.05


def test_rates_can_change_to_and_fro(model):
  audio = noise(5000)
  first = inference.process_audio(model, audio, 16000).audio
  inference.process_audio(model, audio, 48000)
  again = inference.process_audio(model, audio, 16000).audio
  np.testing.assert_array_equal(first, again)


def test_a_model_goes_on_at_its_own_rate_after_use(model):
  features = {'audio': noise(20 * HOP).T}
  before = model(features)['audio_synth']
  renders = model.render(sources.from_array(noise(3000), 44100))
  next(renders.blocks())  # and no more of them
  np.testing.assert_array_equal(model(features)['audio_synth'], before)
  assert {p.sample_rate for p in model.driven.values()} == {RATE}


def test_channels_are_rendered_under_the_same_controls(model):
  left, right = noise(4000), noise(4000, seed=1)
  both = inference.process_audio(model, np.hstack([left, right]), RATE)
  swapped = inference.process_audio(model, np.hstack([right, left]), RATE)
  np.testing.assert_array_equal(both.audio, swapped.audio[:, ::-1])


def test_a_static_model_has_one_setting():
  static = make_model(encoder=encoders.Constant())
  result = inference.process_audio(static, noise(44101, 2), 44100)
  assert {v.shape for v in result.controls.values()} == {(1, 1)}
  by_hand = render_by_hand(
    noise(44101, 2), 44100, {k: v for k, v in result.controls.items()}
  )
  np.testing.assert_allclose(result.audio, by_hand, atol=1e-6)


def test_silence_comes_back_as_silence(model):
  result = inference.process_audio(model, np.zeros([9000, 2], 'f'), 44100)
  np.testing.assert_array_equal(result.audio, 0.0)
  assert all(np.isfinite(v).all() for v in result.controls.values())


@pytest.mark.parametrize(
  'audio, message',
  [
    (np.zeros([0, 1]), r'shape \(0, 1\)'),
    (np.zeros([100]), r'shape \(100,\)'),
    (np.full([100, 1], np.nan), 'NaN'),
  ],
)
def test_audio_that_cannot_be_processed(model, audio, message):
  with pytest.raises(ValueError, match=message):
    inference.process_audio(model, audio, RATE)


def test_channels_that_the_plugins_do_not_take():
  cross = make_model(('cross',))
  for n_channels in (1, 2):
    audio = noise(3000, n_channels)
    out = inference.process_audio(cross, audio, RATE).audio
    assert out.shape == audio.shape
  with pytest.raises(ValueError, match=r"3 channels; 'cross'.*takes 2"):
    inference.process_audio(cross, noise(3000, 3), RATE)


# --------------------------------------------------------------- Chunks ----
def in_small_chunks(monkeypatch):
  monkeypatch.setattr(sources, '_BLOCK', 999)
  monkeypatch.setattr(encoders, 'FRAMES_AT_ONCE', 3)
  monkeypatch.setattr(rendering, '_CHUNK', 2500)
  monkeypatch.setattr(preprocessing, '_CHUNK', 3000)


@pytest.fixture(scope='module')
def late_model():
  """A model with a latency, and blocks of 256."""
  return make_model(('onepole', 'late', 'gain'))


@pytest.mark.parametrize('n_channels', [1, 2])
@pytest.mark.parametrize(
  'rate, n_samples',
  [(16000, 16 * HOP), (44100, 60001), (48000, 40000), (8000, 9001), (16000, 1)],
)
def test_chunks_give_what_the_whole_gives(
  late_model, monkeypatch, rate, n_samples, n_channels
):
  audio = noise(n_samples, n_channels)
  audio *= np.linspace(0.1, 4, n_samples)[:, np.newaxis]
  whole = inference.process_audio(late_model, audio, rate)
  in_small_chunks(monkeypatch)
  parts = inference.process_audio(late_model, audio, rate)
  for name in ('onepole', 'late', 'gain'):
    np.testing.assert_allclose(
      parts.automation.raw_points[name],
      whole.automation.raw_points[name],
      rtol=1e-5,
      atol=1e-6,
    )
    np.testing.assert_allclose(
      parts.controls[name], whole.controls[name], rtol=1e-5, atol=1e-6
    )
  np.testing.assert_allclose(parts.audio, whole.audio, atol=1e-5)
  # Which is what a chain of whole renders gives.
  by_hand = render_by_hand(audio, rate, whole.controls)
  np.testing.assert_allclose(whole.audio, by_hand, atol=1e-6)


def test_a_chain_as_one_black_box_streams_too(monkeypatch):
  kinds = ('gain', 'late', 'onepole')
  joined = make_model(kinds, as_chain=True)
  assert len(processors.nodes(joined.processor_group)) == 1
  audio = noise(20001, 2)
  whole = inference.process_audio(joined, audio, 44100)
  in_small_chunks(monkeypatch)
  parts = inference.process_audio(joined, audio, 44100)
  np.testing.assert_allclose(parts.audio, whole.audio, atol=1e-5)
  by_hand = render_by_hand(audio, 44100, whole.controls)
  np.testing.assert_allclose(whole.audio, by_hand, atol=1e-6)


@pytest.mark.parametrize('is_static', [False, True])
@pytest.mark.parametrize('n_samples', some_quick([300, 5000, 30001], [5000]))
def test_networks_for_images_hear_in_chunks(monkeypatch, is_static, n_samples):
  own = make_model(
    ('gain',),
    models.InceptionEncoder(
      RATE, HOP, 4096, is_static, channels=(4, 4), width=4, n_mels=16,
      fft_size=512,
    ),
  )  # fmt: skip
  audio = noise(n_samples) * np.linspace(0.1, 4, n_samples)[:, np.newaxis]
  whole = inference.process_audio(own, audio, RATE)
  heard = tf.constant(audio.T, tf.float32)
  expected = own.predict_controls(heard)['gain_controls'][0]
  np.testing.assert_allclose(
    whole.automation.raw_points['gain'], 4.0 * expected, rtol=1e-4
  )
  in_small_chunks(monkeypatch)
  parts = inference.process_audio(own, audio, RATE)
  np.testing.assert_allclose(
    parts.automation.raw_points['gain'],
    whole.automation.raw_points['gain'],
    rtol=1e-4,
  )


class Backwards(ddsp.processors.Processor):
  """Reverses audio, which needs all of it."""

  def get_controls(self, audio):
    return {'audio': audio}

  def get_signal(self, audio):
    return audio[:, ::-1]


def test_what_cannot_stream_is_rendered_as_a_whole(monkeypatch):
  own = make_model(('gain',))
  own.processor_group = processors.ProcessorGroup(
    [
      (own.driven['gain_controls'], ['audio', 'gain_controls']),
      (Backwards(name='backwards'), ['gain/signal']),
    ]
  )
  audio = noise(8960)  # whole frames
  whole = inference.process_audio(own, audio, RATE)
  in_small_chunks(monkeypatch)
  parts = inference.process_audio(own, audio, RATE)
  np.testing.assert_allclose(parts.audio, whole.audio, atol=1e-6)
  gain = render_by_hand(audio, RATE, whole.controls)
  np.testing.assert_allclose(whole.audio, gain[::-1], atol=1e-6)


@pytest.mark.parametrize('rate', some_quick([16000, 44100], [44100]))
def test_a_file_in_chunks(late_model, monkeypatch, tmp_path, rate):
  late_model.preprocessor = preprocessing.Preprocessor(-30.0, 100)
  audio = noise(3 * rate, 2)
  write(tmp_path / 'in.wav', audio, rate)
  try:
    prepared = late_model.preprocessor.process_input(audio, rate)
    expected = inference.process_audio(late_model, prepared, rate)
    in_small_chunks(monkeypatch)
    inference.process(late_model, tmp_path / 'in.wav', tmp_path / 'out.wav')
  finally:
    late_model.preprocessor = None
  out = soundfile.read(tmp_path / 'out.wav')[0]
  np.testing.assert_allclose(out, expected.audio, atol=1e-5)
  _, rows = read_csv(tmp_path / 'out.controls.csv')
  np.testing.assert_allclose(
    rows[:, 1:2], expected.automation.points['onepole'], rtol=1e-3
  )


@pytest.mark.slow
def test_length_costs_no_memory(late_model, tmp_path):
  late_model.preprocessor = preprocessing.Preprocessor(-30.0, 100)
  peaks_kb = []
  for minutes in (2, 8):
    path = tmp_path / f'{minutes}.wav'
    with soundfile.SoundFile(path, 'w', 44100, 2) as file:
      for i in range(60 * minutes):
        file.write(noise(44100, 2, seed=i))
    inference.process(late_model, path, tmp_path / 'out.wav')
    peaks_kb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
  late_model.preprocessor = None
  # The longer one takes 127 MB more as floats, and half of that as mono.
  assert peaks_kb[1] - peaks_kb[0] < 40_000


@pytest.mark.slow
def test_files_of_many_lengths_cost_no_memory(model):
  """What is compiled for a length is kept."""
  peaks_kb = []
  for i in range(24):
    model.listen(sources.from_array(noise(16 * RATE + 7001 * i), RATE))
    peaks_kb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
  # With a pooling over four seconds it was 12 MB for each.
  assert peaks_kb[-1] - peaks_kb[3] < 60_000


# --------------------------------------------------------------- Files ----
def write(path, audio, rate):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate, 'FLOAT' if path.suffix == '.wav' else None)


def test_all_files_that_cannot_be_processed_are_named_at_once(tmp_path):
  cross, folder = make_model(('cross',)), tmp_path / 'in'
  for name, n_channels in (('a', 2), ('b', 3), ('d', 1), ('e', 4)):
    write(folder / f'{name}.wav', noise(3000, n_channels), RATE)
  broken = noise(3000)
  broken[2000] = np.nan
  write(folder / 'f.wav', broken, RATE)
  with pytest.raises(ValueError, match='^3 files cannot be used') as raised:
    inference.process(cross, str(folder), str(tmp_path / 'out'))
  for name, why in (
    ('b', 'audio has 3 channels; .* takes 2'),
    ('e', 'audio has 4 channels; .* takes 2'),
    ('f', 'NaN'),
  ):
    assert raised.match(f'{name}.wav.* {why}')
  assert 'a.wav' not in str(raised.value) and 'd.wav' not in str(raised.value)
  assert not (tmp_path / 'out').exists()
  # At an amount of 0 all of them are left as they are.
  (folder / 'f.wav').unlink()
  written = inference.process(
    cross, str(folder), str(tmp_path / 'out'), amount=0.0
  )
  assert [soundfile.info(path).channels for path in written] == [2, 3, 1, 4]
  for name in 'ch':  # found before TensorFlow is there
    (folder / f'{name}.wav').write_bytes(b'RIFF, but no audio')
  with pytest.raises(ValueError, match='^2 files cannot be used') as raised:
    audio_files.plan_outputs(folder, tmp_path / 'new')
  assert raised.match('c.wav is damaged or no audio') and raised.match('h.wav')


def test_a_file_gets_audio_controls_and_a_plot(model, tmp_path):
  audio = noise(44100, 2)
  write(tmp_path / 'mix.wav', audio, 44100)
  out = tmp_path / 'new' / 'master.v1.wav'
  written = inference.process(model, str(tmp_path / 'mix.wav'), str(out))
  assert written == [out]
  names = {p.name for p in out.parent.iterdir()}
  assert names == {'master.v1.wav', 'master.v1.controls.csv', 'master.v1.png'}
  info = soundfile.info(out)
  assert (info.samplerate, info.channels, info.frames) == (44100, 2, 44100)
  assert info.subtype == 'FLOAT'
  header, rows = read_csv(out.with_suffix('.controls.csv'))
  assert header[0] == 'time_s'
  assert [h.split('/')[0] for h in header[1:]] == ['gain', 'onepole']
  assert all('/amount [' in h for h in header[1:])  # with a unit
  np.testing.assert_allclose(
    rows[:, 0], (np.arange(len(rows)) + 0.5) * HOP / RATE, rtol=1e-5
  )
  # What the file says is what was rendered: lines from point to point.
  times = (np.arange(-(-44100 // 64)) + 0.5) * 64 / 44100
  lines = {
    node: np.interp(times, rows[:, 0], rows[:, i])[:, np.newaxis]
    for i, node in ((1, 'gain'), (2, 'onepole'))
  }
  by_hand = render_by_hand(audio, 44100, lines)
  np.testing.assert_allclose(soundfile.read(out)[0], by_hand, atol=1e-5)


def test_a_folder_gives_a_folder_of_the_same_names(model, tmp_path):
  source = tmp_path / 'mixes'
  write(source / 'a.wav', noise(2400), 48000)
  write(source / 'b ä' / '歌 c.flac', noise(1200, 2), 22050)
  written = inference.process(model, str(source), str(tmp_path / 'out'))
  assert written == [tmp_path / 'out/a.wav', tmp_path / 'out/b ä/歌 c.flac']
  infos = [soundfile.info(p) for p in written]
  assert [i.samplerate for i in infos] == [48000, 22050]
  assert [i.frames for i in infos] == [2400, 1200]
  assert [i.channels for i in infos] == [1, 2]
  assert infos[1].subtype == 'PCM_24'


def test_a_static_model_writes_its_setting_as_presets(tmp_path):
  static = make_model(('gain', 'onepole'), encoders.Constant())
  write(tmp_path / 'mix.wav', np.zeros([800, 1]), 8000)  # silent, 0.1 s
  out = tmp_path / 'out.wav'
  inference.process(static, str(tmp_path / 'mix.wav'), str(out))
  assert not (tmp_path / 'out.controls.csv').exists()
  bundles = sorted((tmp_path / 'out.presets').iterdir())
  assert len(bundles) == 2
  text = ' '.join(p.read_text() for p in bundles[0].glob('*.ttl'))
  result = inference.process_audio(static, np.zeros([800, 1], 'f'), 8000)
  (value,) = result.automation.points['gain'][0]
  assert f'{value:.4f}'.rstrip('0')[:5] in text and TEST + 'gain' in text
  np.testing.assert_array_equal(soundfile.read(out)[0], 0.0)


def test_a_setting_that_is_given_is_written_as_presets(model, tmp_path):
  setting = {
    f'{kind}_controls': np.float32([[0.5]]) for kind in ('gain', 'onepole')
  }
  write(tmp_path / 'in.wav', noise(2000), RATE)
  inference.process(
    model, tmp_path / 'in.wav', tmp_path / 'out.wav', setting=setting
  )
  names = {p.name for p in tmp_path.iterdir()}
  assert names == {'in.wav', 'out.wav', 'out.png', 'out.presets'}


def test_what_is_said_of_presets_lets_a_host_find_them(tmp_path):
  static = make_model(('gain', 'onepole'), encoders.Constant())
  write(tmp_path / 'a mix.wav', np.zeros([800, 1]), 8000)
  outputs = inference.process(
    static, str(tmp_path / 'a mix.wav'), str(tmp_path / 'out 1.wav')
  )
  text = static.describe_outputs(outputs)
  assert f"in {tmp_path}/out 1.presets, named 'out 1 (gain)'" in text
  (command,) = [line for line in text.splitlines() if line.startswith('  ')]
  home = {**os.environ, 'HOME': str(tmp_path / 'home')}
  subprocess.run(['sh', '-c', command], env=home, check=True)
  code = f"from dafx import lv2; print(lv2.list_presets('{TEST}gain'))"
  path = os.pathsep.join([f'{tmp_path}/home/.lv2', os.environ['LV2_PATH']])
  listed = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'LV2_PATH': path, 'PYTHONPATH': ':'.join(sys.path)},
    capture_output=True,
    text=True,
  ).stdout
  assert "label='out 1 (gain)'" in listed
  several = static.describe_outputs([*outputs, tmp_path / 'b.wav'])
  assert 'out 1.presets, and 1 more like it' in several


def test_nothing_is_said_of_presets_where_controls_move(model):
  assert model.describe_outputs([pathlib.Path('out.wav')]) == ''


def test_the_progress_of_files_is_in_seconds_of_audio(
  model, tmp_path, monkeypatch
):
  made, parts = [], []

  class Progress(progress_bar.Progress):
    def __init__(self, total, **kwargs):
      super().__init__(total, **kwargs)
      made.append(self)

    def update(self, text='', n=1):
      super().update(text, n)
      parts.append(n)

  monkeypatch.setattr(progress_bar, 'Progress', Progress)
  write(tmp_path / 'in' / 'a.wav', noise(70000), 44100)
  write(tmp_path / 'in' / 'b.wav', noise(8000, 2), 16000)
  inference.process(model, str(tmp_path / 'in'), str(tmp_path / 'out'))
  (progress,) = made
  assert progress.total == pytest.approx(70000 / 44100 + 0.5)
  assert progress.done == pytest.approx(progress.total)
  assert len(parts) > 2  # a long file is not done at once


class Quiet(tf.keras.layers.Layer):
  """Stands for a network that is a plugin's proxy."""

  def call(self, audio, controls):
    return 0.5 * audio * tf.reduce_mean(controls)


@pytest.mark.parametrize('kind', ['discrete', 'proxy'])
@pytest.mark.parametrize('is_static', [False, True])
def test_other_kinds_of_plugins_are_used(tmp_path, kind, is_static):
  if kind == 'discrete':
    node = effects.DiscreteLV2Plugin(
      TEST + 'modal', {'mode': [1, 2]}, sample_rate=RATE, name='node'
    )
    symbols = ['amount', 'mode']
  else:
    plugin = effects.LV2Plugin(TEST + 'gain', sample_rate=RATE, name='gain')
    node = effects.ProxyLV2Plugin(plugin, Quiet(), name='node')
    symbols = ['amount']
  own = models.ControlModel(
    encoders.Constant()
    if is_static
    else encoders.LogMelEncoder(RATE, HOP, 4, n_mels=8, fft_size=512),
    ddsp.processors.ProcessorGroup(dag=[(node, ['audio', 'node_controls'])]),
    [losses.TimeDomainLoss('L1')],
    RATE,
  )
  write(tmp_path / 'in.wav', noise(8000), 44100)
  inference.process(own, str(tmp_path / 'in.wav'), str(tmp_path / 'out.wav'))
  audio = soundfile.read(tmp_path / 'out.wav')[0]
  assert len(audio) == 8000 and np.abs(audio).max() > 0.01
  assert (tmp_path / 'out.png').exists()
  if is_static:
    (bundle,) = (tmp_path / 'out.presets').iterdir()
    text = ' '.join(p.read_text() for p in bundle.glob('*.ttl'))
    assert all(f'"{symbol}"' in text for symbol in symbols)
  else:
    header, _ = read_csv(tmp_path / 'out.controls.csv')
    assert [h.split(' ')[0] for h in header[1:]] == [
      f'node/{symbol}' for symbol in symbols
    ]


@pytest.mark.parametrize('is_static', [False, True])
def test_effects_without_plugins_are_set_channel_by_channel(
  tmp_path, is_static
):
  encoder = encoders.LogMelEncoder(
    RATE, HOP, 4, n_mels=8, fft_size=512, is_static=is_static
  )
  shaper = effects.Waveshaper('tanh', oversample=4)  # late, and compiled
  group = processors.ProcessorGroup(
    [
      (shaper, ['audio']),
      (effects.Gain(name='gain'), ['waveshaper/signal', 'gain_controls']),
    ]
  )
  own = models.ControlModel(encoder, group, [losses.TimeDomainLoss('L1')], RATE)
  audio = noise(8000, 2)
  setting = {'gain_controls': np.float32([[0.6]])}
  both, left = (
    inference.process_audio(own, part, RATE, setting=setting)
    for part in (audio, audio[:, :1])
  )
  np.testing.assert_allclose(both.audio[:, :1], left.audio, atol=1e-6)
  gain = 10 ** (both.controls['gain'][0, 0] / 20)
  expected = group({'audio': audio.T, 'gain_controls': [[0.6]] * 2})
  np.testing.assert_allclose(both.audio, expected.numpy().T, atol=1e-5)
  assert gain > 1.5
  write(tmp_path / 'in.wav', audio, RATE)
  inference.process(own, tmp_path / 'in.wav', tmp_path / 'out.wav')
  names = {p.name for p in tmp_path.iterdir()}
  automation = set() if is_static else {'out.controls.csv'}
  assert names == {'in.wav', 'out.wav', 'out.png'} | automation
  assert own.describe_outputs([tmp_path / 'out.wav']) == ''


def test_what_fails_while_it_is_written_leaves_what_was_there(
  model, monkeypatch, tmp_path
):
  write(tmp_path / 'in.wav', noise(2000), RATE)
  inference.process(model, tmp_path / 'in.wav', tmp_path / 'out.wav')
  names = {p.name for p in tmp_path.iterdir()}
  image = (tmp_path / 'out.png').read_bytes()

  def fail(path, image):
    path.write_bytes(b'half')
    raise OSError('No room.')

  monkeypatch.setattr(files.matplotlib.image, 'imsave', fail)
  with pytest.raises(OSError, match='No room'):
    inference.process(model, tmp_path / 'in.wav', tmp_path / 'out.wav')
  assert {p.name for p in tmp_path.iterdir()} == names
  assert (tmp_path / 'out.png').read_bytes() == image


def test_only_the_first_plugins_are_used(model, tmp_path):
  audio = noise(16000)
  write(tmp_path / 'mix.wav', audio, RATE)
  model.n_plugins = 1
  try:
    inference.process(
      model, str(tmp_path / 'mix.wav'), str(tmp_path / 'out.wav')
    )
    result = inference.process_audio(model, audio, RATE)
  finally:
    model.n_plugins = 2
  assert set(result.controls) == set(result.automation.points) == {'gain'}
  header, _ = read_csv(tmp_path / 'out.controls.csv')
  assert len(header) == 2
  by_hand = render_by_hand(audio, RATE, result.controls)
  np.testing.assert_allclose(result.audio, by_hand, atol=1e-6)
  whole = inference.process_audio(model, audio, RATE).audio
  assert np.abs(whole - result.audio).max() > 1e-3


def test_files_are_prepared_as_in_training(tmp_path):
  own = make_model()
  own.preprocessor = preprocessing.Preprocessor(input_lufs=-30.0)
  audio = noise(44100, 2)
  write(tmp_path / 'mix.wav', audio, 44100)
  out = tmp_path / 'out.wav'
  inference.process(own, str(tmp_path / 'mix.wav'), str(out))
  prepared = own.preprocessor.process_input(audio, 44100)
  assert np.abs(prepared - audio).max() > 0.01
  np.testing.assert_allclose(
    soundfile.read(out)[0],
    inference.process_audio(own, prepared, 44100).audio,
    atol=1e-6,
  )


def test_networks_for_images_hear_long_audio_in_parts(monkeypatch):
  own = make_model(
    encoder=models.InceptionEncoder(
      RATE, HOP, 4096, channels=(4, 4), width=4, n_mels=16, fft_size=512
    )
  )
  audio = noise(9 * HOP + 100)
  whole = inference.process_audio(own, audio, RATE)
  monkeypatch.setattr(encoders, 'FRAMES_AT_ONCE', 4)
  parts = inference.process_audio(own, audio, RATE)
  assert len(whole.automation.points['gain']) == 10
  np.testing.assert_allclose(
    parts.automation.raw_points['gain'],
    whole.automation.raw_points['gain'],
    rtol=1e-4,
  )


@pytest.mark.parametrize('suffix', ['.wav', '.flac', '.ogg', '.aif', '.aiff'])
def test_formats(model, tmp_path, suffix):
  path = tmp_path / f'loud{suffix}'
  audio = 3.0 * np.sin(np.arange(4000) / 20)[:, np.newaxis]
  audio_files.write(path, audio, 44100)
  back, rate = soundfile.read(path, always_2d=True)
  assert rate == 44100 and back.shape == audio.shape
  if suffix in ('.wav', '.aif', '.aiff'):  # floats: not clipped
    np.testing.assert_allclose(back, audio, atol=1e-6)
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_is_too_long_for_a_wav_is_an_rf64(model, tmp_path, monkeypatch):
  monkeypatch.setattr(audio_files, '_MOST_BYTES', 30000)
  for n_samples in (7000, 8000):
    write(tmp_path / f'{n_samples}.wav', noise(n_samples), RATE)
    out = tmp_path / 'out' / f'{n_samples}.wav'
    inference.process(model, str(tmp_path / f'{n_samples}.wav'), str(out))
    info = audio_files.read_info(out)
    kind = 'RF64' if n_samples == 8000 else 'WAV'
    assert (info.format, info.frames) == (kind, n_samples)
    with open(out, 'rb') as file:
      assert file.read(4) == (b'RF64' if kind == 'RF64' else b'RIFF')
  with pytest.raises(ValueError, match=r'a\.aif would have .* Write WAV'):
    audio_files.write(tmp_path / 'a.aif', noise(8000), RATE)


def test_an_output_of_a_rate_that_its_format_does_not_take(model, tmp_path):
  write(tmp_path / 'in.wav', noise(800), 96000)
  with pytest.raises(ValueError, match=r'out\.mp3 cannot be written'):
    inference.process(
      model, str(tmp_path / 'in.wav'), str(tmp_path / 'out.mp3')
    )
  assert [p.name for p in tmp_path.iterdir()] == ['in.wav']


def test_inputs_that_cannot_be_used_are_named_before_work_starts(
  model, tmp_path
):
  source, out = tmp_path / 'in', tmp_path / 'out'
  write(source / 'a.wav', noise(800), 8000)
  for name, content, message in (
    ('z.wav', b'', 'empty'),
    ('z.wav', b'words ' * 100, 'no audio file'),
  ):
    (source / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'z\.wav.*{message}'):
      inference.process(model, str(source), str(out))
    assert not out.exists()
  write(source / 'z.wav', np.zeros([0, 1]), 8000)
  with pytest.raises(ValueError, match=r'z\.wav holds no samples'):
    inference.process(model, str(source), str(out))
  write(source / 'z.wav', np.full([500, 1], np.nan), 8000)
  with pytest.raises(ValueError, match=r'z\.wav.*NaN'):
    inference.process(model, str(source), str(out))
  with pytest.raises(FileNotFoundError, match='nowhere'):
    inference.process(model, str(tmp_path / 'nowhere.wav'), str(out))
  (tmp_path / 'bare').mkdir()
  with pytest.raises(FileNotFoundError, match='no audio'):
    inference.process(model, str(tmp_path / 'bare'), str(out))


def test_an_output_never_replaces_an_input(model, tmp_path):
  path = tmp_path / 'in' / 'a.wav'
  write(path, noise(800), 8000)
  before = path.read_bytes()
  (tmp_path / 'link').symlink_to(tmp_path / 'in')
  for source, out in (
    (path, path),
    (path, path.parent),
    (path, tmp_path / 'link' / 'a.wav'),
    (path.parent, path.parent),
  ):
    with pytest.raises(ValueError, match='would replace an input'):
      inference.process(model, str(source), str(out))
  assert path.read_bytes() == before
  assert [p.name for p in path.parent.iterdir()] == ['a.wav']


def test_nor_does_it_replace_that_of_another_file(model, tmp_path):
  source = tmp_path / 'in'
  write(source / 'b.wav', noise(800), 8000)
  write(source / 'in' / 'b.wav', noise(800), 8000)  # would come to in/b.wav
  with pytest.raises(ValueError, match=r'in/b\.wav would replace an input'):
    inference.process(model, str(source), str(tmp_path))


def test_outputs_below_the_input_are_no_inputs(model, tmp_path):
  source, out = tmp_path / 'mixes', tmp_path / 'mixes' / 'new'
  write(source / 'a.wav', noise(800), 8000)
  for _ in range(2):
    assert inference.process(model, str(source), str(out)) == [out / 'a.wav']
  assert not (out / 'new').exists()
  (source / 'a.wav').unlink()
  with pytest.raises(FileNotFoundError, match='no audio outside of .*new'):
    inference.process(model, str(source), str(out))


def test_files_that_differ_in_their_format_alone(model, tmp_path):
  source, out = tmp_path / 'in', tmp_path / 'out'
  write(source / 'a.wav', noise(8000), 8000)
  write(source / 'a.flac', 3.0 * noise(8000), 8000)
  write(source / 'b.wav', noise(8000), 8000)
  inference.process(model, str(source), str(out))
  assert {p.name for p in out.iterdir()} == {
    f'{name}{end}'
    for name in ('a.wav', 'a.flac', 'b')
    for end in ('.controls.csv', '.png')
  } | {'a.wav', 'a.flac', 'b.wav'}
  same, other = (
    read_csv(out / f'a{s}.controls.csv')[1] for s in ('.wav', '.flac')
  )
  np.testing.assert_array_equal(same, read_csv(out / 'b.controls.csv')[1])
  assert not np.array_equal(same, other)


@pytest.mark.parametrize('name', ['a', 'a.txt', 'a.png'])
def test_an_output_of_no_audio_format(model, tmp_path, name):
  write(tmp_path / 'in.wav', noise(800), 8000)
  with pytest.raises(ValueError, match=r'must end in one of \.wav'):
    inference.process(model, str(tmp_path / 'in.wav'), str(tmp_path / name))


# ---------------------------------------------------- Weights, evaluation ----
def test_the_best_weights_are_taken_else_the_last(tmp_path):
  trained = make_model()
  trainer = trainers.Trainer(trained)
  trainer.optimizer.build(trained.trainable_variables)
  gain = trained.heads['gain_controls'].bias
  for folder, value in ((tmp_path / 'best', 1.0), (tmp_path, 2.0)):
    gain.assign([value])
    trainer.save(folder)
  other = make_model()
  checkpoints.restore_model(other, tmp_path)
  assert float(other.heads['gain_controls'].bias[0]) == 1.0
  shutil.rmtree(tmp_path / 'best')
  checkpoints.restore_model(other, tmp_path)
  assert float(other.heads['gain_controls'].bias[0]) == 2.0
  with pytest.raises(ValueError, match='nowhere holds no checkpoint'):
    checkpoints.restore_model(other, tmp_path / 'nowhere')
  with pytest.raises(ValueError, match='another model'):
    checkpoints.restore_model(make_model(('gain',)), tmp_path)


def test_weights_that_have_no_place_in_the_model_are_refused(tmp_path):
  def network(n_layers, n_channels=2):
    nodes = [
      neural.DilatedConv(1, 3, n_channels=n_channels, name=f'net_{i}')
      for i in range(n_layers)
    ]
    keys = ['audio', *(f'{node.name}/signal' for node in nodes)]
    dag = [(node, [key]) for node, key in zip(nodes, keys)]
    group = processors.ProcessorGroup(dag)
    return models.EffectModel(group, [losses.TimeDomainLoss()], RATE)

  trained = network(2)
  trained.make_variables()
  trainer = trainers.Trainer(trained)
  trainer.optimizer.build(trained.trainable_variables)
  trainer.save(tmp_path)
  same = network(2)
  checkpoints.restore_model(same, tmp_path)
  for ours, theirs in zip(same.variables, trained.variables, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  for other in (network(1), network(3), network(2, n_channels=3)):
    with pytest.raises(ValueError, match=r'another model.*--save_dir'):
      checkpoints.restore_model(other, tmp_path)


def test_where_estimates_were_kept_does_not_matter(tmp_path, monkeypatch):
  """Version 0.1.0 kept a choice of gradient for each combination of values."""

  def make():
    node = effects.DiscreteLV2Plugin(
      TEST + 'modal', {'mode': [1, 2]}, sample_rate=RATE, name='node'
    )
    group = processors.ProcessorGroup([(node, ['audio', 'node_controls'])])
    loss = losses.TimeDomainLoss('L1')
    own = models.ControlModel(encoders.Constant(), group, [loss], RATE)
    own.make_variables()
    trainer = trainers.Trainer(own)
    trainer.optimizer.build(own.trainable_variables)
    return trainer

  today = effects.DiscreteLV2Plugin._trackable_children
  variants = {'one': tf.Module(), 'two': tf.Module()}
  for variant in variants.values():
    variant.input_choice = tf.Variable([0, 7], dtype=tf.int64)

  def of_0_1_0(self, save_type='checkpoint', **kwargs):
    children = {**today(self, save_type, **kwargs), **variants}
    del children['input_choice'], children['input_factor']
    return children

  trained = make()
  trained.model.heads['node_controls'].bias.assign([1.0, 2.0, 3.0])
  with monkeypatch.context() as former:
    former.setattr(effects.DiscreteLV2Plugin, '_trackable_children', of_0_1_0)
    trained.save(tmp_path)
  saved = tf.train.load_checkpoint(tf.train.latest_checkpoint(tmp_path))
  keys = saved.get_variable_to_shape_map()
  assert not any('node/input_choice' in key for key in keys)
  assert any('two/input_choice' in key for key in keys)
  again = make()
  assert again.restore(tmp_path)
  np.testing.assert_array_equal(
    again.model.heads['node_controls'].bias, [1.0, 2.0, 3.0]
  )
  used = make().model
  checkpoints.restore_model(used, tmp_path)
  np.testing.assert_array_equal(
    used.heads['node_controls'].bias, [1.0, 2.0, 3.0]
  )


# ------------------------------------------------------------ Evaluation ----
@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """Three pairs; a breath is labelled in the first, a gain of 0.5 the task."""
  folder = tmp_path_factory.mktemp('pairs')
  for i in range(3):
    audio = noise(22050, 2, seed=i)
    write(folder / 'test/input' / f'{i}.wav', audio, 22050)
    write(folder / 'test/target' / f'{i}.wav', 0.5 * audio, 22050)
  labels.write_events(
    [labels.Event('breath', 1000, 3000)],
    labels.events_path(folder / 'test', '0'),
  )
  return folder


def of_test(folder):
  return data.FolderProvider(str(folder), 'test')


def by_system(rows, name):
  return {row['system']: row for row in rows if row['name'] == name}


def test_evaluation_compares_what_a_user_would_get(model, pairs, tmp_path):
  out = tmp_path / 'evaluation'
  setting = {'gain_controls': [[0.125]], 'onepole_controls': [[0.0]]}
  setting = {k: np.array(v, 'f') for k, v in setting.items()}
  rows = evaluators.evaluate(
    model,
    of_test(pairs),
    output_dir=str(out),
    n_audio=1,
    settings={'half': {'setting': setting}},
  )
  systems = [
    'untreated',
    'untreated at target loudness',
    'default setting',
    'default setting at target loudness',
    'half',
    'random setting',
    'dafx',
  ]
  assert [(r['name'], r['system']) for r in rows] == [
    (name, system) for name in '012' for system in systems
  ]
  source = noise(22050, 2)
  own = by_system(rows, '0')
  result = inference.process_audio(model, source, 22050).audio
  np.testing.assert_allclose(
    own['dafx']['mae'], np.abs(result - 0.5 * source).mean(), rtol=1e-5
  )
  assert own['dafx']['loss'] == pytest.approx(own['dafx']['mae'], rel=0.3)
  untreated = own['untreated']
  np.testing.assert_allclose(untreated['esr'], 1.0, rtol=1e-5)
  np.testing.assert_allclose(untreated['rms_difference_db'], 6.0206, rtol=1e-4)
  np.testing.assert_allclose(untreated['crest_difference_db'], 0.0, atol=1e-6)
  # A gain is all that is missing: nothing at equal level.
  for metric in ('matched_mr_stft', 'average_spectrum_db', 'crest_error_db'):
    assert untreated[metric] == pytest.approx(0.0, abs=1e-5)
    assert own['dafx'][metric] > 0.01
  for metric in ('width_error_db', 'mono_sum_error_db'):
    assert untreated[metric] == pytest.approx(0.0, abs=1e-5)
  peak_db = metrics.true_peak_dbtp(source, 22050)
  assert untreated['true_peak_dbtp'] == pytest.approx(peak_db, abs=1e-3)
  # A gain of 4 * 0.125, which is the target.
  half, louder = own['half'], own['untreated at target loudness']
  for metric in ('mae', 'esr', 'mr_stft', 'mfcc_cosine_rows', 'loss'):
    assert half[metric] == pytest.approx(0.0, abs=1e-5), metric
    assert louder[metric] == pytest.approx(0.0, abs=1e-5), metric
  assert louder['loudness_difference'] == pytest.approx(0.0, abs=1e-5)
  assert louder['true_peak_dbtp'] == pytest.approx(peak_db - 6.0206, abs=1e-3)
  for name in ('events_change_db', 'breath_change_db', 'rest_change_db'):
    assert half[name] == pytest.approx(-6.0206, rel=1e-4)
    assert untreated[name] == 0.0
  assert by_system(rows, '1')['half']['events_change_db'] is None
  # Other settings at random for each file.
  random = [
    by_system(rows, n)['random setting']['rms_difference_db'] for n in '012'
  ]
  assert len(set(random)) == 3
  assert {p.name for p in (out / 'audio').iterdir()} == {
    '0.input.wav',
    '0.target.wav',
    '0.output.wav',
    '0.controls.csv',
    '0.controls.png',
    '0.controls_raw.csv',
    '0.controls_raw.png',
  }
  np.testing.assert_allclose(
    soundfile.read(out / 'audio/0.output.wav')[0], result, atol=1e-6
  )
  stored = json.loads((out / 'metrics.json').read_text())
  assert stored == rows
  with open(out / 'summary.csv', newline='') as file:
    table = list(csv.DictReader(file))
  (entry,) = [e for e in table if (e['system'], e['metric']) == ('dafx', 'mae')]
  mean = tables.mean_of(rows, 'dafx', 'mae')
  assert float(entry['mean']) == pytest.approx(mean)
  assert float(entry['low']) <= mean <= float(entry['high'])


@pytest.mark.slow
def test_evaluation_of_the_first_plugins_alone(model, pairs):
  kwargs = dict(provider=of_test(pairs), with_baselines=False)
  whole = evaluators.evaluate(model, **kwargs)
  model.n_plugins = 1
  try:
    first = evaluators.evaluate(model, **kwargs)
  finally:
    model.n_plugins = 2
  assert {r['system'] for r in whole} == {
    evaluators.UNTREATED,
    evaluators.UNTREATED_AT_LOUDNESS,
    evaluators.DAFX,
  }
  a, b = (by_system(rows, '0')['dafx']['mae'] for rows in (whole, first))
  assert abs(a - b) > 1e-4


def test_confidence_intervals_are_those_of_the_mean():
  rng = np.random.default_rng(0)
  values = 3.0 + rng.standard_normal(400)
  rows = [{'name': str(i), 'system': 's', 'm': v} for i, v in enumerate(values)]
  rows += [{'name': 'silent', 'system': 's', 'm': None, 'n': None}]
  (m, n) = tables.summarize(rows, seed=1)
  assert n == {
    'system': 's',
    'metric': 'n',
    'heading': 'n',
    'unit': '',
    'kind': 'raw',
    'follows': '',
    'n_files': 0,
    'mean': None,
    'low': None,
    'high': None,
  }
  half_width = 1.96 * values.std() / np.sqrt(len(values))
  assert m['mean'] == pytest.approx(values.mean())
  assert m['low'] == pytest.approx(values.mean() - half_width, abs=0.02)
  assert m['high'] == pytest.approx(values.mean() + half_width, abs=0.02)
  assert tables.summarize(rows, seed=1)[0] == m
  assert tables.describe([m]).endswith(f'[{m["low"]:.4f}, {m["high"]:.4f}]')
  of_one_song = tables.summarize(rows, song_of=lambda name: 'a song')[0]
  assert of_one_song['mean'] == m['mean'] and of_one_song['low'] is None
  assert tables.mean_of(rows, 's', 'm') == pytest.approx(values.mean())
  assert np.isnan(tables.mean_of(rows[-1:], 's', 'm'))


def test_a_table_says_what_is_at_equal_level():
  rows = [
    {'name': 'a', 'system': system, 'mr_stft': v, 'crest_error_db': 2 * v}
    for system, v in (('untreated', 3.0), ('dafx', 1.5))
  ]
  rows[0]['esr'] = None
  table = tables.summarize(rows)
  kinds = {e['metric']: (e['unit'], e['kind']) for e in table}
  assert kinds['mr_stft'] == ('', 'raw')
  assert kinds['crest_error_db'] == ('dB', 'at equal level')
  assert tables.describe(table).splitlines() == [
    'MR-STFT, raw; follows mostly the level of the file, and its lag',
    '  untreated                                 3.0000',
    '  dafx                                      1.5000',
    'Crest error (dB), at equal level; follows the highest peak over the mean '
    'level: limiting, clipping',
    '  untreated                                 6.0000',
    '  dafx                                      3.0000',
  ]


def test_what_is_at_equal_level_no_gain_changes(model):
  target = noise(22050, 2, seed=1)
  audio = (np.tanh(8 * target) + noise(22050, 2, seed=2, level=0.02)) / 8
  a, b = (
    evaluators.measure(model, target, x, 22050) for x in (audio, 0.25 * audio)
  )
  for name in a:
    measure = measures.MEASURES[name]
    is_same = b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-4)
    assert is_same == measure.at_equal_level, name
  events = [labels.Event('pop', 10, 90), labels.Event('breath', 200, 900)]
  for name in labels.event_changes(target, audio, events):
    assert not measures.MEASURES[name].at_equal_level
  assert measures.of('cough_change_db').title == 'cough_change_db, raw'


def test_silence_has_no_loudness_to_come_to(model, tmp_path):
  for i, (source, target) in enumerate([(0.0, 1.0), (1.0, 0.0)]):
    for side, gain in (('input', source), ('target', target)):
      audio = gain * noise(9000)
      write(tmp_path / f'test/{side}' / f'{i}.wav', audio, RATE)
  rows = evaluators.evaluate(model, of_test(tmp_path), with_baselines=False)
  for name in '01':
    own = by_system(rows, name)
    plain, gained = (
      {**own[system], 'system': ''}
      for system in (evaluators.UNTREATED, evaluators.UNTREATED_AT_LOUDNESS)
    )
    assert plain == gained
  assert by_system(rows, '1')['dafx']['matched_mr_stft'] is None


def test_more_channels_than_have_a_loudness(model, tmp_path):
  for side in ('input', 'target'):
    write(tmp_path / f'test/{side}/0.wav', noise(9000, 6), RATE)
  rows = evaluators.evaluate(model, of_test(tmp_path), with_baselines=False)
  assert [row['system'] for row in rows] == ['untreated', 'dafx']
  assert rows[0]['loudness_difference'] is None
  assert rows[0]['matched_mr_stft'] == 0.0 and 'width_error_db' not in rows[0]


def test_silence_and_files_shorter_than_a_piece(model):
  silence, audio = np.zeros([22050, 1]), noise(22050)
  values = evaluators.measure(model, silence, audio, 22050)
  for metric in ('esr', 'rms_difference_db', 'crest_difference_db'):
    assert np.isnan(values[metric])


@pytest.mark.parametrize('n_samples, gone', [(2000, 2), (1000, 4), (1, 4)])
def test_a_file_shorter_than_a_frame(model, n_samples, gone):
  audio = noise(n_samples)
  values = evaluators.measure(model, audio, 0.5 * audio, 8000)
  frames = ['average_spectrum_db', 'mr_stft', 'mfcc_cosine', 'mfcc_cosine_rows']
  frames = frames[:gone]
  assert [k for k, v in values.items() if np.isnan(v)] == frames
  assert values['esr'] == pytest.approx(0.25)
  with pytest.raises(ValueError, match='NaN'):
    evaluators.measure(model, audio, np.nan * audio, 8000)


def test_an_evaluation_goes_on_where_it_was_interrupted(
  model, tmp_path, monkeypatch
):
  own = tmp_path / 'pairs'
  for i in range(3):
    for side in ('input', 'target'):
      write(own / f'test/{side}' / f'{i}.wav', noise(2000, seed=i), RATE)
  measured, out = [], tmp_path / 'out'

  def evaluate(n_calls=100, output_dir=out, **kwargs):
    def measure(model, target, audio, *args):
      if len(measured) == n_calls:
        raise KeyboardInterrupt
      measured.append(args)
      return {'mae': metrics.mae(target, audio)}

    measured.clear()
    monkeypatch.setattr(evaluators, 'measure', measure)
    kwargs = {'seed': 3, 'n_audio': 0, **kwargs}
    return evaluators.evaluate(
      model, of_test(own), output_dir=str(output_dir), **kwargs
    )

  fresh = evaluate(output_dir='')
  partial = out / 'metrics.partial.jsonl'
  with pytest.raises(KeyboardInterrupt):
    evaluate(n_calls=13)  # in the third file, of six systems each
  assert len(partial.read_text().splitlines()) == 2
  with open(partial, 'a') as file:
    file.write('["cut sho')
  assert evaluate() == fresh and len(measured) == 6
  assert len(json.loads((out / 'metrics.json').read_text())) == 18
  assert not partial.exists()
  assert evaluate() == fresh and len(measured) == 18  # all anew

  # What is another model, another question, another set of measures or another
  # file is measured anew.
  bias = model.heads['gain_controls'].bias

  def interrupt():
    with pytest.raises(KeyboardInterrupt):
      evaluate(n_calls=13)

  interrupt()
  bias.assign_add([0.5])
  try:
    assert evaluate() != fresh and len(measured) == 18
  finally:
    bias.assign_sub([0.5])
  interrupt()
  assert len(evaluate(with_baselines=False)) == len(measured) == 9
  interrupt()
  with monkeypatch.context() as patch:
    patch.setattr(measures, 'MEASURES', {'mae': measures.MEASURES['mae']})
    assert evaluate() == fresh and len(measured) == 18
  interrupt()
  write(own / 'test/target/0.wav', noise(2000, seed=7), RATE)
  evaluate()
  assert len(measured) == 12


def test_a_file_that_cannot_be_evaluated_is_named(model, pairs, tmp_path):
  own = tmp_path / 'pairs'
  shutil.copytree(pairs, own)
  write(own / 'test/input/1.wav', np.full([22050, 2], np.nan), 22050)
  out = tmp_path / 'out'
  with pytest.raises(ValueError, match=r'input/1\.wav has 44100 samples .*NaN'):
    evaluators.evaluate(model, of_test(own), output_dir=str(out))
  assert not (out / 'metrics.partial.jsonl').exists()  # before the first


def test_loss_of_a_long_file_is_the_mean_over_pieces(model, monkeypatch):
  audio = noise(RATE)
  whole = evaluators.model_loss(model, 0 * audio, audio, RATE)
  monkeypatch.setattr(evaluators, '_LOSS_PIECE_S', 0.3)
  pieces = evaluators.model_loss(model, 0 * audio, audio, RATE)
  assert pieces == pytest.approx(whole, rel=1e-5)
  assert whole == pytest.approx(np.abs(audio).mean(), rel=1e-5)


def test_without_the_package_pesq_says_how_to_get_it(model, pairs, monkeypatch):
  monkeypatch.setitem(sys.modules, 'pesq', None)
  with pytest.raises(ImportError, match=r"pip install 'dafx\[speech\]'"):
    evaluators.evaluate(model, of_test(pairs), with_pesq=True)
