"""Whole files of any rate, length and channels through a model."""

import csv
import shutil

import ddsp
import librosa
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx import effects, losses, lv2
from dafx.training import encoders, evaluators, inference, models, trainers

RATE = 16000
HOP = 512
TEST = 'urn:dafx-test:'


def noise(n_samples, n_channels=1, seed=0, level=0.1):
  rng = np.random.default_rng(seed)
  return (level * rng.standard_normal([n_samples, n_channels])).astype('f')


def make_model(kinds=('gain', 'onepole'), encoder=None):
  tf.keras.utils.set_random_seed(0)
  dag, signal_key = [], 'audio'
  for kind in kinds:
    plugin = effects.LV2Plugin(
      TEST + kind, name=kind, warm_up=0, sample_rate=RATE
    )
    dag.append((plugin, [signal_key, f'{kind}_controls']))
    signal_key = f'{kind}/signal'
  model = models.ControlModel(
    encoder or encoders.LogMelEncoder(RATE, HOP, 4, n_mels=8, fft_size=512),
    ddsp.processors.ProcessorGroup(dag=dag),
    [losses.TimeDomainLoss()],
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
  """Renders the chain of `make_model` at values by node, 256 samples each."""
  signal = audio.T[..., np.newaxis]  # channels as items
  for node, values in controls.items():
    renderer = lv2.Renderer(TEST + node, rate, ['amount'])
    values = np.repeat(np.asarray(values, 'f')[np.newaxis], len(signal), axis=0)
    signal = renderer.render(signal, values, hop_size=256)
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
  ],
)
def test_length_rate_and_channels_are_kept(model, rate, n_samples, n_channels):
  audio = noise(n_samples, n_channels)
  result = inference.process_audio(model, audio, rate)
  assert result.audio.shape == audio.shape
  assert result.sample_rate == rate
  n_frames = -(-n_samples // 256)
  np.testing.assert_allclose(
    result.frame_times_s, np.arange(n_frames) * 256 / rate
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
  # Where a frame of the network is in its middle, its value is heard.
  times = result.frame_times_s + 128 / 44100
  gains = np.interp(middles, times, result.controls['gain'][:, 0])
  np.testing.assert_allclose(gains, 4.0 * frames.numpy(), atol=0.03)
  assert np.ptp(result.controls['gain']) > 0.05


def test_rates_can_change_to_and_fro(model):
  audio = noise(5000)
  first = inference.process_audio(model, audio, 16000).audio
  inference.process_audio(model, audio, 48000)
  again = inference.process_audio(model, audio, 16000).audio
  np.testing.assert_array_equal(first, again)


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


# --------------------------------------------------------------- Files ----
def write(path, audio, rate):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate, 'FLOAT' if path.suffix == '.wav' else None)


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
    rows[:, 0], np.arange(len(rows)) * 256 / 44100, rtol=1e-5
  )
  # What the file says is what was rendered.
  by_hand = render_by_hand(
    audio, 44100, {'gain': rows[:, 1:2], 'onepole': rows[:, 2:3]}
  )
  np.testing.assert_allclose(soundfile.read(out)[0], by_hand, atol=1e-5)


def test_a_folder_gives_a_folder_of_the_same_names(model, tmp_path):
  source = tmp_path / 'mixes'
  write(source / 'a.wav', noise(2400), 48000)
  write(source / 'b' / 'c.flac', noise(1200, 2), 22050)
  written = inference.process(model, str(source), str(tmp_path / 'out'))
  assert written == [tmp_path / 'out/a.wav', tmp_path / 'out/b/c.flac']
  infos = [soundfile.info(p) for p in written]
  assert [i.samplerate for i in infos] == [48000, 22050]
  assert [i.frames for i in infos] == [2400, 1200]
  assert [i.channels for i in infos] == [1, 2]
  assert infos[1].subtype == 'PCM_24'


def test_a_static_model_writes_its_setting_in_each_row(tmp_path):
  static = make_model(('gain',), encoders.Constant())
  write(tmp_path / 'mix.wav', np.zeros([800, 1]), 8000)  # silent, 0.1 s
  out = tmp_path / 'out.wav'
  inference.process(static, str(tmp_path / 'mix.wav'), str(out))
  _, rows = read_csv(tmp_path / 'out.controls.csv')
  assert rows.shape == (4, 2)
  assert np.ptp(rows[:, 1]) == 0.0
  np.testing.assert_array_equal(soundfile.read(out)[0], 0.0)


@pytest.mark.parametrize('suffix', ['.wav', '.flac', '.ogg', '.aif', '.aiff'])
def test_formats(model, tmp_path, suffix):
  path = tmp_path / f'loud{suffix}'
  audio = 3.0 * np.sin(np.arange(4000) / 20)[:, np.newaxis]
  inference.write_audio(path, audio, 44100)
  back, rate = soundfile.read(path, always_2d=True)
  assert rate == 44100 and back.shape == audio.shape
  if suffix in ('.wav', '.aif', '.aiff'):  # floats: not clipped
    np.testing.assert_allclose(back, audio, atol=1e-6)
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


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
    with pytest.raises(ValueError, match='would replace its input'):
      inference.process(model, str(source), str(out))
  assert path.read_bytes() == before
  assert [p.name for p in path.parent.iterdir()] == ['a.wav']


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
  inference.restore_model(other, tmp_path)
  assert float(other.heads['gain_controls'].bias[0]) == 1.0
  shutil.rmtree(tmp_path / 'best')
  inference.restore_model(other, tmp_path)
  assert float(other.heads['gain_controls'].bias[0]) == 2.0
  with pytest.raises(ValueError, match='nowhere holds no checkpoint'):
    inference.restore_model(other, tmp_path / 'nowhere')
  with pytest.raises(ValueError, match='another model'):
    inference.restore_model(make_model(('gain',)), tmp_path)


def test_evaluation_compares_what_a_user_would_get(model, tmp_path):
  for i in range(3):
    audio = noise(22050, 2, seed=i)
    write(tmp_path / 'test/input' / f'{i}.wav', audio, 22050)
    write(tmp_path / 'test/target' / f'{i}.wav', 0.5 * audio, 22050)
  out = tmp_path / 'evaluation'
  rows = evaluators.evaluate(
    model, str(tmp_path), output_dir=str(out), n_audio=1
  )
  assert [r['name'] for r in rows] == ['0', '1', '2']
  source = noise(22050, 2)
  result = inference.process_audio(model, source, 22050).audio
  np.testing.assert_allclose(
    rows[0]['mae'], np.abs(result - 0.5 * source).mean(), rtol=1e-5
  )
  np.testing.assert_allclose(
    rows[0]['untreated_mae'], 0.5 * np.abs(source).mean(), rtol=1e-5
  )
  assert {p.name for p in (out / 'audio').iterdir()} == {
    '0.input.wav',
    '0.target.wav',
    '0.output.wav',
    '0.controls.csv',
  }
  np.testing.assert_allclose(
    soundfile.read(out / 'audio/0.output.wav')[0], result, atol=1e-6
  )
  header, values = read_csv_of_metrics(out / 'metrics.csv')
  assert header == list(rows[0])
  np.testing.assert_allclose(values, [[r[k] for k in header[1:]] for r in rows])


def read_csv_of_metrics(path):
  with open(path, newline='', encoding='utf-8') as file:
    header, *rows = csv.reader(file)
  return header, np.array([row[1:] for row in rows], float)
