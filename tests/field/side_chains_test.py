"""Side chains are no channels: one answer, wherever it is asked for.

Kind: what a plugin says of a port beyond its type (port properties, groups).
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, lv2
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
