"""DDSP's own decoders and models as parts of dafx's, beside plugins."""

# First: importing dafx sets up what DDSP needs.
import dafx  # noqa: F401  # isort: skip

import pathlib
import re

import ddsp
import gin
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from dafx import effects, processors, synths
from dafx.audio import sources
from dafx.ddsp import gin_folder
from dafx.training import (
  checkpoints,
  data,
  gin_files,
  inference,
  models,
  trainers,
  transfer,
)
from dafx.training.evaluation import evaluate
from dafx.training.models import decoders

SR, RATE, HOP = 16000, 250, 64
SPLITS = (
  ('amps', 1),
  ('harmonic_distribution', 12),
  ('noise_magnitudes', 17),
)
KEYS = ('ld_scaled', 'f0_scaled')
pytestmark = pytest.mark.ddsp


@pytest.fixture(scope='module')
def training():
  """`ddsp.training`, which needs the extra."""
  import ddsp.training

  return ddsp.training


def rnn(training, rnn_type='gru', splits=SPLITS, **options):
  return training.decoders.RnnFcDecoder(
    6, rnn_type, 8, 1, input_keys=KEYS, output_splits=splits, **options
  )


def encoder_of(training, decoder, **options):
  preprocessor = training.preprocessing.F0LoudnessPreprocessor()
  return models.DdspDecoder(decoder, preprocessor, **options)


def curves_of(n_frames, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'f0_hz': rng.uniform(200.0, 400.0, n_frames).astype('f'),
    'loudness_db': rng.uniform(-50.0, -10.0, n_frames).astype('f'),
  }


def as_features(curves):
  return {k: tf.constant(c[None, :, None]) for k, c in curves.items()}


def instrument(training, decoder=None, plugin=False, **options):
  dag = [
    (
      synths.StreamingHarmonic(HOP, SR),
      ['amps', 'harmonic_distribution', 'f0_hz'],
    ),
    (synths.StreamingFilteredNoise(HOP, 17), ['noise_magnitudes']),
    (ddsp.processors.Add(), ['filtered_noise/signal', 'harmonic/signal']),
  ]
  if plugin:
    gain = effects.LV2Plugin('urn:dafx-test:gain', sample_rate=SR, name='gain')
    dag.append((gain, ['add/signal', 'gain_controls']))
  return models.InstrumentModel(
    encoder_of(training, decoder or rnn(training)),
    processors.ProcessorGroup(dag),
    [ddsp.losses.SpectralLoss((256, 64))],
    **options,
  )


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  """Records of four tones."""
  folder = tmp_path_factory.mktemp('records')
  examples = []
  for i in range(4):
    phase = 2 * np.pi * (300.0 + 40 * i) * np.arange(8000) / SR
    audio = 0.1 * sum(np.sin(k * phase) / k for k in range(1, 8))
    curves = {key: np.full(125, 300.0 + 40 * i) for key in data.CURVES}
    curves['loudness_db'] = np.full(125, -30.0)
    examples.append({'audio': audio, **curves})
  for split in ('train', 'valid', 'test'):
    data.write_examples(examples, folder / f'{split}.tfrecord')
  return folder


def provider(records, split='train'):
  return data.InstrumentProvider(records, split, n_samples=8000)


# ---------------------- Decoders ----------------------------------------------
def test_a_decoder_gives_what_ddsp_gives(training):
  decoder = rnn(training)
  encoder = encoder_of(training, decoder)
  curves = curves_of(100)
  embedding = encoder(*as_features(curves).values())
  preprocess = training.preprocessing.F0LoudnessPreprocessor(
    time_steps=100, compute_loudness=False
  )
  expected = decoder(preprocess(as_features(curves)))
  assert list(encoder.outputs) == [key for key, _ in SPLITS]
  for key, part in encoder.outputs.items():
    np.testing.assert_allclose(embedding[..., part], expected[key], atol=1e-5)


@pytest.mark.parametrize('rnn_type', ['gru', 'lstm'])
def test_stretches_are_decoded_as_the_whole(training, rnn_type, monkeypatch):
  monkeypatch.setattr(decoders, '_FRAMES_AT_ONCE', 70)
  encoder = encoder_of(training, rnn(training, rnn_type))
  curves = curves_of(200)
  whole = encoder(*as_features(curves).values())
  parts = list(encoder.embed_curves(curves))
  assert [part.shape[1] for part in parts] == [70, 70, 60]
  np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5)


def test_a_decoder_that_is_given_its_state_is_the_same(training):
  encoder = encoder_of(training, rnn(training, stateless=True))
  curves = curves_of(50)
  features = as_features(curves).values()
  (streamed,) = encoder.embed_curves(curves)
  np.testing.assert_allclose(streamed, encoder(*features), atol=1e-5)


def test_what_needs_the_whole_line_says_so(training):
  """DDSP's convolutions look ahead."""
  decoder = training.decoders.DilatedConvDecoder(
    4, 3, 2, 1, input_keys=KEYS, conditioning_keys=None, output_splits=SPLITS
  )
  model = instrument(training, decoder)
  curves = curves_of(60)
  (whole,) = model.encoder.embed_curves(curves)
  assert whole.shape == (1, 60, 30)
  with pytest.raises(ValueError, match='cannot stream. Take F0LoudnessDecod'):
    model.as_stream(HOP)


def test_plugins_are_set_beside_a_decoder_of_ddsp(training, records):
  model = instrument(training, plugin=True)
  assert model.inputs_used == ['f0_hz', 'loudness_db']
  trainer = trainers.Trainer(model, learning_rate=1e-2)
  model.make_variables()
  bias = model.heads['gain_controls'].bias
  before = bias.numpy()
  history = trainers.train(
    provider(records), trainer=trainer, batch_size=2, num_steps=3
  )
  assert np.all(np.isfinite(history['total_loss']))
  assert history['total_loss'][-1] < history['total_loss'][0]
  # Only the plugin has a head with weights.
  assert [k for k, h in model.heads.items() if h.weights] == ['gain_controls']
  assert np.abs(bias - before).max() > 1e-3


def test_it_is_exported_as_a_stream(training, tmp_path):
  model = instrument(training)
  model.make_variables()
  noise = processors.modules(model.processor_group)['filtered_noise']
  n = 24
  curves = as_features(curves_of(n))
  whole = model({'audio': tf.zeros([1, n * HOP]), **curves})['audio_synth']
  noise.draw.assign(0)  # as that began
  inference.export(model, tmp_path / 'model', block_size=2 * HOP)
  signatures = tf.saved_model.load(str(tmp_path / 'model')).signatures
  state, signals = signatures['initial_state'](), []
  latency = int(signatures['facts']()['latency'])
  for i in range(0, n, 2):
    parts = {key: x[:, i : i + 2] for key, x in curves.items()}
    state = signatures['stream'](**parts, **state)
    signals.append(state.pop('signal').numpy())
  np.testing.assert_allclose(
    np.concatenate(signals, 1)[:, latency:],
    whole[:, : n * HOP - latency],
    atol=2e-5,
  )


def test_parts_that_do_not_go_together_are_named(training):
  power = training.preprocessing.F0PowerPreprocessor()
  with pytest.raises(ValueError, match='F0PowerPreprocessor, which hears f0_'):
    models.DdspDecoder(rnn(training), power)
  wants_z = training.decoders.RnnFcDecoder(4, 'gru', 4, 1)
  with pytest.raises(ValueError, match='RnnFcDecoder takes z, which nothing'):
    encoder_of(training, wants_z)
  for wrong in (None, training.preprocessing.F0LoudnessPreprocessor):
    with pytest.raises(TypeError, match='preprocessor is .*it must be @prepr'):
      models.DdspDecoder(rnn(training), wrong)
  with pytest.raises(
    TypeError, match=r'the class RnnFcDecoder, which \(\) beh'
  ):
    encoder_of(training, training.decoders.RnnFcDecoder)
  with pytest.raises(TypeError, match='z_encoder is int; it must be one of'):
    encoder_of(training, rnn(training), z_encoder=3)
  with pytest.raises(ValueError, match="output_splits .* has 'amps' twice"):
    encoder_of(training, rnn(training, splits=(('amps', 1), ('amps', 2))))
  decoder = training.decoders.RnnFcDecoder
  with pytest.raises(ValueError, match='takes state, which nothing gives'):
    encoder_of(training, decoder(4, 'gru', 4, 1, input_keys=(*KEYS, 'state')))
  with pytest.raises(ValueError, match='RnnFcDecoder takes nothing; there are'):
    encoder_of(training, decoder(4, 'gru', 4, 1, input_keys=()))


def test_a_decoder_that_is_given_its_state_hears_audio_too(training):
  encoder = encoder_of(
    training,
    training.decoders.RnnFcDecoder(
      4, 'gru', 4, 1, stateless=True, output_splits=SPLITS
    ),
    z_encoder=training.encoders.MfccTimeDistributedRnnEncoder(
      4, 'gru', 3, z_time_steps=125
    ),
  )
  curves = as_features(curves_of(125)).values()
  assert encoder(*curves, tf.zeros([1, 8000])).shape == (1, 125, 30)


# ---------------------- Models ------------------------------------------------
# What a run of dafx adds to a gin file of DDSP, and tiny sizes.
TASK = """
import ddsp.training
include 'datasets/solo.gin'
include 'optimization/solo.gin'
dafx.training.models.make_model.model = @models.get_model()
sample_rate = 16000
frame_rate = 250
n_samples = 8000
batch_size = 2
learning_rate = 1e-3
num_steps = 2
RnnFcDecoder.ch = 8
RnnFcDecoder.rnn_channels = 6
RnnFcDecoder.layers_per_stack = 1
MfccTimeDistributedRnnEncoder.rnn_channels = 6
Reverb.reverb_length = 100
SpectralLoss.fft_sizes = (256, 64)
"""
FILES = ['models/solo_instrument.gin', 'models/ae.gin']


@pytest.fixture
def parse(training, records, tmp_path, fresh_gin):
  """Parses a gin file of DDSP, and what a run of dafx adds to it."""

  def parsed(file, more='DdspModel.data_path = ""'):
    path = tmp_path / 'task.gin'
    path.write_text(f"{TASK}data_path = '{records}'\n{more}\n")
    gin_files.add_gin_search_paths([gin_folder()])
    gin_files.parse_gin([str(gin_folder() / file), str(path)])

  return parsed


def test_gin_of_the_page_is_parsed(training, fresh_gin):
  page = pathlib.Path(__file__).resolve().parents[1] / 'docs' / 'ddsp.md'
  blocks = re.findall(r'```gin\n(.*?)```', page.read_text(), re.DOTALL)
  assert len(blocks) == 2
  gin_files.add_gin_search_paths()
  for block in blocks:
    gin.clear_config()
    gin.parse_config(block)


def voice(n=8000):
  phase = 2 * np.pi * 330.0 * np.arange(n) / SR
  return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 8))


@pytest.mark.parametrize('file', FILES)
def test_a_gin_file_of_ddsp_is_trained_evaluated_and_used(
  file, parse, tmp_path
):
  parse(file)
  model = models.make_model()
  assert isinstance(model, models.DdspModel)
  assert (model.sample_rate, model.hop_size) == (SR, HOP)
  history = trainers.train(
    trainer=trainers.Trainer(model), save_dir=str(tmp_path / 'run')
  )
  assert np.all(np.isfinite(history['total_loss']))
  rows = evaluate.evaluate(model, output_dir=str(tmp_path / 'evaluation'))
  assert rows
  # From its folder alone, another length.
  again = inference.load_model(tmp_path / 'run')
  soundfile.write(tmp_path / 'voice.wav', voice(11111), SR)
  out = tmp_path / 'out.wav'
  inference.process(again, str(tmp_path / 'voice.wav'), str(out))
  played, _ = soundfile.read(out)
  assert played.shape == (11111,) and np.std(played) > 1e-4
  with pytest.raises(ValueError, match='Harmonic.* of the graph cannot stre'):
    inference.export(again, tmp_path / 'exported')


def test_runs_of_dafx_are_read_beside_ddsp(parse, tmp_path):
  """gin writes short names where DDSP has none of that name."""
  parse(FILES[0])
  trainers.train(
    trainer=trainers.Trainer(models.make_model()), save_dir=str(tmp_path)
  )
  path = tmp_path / 'operative_config-0.gin'
  text = path.read_text()
  path.write_text(text.replace('\ntraining.', '\n'))
  assert path.read_text() != text
  assert isinstance(inference.load_model(tmp_path), models.DdspModel)


@pytest.mark.parametrize('file', FILES)
def test_it_is_the_autoencoder(file, parse):
  parse(file)
  model = models.make_model()
  curves = as_features(curves_of(125))
  features = {'audio': tf.constant(voice()[None], tf.float32), **curves}
  ours = model(features)
  for node in processors.nodes(model.processor_group).values():
    node.set_length(8000)
  model.autoencoder.preprocessor.time_steps = 125
  theirs = model.autoencoder(dict(features), training=False)
  np.testing.assert_allclose(
    ours['harmonic']['signal'], theirs['harmonic']['signal'], atol=1e-5
  )
  # No variable is there twice.
  trained = model.trainable_variables
  assert len({id(v) for v in trained}) == len(trained)
  assert len(trained) == len(model.autoencoder.trainable_variables)


@pytest.mark.parametrize('file', FILES)
def test_checkpoints_of_ddsp_are_restored(file, parse, training, tmp_path):
  parse(file)
  theirs = training.models.get_model()
  theirs.preprocessor.time_steps = 125
  theirs.preprocessor.compute_loudness = False
  group = theirs.processor_group
  for node in processors.nodes(group).values():
    node.set_length(8000)
  curves = as_features(curves_of(125))
  features = {'audio': tf.constant(voice()[None], tf.float32), **curves}
  expected = theirs(dict(features), training=False)['harmonic']['signal']
  trainer = training.trainers.Trainer(theirs, tf.distribute.get_strategy())
  trainer.save(str(tmp_path))
  restored, started = models.make_model(), models.make_model()
  checkpoints.restore_model(restored, tmp_path)
  started.make_variables()
  checkpoints.restore_weights(started, tmp_path)
  for model in (restored, started):
    np.testing.assert_allclose(
      model(features)['harmonic']['signal'], expected, atol=1e-5
    )
  with pytest.raises(ValueError, match="saved by DDSP's own trainer, and"):
    checkpoints.restore_model(instrument(training), tmp_path)
  with pytest.raises(ValueError, match="saved by DDSP's own trainer, and dafx"):
    trainers.Trainer(started).restore(tmp_path)


def test_a_run_of_ddsp_is_used_with_the_statistics_of_its_data(
  parse, training, records, tmp_path
):
  """Its checkpoints hold none; those of the data lie beside the records."""
  parse(FILES[0], more='')
  model = models.make_model()
  model.make_variables()
  strategy = tf.distribute.get_strategy()
  trainer = training.trainers.Trainer(model.ddsp_model, strategy)
  trainer.save(str(tmp_path / 'run'))
  with pytest.raises(FileNotFoundError, match='no statistics.*DdspModel.data_'):
    checkpoints.restore_model(model, tmp_path / 'run')
  curves = {key: np.full(5000, 300.0) for key in data.CURVES}
  curves['loudness_db'] = np.linspace(-60.0, -50.0, 5000)
  statistics = transfer.measure([curves], RATE)
  path = records / 'statistics.json'
  path.write_text(statistics.to_json())
  try:
    checkpoints.restore_model(model, tmp_path / 'run')
  finally:
    path.unlink()
  assert model.statistics == statistics
  # So a file is played as loud as the data are.
  rendering = model.render(sources.from_array(voice()[:, None], SR))
  played = rendering.automation.curves
  assert -60.0 <= np.median(played['loudness_db']) <= -50.0


def test_what_a_checkpoint_of_ddsp_has_beside_is_told(
  parse, training, tmp_path
):
  parse(FILES[0])
  whole = training.models.get_model()
  models.make_model(whole).make_variables()
  trainer = training.trainers.Trainer(whole, tf.distribute.get_strategy())
  trainer.save(str(tmp_path))
  nodes = processors.modules(whole.processor_group)
  dag = [(nodes[row[0]], *row[1:]) for row in whole.processor_group.dag]
  dry = training.models.Autoencoder(
    whole.preprocessor,
    None,
    whole.decoder,
    processors.ProcessorGroup(dag[:-1]),  # without its reverb
    whole.loss_objs,
  )
  with pytest.raises(ValueError, match='it holds .* variables.*Give the gin'):
    checkpoints.restore_model(models.make_model(dry), tmp_path)


def test_with_synthesisers_of_dafx_it_streams(training):
  group = instrument(training).processor_group
  model = models.DdspModel(
    training.models.Autoencoder(
      training.preprocessing.F0LoudnessPreprocessor(),
      None,
      rnn(training),
      group,
      [ddsp.losses.SpectralLoss((256, 64))],
    )
  )
  stream = model.as_stream(HOP)
  assert stream.facts['hop_size'] == HOP
  source = sources.from_array(voice()[:, None], SR)
  played = np.concatenate(list(model.render(source).blocks()))
  assert played.shape == (8000, 1)


def test_what_nothing_reads_beside_an_autoencoder_is_named(training):
  """Of the graph, and of the command line."""
  group = instrument(training).processor_group

  def model_of(splits):
    return models.make_model(
      training.models.Autoencoder(
        training.preprocessing.F0LoudnessPreprocessor(),
        None,
        rnn(training, splits=splits),
        group,
        [ddsp.losses.SpectralLoss((256, 64))],
      )
    )

  model = model_of(SPLITS)
  with pytest.raises(ValueError, match='network gives tilt .*which no node'):
    model_of((*SPLITS, ('tilt', 2)))
  models.check_bindings(type(model), ["DdspModel.tracker = 'pyin'"])
  with pytest.raises(ValueError, match='the model is a DdspModel.*Bind DdspM'):
    models.check_bindings(
      type(model), ["models.InstrumentModel.tracker = 'pyin'"]
    )


def test_what_is_no_autoencoder_is_named(training):
  with pytest.raises(TypeError, match='The model is Dense; dafx trains its'):
    models.DdspModel(tf.keras.layers.Dense(3))
  with pytest.raises(TypeError, match='The model is InverseSynthesis; dafx'):
    models.make_model(training.models.InverseSynthesis())
  with pytest.raises(ValueError, match='has no preprocessor. Give it one'):
    models.DdspModel(training.models.Autoencoder())
