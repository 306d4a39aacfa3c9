"""Models that play an instrument: trained, restored, and played by a voice."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import csv
import dataclasses
import math
import subprocess
import sys

import ddsp
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from cases import some_quick

from dafx import effects, pitch, processors, synths
from dafx.audio import sources
from dafx.training import (
  checkpoints,
  data,
  gin_files,
  inference,
  models,
  trainers,
  transfer,
)
from dafx.training.models import decoders, outputs
from dafx.training.trainers import loop

SR, RATE, HOP = 16000, 250, 64


def instrument(data_path='', plugin=False, holds=False):
  dag = [
    (
      synths.StreamingHarmonic(HOP, SR),
      ['amps', 'harmonic_distribution', 'f0_hz'],
    ),
    (synths.StreamingFilteredNoise(HOP, 17), ['noise_magnitudes']),
    (ddsp.processors.Add(), ['filtered_noise/signal', 'harmonic/signal']),
    (effects.Fir(n_taps=50, name='reverb'), ['add/signal']),
  ]
  if plugin:
    gain = effects.LV2Plugin('urn:dafx-test:gain', sample_rate=SR, name='gain')
    dag[3:3] = [(gain, ['add/signal', 'gain_controls'])]
    dag[4] = (dag[4][0], ['gain/signal'])
  if holds:
    dag.insert(3, (effects.Const(name='setting'), ['add/signal']))
    dag[4] = (gain, ['add/signal', 'setting/controls'])
  return models.InstrumentModel(
    models.F0LoudnessDecoder(ch=8, rnn_channels=6, layers_per_stack=1),
    ddsp.processors.ProcessorGroup(dag),  # as gin makes it
    [ddsp.losses.SpectralLoss((256, 64))],
    output_splits=(
      ('amps', 1),
      ('harmonic_distribution', 12),
      ('noise_magnitudes', 17),
    ),
    data_path=data_path,
  )


def voice(seconds=2.0, rate=44100, low_hz=200.0, high_hz=300.0):
  """A gliding voice, [n_samples], and its pitch by sample."""
  n = int(seconds * rate)
  f0 = low_hz * (high_hz / low_hz) ** (np.arange(n) / n)
  phase = 2 * np.pi * np.cumsum(f0) / rate
  return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 10)), f0


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  """Records of a voice, with statistics."""
  folder = tmp_path_factory.mktemp('records')
  examples = []
  for i in range(4):
    audio, _ = voice(1.0, SR, 300.0 + 50 * i, 400.0)
    f0_hz, confidence = pitch.estimate(audio, SR, RATE)
    examples.append(
      {
        'audio': audio,
        'f0_hz': f0_hz,
        'f0_confidence': confidence,
        'loudness_db': pitch.loudness_db(audio, SR, RATE),
      }
    )
  for split in ('train', 'valid', 'test'):
    data.write_examples(examples, folder / f'{split}.tfrecord')
  statistics = transfer.measure(examples * 5, RATE)
  (folder / 'statistics.json').write_text(statistics.to_json())
  return folder


def provider(records, split='train'):
  return data.InstrumentProvider(records, split, n_samples=8000)


def train(trainer, records, folder, num_steps):
  return trainers.train(
    provider(records),
    provider(records, 'valid'),
    trainer,
    batch_size=2,
    num_steps=num_steps,
    steps_per_validation=2,
    save_dir=str(folder),
  )


@pytest.mark.parametrize(
  'arguments, count', [((512, 512, 3), 4801150), ((256, 512, 0), 232314)]
)
def test_decoders_have_the_parameters_of_ddsp(arguments, count):
  """As counted of RnnFcDecoder with 60 harmonics and 65 bands."""
  decoder = models.F0LoudnessDecoder(SR, RATE, *arguments)
  embedding = decoder(tf.zeros([1, 2, 1]), tf.zeros([1, 2, 1]))
  head = (embedding.shape[-1] + 1) * (1 + 60 + 65)
  sizes = (math.prod(v.shape) for v in decoder.trainable_variables)
  assert sum(sizes) + head == count


@pytest.mark.parametrize('n_layers', [1, 3])
def test_decoders_hear_loudness_and_pitch_from_the_start(n_layers):
  """Normalisation of a single number would leave its sign alone."""
  decoder = models.F0LoudnessDecoder(SR, RATE, 16, 16, n_layers)

  def embedding(f0_hz, loudness_db):
    return decoder(
      tf.fill([1, 3, 1], f0_hz), tf.fill([1, 3, 1], loudness_db)
    ).numpy()

  middle = embedding(440.0, -30.0)
  for other in (embedding(440.0, -60.0), embedding(880.0, -30.0)):
    assert np.abs(other - middle).max() > 5e-3


def test_stretches_of_curves_are_embedded_as_the_whole(monkeypatch):
  monkeypatch.setattr(decoders, '_FRAMES_AT_ONCE', 70)
  decoder = models.F0LoudnessDecoder(ch=8, rnn_channels=6, layers_per_stack=1)
  rng = np.random.default_rng(0)
  curves = {
    'f0_hz': rng.uniform(100.0, 900.0, 200),
    'loudness_db': rng.uniform(-60.0, 0.0, 200),
  }
  parts = list(decoder.embed_curves(curves))
  assert [part.shape[1] for part in parts] == [70, 70, 60]
  inputs = [tf.constant(c[None, :, None], 'float') for c in curves.values()]
  np.testing.assert_allclose(
    np.concatenate(parts, axis=1), decoder(*inputs), atol=1e-5
  )


def test_an_instrument_is_trained_and_restored(records, tmp_path):
  model = instrument(str(records), plugin=True)
  assert model.inputs_used == ['f0_hz', 'loudness_db']
  trainer = trainers.Trainer(model, learning_rate=1e-2)
  history = train(trainer, records, tmp_path, num_steps=4)
  assert np.all(np.isfinite(history['total_loss']))
  reverb = processors.modules(model.processor_group)['reverb']
  assert np.abs(reverb.taps.numpy()[1:]).max() > 1e-4
  again = instrument('/nowhere', plugin=True)
  checkpoints.restore_model(again, tmp_path)
  # It needs its data no more.
  assert again.statistics == model.statistics is not None
  source = sources.from_array(voice(0.5, SR)[0][:, None], SR)
  first, second = (
    np.concatenate(list(m.render(source).blocks())) for m in (model, again)
  )
  # The best validated steps may be fewer than all.
  assert first.shape == second.shape == (8000, 1)


@pytest.mark.parametrize('transpose', some_quick([0.0, 7.0], [7.0]))
@pytest.mark.parametrize('rate', some_quick([16000, 44100], [44100]))
@pytest.mark.slow
def test_it_plays_the_pitch_of_a_voice(rate, transpose):
  """Even untrained: what sounds are partials of its pitch."""
  model = instrument()
  model.make_variables()
  audio, f0 = voice(2.0, rate)
  source = sources.from_array(np.stack([audio, audio], axis=1), rate)
  out = list(model.render(source, transpose=transpose).blocks())
  played = np.concatenate(out)
  assert played.shape == (len(audio), 1)
  found, confidence = pitch.estimate(played[:, 0], rate, RATE)
  times = np.arange(len(found)) * rate // RATE
  expected = f0[times] * 2.0 ** (transpose / 12.0)
  cents = 1200 * np.abs(np.log2(found / expected))[25:-25]
  assert np.median(cents) < 10.0 and np.mean(confidence[25:-25] > 0.5) > 0.9


@pytest.mark.slow
def test_chunks_are_played_as_the_whole(monkeypatch):
  """In chunks of a few frames, without seams."""
  model = instrument()
  model.make_variables()
  source = sources.from_array(voice(1.5, SR)[0][:, None], SR)
  whole = np.concatenate(list(model.render(source).blocks()))
  monkeypatch.setattr(models.rendering, '_CHUNK', 1000)
  blocks = list(model.render(source).blocks())
  assert len(blocks) > 20
  np.testing.assert_allclose(np.concatenate(blocks), whole, atol=2e-4)


def test_loudness_follows_the_training_set(records):
  model = instrument(str(records))
  model.start()
  quiet = 0.1 * voice(2.0, SR, 380.0, 400.0)[0]
  source = sources.from_array(quiet[:, None], SR)
  curves = model.render(source).automation.curves
  there = np.median(model.statistics.loudness_quantiles_db)
  assert abs(np.median(curves['loudness_db']) - there) < 1.5
  # Two octaves down, and back to where it learned.
  low = sources.from_array(voice(2.0, SR, 95.0, 100.0)[0][:, None], SR)
  curves = model.render(low).automation.curves
  assert 370.0 < np.median(curves['f0_hz']) < 410.0


@pytest.mark.slow
def test_silence_stays_silent(records):
  model = instrument(str(records))
  model.make_variables()
  model.start()
  source = sources.from_array(np.zeros([8000, 1]), SR)
  rendering = model.render(source)
  assert np.all(rendering.automation.curves['loudness_db'] == pitch.FLOOR_DB)
  assert len(np.concatenate(list(rendering.blocks()))) == 8000


@pytest.mark.parametrize('holds', [False, True])
def test_files_are_processed_with_their_curves(holds, tmp_path):
  """Those of a plugin, too, if it has one setting for all."""
  model = instrument(plugin=True, holds=holds)
  model.make_variables()
  soundfile.write(tmp_path / 'voice.wav', voice(0.7)[0], 44100)
  out = tmp_path / 'out.wav'
  inference.process(model, str(tmp_path / 'voice.wav'), str(out), transpose=5)
  assert soundfile.info(out).frames == int(0.7 * 44100)
  text = (tmp_path / 'out.controls.csv').read_text()
  rows = list(csv.DictReader(text.splitlines()))
  assert list(rows[0]) == [
    'time_s',
    'f0_hz',
    'loudness_db',
    'gain/amount [coef]',
  ]
  assert len(rows) == 175 and float(rows[1]['time_s']) == 1 / RATE
  assert 250 < float(rows[30]['f0_hz']) < 310  # 5 semitones above 200
  if holds:
    gain = processors.modules(model.processor_group)['gain']
    (default,) = gain.control_map.to_port_units(gain.control_map.defaults)
    found = {row['gain/amount [coef]'] for row in rows}
    assert [float(value) for value in found] == [pytest.approx(default, 1e-4)]
  assert (tmp_path / 'out.png').exists()


@pytest.mark.parametrize('amplitude_bias', [0.0, -30.0])
def test_partials_that_were_turned_off_are_told(
  amplitude_bias, records, tmp_path, caplog
):
  model = instrument(str(records))
  trainer = trainers.Trainer(model)
  model.make_variables()
  (bias,) = [w for w in model.trainable_variables if 'amps_head/b' in w.name]
  bias.assign([amplitude_bias])
  train(trainer, records, tmp_path, num_steps=2)
  told = [r for r in caplog.records if 'partials of harmonic' in r.message]
  assert [r.levelname for r in told] == (['WARNING'] if amplitude_bias else [])
  batch = next(iter(provider(records).get_batch(2, shuffle=False, repeats=1)))
  told_of = model.remark(model(batch))
  assert bool(told_of) == bool(amplitude_bias)
  assert ('lower dafx.training.Trainer.learning_rate' in told_of) == bool(
    amplitude_bias
  )
  # What has no pitch has no partials either.
  unvoiced = {**batch, 'f0_confidence': 0.0 * batch['f0_confidence']}
  assert not model.remark(model(unvoiced))


def test_figures_show_sound_without_a_pitch():
  curves = {'f0_hz': np.zeros(5), 'loudness_db': np.full(5, -80.0)}
  drawn = outputs.Automation(point_times_s=np.arange(5.0), curves=curves)
  assert len(drawn.figures()) == 2


def test_weights_of_another_run_begin_with_statistics_of_this_one(
  records, tmp_path
):
  former, model = instrument(str(records)), instrument(str(tmp_path))
  text = (records / 'statistics.json').read_text()
  found = dataclasses.replace(
    transfer.Statistics.from_json(text), mean_pitch=33.0
  )
  (tmp_path / 'statistics.json').write_text(found.to_json())
  former.start()
  for made in (former, model):
    made.make_variables()
  trainers.Trainer(former).save(tmp_path / 'run')
  loop._take_up(trainers.Trainer(model), None, str(tmp_path / 'run'))
  assert model.statistics.mean_pitch == 33.0
  kept = instrument()
  kept.make_variables()
  loop._take_up(trainers.Trainer(kept), None, str(tmp_path / 'run'))
  assert kept.statistics == former.statistics
  for ours, theirs in zip(model.weights, former.weights, strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_what_does_not_fit_is_named(tmp_path):
  with pytest.raises(TypeError, match='encoder is Constant; an InstrumentM'):
    models.InstrumentModel(models.Constant(), instrument().processor_group, [])
  with pytest.raises(
    TypeError, match='class F0LoudnessDecoder, which \\(\\) be'
  ):
    models.InstrumentModel(
      models.F0LoudnessDecoder, instrument().processor_group, []
    )
  with pytest.raises(ValueError, match='frame_rate=300 does not divide'):
    models.F0LoudnessDecoder(SR, 300)
  with pytest.raises(FileNotFoundError, match='no statistics of the record'):
    instrument(str(tmp_path)).start()
  short = transfer.measure([{k: np.ones(9) for k in data.CURVES}], RATE)
  (tmp_path / 'statistics.json').write_text(short.to_json())
  with pytest.raises(
    ValueError, match='0.0 s of notes.*10 s at the very least'
  ):
    instrument(str(tmp_path)).start()
  with pytest.raises(ValueError, match='does not take amount'):
    instrument().check_options(['amount'])


# ---------------------- Export ------------------------------------------------
# By a loader that knows nothing of dafx.
PLAIN = """
import sys
import numpy as np
import tensorflow as tf
folder, curves = sys.argv[1], dict(np.load(sys.argv[1] + '/in.npz'))
signatures = tf.saved_model.load(folder).signatures
facts = {key: int(value) for key, value in signatures['facts']().items()}
state, signals = signatures['initial_state'](), []
for i in range(0, curves['f0_hz'].shape[1], 2):
  inputs = {key: tf.constant(x[:, i : i + 2]) for key, x in curves.items()}
  state = signatures['stream'](**inputs, **state)
  signals.append(state.pop('signal').numpy())
np.savez(folder + '/out.npz', audio=np.concatenate(signals, axis=1), **facts)
assert 'dafx' not in sys.modules
"""


def test_a_saved_model_streams_what_is_played_at_once(tmp_path):
  tf.keras.utils.set_random_seed(2)
  model = instrument()
  model.make_variables()
  noise = processors.modules(model.processor_group)['filtered_noise']
  reverb = processors.modules(model.processor_group)['reverb']
  rng = np.random.default_rng(0)
  reverb.taps.assign(rng.normal(size=50) * 0.5 ** np.arange(50))
  n = 24
  curves = {
    'f0_hz': rng.uniform(200.0, 400.0, [1, n, 1]).astype('f'),
    'loudness_db': rng.uniform(-50.0, -10.0, [1, n, 1]).astype('f'),
  }
  whole = model({'audio': tf.zeros([1, n * HOP]), **curves})['audio_synth']
  noise.draw.assign(0)  # as that began
  inference.export(model, tmp_path / 'model', block_size=150)
  np.savez(tmp_path / 'model' / 'in.npz', **curves)
  run = subprocess.run(
    [sys.executable, '-c', PLAIN, tmp_path / 'model'],
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  assert run.returncode == 0, run.stderr
  out = np.load(tmp_path / 'model' / 'out.npz')
  latency = int(out['latency'])
  assert (out['sample_rate'], out['hop_size'], latency) == (SR, HOP, 2 * HOP)
  assert np.all(out['audio'][:, :latency] == 0.0)
  std = np.std(whole)
  assert std > 1e-2
  np.testing.assert_allclose(
    out['audio'][:, latency:], whole[:, : n * HOP - latency], atol=1e-4 * std
  )


def test_what_cannot_be_exported_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'outside of TensorFlow .*PyFunc'):
    inference.export(instrument(plugin=True), tmp_path / 'model')
  with pytest.raises(ValueError, match='InstrumentModel is no effect'):
    inference.export(instrument(), tmp_path / 'model.nam')


# ---------------------- gin ---------------------------------------------------
SMALL = [
  'n_samples = 3840',
  'batch_size = 1',
  'decoder_width = 4',
  'decoder_layers = 1',
  'reverb_taps = 20',
  'dafx.training.train.num_steps = 1',
]
TASKS = ('', '_48k', '_demo')


@pytest.mark.usefixtures('fresh_gin')
@pytest.mark.parametrize(
  'task',
  some_quick(
    [*(f'solo_instrument{t}.gin' for t in TASKS), 'solo_plugins.gin'],
    ['solo_instrument_demo.gin'],
  ),
)
@pytest.mark.slow
def test_tasks_take_a_step(task, tmp_path):
  rate = 48000 if '48k' in task else SR
  audio, _ = voice(0.24, rate)
  curves = {key: np.full(60, 300.0) for key in data.CURVES}
  for split in ('train', 'valid'):
    path = tmp_path / f'{split}.tfrecord'
    data.write_examples([{'audio': audio, **curves}], path)
  statistics = transfer.measure([curves] * 50, RATE)
  (tmp_path / 'statistics.json').write_text(statistics.to_json())
  hop = rate // RATE
  bindings = [f'n_samples = {60 * hop}', *SMALL[1:]]
  gin_files.parse_gin([task], [*bindings, f"data_path = '{tmp_path}'"])
  model = models.make_model()
  history = trainers.train(trainer=trainers.Trainer(model))
  assert np.isfinite(history['total_loss'][0])
  # Plugins have one setting for all notes.
  assert not model.driven
  nodes = processors.nodes(model.processor_group).values()
  names = [node.name for node in nodes if node.uri is not None]
  assert names == (['tube', 'equalizer'] if 'plugins' in task else [])
