"""Plugin cards: each statement against a plugin of which it is known."""

import json
import math
import time

import pytest

from dafx import lv2, metrics
from dafx.lv2.cards import binding, checks, neutral, text
from dafx.lv2.cards import card as cards

TEST = 'urn:dafx-test:'
CALF = 'http://calf.sourceforge.net/plugins/'
LSP = 'http://lsp-plug.in/plugins/lv2/'


def control(card, symbol):
  return next(c for c in card.controls if c.symbol == symbol)


def advice(card):
  return ' '.join(card.verdict.advice)


# -------------------------------------------------------- Test plugins ----
def test_card_of_a_gain():
  card = checks.check(TEST + 'gain')
  assert (card.status, card.faults) == ('ok', [])
  assert card.verdict == cards.Verdict('yes', [])
  assert card.repeatable and card.threads_error == 0.0
  assert card.block_difference_db == -200.0
  assert card.start_difference_db == -200.0
  assert card.stream_error == 0.0 and not card.refused_block_sizes
  assert card.latency_reported is None
  assert (card.latency, card.latency_measured) == (0, 0)
  assert card.n_bad_settings == 0
  assert card.real_time_factor > 1.0
  # From 1 to 0 and to 4: the change is 3 times the default's output.
  assert math.isclose(
    control(card, 'amount').effect_db, 20 * math.log10(3), rel_tol=1e-3
  )
  assert card.neutral_cost == card.default_cost < 1e-6
  printed = text.format_card(card)
  assert '  TRAIN IT      YES\n' in printed
  assert (
    '  neutral cost  0.000 (MR-STFT at equal level): it can leave' in printed
  )
  assert '  latency       none reported, 0 measured; 0 samples are' in printed


@pytest.mark.parametrize('name, reported', [('late', 37), ('delay', None)])
def test_latency_is_reported_and_measured(name, reported):
  card = checks.check(TEST + name)
  assert card.latency_reported == reported
  assert card.latency_measured == card.latency == 37
  assert not card.late_by
  card.latency_measured = 50
  assert card.late_by == (13 if reported else 0)
  assert ('+13 samples off' in str(cards.judge(card))) == bool(reported)


def test_block_size_matters():
  card = checks.check(TEST + 'block')
  # It puts out the size: 64 instead of 1,024, and its last block is shorter.
  assert -1.0 < card.block_difference_db < 0.0
  # Up to 0.5 is added: 66 dB less.
  assert card.verdict.train == 'no'
  card.controls[0].effect_db = 0.0
  verdict = cards.judge(card)
  assert verdict.train == 'yes' and len(verdict.advice) == 1
  assert 'it depends on the block size' in verdict.advice[0]


def test_a_glide_to_its_values_is_found_at_random_settings():
  card = checks.check('http://gareus.org/oss/lv2/dpl#mono')
  assert card.start_difference_db > -60.0
  assert 'depends on how long it ran before' in advice(card)
  assert 'a second more of silence' in text.format_card(card)


def test_samples_that_are_not_finite_are_named():
  card = checks.check(TEST + 'nan')
  assert card.n_nonfinite == 0
  assert control(card, 'amount').n_nonfinite == 12000
  assert card.n_bad_settings == checks._N_SETTINGS
  assert card.verdict.train == 'with care'
  assert 'ends of amount: narrow' in advice(card)


def test_values_go_with_the_sample_rate():
  # It puts out the block's size and the value, whose default is half the rate.
  card = checks.check(TEST + 'tuned')
  assert card.peak == 1024 + 0.5 * 48000
  change_db = control(card, 'amount').effect_db
  assert math.isclose(change_db, 20 * math.log10(24000 / 25024), abs_tol=0.1)


@pytest.mark.slow
def test_what_was_found_before_a_crash_stays(monkeypatch):
  monkeypatch.setattr(checks, '_TIME_LIMIT_S', 1.0)
  monkeypatch.setattr(checks, '_MAX_CRASHES', 4)
  card = checks.check(TEST + 'fatal')
  assert card.status == 'ok' and card.repeatable
  assert card.latency == 0 and card.threads_error == 0.0
  kinds = {fault.kind for fault in card.faults}
  assert 'hang' in kinds and kinds & {'crash', 'exit'}
  wheres = [f.where for f in card.faults if f.where]
  assert 'symbols: amount' in wheres
  assert card.verdict.train != 'yes'
  assert 'isolation="process"' in advice(card)
  assert card.reason and 'Traceback' not in card.reason
  assert '  FAULT ' in text.format_card(card)


@pytest.mark.parametrize(
  'uri, kind, words',
  [
    (TEST + 'alien', 'missing feature', TEST + 'feature'),
    ('http://gareus.org/oss/lv2/midigen', 'no audio output', 'no audio output'),
  ],
)
def test_failures_are_named(uri, kind, words):
  card = checks.check(uri)
  assert (card.status, card.kind) == ('failed', kind)
  assert words in card.reason
  assert card.verdict.train == 'no'
  assert f'  FAILED        {kind}: ' in text.format_card(card)


# -------------------------------------------------------- Real plugins ----
def test_bypass_traps_are_found_and_avoided():
  card = checks.check(CALF + 'MultibandCompressor')
  assert card.traps.keys() == {f'bypass{i}' for i in range(4)}
  threshold = control(card, 'threshold0')
  assert threshold.effect_db == -200.0
  assert threshold.fixed_effect_db > cards.AUDIBLE_DB
  assert control(card, 'level_in').effect_db > 20.0
  assert 'Fix bypass0=0, bypass1=0, bypass2=0, bypass3=0' in advice(card)
  assert 'threshold0' in {c.symbol for c in card.audible_controls}
  assert card.repeatable


@pytest.mark.slow
def test_controls_that_work_at_other_settings_only():
  card = checks.check(LSP + 'limiter_mono')
  assert card.latency_reported == card.latency_measured == 240
  attack = control(card, 'at')
  assert attack.effect_db == -200.0
  assert attack.other_effect_db > cards.AUDIBLE_DB
  assert 'at the default' not in advice(card)
  # The low-pass filter of an equaliser that starts with it off.
  card = checks.check('http://gareus.org/oss/lv2/fil4#mono')
  frequency = control(card, 'HPfreq')
  assert max(frequency.effect_db, frequency.other_effect_db) == -200.0
  assert frequency.switched_effect_db > cards.AUDIBLE_DB
  assert 'HPfreq' in advice(card)


def test_what_pitch_shifters_report_is_taken_though_not_measurable():
  card = checks.check('http://gareus.org/oss/lv2/fat1')
  assert (card.latency, card.latency_reported) == (1024, 1024)
  assert card.latency_measured is None


def test_streams_that_are_not_exact_and_refused_blocks_are_named():
  card = checks.check('http://plugin.org.uk/swh-plugins/chebstortion')
  assert card.repeatable and card.stream_error > 0.01
  assert 'Streams' in advice(card) and card.verdict.train == 'with care'
  card = checks.check('http://gareus.org/oss/lv2/convoLV2#Mono')
  assert card.refused_block_sizes == [100]
  assert card.stream_error == 0.0 and not card.faults
  assert 'refuses blocks of 100 samples' in text.format_card(card)


@pytest.mark.slow
def test_random_generators_are_called_so():
  card = checks.check(LSP + 'noise_generator_x1')
  assert not card.repeatable
  assert card.why_not_repeatable == checks.RANDOM
  assert card.threads_error is card.block_difference_db is None
  assert card.verdict.train == 'with care'
  assert 'Not repeatable, it is random' in advice(card)


def test_what_is_not_safe_on_threads_is_said():
  card = checks.check(TEST + 'gain')
  card.threads_error = 1e-3
  assert 'n_threads=1' in str(cards.judge(card).advice)
  assert cards.judge(card).train == 'with care'
  assert '  threads       NOT SAFE: differs by 1.0e-03' in text.format_card(
    card
  )


@pytest.mark.parametrize(
  'found, why',
  [
    ({}, ''),
    ({'digests': ['a', 'b']}, checks.RANDOM),
    ({'alike_error': 1.0, 'memory_error': 1.0}, checks.RANDOM),
    ({'memory_error': 1e9, 'instances_error': 1.0}, checks.MEMORY),
    ({'instances_error': 1e-9}, checks.UNEQUAL),
  ],
)
def test_why_a_render_is_not_repeatable(found, why):
  examination = checks._Examination(lv2.get_plugin(TEST + 'gain'))
  same = dict.fromkeys(('instances_error', 'alike_error', 'memory_error'), 0.0)
  examination.keep({'digests': ['a', 'a'], **same, **found})
  examination.judge_repeatability()
  assert examination.card.why_not_repeatable == why
  assert examination.card.repeatable == (not why)


# -------------------------------------------------------------- Neutral ----
def test_neutral_settings_are_found_by_name_and_unit():
  multiband = lv2.get_plugin(CALF + 'MultibandCompressor')
  found = binding.find_neutral(multiband)
  assert {found[f'ratio{i}'] for i in range(4)} == {1.0}
  assert {found[f'threshold{i}'] for i in range(4)} == {1.0}
  assert {found[f'makeup{i}'] for i in range(4)} == {1.0}
  assert found['level_in'] == found['level_out'] == 1.0
  # Bands stay as they are, which is bypassed, and so do times and splits.
  assert not {'bypass0', 'freq0', 'attack0', 'knee0'} & set(found)
  gate = lv2.get_plugin(CALF + 'MultibandGate')
  assert binding.find_neutral(gate)['threshold0'] == pytest.approx(2**-10)
  equalizer = lv2.get_plugin(CALF + 'Equalizer5Band')
  assert binding.find_neutral(equalizer)['p1_level'] == 1.0
  compressor = lv2.get_plugin(LSP + 'compressor_mono')
  found = binding.find_neutral(compressor)
  limiter = lv2.get_plugin(LSP + 'limiter_mono')  # has times named by levels
  neutral_limiter = {'g_in': 1.0, 'g_out': 1.0, 'th': 1.0}
  assert binding.find_neutral(limiter) == neutral_limiter
  assert found == {'g_in': 1.0, 'g_out': 1.0, 'al': 1.0, 'cr': 1.0, 'mk': 1.0}


def test_crossovers_cost_where_nothing_is_to_be_changed():
  multiband = checks._Examination(lv2.get_plugin(CALF + 'MultibandCompressor'))
  equalizer = checks._Examination(
    lv2.get_plugin(LSP + 'graph_equalizer_x16_mono')
  )
  for examination, low, high in ((multiband, 0.05, 0.3), (equalizer, 0, 0.01)):
    examination.measure_neutral()
    assert low <= examination.card.neutral_cost <= high
  said, praised = (
    text._neutral_text(found.card.neutral_cost, found.card.default_cost)
    for found in (multiband, equalizer)
  )
  assert 'changes the sound even where it is to do nothing' in said
  assert 'can leave a sound as it is' in praised


def test_cost_is_that_of_the_metric():
  # The square of a sound, which has no gain to be neutral at.
  cost = neutral.neutral_cost(TEST + 'square', 48000, 1024, {})
  sound = neutral.music(96000, 48000)
  target = sound[24000:]
  matched = metrics.match_level(target, target**2)
  expected = metrics.multi_scale_spectral(target, matched)
  assert cost['neutral_cost'] == cost['default_cost']
  assert cost['default_cost'] == pytest.approx(expected, rel=1e-4)
  silent = neutral.neutral_cost(TEST + 'gain', 48000, 1024, {'amount': 0.0})
  assert silent['neutral_cost'] is None and silent['default_cost'] < 1e-6


# ------------------------------------------------------------------ All ----
URIS = [TEST + name for name in ('gain', 'alien', 'delay')]


def made_up(uri, version, name):
  return cards.Card(uri, name, version, ['in'], ['out'], 48000, 1024)


@pytest.fixture
def fake_check(monkeypatch):
  """Replaces `check` by one that notes what it was asked."""
  asked = []

  def check(uri):
    asked.append(uri)
    if uri == stop_at:
      # What the other thread has made is kept by then.
      while not is_kept():
        time.sleep(0.01)
      raise KeyboardInterrupt
    return made_up(uri, '1.2', 'new')

  def set_stop(uri, when=None):
    nonlocal stop_at, is_kept
    stop_at, is_kept = uri, when

  stop_at = is_kept = None
  check.asked, check.set_stop = asked, set_stop
  monkeypatch.setattr(checks, 'check', check)
  return check


def test_an_interrupted_run_goes_on(fake_check, tmp_path, monkeypatch):
  monkeypatch.setattr(checks, '_N_PROCESSES', 1)
  path = tmp_path / 'cards.json'
  partial = tmp_path / 'cards.json.partial'
  fake_check.set_stop(
    URIS[2],
    when=lambda: partial.exists() and partial.read_text().count('\n') == 2,
  )
  with pytest.raises(KeyboardInterrupt):
    checks.check_all(URIS, str(path))
  assert not path.exists()
  kept = [json.loads(line) for line in partial.read_text().splitlines()]
  assert sorted(card['uri'] for card in kept) == sorted(URIS[:2])

  # One of an older version of the plugin, one of another version of dafx, and a
  # line that was cut off.
  left = [made_up(URIS[0], '1.2', 'kept'), made_up(URIS[1], '1.1', 'old')]
  lines = [json.dumps(card.to_json()) for card in left]
  other = json.dumps({'uri': URIS[2], 'version': '1.2', 'name': 'kept'})
  partial.write_text('\n'.join([*lines, other, '{"uri": "']))
  fake_check.asked.clear()
  fake_check.set_stop(None)
  found = checks.check_all(URIS, str(path))
  assert sorted(fake_check.asked) == sorted(URIS[1:])
  assert [card.uri for card in found] == URIS
  assert [card.name for card in found] == ['kept', 'new', 'new']
  read = map(cards.Card.from_json, json.loads(path.read_text()))
  assert list(read) == found
  assert [p.name for p in tmp_path.iterdir()] == ['cards.json']


def test_summary_of_all(tmp_path):
  path = tmp_path / 'cards.json'
  uris = [TEST + name for name in ('nan', 'alien', 'gain')]
  found = checks.check_all(uris, str(path))
  assert [card.status for card in found] == ['ok', 'failed', 'ok']
  read = map(cards.Card.from_json, json.loads(path.read_text()))
  assert list(read) == found
  summary = text.format_summary(found)
  assert '  missing feature: 1\n    urn:dafx-test:alien' in summary
  assert '3 plugins, 3 with audio in and out. Of these:' in summary
  assert '     2 render (66.7 %)' in summary
  assert '     2 are repeatable' in summary
  assert '     1 give samples that are not finite at some' in summary
