"""The encoder, the heads, and the checks of a model's DAG."""

import ddsp
import librosa
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from cases import some_quick

from dafx import effects, losses, processors
from dafx.audio import sources
from dafx.training import data, models
from dafx.training.models import encoders

RATE = 16000
HOP = 512
TEST = 'urn:dafx-test:'
CALF = 'http://calf.sourceforge.net/plugins/MultibandCompressor'


def noise(*shape, seed=0, level=0.1):
  rng = np.random.default_rng(seed)
  return tf.constant(level * rng.standard_normal(shape), tf.float32)


def plugin(kind, name, **kwargs):
  kwargs = {'host': effects.Host(warm_up=0), **kwargs}
  return effects.LV2Plugin(TEST + kind, name=name, **kwargs)


def encoder(**kwargs):
  settings = {'hop_size': HOP, 'width': 8, 'n_mels': 16, 'fft_size': 512}
  return encoders.LogMelEncoder(RATE, **{**settings, **kwargs})


def model_of(dag, own_encoder=None, **kwargs):
  tf.keras.utils.set_random_seed(0)
  return models.ControlModel(
    encoder() if own_encoder is None else own_encoder,
    ddsp.processors.ProcessorGroup(dag=dag),
    [losses.TimeDomainLoss('L2')],
    RATE,
    **kwargs,
  )


def chain(**kwargs):
  """A gain, then a one-pole: two copies of one class with two heads."""
  dag = [
    (plugin('gain', 'loud', **kwargs), ['audio', 'loud_controls']),
    (plugin('onepole', 'dull', **kwargs), ['loud/signal', 'dull_controls']),
  ]
  return model_of(dag)


def pair(batch=3, n_frames=4, seed=0):
  audio = noise(batch, n_frames * HOP, seed=seed)
  return {'audio': audio, 'target': 0.5 * audio}


# --------------------------------------------------------------- Encoder ----
@pytest.mark.parametrize('n_samples', [1, 800, 4 * HOP, 4 * HOP + 1])
@pytest.mark.parametrize('hop_size', [128, 512])
def test_encoder_gives_a_frame_per_hop(n_samples, hop_size):
  own = encoder(hop_size=hop_size)
  n_frames = -(-n_samples // hop_size)
  embedding = own(noise(2, n_samples))
  assert embedding.shape[:2] == (2, n_frames)
  # The same where the length is not known while the graph is built.
  graph = tf.function(
    own.__call__,
    input_signature=[tf.TensorSpec([None, None], tf.float32)],
    autograph=False,
  )
  np.testing.assert_allclose(graph(noise(2, n_samples)), embedding, atol=1e-5)


def test_encoder_hears_the_mix_of_the_channels():
  own, stereo = encoder(), noise(2, 4 * HOP, 2)
  mono = tf.reduce_mean(stereo, axis=-1)
  np.testing.assert_array_equal(own(stereo), own(mono))


def test_encoder_of_silence_is_finite():
  assert np.isfinite(encoder()(tf.zeros([1, 4 * HOP]))).all()


def test_encoder_hears_level_and_time():
  own, audio = encoder(context_s=0.03), noise(1, 16 * HOP)
  embedding = own(audio).numpy()
  assert np.abs(own(4.0 * audio) - embedding).max() > 1e-2
  # What comes at the end is not heard at the beginning.
  late = tf.concat([audio[:, : 14 * HOP], 8.0 * audio[:, 14 * HOP :]], axis=1)
  difference = np.abs(own(late) - embedding)[0].max(-1)
  assert difference[-1] > 1e-2
  np.testing.assert_array_equal(difference[:10], 0.0)


def test_encoder_gain_scales_the_embedding():
  plain, loud = encoder(), encoder(gain=12.0)
  audio = noise(1, 4 * HOP)
  plain(audio), loud(audio)
  loud.set_weights(plain.get_weights())
  np.testing.assert_allclose(loud(audio), 12.0 * plain(audio), rtol=1e-5)


def test_encoder_demands_whole_spectra_per_hop():
  with pytest.raises(ValueError, match=r'hop_size=300 must be a multiple.*128'):
    encoder(hop_size=300)


def test_constant_is_one_setting_for_all():
  model = model_of(
    [(plugin('gain', 'loud'), ['audio', 'c'])], encoders.Constant()
  )
  controls = model.predict_controls(noise(3, 1001))['c']
  assert controls.shape == (3, 1, 1)
  assert np.ptp(controls) == 0.0
  outputs = model({'audio': noise(3, 1001)})  # any length
  assert outputs['audio_synth'].shape == (3, 1001)


# ----------------------------------------------------------------- Heads ----
def test_heads_start_at_the_defaults_of_their_plugins():
  model = chain()
  controls = model.predict_controls(pair()['audio'])
  assert list(controls) == ['loud_controls', 'dull_controls']
  # Gain: 1 of 0 to 4. One-pole: 0.5 of 0 to 0.99.
  np.testing.assert_allclose(controls['loud_controls'], 0.25, atol=0.02)
  np.testing.assert_allclose(controls['dull_controls'], 0.505, atol=0.02)
  outputs = model(pair())
  np.testing.assert_allclose(
    outputs['loud']['controls']['controls'], 1.0, atol=0.08
  )


def test_defaults_at_the_end_of_a_range_can_still_be_trained():
  model = model_of([(plugin('late', 'full'), ['audio', 'c'])])  # 1 of 0 to 1
  controls = model.predict_controls(pair()['audio'])['c']
  assert 0.95 < controls.numpy().min() <= controls.numpy().max() < 0.99


def test_heads_start_at_the_defaults_of_a_real_plugin():
  fixed = {f'bypass{i}': 0 for i in range(4)}
  calf = effects.LV2Plugin(
    CALF, ['threshold0', 'ratio0', 'freq1', 'level_in'], fixed, name='calf'
  )
  model = model_of([(calf, ['audio', 'c'])])
  controls = model.predict_controls(pair()['audio'])['c']
  expected = np.clip(calf.control_map.defaults, 0.02, 0.98)
  np.testing.assert_allclose(
    controls, np.broadcast_to(expected, controls.shape), atol=0.02
  )


def test_two_copies_of_one_plugin_get_two_heads():
  dag = [
    (plugin('gain', 'first'), ['audio', 'first_controls']),
    (
      plugin('gain', 'second', ranges={'amount': (0.5, 1.5)}),
      ['first/signal', 'second_controls'],
    ),
  ]
  model = model_of(dag)
  outputs = model(pair())
  assert set(model.heads) == {'first_controls', 'second_controls'}
  assert model.driven['second_controls'].name == 'second'
  gains = [
    outputs[n]['controls']['controls'].numpy() for n in ('first', 'second')
  ]
  product = np.repeat((gains[0] * gains[1])[..., 0], HOP, axis=1)
  np.testing.assert_allclose(
    outputs['audio_synth'], pair()['audio'] * product, rtol=1e-4, atol=1e-6
  )
  variables = {id(v) for head in model.heads.values() for v in head.weights}
  assert len(variables) == 4


def test_gradients_reach_every_variable():
  model = chain()
  model(pair())
  with tf.GradientTape() as tape:
    _, values = model(pair(), return_losses=True)
  gradients = tape.gradient(values['total_loss'], model.trainable_variables)
  names = [v.name for v in model.trainable_variables]
  assert len(names) >= 6  # an encoder's, and kernel and bias per head
  for name, gradient in zip(names, gradients, strict=True):
    assert np.abs(gradient).max() > 0.0, name


def test_losses_are_those_given_and_their_sum():
  dag = [(plugin('gain', 'loud'), ['audio', 'c'])]
  model = models.ControlModel(
    encoder(),
    ddsp.processors.ProcessorGroup(dag=dag),
    [losses.TimeDomainLoss('L2'), losses.MultiScaleSpectralLoss()],
    RATE,
  )
  outputs, values = model(pair(), return_losses=True)
  assert set(values) == {'time_domain_loss', 'spectral_loss', 'total_loss'}
  expected = np.mean((outputs['audio_synth'] - pair()['target']) ** 2)
  np.testing.assert_allclose(values['time_domain_loss'], expected, rtol=1e-5)
  np.testing.assert_allclose(
    values['total_loss'],
    values['time_domain_loss'] + values['spectral_loss'],
    rtol=1e-6,
  )


# ----------------------------------------------------------------- Batch ----
def test_permuted_items_give_permuted_outputs_exactly():
  model, audio = chain(), pair(batch=4)['audio']
  order = [2, 0, 3, 1]
  whole = model({'audio': audio})
  permuted = model({'audio': tf.gather(audio, order)})
  for node in ('loud', 'dull'):
    np.testing.assert_array_equal(
      permuted[node]['controls']['controls'],
      tf.gather(whole[node]['controls']['controls'], order),
    )
  np.testing.assert_array_equal(
    permuted['audio_synth'], tf.gather(whole['audio_synth'], order)
  )


def test_an_item_does_not_hear_the_others():
  model, audio = chain(), pair(batch=4)['audio']
  whole = model({'audio': audio})['audio_synth'].numpy()
  for i in range(4):
    one = model({'audio': audio[i : i + 1]})['audio_synth'][0]
    np.testing.assert_allclose(one, whole[i], rtol=1e-5, atol=1e-7)


def test_stereo():
  model, audio = chain(), noise(2, 4 * HOP, 2)
  outputs, values = model({'audio': audio, 'target': audio}, return_losses=True)
  assert outputs['audio_synth'].shape == audio.shape
  assert np.isfinite(values['total_loss'])


# ---------------------------------------------------------- What is bad ----
def test_length_that_is_no_multiple_of_the_hop():
  model = chain()
  message = r'1500 samples.*hop_size=512.*Take 1024 samples, or pad it to 1536'
  with pytest.raises(ValueError, match=message):
    model({'audio': noise(1, 1500)})


@pytest.mark.parametrize(
  'names, keys, message',
  [
    (('a', 'b'), (['audio', 'c'], ['aa/signal', 'd']), "'aa/signal'"),
    (('a', 'a'), (['audio', 'c'], ['a/signal', 'd']), "both named 'a'"),
    (('out', 'b'), (['audio', 'c'], ['out/signal', 'd']), "'out'"),
    (('a', 'b'), (['b/signal', 'c'], ['audio', 'd']), 'comes after it'),
    (('a', 'b'), (['audio', 'c'], ['a/signal']), "'b'.*audio and controls"),
    (('a', 'b'), (['audio', 'c'], 'a/signal'), "'b'.*audio and controls"),
    (('a', 'b'), (['audio', 'c'], ['a/signal', 'c']), "'b'.*'c'.*'a'"),
    (('a', 'b'), (['audio', 'audio'], ['a/signal', 'd']), "'audio'"),
  ],
)
def test_a_dag_that_cannot_run_fails_when_it_is_built(names, keys, message):
  dag = [(plugin('gain', n), k) for n, k in zip(names, keys, strict=True)]
  with pytest.raises(ValueError, match=message):
    model_of(dag)


def test_controls_that_another_node_gives_get_no_head():
  dag = [
    (plugin('gain', 'first'), ['audio', 'c']),
    (plugin('gain', 'second'), ['first/signal', 'first/controls/controls']),
  ]
  model = model_of(dag)
  assert set(model.heads) == {'c'}


def test_inputs_can_be_named_in_full():
  # As DDSP has it: outputs['inputs']['audio'].
  dag = [(plugin('gain', 'loud'), ['inputs/audio', 'inputs/c'])]
  model = model_of(dag)
  assert set(model.heads) == {'c'}
  assert model(pair())['audio_synth'].shape == (3, 4 * HOP)


def test_what_no_node_takes_is_refused():
  dag = [(plugin('gain', 'loud'), ['audio', 'loud_controls'])]
  with pytest.raises(ValueError, match='gives amps .*they take audio, loud_c'):
    model_of(dag, output_splits=[('amps', 1)])


# ------------------------------------------------------------------ DDSP ----
def test_a_ddsp_synth_before_a_plugin():
  n_samples = 4 * HOP
  synth = ddsp.synths.Harmonic(n_samples, RATE, name='harmonic')
  dag = [
    (synth, ['amplitudes', 'harmonics', 'f0_hz']),
    (plugin('gain', 'loud'), ['harmonic/signal', 'loud_controls']),
  ]
  splits = [('amplitudes', 1), ('harmonics', 5)]
  # What no head gives has to come from the data.
  assert 'f0_hz' in model_of(dag, output_splits=splits).inputs_used
  # f0 from a head of its own, in Hz around 0: silent, but it runs and learns.
  model = model_of(dag, output_splits=[*splits, ('f0_hz', 1)])
  model.heads['f0_hz'].bias_initializer = tf.constant_initializer(200.0)
  features = {'audio': noise(2, n_samples), 'target': noise(2, n_samples)}
  controls = model.predict_controls(features['audio'])
  assert {k: v.shape[-1] for k, v in controls.items()} == {
    'loud_controls': 1,
    'amplitudes': 1,
    'harmonics': 5,
    'f0_hz': 1,
  }
  with tf.GradientTape() as tape:
    outputs, values = model(features, return_losses=True)
  assert outputs['audio_synth'].shape == (2, n_samples)
  assert np.abs(outputs['audio_synth']).max() > 1e-3
  head = model.heads['amplitudes'].trainable_variables
  for gradient in tape.gradient(values['total_loss'], head):
    assert np.abs(gradient).max() > 0.0


def test_checked_groups_are_taken_too():
  group = processors.ProcessorGroup(
    [(plugin('gain', 'loud'), ['audio', 'c'])], inputs=['audio', 'c']
  )
  model = models.ControlModel(encoder(), group, [losses.TimeDomainLoss()], RATE)
  assert set(model.heads) == {'c'}


class Loudness(models.Encoder):
  """A user's own encoder: the power of each frame."""

  hop_size = HOP

  def call(self, audio):
    frames = tf.signal.frame(audio, HOP, HOP, pad_end=True)
    return tf.reduce_mean(frames**2, axis=-1, keepdims=True)


class Around(models.Encoder):
  """Hears a hop to both sides of a frame's own."""

  hop_size = HOP
  margin = HOP

  def call(self, audio):
    frames = tf.signal.frame(audio, 3 * HOP, HOP)
    return tf.reduce_mean(tf.abs(frames), axis=-1, keepdims=True)


@pytest.mark.parametrize('kind', [Loudness, Around])
@pytest.mark.parametrize('n_samples', [300, 5 * HOP, 20 * HOP + 77])
def test_an_own_encoder_hears_files_and_crops(monkeypatch, kind, n_samples):
  model = model_of([(plugin('gain', 'loud'), ['audio', 'c'])], kind())
  audio = noise(1, n_samples) * np.linspace(0.1, 2.0, n_samples, dtype='f')
  expected = model.predict_controls(audio)['c'][0]
  assert len(expected) == -(-n_samples // HOP)
  monkeypatch.setattr(encoders, 'FRAMES_AT_ONCE', 4)
  heard = model.listen(sources.from_array(audio.numpy().T, RATE))['c']
  np.testing.assert_allclose(heard, expected, rtol=1e-5)


class Pitched(models.Encoder):
  """Takes a feature besides audio."""

  features_used = ('audio', 'f0_hz')
  hop_size = HOP

  def call(self, audio, f0_hz):
    return f0_hz / tf.cast(tf.shape(audio)[1], tf.float32)


def test_an_encoder_takes_the_features_that_it_names():
  dag = [(plugin('gain', 'loud'), ['audio', 'c'])]
  model = model_of(dag, Pitched())
  model.make_variables()
  batch = {**pair(), 'f0_hz': tf.fill([3, 4, 1], 440.0)}
  outputs = model(batch)
  assert outputs['loud']['controls']['controls'].shape == (3, 4, 1)


def test_what_is_no_encoder_is_refused():
  own = tf.keras.layers.Dense(2)
  with pytest.raises(TypeError, match=r'no Encoder.*models\.Encoder.*hop_size'):
    model_of([(plugin('gain', 'loud'), ['audio', 'c'])], own)


def test_an_encoder_that_is_not_called_is_told():
  with pytest.raises(TypeError, match=r'which \(\) .*@encoders.Loudness\(\)'):
    model_of([(plugin('gain', 'loud'), ['audio', 'c'])], Loudness)


def test_an_encoder_of_another_rate_is_refused():
  own = encoders.LogMelEncoder(22050, HOP)
  with pytest.raises(ValueError, match='hears 22050 Hz.*16000'):
    model_of([(plugin('gain', 'loud'), ['audio', 'c'])], own)


# ------------------------------------------------- Networks for images ----
SMALL_IMAGES = dict(
  sample_rate=RATE,
  hop_size=256,
  context_size=4096,
  n_mels=32,
  fft_size=512,
  spectra_hop=128,
)


def image_encoder(kind, **kwargs):
  settings = {**SMALL_IMAGES, **kwargs}
  if kind == 'inception':
    return models.InceptionEncoder(channels=(8, 8), width=6, **settings)
  # 32 spectra are the least that MobileNetV2 takes.
  settings = {**settings, 'context_size': 4608}
  return models.MobileNetV2Encoder(alpha=0.1, **settings)


@pytest.mark.parametrize(
  'kind', some_quick(['inception', 'mobilenet'], ['inception'])
)
def test_a_frame_is_the_network_on_its_context_alone(kind):
  own = image_encoder(kind)
  size, hop = own.context_size, own.hop_size
  audio = noise(2, size + 3 * hop)
  embedding = own(audio).numpy()
  assert embedding.shape[:2] == (2, 4)
  scale = np.abs(embedding).max()  # small before statistics are known
  for t in range(4):
    alone = own(audio[:, t * hop : t * hop + size])
    assert alone.shape[1] == 1
    np.testing.assert_allclose(embedding[:, t], alone[:, 0], atol=1e-4 * scale)
  assert np.ptp(embedding, axis=1).max() > 2e-3 * scale


def test_log_mel_is_that_of_librosa():
  own = models.InceptionEncoder(channels=(4,), width=4)
  audio = noise(1, 40960)
  assert own.log_mel(audio).shape == (1, 157, 128)
  power = librosa.feature.melspectrogram(
    y=audio[0].numpy(),
    sr=22050,
    n_fft=1024,
    hop_length=256,
    n_mels=128,
    center=False,
    htk=True,
    norm=None,
  )
  np.testing.assert_allclose(
    own.log_mel(audio)[0], np.log10(power.T + 1e-6), atol=0.05
  )


def test_static_embedding_is_the_mean_over_windows_of_any_audio():
  own = image_encoder('inception', is_static=True)
  assert own.hop_size is None and own.margin == 0
  for n_samples in (100, 4096, 9000):
    assert own(noise(2, n_samples)).shape == (2, 1, 6)


@pytest.mark.parametrize('n_frames, size, step', [(20, 7, 3), (9, 50, 2)])
def test_moving_means_are_those_of_what_is_there(n_frames, size, step):
  x = noise(2, n_frames * 3).numpy().reshape(2, n_frames, 3)
  found = encoders.moving_mean(tf.constant(x), size, step)
  middles = range(0, n_frames, step)
  expected = [
    x[:, max(t - (size - 1) // 2, 0) : t + size // 2 + 1].mean(axis=1)
    for t in middles
  ]
  np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-7)
  pooled = tf.nn.avg_pool1d(x, size, 1, 'SAME')[:, ::step]
  np.testing.assert_allclose(found, pooled, atol=1e-6)


def test_static_log_mel_is_the_mean_over_frames():
  own, static = encoder(), encoder(is_static=True)
  audio = noise(2, 9 * HOP + 100)
  own(audio), static(audio)
  static.set_weights(own.get_weights())
  assert static.hop_size is None and static(audio).shape == (2, 1, 24)
  expected = own(audio).numpy().mean(axis=1, keepdims=True)
  np.testing.assert_allclose(static(audio), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('n_samples', [100, 5 * HOP, 40 * HOP + 77])
def test_static_log_mel_hears_a_file_in_chunks(monkeypatch, n_samples):
  own = encoder(is_static=True, context_s=0.1)
  model = model_of([(plugin('gain', 'loud'), ['audio', 'c'])], own)
  audio = noise(1, n_samples) * np.linspace(0.1, 2.0, n_samples, dtype='f')
  monkeypatch.setattr(encoders, 'FRAMES_AT_ONCE', 4)
  source = sources.from_array(audio.numpy().T, RATE)
  heard = model.listen(source)['c']
  assert heard.shape == (1, 1)
  expected = model.predict_controls(audio)['c'][0]
  np.testing.assert_allclose(heard, expected, rtol=1e-5)


def test_sizes_that_do_not_fit_together():
  for settings, message in (
    (dict(context_size=256), 'context_size=256 must be at least'),
    (dict(context_size=4097), 'even number'),
    (dict(hop_size=200), 'hop_size=200 must be a multiple of spectra_hop=128'),
  ):
    with pytest.raises(ValueError, match=message):
      image_encoder('inception', **settings)


def test_a_crop_is_heard_with_its_margins_and_rendered_without():
  own = image_encoder('inception')
  model = model_of([(plugin('gain', 'loud'), ['audio', 'c'])], own)
  n_samples = 3 * own.hop_size
  heard = noise(2, n_samples + 2 * model.margin)
  batch = {
    'audio': heard[:, model.margin : -model.margin],
    'heard': heard,
    'target': noise(2, n_samples, seed=1),
  }
  outputs, values = model(batch, return_losses=True)
  assert outputs['audio_synth'].shape == (2, n_samples)
  gains = outputs['loud']['controls']['controls'].numpy()
  for t in range(3):  # each frame by its context alone
    context = heard[:, t * own.hop_size : t * own.hop_size + own.context_size]
    alone = model.controls_of(own(context))['c'].numpy()
    np.testing.assert_allclose(gains[:, t], 4.0 * alone[:, 0], atol=1e-4)
  np.testing.assert_allclose(
    outputs['audio_synth'],
    batch['audio'] * np.repeat(gains[..., 0], own.hop_size, axis=1),
    rtol=1e-5,
  )
  expected = np.mean((outputs['audio_synth'] - batch['target']) ** 2)
  np.testing.assert_allclose(values['total_loss'], expected, rtol=1e-5)
  with pytest.raises(ValueError, match="'heard' has 768 .* 4608"):
    model({**batch, 'heard': batch['audio']})


def test_a_crop_is_heard_as_it_is_in_the_whole_file(tmp_path):
  own = image_encoder('inception')
  model = model_of([(plugin('gain', 'loud'), ['audio', 'c'])], own)
  audio = np.random.default_rng(0).standard_normal([5100, 1])
  for side in ('input', 'target'):
    (tmp_path / 'train' / side).mkdir(parents=True)
    path = tmp_path / 'train' / side / 'a.wav'
    soundfile.write(path, 0.1 * audio, RATE, 'FLOAT')
  crops = data.FolderProvider(
    str(tmp_path), sample_rate=RATE, n_samples=4 * own.hop_size
  )
  whole = model.listen(sources.from_file(path))['c']
  order = dict(shuffle=False, repeats=1, margin=model.margin)
  (batch,) = crops.get_batch(1, **order)
  ours = model(batch)['loud']['controls']['controls'][0]
  np.testing.assert_allclose(ours, 4.0 * whole[:4], rtol=1e-4)
  assert np.ptp(whole[:4]) > 1e-4 * np.mean(whole)


def test_batch_statistics_are_followed_in_training_alone():
  model = model_of(
    [(plugin('gain', 'loud'), ['audio', 'c'])],
    image_encoder('inception'),
  )
  batch = {'audio': noise(2, 256), 'target': noise(2, 256)}
  model(batch)

  def statistics():
    return [v.numpy() for v in model.non_trainable_variables]

  before = statistics()
  model(batch)
  for a, b in zip(before, statistics(), strict=True):
    np.testing.assert_array_equal(a, b)
  model(batch, training=True)
  changed = [np.any(a != b) for a, b in zip(before, statistics(), strict=True)]
  assert sum(changed) > 10


# ------------------------------------------------- The first plugins ----
def test_only_the_first_plugins_run():
  model, batch = chain(), pair()
  whole = model(batch)
  model.n_plugins = 1
  outputs = model(batch)
  np.testing.assert_array_equal(outputs['audio_synth'], whole['loud']['signal'])
  assert 'dull' not in outputs
  with tf.GradientTape() as tape:
    _, values = model(batch, return_losses=True)
  gradients = tape.gradient(values['total_loss'], model.trainable_variables)
  idle = {v.ref() for v in model.heads['dull_controls'].trainable_variables}
  for variable, gradient in zip(model.trainable_variables, gradients):
    assert (gradient is None) == (variable.ref() in idle)
  model.n_plugins = 2
  np.testing.assert_array_equal(
    model(batch)['audio_synth'], whole['audio_synth']
  )
  for n_plugins in (0, 3):
    with pytest.raises(ValueError, match=r'from 1 to 2.*loud, dull'):
      model.n_plugins = n_plugins


def test_only_the_first_plugins_of_a_black_box_run():
  members = [plugin('gain', 'loud'), plugin('onepole', 'dull')]
  keys = ['audio', 'loud_controls', 'dull_controls']
  model = model_of([(effects.LV2Chain(members, name='both'), keys)])
  batch = pair()
  expected = chain()
  model(batch), expected(batch)
  model.encoder.set_weights(expected.encoder.get_weights())
  for key, head in model.heads.items():
    head.set_weights(expected.heads[key].get_weights())
  for n_plugins in (2, 1):
    model.n_plugins = expected.n_plugins = n_plugins
    outputs = model(batch)
    np.testing.assert_allclose(
      outputs['audio_synth'], expected(batch)['audio_synth'], atol=1e-6
    )
    names = ['loud', 'dull'][:n_plugins]
    assert list(model.port_values(outputs)) == names
    assert [p.name for p in model.running] == names


def test_losses_align_within_the_latency_of_the_chain():
  dag = [
    (
      plugin('late', 'first', host=effects.Host(compensate_latency=False)),
      ['audio', 'a'],
    ),
    (plugin('late', 'second'), ['first/signal', 'b']),
  ]
  latency = 0
  for node in dag:
    latency += node[0].renderer.latency
  model = model_of(dag, align_margin=20)
  (loss,) = model.loss_objs
  assert (loss.max_lag, loss.ignore_polarity) == (latency + 20, True)
  assert model.latency == latency
