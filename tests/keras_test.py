"""dafx's layers in a user's own Keras model: saved, cloned, copied, refused."""

import copy
import json
import os
import pathlib
import pickle
import subprocess
import sys

import ddsp
import gin
import numpy as np
import pytest
import tensorflow as tf
from cases import some_quick

from dafx import effects, gradients, neural, processors, synths

TEST = 'urn:dafx-test:'
N_SAMPLES = 128
RNG = np.random.default_rng(0)
AUDIO = (0.2 * RNG.standard_normal([2, N_SAMPLES])).astype(np.float32)
UNIT = RNG.uniform(0.2, 0.8, [2, 2, 3]).astype(np.float32)


def plugin(kind='gain', **kwargs):
  return effects.LV2Plugin(
    TEST + kind, **{'host': effects.Host(warm_up=0), **kwargs}
  )


def chain():
  return effects.LV2Chain([plugin(name='first'), plugin('onepole', name='b')])


def proxy():
  network = neural.DilatedConv(
    2, 3, n_channels=2, conditioning='film', n_knobs=1
  )
  return effects.ProxyLV2Plugin(plugin(), network, spread=0.25)


def group():
  return processors.ProcessorGroup(
    [
      (effects.Fc(3, hidden_size=4), ['unit']),
      (plugin(name='gain'), ['audio', 'fc/controls']),
      (effects.Envelope(hidden_size=3), ['gain/signal']),
      (
        effects.Dynamics(fixed={'knee_db': 3}),
        ['gain/signal', 'envelope/controls'],
      ),
      (ddsp.processors.Add(), ['audio', 'dynamics/signal']),
    ],
    name='my_group',
  )


# By name: what makes the layer, and how many of the controls it takes.
LAYERS = {
  'LV2Plugin': (
    lambda: plugin(
      ranges={'amount': (0.5, np.float32(2), 'log')},
      control_gradient=gradients.Spsa(n_probes=2, epsilons={'amount': 0.02}),
      audio_gradient=gradients.BestAdjoint(epsilons=(1.0,)),
    ),
    1,
  ),
  'fixed': (lambda: plugin(trainable=[], fixed={'amount': 0.25}), 0),
  'stereo': (lambda: plugin('cross', channels='stereo'), 1),
  'LV2Chain': (chain, 2),
  'DiscreteLV2Plugin': (
    lambda: effects.DiscreteLV2Plugin(
      TEST + 'modal', choices={'mode': np.arange(3)}
    ),
    None,
  ),
  'ProxyLV2Plugin': (proxy, 1),
  'Gain': (lambda: effects.Gain(['gain_db', 'polarity']), 2),
  'Biquads': (lambda: effects.Biquads(('peak',), sample_rate=16000), 3),
  'Dynamics': (
    lambda: effects.Dynamics(
      'gate', ['threshold_db'], {'range_db': 30}, lookahead_ms=0.5
    ),
    1,
  ),
  'Fir': (lambda: effects.Fir(ir=np.array([1.0, 0.5, -0.25])), 0),
  'Fir of a siren': (lambda: effects.Fir(8, 'siren', hidden_size=4), 0),
  'Waveshaper': (lambda: effects.Waveshaper('polynomial', oversample=2), 0),
  'Rnn': (lambda: neural.Rnn('gru', 4, n_knobs=3, conditioning='tvcond'), 3),
  'DilatedConv': (
    lambda: neural.DilatedConv(
      2, 3, n_channels=2, n_knobs=2, conditioning='tfilm', activation='prelu'
    ),
    2,
  ),
  'S4': (lambda: neural.S4(2, 2, 4, 'film', 1, input_gain_db=6), 1),
  'WaveNet': (
    lambda: neural.WaveNet(arrays=[neural.LayerArray(2, 1, (1, 2))]),
    0,
  ),
}  # fmt: skip


# Tested by themselves alone: Keras's way to trace them takes seconds.
SLOW_TO_TRACE = ('Biquads', 'Dynamics', 'DilatedConv', 'S4', 'Waveshaper')
TRACED = [name for name in LAYERS if name not in SLOW_TO_TRACE]


def functional(make, n_controls):
  """Returns a user's model around a layer, and its inputs."""
  layer = make()
  if n_controls is None:
    n_controls = layer.n_controls
  audio = tf.keras.Input([N_SAMPLES])
  if not n_controls:
    return tf.keras.Sequential([audio, layer]), AUDIO
  unit = tf.keras.Input([2, 3])
  inner = tf.keras.layers.Dense(n_controls, 'sigmoid')(unit)
  signal = layer(audio, inner)
  return tf.keras.Model([audio, unit], signal), [AUDIO, UNIT]


def inputs_of(name, layer):
  """Returns what a layer takes by itself."""
  n_controls = LAYERS[name][1]
  if n_controls is None:
    n_controls = layer.n_controls
  unit = np.linspace(0.2, 0.8, n_controls, dtype=np.float32)
  return [AUDIO, np.tile(unit, [2, 1])] if n_controls else [AUDIO]


def scramble(model):
  """Gives all weights other values, as training would have."""
  rng = np.random.default_rng(1)
  for variable in model.weights:
    if variable.dtype.is_floating:
      variable.assign_add(0.05 * rng.uniform(-1, 1, variable.shape))
    else:
      variable.assign(variable + 3)


@pytest.fixture
def clean_gin():
  gin.clear_config()
  yield
  gin.clear_config()


def same(first, second):
  for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
    np.testing.assert_array_equal(a, b)


# ---------------------------------------------- Saved, cloned and copied ----
@pytest.mark.parametrize(
  'name',
  some_quick(
    TRACED,
    [
      name
      for name in TRACED
      if name not in ('Rnn', 'ProxyLV2Plugin', 'WaveNet')
    ],
  ),
)
def test_a_model_is_saved_cloned_and_copied(name, tmp_path):
  model, inputs = functional(*LAYERS[name])
  scramble(model)
  expected = model(inputs)
  model.save(tmp_path / 'model.keras')
  model.save_weights(tmp_path / 'weights.h5')
  clone = tf.keras.models.clone_model(model)
  loaded = tf.keras.models.load_model(tmp_path / 'model.keras')
  # The counters of steps are among the weights.
  same(loaded.get_weights(), model.get_weights())
  same(loaded(inputs), expected)
  clone.load_weights(tmp_path / 'weights.h5')
  same(clone(inputs), expected)


def test_a_model_is_copied_and_pickled():
  model, inputs = functional(*LAYERS['LV2Chain'])
  scramble(model)
  for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
    assert not {id(v) for v in other.weights} & {id(v) for v in model.weights}
    same(other(inputs), model(inputs))


@pytest.mark.parametrize('name', ['LV2Chain', 'WaveNet'])
def test_a_whole_model_goes_into_h5(name, tmp_path):
  model, inputs = functional(*LAYERS[name])
  scramble(model)
  with pytest.warns(UserWarning, match='HDF5'):
    model.save(tmp_path / 'model.h5')
  loaded = tf.keras.models.load_model(tmp_path / 'model.h5')
  same(loaded(inputs), model(inputs))


class Own(tf.keras.Model):
  """A subclassed model of a user."""

  def __init__(self):
    super().__init__()
    self.to_controls = tf.keras.layers.Dense(3)
    self.group = group()
    self.noise = synths.SeededFilteredNoise(N_SAMPLES, 9, name='hiss')

  def call(self, inputs):
    noise = self.noise(inputs['unit'])
    unit = tf.sigmoid(self.to_controls(inputs['unit']))
    return self.group({'audio': inputs['audio'] + noise, 'unit': unit})


@pytest.mark.slow
def test_a_subclassed_model_is_saved_and_copied(tmp_path):
  model, inputs = Own(), {'audio': AUDIO, 'unit': UNIT}
  model(inputs)
  scramble(model)
  model.save(tmp_path / 'model.keras')
  model.save_weights(tmp_path / 'weights.h5')
  others = [
    tf.keras.models.load_model(
      tmp_path / 'model.keras', custom_objects={'Own': Own}
    ),
    tf.keras.models.clone_model(model),
  ]
  others[1](inputs)
  others[1].load_weights(tmp_path / 'weights.h5')
  expected = [model(inputs) for _ in range(2)]
  # The noise of a second call is another one, for the copies too.
  assert np.abs(expected[0] - expected[1]).max() > 1e-4
  for other in others:
    same([other(inputs) for _ in range(2)], expected)


def test_a_group_is_made_again_with_its_wires():
  original = group()
  scramble(original)
  inputs = {'audio': AUDIO, 'unit': UNIT}
  expected = original(inputs)
  again = type(original).from_config(original.get_config())
  again.set_weights(original.get_weights())
  for other in (again, copy.deepcopy(original)):
    same(other(inputs), expected)
    assert other.name == 'my_group'
    assert other.processor_names == original.processor_names


@pytest.mark.parametrize('name', LAYERS)
def test_layers_are_copied_and_pickled_by_themselves(name):
  layer = LAYERS[name][0]()
  scramble(layer)
  inputs = inputs_of(name, layer)
  expected = layer(*inputs)
  config = json.loads(json.dumps(layer.get_config()))
  again = type(layer).from_config(config)
  again.set_weights(layer.get_weights())
  for other in (again, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
    same(other(*inputs), expected)
    other.set_weights([np.zeros_like(w) for w in other.get_weights()])
  same(layer(*inputs), expected)


def test_what_a_controller_learned_it_drives_goes_along():
  controller = effects.Envelope()
  controller.drive(
    effects.Gain(['gain_db', 'offset'], ranges={'gain_db': (0, 9)})
  )
  again = copy.deepcopy(controller)
  same(again(AUDIO)['controls'], controller(AUDIO)['controls'])
  config = effects.Const(defaults=[0.25, 0.5]).get_config()
  const = effects.Const.from_config(config)
  np.testing.assert_allclose(const(AUDIO)['controls'][0, 0], [0.25, 0.5])
  with pytest.raises(ValueError, match='a number for each'):
    effects.Const(3, defaults=[0.5])


def test_a_shared_plugin_stays_shared_in_a_copy():
  inner = plugin(name='inner')
  pair = copy.deepcopy([effects.LV2Chain([inner]), inner])
  assert pair[0].plugins[0] is pair[1] is not inner


def test_what_was_changed_later_is_kept():
  calf = plugin('tuned', sample_rate=48000)
  calf.set_sample_rate(8000)
  calf.control_gradient = gradients.Spsa(n_probes=5)
  calf.audio_gradient = gradients.Reversal(0.5)
  calf.trainable = False
  again = effects.LV2Plugin.from_config(calf.get_config())
  assert again.sample_rate == 8000
  assert again.control_gradient == calf.control_gradient
  assert again.audio_gradient == gradients.Reversal(0.5)
  # The range is that of the first rate: controls keep their meaning.
  np.testing.assert_array_equal(again.control_map.high, calf.control_map.high)
  net = neural.Rnn(n_units=2)
  net.trainable = False
  assert not copy.deepcopy(net).trainable_variables
  joined = chain()
  joined.n_plugins = 1
  assert copy.deepcopy(joined).n_plugins == 1


def test_what_gin_binds_is_kept_without_gin(clean_gin):
  gin.parse_config("""
    effects.LV2Plugin.uri = 'urn:dafx-test:gain'
    effects.LV2Plugin.ranges = {'amount': (0.5, 2.0)}
    gradients.Spsa.n_probes = 3
    effects.Host.warm_up = 5
  """)
  bound = gin.get_configurable('effects.LV2Plugin')(name='bound')
  gin.clear_config()
  for other in (
    effects.LV2Plugin.from_config(bound.get_config()),
    copy.deepcopy(bound),
  ):
    assert other.uri == TEST + 'gain'
    assert other.control_gradient == gradients.Spsa(n_probes=3)
    assert other.host == effects.Host(warm_up=5)
    np.testing.assert_array_equal(other.control_map.high, [2.0])


def all_public():
  for room in (effects, neural, synths, processors):
    for value in vars(room).values():
      if isinstance(value, type) and issubclass(value, tf.keras.layers.Layer):
        if value not in (processors.Layer, processors.Rebuildable):
          yield value


@pytest.mark.parametrize('layer', [*all_public()])
def test_every_public_layer_can_be_saved(layer):
  assert issubclass(layer, processors.Rebuildable)
  assert tf.keras.utils.get_registered_name(layer) == f'dafx>{layer.__name__}'
  # What can be changed later has to be there.
  missing = [
    n for n in layer.changeable if n not in layer.__init__.__code__.co_varnames
  ]
  assert missing in ([], ['sample_rate'])


def test_a_missing_plugin_is_missed_in_the_usual_words():
  config = plugin().get_config()
  config['uri'] = 'urn:dafx-test:gone'
  with pytest.raises(ValueError) as usual:
    effects.LV2Plugin('urn:dafx-test:gone')
  with pytest.raises(ValueError) as error:
    effects.LV2Plugin.from_config(config)
  assert str(error.value) == str(usual.value)


def test_a_copy_streams_by_itself():
  controls = tf.constant([[[0.8]]])
  original = plugin('onepole')
  halves = AUDIO[:1, :64], AUDIO[:1, 64:]
  state = original.initial_state(1)
  first, state = original.stream(state, halves[0], controls)
  other = copy.deepcopy(original)
  begun, _ = other.stream(other.initial_state(1), halves[0], controls)
  second, _ = original.stream(state, halves[1], controls)
  same(begun, first)
  whole = original.get_signal(AUDIO[:1], controls)
  np.testing.assert_allclose(tf.concat([first, second], 1), whole, atol=1e-6)


# ------------------------------------------------- SavedModel and XLA ----
def black_box():
  return functional(*LAYERS['LV2Plugin'])[0]


def holder():
  module = tf.Module()
  module.held = plugin()
  return module


@pytest.mark.parametrize(
  'save',
  [
    lambda path: black_box().save(path),
    lambda path: black_box().save(path, save_traces=False),
    lambda path: black_box().export(path),
    lambda path: tf.saved_model.save(black_box(), path),
    lambda path: tf.saved_model.save(holder(), path),
    lambda path: functional(*LAYERS['LV2Chain'])[0].save(path),
    lambda path: functional(*LAYERS['ProxyLV2Plugin'])[0].save(path),
    lambda path: functional(*LAYERS['DiscreteLV2Plugin'])[0].export(path),
  ],
)
def test_a_saved_model_is_refused(save, tmp_path):
  with pytest.raises(ValueError, match=r"model\.save\('model\.keras'\)"):
    save(str(tmp_path / 'folder'))
  assert not (tmp_path / 'folder' / 'saved_model.pb').exists()


def test_checkpoints_are_not_refused(tmp_path):
  model, inputs = functional(*LAYERS['LV2Chain'])
  scramble(model)
  path = tf.train.Checkpoint(model=model).write(str(tmp_path / 'c'))
  model.save_weights(str(tmp_path / 'keras'))
  for restore in (
    lambda other: tf.train.Checkpoint(model=other).read(path).assert_consumed(),
    lambda other: other.load_weights(str(tmp_path / 'keras')),
  ):
    other, _ = functional(*LAYERS['LV2Chain'])
    restore(other)
    same(other(inputs), model(inputs))


def differentiable():
  """A model of what runs compiled loops of Python where it may."""
  audio = tf.keras.Input([N_SAMPLES])
  signal = neural.Rnn(n_units=2)(audio)
  signal = neural.S4(1, 1, 2)(signal)
  return tf.keras.Model(audio, effects.Dynamics(trainable=())(signal))


@pytest.mark.slow
def test_a_differentiable_model_becomes_a_saved_model(tmp_path):
  model = differentiable()
  expected = model(AUDIO)
  model.save(tmp_path / 'saved')
  model.export(tmp_path / 'exported')
  for name in ('saved', 'exported'):
    graph = (tmp_path / name / 'saved_model.pb').read_bytes()
    assert b'PyFunc' not in graph
  loaded = tf.saved_model.load(tmp_path / 'exported')
  np.testing.assert_allclose(loaded.serve(AUDIO), expected, atol=1e-5)


def test_xla_is_refused_by_a_plugin():
  model, inputs = functional(*LAYERS['LV2Plugin'])
  model.compile('sgd', 'mse', jit_compile=True)
  with pytest.raises(ValueError, match='Leave jit_compile away'):
    model.fit(inputs, AUDIO, verbose=0)
  with pytest.raises(ValueError, match='Leave jit_compile away'):
    tf.function(model, jit_compile=True)(inputs)
  # In a function inside too, as a step of training has them.
  inner = tf.function(model)
  with pytest.raises(ValueError, match='Leave jit_compile away'):
    tf.function(lambda x: inner(x), jit_compile=True)(inputs)
  model.compile('sgd', 'mse', jit_compile=False)
  model.fit(inputs, AUDIO, verbose=0)


@pytest.mark.slow
def test_xla_compiles_what_is_differentiable():
  def gradients(jit_compile):
    model = differentiable()

    @tf.function(jit_compile=jit_compile)
    def step(audio):
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(audio) ** 2)
      return tape.gradient(loss, model.trainable_variables)

    return step(AUDIO)

  for ours, theirs in zip(gradients(False), gradients(True), strict=True):
    scale = np.abs(ours).max() + 1e-9
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-3)


# ---------------------------------------------------- Other surroundings ----
@pytest.fixture
def mixed_precision():
  tf.keras.mixed_precision.set_global_policy('mixed_float16')
  yield
  tf.keras.mixed_precision.set_global_policy('float32')


@pytest.mark.parametrize('name', LAYERS)
def test_mixed_precision_changes_nothing(name, mixed_precision):
  make, _ = LAYERS[name]
  layer = make()
  inputs = [tf.cast(x, tf.float16) for x in inputs_of(name, layer)]
  got = layer(*inputs)
  tf.keras.mixed_precision.set_global_policy('float32')
  assert got.dtype == tf.float32
  assert not [w for w in layer.weights if w.dtype == tf.float16]
  same(got, make()(*(tf.cast(x, tf.float32) for x in inputs)))


def test_mixed_precision_trains_through_a_plugin(mixed_precision):
  model, inputs = functional(*LAYERS['LV2Plugin'])
  model.compile(tf.keras.optimizers.SGD(3.0), 'mse')
  target = AUDIO * 1.7
  first = model.evaluate(inputs, target, verbose=0)
  model.fit(inputs, target, epochs=20, verbose=0)
  assert model.evaluate(inputs, target, verbose=0) < 0.5 * first


def test_a_plugin_runs_inside_of_tf_data():
  gain = plugin(name='gain')
  data = tf.data.Dataset.from_tensors((AUDIO, UNIT[..., :1])).repeat(3)
  expected = gain(AUDIO, UNIT[..., :1])
  for signal in data.map(gain, num_parallel_calls=2):
    same(signal, expected)


def test_black_boxes_share_no_state_in_one_process():
  models = [functional(*LAYERS['LV2Plugin'])[0] for _ in range(2)]
  inputs = [AUDIO, UNIT]
  models[1].set_weights(models[0].get_weights())
  for model in models:
    model.compile('sgd', 'mse')
    model.fit(inputs, 2 * AUDIO, epochs=2, verbose=0, shuffle=False)
  same(models[0].get_weights(), models[1].get_weights())


_FORK = """
import os
import signal
import sys
import numpy as np
import tensorflow as tf
from dafx import effects
gain = effects.LV2Plugin('urn:dafx-test:gain', name='gain')
inputs = [tf.keras.Input([64]), tf.keras.Input([1, 1])]
model = tf.keras.Model(inputs, gain(*inputs))
audio = np.sin(np.arange(128, dtype=np.float32)).reshape(2, 64)
controls = np.full([2, 1, 1], 0.25, np.float32)
expected = model.predict([audio, controls], verbose=0)
child = os.fork()
if not child:
  signal.alarm(60)  # ends one that hangs
  audio = audio[..., np.newaxis]  # NumPy alone: TensorFlow takes no fork
  got = gain.render(audio, gain.control_map.to_port_units(controls))
  os._exit(0 if np.array_equal(got[..., 0], expected) else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert not code, f'the child ends with {code}'
again = model.predict([audio, controls], verbose=0)
sys.stdout.write('same' if np.array_equal(again, expected) else 'other')
"""


def run_program(program):
  """Returns what a program prints; it must end well."""
  root = pathlib.Path(__file__).parents[1]
  # The limit only bounds what hangs.
  result = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'PYTHONPATH': str(root)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert not result.returncode, result.stderr
  return result.stdout


@pytest.mark.slow
def test_a_fork_renders_and_the_model_goes_on():
  """As workers do that load data, beside a model in the first process."""
  assert run_program(_FORK) == 'same'


@pytest.mark.parametrize('name', LAYERS)
def test_the_batch_may_be_unknown(name):
  layer = LAYERS[name][0]()
  inputs = inputs_of(name, layer)
  run = tf.function(
    lambda *inputs: layer(*inputs),
    input_signature=[tf.TensorSpec([None, x.shape[1]]) for x in inputs],
    autograph=False,
  )
  np.testing.assert_allclose(run(*inputs), layer(*inputs), atol=1e-6)


_LIVE_ITERATORS = """
import sys
import numpy as np
from dafx.training.data import recordings
rng = np.random.default_rng(0)
dry, wet = rng.standard_normal([2, 400_000]).astype(np.float32)
data = recordings.Recordings([('a', dry, wet, [])], (), 16000, 100_000)
iterators = [iter(data.get_batch(4)) for _ in range(4)]
for iterator in iterators:
  next(iterator)
sys.stdout.write('end')
"""


@pytest.mark.slow
def test_live_iterators_do_not_keep_the_interpreter_from_ending():
  assert run_program(_LIVE_ITERATORS) == 'end'
