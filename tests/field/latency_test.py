"""Controls that move a plugin's latency: one answer, wherever it is asked for.

Kind: what is found out once and taken for granted, while something moves it.
"""

import numpy as np
import pytest

from dafx import effects, lv2
from dafx.lv2.cards import binding, checks

RATE = 22050
AHEAD = 'urn:dafx-test:ahead'  # reports its amount, from 0 to 36 samples
LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'
# With a look-ahead of its side chain, 'sla', and a switch that moves nothing.
COMPRESSOR = 'http://lsp-plug.in/plugins/lv2/compressor_mono'


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
@pytest.mark.parametrize(
  'uri, moves',
  [
    (AHEAD, {'amount': (0, 36)}),
    ('urn:dafx-test:late', {}),  # always 37
    ('urn:dafx-test:gain', {}),  # a gain of 0 leaves nothing to measure
    ('urn:dafx-test:delay', {}),  # no report; 37 are measured
    (LIMITER, {'lk': (2, 441)}),
    (COMPRESSOR, {'sla': (0, 441)}),
  ],
)
def test_what_moves_the_latency_is_found(uri, moves, isolation):
  plugin = lv2.get_plugin(uri)
  symbols = [port.symbol for port in binding.trainable_controls(plugin)]
  found = lv2.moves_of_latency(uri, RATE, symbols, isolation=isolation)
  assert found == moves
  # All say the same.
  trained = effects.LV2Plugin(uri, sample_rate=RATE).symbols
  text = binding.gin_binding(plugin, found)
  for symbol in moves:
    assert symbol not in trained
    assert f'#     {symbol!r}: moves the latency' in text
    with pytest.raises(ValueError, match=f'{symbol!r} .* cannot be trained'):
      effects.LV2Plugin(uri, trainable=[symbol], sample_rate=RATE)
  assert set(trained) == {
    s for s in symbols
    if s not in moves and not lv2.reason_not_to_train(plugin.control(s))
  }  # fmt: skip


def test_a_choice_that_moves_the_latency_is_refused():
  with pytest.raises(ValueError, match="'ovs' .* cannot be trained"):
    effects.DiscreteLV2Plugin(LIMITER, {'ovs': None}, ['th'], sample_rate=RATE)


def test_the_card_says_it():
  card = checks.check(AHEAD)
  assert card.latency_moves == {'amount': [0, 36]}
  assert any('latency moves with it: amount' in a for a in card.verdict.advice)


def test_what_is_fixed_is_compensated():
  ahead = effects.LV2Plugin(
    AHEAD, trainable=[], fixed={'amount': 20}, sample_rate=RATE
  )
  audio = np.random.default_rng(0).standard_normal((1, 3000)).astype('f')
  assert ahead.latency == 20
  np.testing.assert_array_equal(ahead(audio), audio)
