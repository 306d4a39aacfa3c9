"""Side chains are no channels: one answer, wherever it is asked for.

Kind: what a plugin says of a port beyond its type (port properties, groups).
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, lv2, processors
from dafx.commands import dafx_plugins
from dafx.lv2.cards import binding, checks

RATE = 22050
KEYED = 'urn:dafx-test:keyed'  # in + amount * key
LSP = 'http://lsp-plug.in/plugins/lv2/sc_compressor_stereo'
CALF = 'http://calf.sourceforge.net/plugins/SidechainCompressor'
ZAM = 'urn:zamaudio:ZamCompX2'
SIDE_CHAINS = {
  KEYED: ['key'],
  LSP: ['sc_l', 'sc_r'],  # by a group
  CALF: ['sidechain', 'sidechain2'],  # by name alone
  ZAM: ['lv2_sidechain_in'],
  'urn:dafx-test:cross': [],
}


def noise(*shape):
  rng = np.random.default_rng(0)
  return (0.1 * rng.standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize('uri', SIDE_CHAINS)
def test_all_say_the_same(uri, capsys):
  plugin = lv2.get_plugin(uri)
  assert [p.symbol for p in plugin.side_chains] == SIDE_CHAINS[uri]
  n_main = len(plugin.audio_inputs) - len(SIDE_CHAINS[uri])
  renderer = lv2.Renderer(uri, RATE)
  layer = effects.LV2Plugin(
    uri, trainable=[], sample_rate=RATE, channels='stereo'
  )
  assert renderer.n_channels_in == len(plugin.main_inputs) == n_main
  assert layer(noise(1, 500, 2)).shape == (1, 500, 2)
  assert layer(noise(1, 500)).shape[:2] == (1, 500)
  if n_main > 1:
    with pytest.raises(ValueError, match=rf'takes {n_main} \(.*, or 1 for'):
      layer(noise(1, 500, 5))
  text = binding.gin_binding(plugin, {})
  listens = f'# Side chain, which hears what goes in: {SIDE_CHAINS[uri]}.'
  listens = listens.replace('[', '').replace(']', '').replace("'", '')
  assert (listens in text) == bool(SIDE_CHAINS[uri])
  about = json.loads(_shown(uri, capsys))
  assert about['side_chains'] == SIDE_CHAINS[uri]
  assert len(about['audio_inputs']) == n_main


def _shown(uri, capsys):
  arguments = dafx_plugins.make_parser().parse_args(['show', '--json', uri])
  arguments.run(arguments)
  return capsys.readouterr().out


def test_a_card_says_it():
  card = checks.check(KEYED)
  assert (card.audio_inputs, card.side_chains) == (['in'], ['key'])


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_side_chains_hear_what_goes_in(isolation):
  keyed = lv2.Renderer(KEYED, RATE, ['amount'], isolation=isolation)
  halves = np.full((2, 1, 1), 0.5, np.float32)
  audio = noise(2, 400, 1)
  np.testing.assert_allclose(keyed.render(audio, halves), 1.5 * audio)
  both = noise(2, 400, 2)  # with audio of its own
  mixed = both[..., :1] + np.float32(0.5) * both[..., 1:]
  np.testing.assert_allclose(keyed.render(both, halves), mixed, atol=1e-7)
  # Stereo through a plugin of one channel: each channel keys itself.
  layer = effects.LV2Plugin(KEYED, sample_rate=RATE)
  unit = tf.fill([2, 1], 0.5)
  np.testing.assert_allclose(layer(both, unit), 1.5 * both, rtol=1e-6)


def test_stereo_is_keyed_as_mono_is():
  # One setting works on a mono file and on the same in stereo.
  for uri in (LSP, CALF, ZAM):
    renderer = lv2.Renderer(uri, RATE)
    mono = noise(1, 4000, 1)
    stereo = np.repeat(mono, 2, axis=-1)
    np.testing.assert_array_equal(
      renderer.render(mono), renderer.render(stereo)
    )


def test_a_second_input_keys_it():
  """Oracle: in + amount * key, with a channel for each input of the host."""
  audio, key = noise(2, 600, 2), noise(2, 600, 2)[:, ::-1]
  layer = effects.LV2Plugin(KEYED, sample_rate=RATE)
  halves = np.full((2, 1, 1), 0.5, np.float32)
  cases = {
    'mono': (audio[..., 0], key[..., 0], key[..., 0]),
    'stereo': (audio, key, key),
    'stereo, one key': (audio, key[..., 0], key[..., :1]),
    'mono, two keys': (audio[..., 0], key, key.mean(-1)),
  }
  for name, (signal, given, heard) in cases.items():
    want = signal + 0.5 * heard
    np.testing.assert_allclose(
      layer(signal, halves, given), want, atol=1e-6, err_msg=name
    )
    state, parts = layer.initial_state(2), []
    for start, stop in ((0, 250), (250, 600)):
      chunk, state = layer.stream(
        state, signal[:, start:stop], halves, given[:, start:stop]
      )
      parts.append(chunk)
    streamed = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(streamed, want, atol=1e-6, err_msg=name)
  with pytest.raises(ValueError, match='has no side chain'):
    effects.LV2Plugin('urn:dafx-test:gain')(audio, halves, key)
  with pytest.raises(ValueError, match='must have 1 or 2'):
    layer(audio, halves, noise(2, 600, 3))


def test_a_graph_has_a_second_audio_input():
  layer = effects.LV2Plugin(LSP, ['cr'], sample_rate=RATE, name='plugin')
  group = processors.ProcessorGroup(
    [(layer, ['audio', 'controls', 'key'])], name='group'
  )
  audio, controls = noise(1, 4000), np.full((1, 1, 1), 0.5, np.float32)
  loud = group({'audio': audio, 'controls': controls, 'key': 8.0 * audio})
  usual = group({'audio': audio, 'controls': controls, 'key': audio})
  direct = lv2.Renderer(LSP, RATE, ['cr'])
  cr = layer.control_map.to_port_units(controls)
  for out, gain in ((loud, 8.0), (usual, 1.0)):
    pair = np.stack([audio, audio, gain * audio, gain * audio], axis=-1)
    want = direct.render(pair, cr).mean(-1)
    np.testing.assert_allclose(out, want, atol=1e-6)
  with tf.GradientTape() as tape:  # the audio and the controls get gradients
    given = tf.constant(audio)
    tape.watch(given)
    tape.watch(setting := tf.constant(controls))
    out = group({'audio': given, 'controls': setting, 'key': audio})
    loss = tf.reduce_mean(out**2)
  gradients = tape.gradient(loss, [given, setting])
  assert all(np.isfinite(g).all() for g in gradients)
