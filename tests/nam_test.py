""".nam files, read by an implementation of their own; SavedModels reloaded.

The reader here follows the format's description alone: plain NumPy, sample by
sample, in double precision.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dafx import neural
from dafx.neural import nam


def sigmoid(x):
  return 1.0 / (1.0 + np.exp(-x))


def play(path, audio):
  """Plays a .nam file from silence on."""
  content = json.loads(path.read_text())
  weights = iter(content['weights'])

  def take(*shape):
    n = int(np.prod(shape))
    return np.array([next(weights) for _ in range(n)]).reshape(shape)

  play_it = {'WaveNet': play_wavenet, 'LSTM': play_lstm}
  output = play_it[content['architecture']](content['config'], take, audio)
  assert next(weights, None) is None
  return output


def play_wavenet(config, take, audio):
  # The players let silence run in first; here it stands before the audio.
  n_before = 1 + sum(
    (layer['kernel_size'] - 1) * d
    for layer in config['layers']
    for d in layer['dilations']
  )
  condition = np.concatenate([np.zeros(n_before), audio])
  x, head = condition[np.newaxis], 0.0
  for array in config['layers']:
    n = array['channels']
    n_inner = 2 * n if array['gated'] else n
    x = take(n, array['input_size']) @ x
    for dilation in array['dilations']:
      kernel = take(n_inner, n, array['kernel_size'])
      bias = take(n_inner)
      z = bias[:, np.newaxis] + take(n_inner, 1) * condition
      for tap in range(array['kernel_size']):
        delay = (array['kernel_size'] - 1 - tap) * dilation
        delayed = np.zeros_like(x)
        delayed[:, delay:] = x[:, : x.shape[1] - delay]
        z = z + kernel[:, :, tap] @ delayed
      if array['gated']:
        z = np.tanh(z[:n]) * sigmoid(z[n:])
      else:
        z = np.tanh(z)
      head = head + z
      x = x + take(n, n) @ z + take(n)[:, np.newaxis]
    head = take(array['head_size'], n) @ head
    if array['head_bias']:
      head = head + take(array['head_size'])[:, np.newaxis]
  return (take(1) * head[0])[n_before:]


def play_lstm(config, take, audio):
  n, cells = config['hidden_size'], []
  for i in range(config['num_layers']):
    n_in = n if i else config['input_size']
    cells.append([take(4 * n, n_in + n), take(4 * n), take(n), take(n)])
  out, bias = take(n), take(1)
  output = []
  for sample in audio:
    x = np.array([sample])
    for cell in cells:
      matrix, offset, h, c = cell
      i, f, g, o = np.split(matrix @ np.concatenate([x, h]) + offset, 4)
      c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
      x = sigmoid(o) * np.tanh(c)
      cell[2:] = x, c
    output.append(out @ x + bias[0])
  return np.array(output)


def trained(net, scale=0.1):
  rng = np.random.default_rng(0)
  for v in net.trainable_variables:
    v.assign_add(rng.normal(0.0, scale, v.shape).astype(np.float32))
  return net


SMALL = (
  neural.LayerArray(3, 2, (1, 2), gating='gated'),
  neural.LayerArray(2, 1, (8,), kernel_size=2, head_bias=True),
)
MODELS = {
  'wavenet nano': lambda: neural.WaveNet('nano'),
  'wavenet gated': lambda: neural.WaveNet(arrays=SMALL, head_scale=0.5),
  'lstm': lambda: neural.Rnn('lstm', 5, activation='linear'),
  'lstm, two layers': lambda: neural.Rnn('lstm', 4, 2, activation='linear'),
}


def sound(n_samples):
  return np.random.default_rng(1).normal(0, 0.5, n_samples).astype(np.float32)


@pytest.mark.parametrize('key', MODELS)
def test_the_format_gives_the_same_audio(key, tmp_path):
  net, audio = trained(MODELS[key]()), sound(600)
  path = tmp_path / 'model.nam'
  nam.write(path, net, 48000, nam.Metadata('A fuzz'))
  expected = net(tf.constant(audio[np.newaxis]))[0].numpy()
  assert np.std(expected) > 1e-4
  np.testing.assert_allclose(play(path, audio), expected, atol=1e-5)
  again, sample_rate = nam.read(path)
  assert sample_rate == 48000
  np.testing.assert_allclose(
    again(tf.constant(audio[np.newaxis]))[0], expected, atol=1e-6
  )
  content = json.loads(path.read_text())
  assert content['metadata']['name'] == 'A fuzz'
  assert set(content) == {
    'version',
    'metadata',
    'architecture',
    'config',
    'weights',
    'sample_rate',
  }


@pytest.mark.parametrize(
  'size, n_weights, receptive_field',
  [
    ('standard', 13802, 4093),
    ('lite', 6554, 4093),
    ('feather', 3026, 4093),
    ('nano', 842, 4093),
  ],
)
def test_wavenets_have_the_sizes_of_that_program(
  size, n_weights, receptive_field, tmp_path
):
  net = neural.WaveNet(size)
  assert net.n_parameters + 1 == n_weights  # And head_scale.
  assert net.receptive_field == receptive_field
  nam.write(tmp_path / 'model.nam', net, 48000, measures=False)
  content = json.loads((tmp_path / 'model.nam').read_text())
  assert len(content['weights']) == n_weights


def test_what_the_format_lacks_is_an_error(tmp_path):
  path = tmp_path / 'model.nam'
  for net, reason in (
    (neural.WaveNet(arrays=SMALL, n_knobs=2), r'2 knob\(s\)'),
    (neural.DilatedConv(1, 3, 1, 2), 'no DilatedConv'),
    (neural.Rnn('gru', 2, activation='linear'), "cell='lstm'"),
    (neural.Rnn('lstm', 2), "activation='linear'"),
    (neural.Rnn('lstm', 2, activation='linear', residual=True), 'residual'),
    (neural.Rnn(conditioning='tvcond', activation='linear'), 'conditioning'),
  ):
    with pytest.raises(ValueError, match=reason):
      nam.write(path, net, 48000)
  broken = neural.Rnn('lstm', 2, activation='linear')
  broken.out.bias.assign([np.nan])
  with pytest.raises(ValueError, match='not finite'):
    nam.write(path, broken, 48000)
  assert not path.exists()


def test_files_that_cannot_be_read_say_why(tmp_path):
  path = tmp_path / 'model.nam'
  nam.write(path, neural.WaveNet(arrays=SMALL), 44100, measures=False)
  content = json.loads(path.read_text())

  def changed(**entries):
    path.write_text(json.dumps({**content, **entries}))
    return path

  config = content['config']
  gelu = [{**config['layers'][0], 'activation': 'GELU'}, config['layers'][1]]
  extra = [{**config['layers'][0], 'film': {}}, config['layers'][1]]
  for entries, reason in (
    ({'version': '1.0.0'}, '0.5 to 0.7'),
    ({'architecture': 'ConvTasNet'}, 'ConvTasNet'),
    ({'weights': content['weights'][:-1]}, 'as the config asks for'),
    ({'weights': [*content['weights'], 0.0]}, 'as the config asks for'),
    ({'config': {**config, 'head': {}}}, r"head lacks 'kernel_sizes'"),
    ({'config': {**config, 'layers': gelu}}, "'GELU'"),
    ({'config': {**config, 'layers': extra}}, r'layers\[0\]\.film is'),
    ({'config': {}}, 'layers'),
  ):
    with pytest.raises(ValueError, match=reason):
      nam.read(changed(**entries))
  path.write_text('RIFF')
  with pytest.raises(ValueError, match='is no JSON'):
    nam.read(path)


@pytest.mark.parametrize(
  'net, block_size',
  [
    (lambda: neural.Rnn('lstm', 4, conditioning='tvcond', n_knobs=1), 64),
    (lambda: neural.S4(2, 3, 4, 'tfilm', n_knobs=1), 256),
    (lambda: neural.DilatedConv(2, 3, 4, 3, True, 'film', 1), 50),
    (lambda: neural.WaveNet(arrays=SMALL), 50),
  ],
)
def test_saved_models_stream(net, block_size, tmp_path):
  net = trained(net())
  audio = tf.constant(sound(3 * block_size)[np.newaxis])
  knobs = {'knobs': tf.constant([[0.3]])} if net.n_knobs else {}
  neural.export_saved_model(net, tmp_path / 'model', block_size)
  loaded = tf.saved_model.load(str(tmp_path / 'model'))
  state = loaded.signatures['initial_state']()
  chunks = []
  for i in range(3):
    chunk = audio[:, i * block_size : (i + 1) * block_size]
    outputs = loaded.signatures['stream'](audio=chunk, **knobs, **state)
    chunks.append(outputs.pop('signal'))
    state = outputs
  expected = net(audio, *knobs.values())
  assert np.std(expected) > 1e-4
  np.testing.assert_allclose(np.concatenate(chunks, 1), expected, atol=1e-5)
  saved = saved_model_pb2.SavedModel()
  saved.ParseFromString((tmp_path / 'model/saved_model.pb').read_bytes())
  used = {
    node.op
    for graph in saved.meta_graphs
    for function in graph.graph_def.library.function
    for node in function.node_def
  }
  assert 'Tanh' in used
  assert not used & {'PyFunc', 'PyFuncStateless', 'EagerPyFunc'}


def test_blocks_that_cross_frames_cannot_be_exported(tmp_path):
  net = neural.S4(1, 2, 2, conditioning='tfilm')
  with pytest.raises(ValueError, match='frames of 128'):
    neural.export_saved_model(net, tmp_path / 'model', 100)
