"""Plugins that keep more than ports hold: files, other parameters, state.

Kind: what a plugin is given beyond its ports, by whichever way; what it cannot
use is an error or a warning, never silence.
"""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal
import tensorflow as tf

from dafx import effects, losses, lv2, processors
from dafx.audio import files as audio_files
from dafx.commands import dafx_plugins
from dafx.lv2.cards import binding, card, checks
from dafx.training import models
from dafx.training.models import outputs

RATE = 48000
KEEPERS = ('urn:dafx-test:keeper', 'urn:dafx-test:frail')
MAILBOX = 'urn:dafx-test:mailbox'
TAPS, TRIM = 'urn:dafx-test:taps', 'urn:dafx-test:trim'
LSP = 'http://lsp-plug.in/plugins/lv2/impulse_responses_mono'
CONVO = 'http://gareus.org/oss/lv2/convoLV2#Mono'
ZERO = 'http://gareus.org/oss/lv2/zeroconvolv#'
# Convolvers that are installed, what else they need, and their gain.
CONVOLVERS = {
  f'{ZERO}CfgMono': ('ir', {}, 1.0),
  CONVO: ('impulse', {}, 0.5),
  LSP: ('ifn', {'cs': 1, 'dry': 0, 'fft': 1}, 1.0),
}


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return (0.1 * rng.standard_normal(shape)).astype(np.float32)


@pytest.fixture(name='taps')
def write_taps(tmp_path):
  """Returns the path of a file for the keepers, and what is in it."""
  taps = noise(100, seed=1)
  np.savetxt(tmp_path / 'taps.txt', taps)
  return tmp_path / 'taps.txt', taps


@pytest.fixture(name='response')
def write_response(tmp_path):
  """Returns the path of an impulse response, and what is in it."""
  response = np.zeros(2000, np.float32)
  response[[0, 10, 500, 1999]] = 0.5, 0.25, -0.2, 0.1
  scipy.io.wavfile.write(tmp_path / 'room.wav', RATE, response)
  return tmp_path / 'room.wav', response


# ------------------------------------------------------------- Renderer ----
@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
@pytest.mark.parametrize('uri', [*KEEPERS, MAILBOX])
def test_a_file_and_a_number_are_kept(uri, isolation, taps):
  path, values = taps
  renderer = lv2.Renderer(
    uri,
    RATE,
    ['amount'],
    {TAPS: os.path.relpath(path), TRIM: 0.5},
    block_size=64,
    isolation=isolation,
  )
  audio, controls = noise(5, 400, 1), np.full((5, 1, 1), 2.0)
  for _ in range(2):  # new instances, and those that are made anew
    out = renderer.render(audio, controls)
    want = scipy.signal.lfilter(values, 1.0, audio[..., 0])
    np.testing.assert_allclose(out[..., 0], want, atol=1e-6)


@pytest.mark.parametrize('uri', CONVOLVERS)
def test_installed_convolvers_do_as_scipy(uri, response):
  path, values = response
  name, others, gain = CONVOLVERS[uri]
  parameter = lv2.get_plugin(uri).parameter(name)
  renderer = lv2.Renderer(uri, RATE, fixed={**others, parameter.uri: path})
  audio = noise(1, 5000, 1)
  want = gain * scipy.signal.fftconvolve(audio[0, :, 0], values)[:5000]
  # They transform in float32, and how that rounds depends on where it lies.
  np.testing.assert_allclose(renderer.render(audio)[0, :, 0], want, atol=4e-7)


def test_the_name_that_a_plugin_declares_wrongly_is_understood(response):
  declared = 'http://lsp-plug.in//ports#ifn'
  renderer = lv2.Renderer(LSP, RATE, fixed={declared: response[0]})
  assert list(renderer.parameters) == [f'{LSP}/ports#ifn']


@pytest.mark.parametrize(
  'fixed, error, match',
  [
    ({TAPS: '/no/such/file'}, ValueError, 'there is no file /no/such/file'),
    ({TAPS: '/tmp'}, ValueError, 'there is no file'),
    ({TAPS: 3}, ValueError, 'must be the path of a file'),
    ({TRIM: 'loud'}, ValueError, 'must be of the kind float'),
    ({TRIM: True}, ValueError, 'must be of the kind float'),
    ({'urn:dafx-test:tap': 'a'}, KeyError, f'The closest are {TAPS}'),
    ({'urn:none': 'a'}, KeyError, f'It has {TAPS}, {TRIM}'),
  ],
)
def test_what_is_no_value_is_refused(fixed, error, match):
  with pytest.raises(error, match=match):
    lv2.Renderer(KEEPERS[0], RATE, fixed=fixed)


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_what_a_plugin_does_not_take_is_an_error(isolation):
  # Declared by another plugin; this one keeps nothing.
  with pytest.raises(lv2.PluginError, match='keeps no state'):
    lv2.Renderer('urn:dafx-test:gain', RATE, fixed={TRIM: 1.0},
                 isolation=isolation)  # fmt: skip
  with pytest.raises(lv2.PluginError, match=r'does not take.*asked for.*taps'):
    lv2.Renderer(KEEPERS[0], RATE, fixed={f'{ZERO}gain': 1.0},
                 isolation=isolation)  # fmt: skip


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_a_file_that_waits_for_a_switch_is_told(isolation, response, caplog):
  parameter = lv2.get_plugin(LSP).parameter('ifn').uri
  given = {parameter: response[0]}

  def render(**fixed):
    renderer = lv2.Renderer(
      LSP, RATE, ['dry'], {**given, **fixed}, isolation=isolation
    )
    quiet_first = np.concatenate([np.zeros([1, 99, 1]), noise(1, 5000, 1)], 1)
    for _ in range(2):  # told once
      renderer.render(quiet_first, np.full([1, 1, 1], 0.5))
    return renderer.unheard_files

  assert list(render()) == [parameter]
  (told,) = [r.getMessage() for r in caplog.records]
  assert 'changes nothing' in told
  assert 'It is heard with cs=1 (Channel source' in told
  caplog.clear()
  # Carried out, the advice helps; of what was set by hand nothing is advised.
  assert not render(cs=1)
  assert not caplog.records
  assert 'cs=' not in render(cs=0)[parameter]


def test_files_that_are_heard_are_not_told(taps, response, caplog):
  for uri, parameter, path in (
    (KEEPERS[0], TAPS, taps[0]),
    (f'{ZERO}CfgMono', f'{ZERO}ir', response[0]),
  ):
    renderer = lv2.Renderer(uri, RATE, fixed={parameter: path}, block_size=64)
    renderer.render(noise(1, 4000, 1))
    assert not renderer.unheard_files
  assert not caplog.records


def test_silence_is_told(response, taps, tmp_path, caplog):
  (tmp_path / 'empty.txt').write_text('no numbers')
  for fixed, message in (
    ({}, 'It takes files, of which none is given here'),
    ({TAPS: tmp_path / 'empty.txt'}, r'may not be able to read .*empty\.txt'),
    ({TAPS: taps[0]}, ''),
  ):
    caplog.clear()
    renderer = lv2.Renderer(KEEPERS[0], RATE, fixed=fixed)
    for _ in range(2):
      renderer.render(noise(1, 400, 1))
    told = [r.getMessage() for r in caplog.records if 'silence' in r.msg]
    assert len(told) == bool(message)
    if message:
      assert caplog.records[0].levelno == logging.WARNING
      with pytest.raises(AssertionError, match=message):
        raise AssertionError(told[0])


def test_silence_is_asked_of_the_rows_that_went_in(taps, caplog):
  audio = noise(2, 400, 1)
  audio[0] = 0.0
  renderer = lv2.Renderer(KEEPERS[0], RATE, fixed={TAPS: taps[0]})
  assert not renderer.render(audio, rows=[0]).any()
  assert not [r for r in caplog.records if 'silence' in r.msg]
  assert renderer.render(audio, rows=[1, 0])[0].any()


def test_silence_without_a_preset_is_told(caplog):
  lv2.Renderer(f'{ZERO}Mono', RATE).render(noise(1, 400, 1))
  (told,) = [r.getMessage() for r in caplog.records if 'silence' in r.msg]
  assert 'It has presets, which may hold what it needs' in told
  said = card.judge(checks.check(f'{ZERO}Mono')).advice
  assert any('It has presets' in words for words in said)


# -------------------------------------------------------------- Presets ----
PREFIXES = """\
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix pset: <http://lv2plug.in/ns/ext/presets#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix state: <http://lv2plug.in/ns/ext/state#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""
# Renders a unit impulse with each preset that is named, on both ways.
IN_NEW_PROCESS = """
import json, sys
import numpy as np
from dafx import lv2
uri, fixed, *names = sys.argv[1:]
audio = np.eye(1, 8, dtype=np.float32)[..., np.newaxis]
found = {}
for name in names:
  for isolation in lv2.ISOLATIONS:
    try:
      renderer = lv2.Renderer(uri, 48000, preset=name, fixed=json.loads(fixed),
                              isolation=isolation)
      answer = renderer.render(audio)[0, :, 0].tolist()
    except (lv2.PluginError, KeyError) as error:
      answer = str(error)
    found.setdefault(name, []).append(answer)
print(json.dumps(found))
"""


def add_preset(folder, name, uri, body):
  """Writes a bundle with a preset of a label."""
  bundle = folder / f'{name}.lv2'
  bundle.mkdir(parents=True)
  (bundle / 'manifest.ttl').write_text(
    f'{PREFIXES}<urn:preset:{name}> a pset:Preset ; lv2:appliesTo <{uri}> ; '
    'rdfs:seeAlso <preset.ttl> .\n'
  )
  (bundle / 'preset.ttl').write_text(
    f'{PREFIXES}<urn:preset:{name}> a pset:Preset ; rdfs:label "{name}" ; '
    f'lv2:appliesTo <{uri}> ; {body} .\n'
  )
  return bundle


def render_in_new_process(folder, uri, *names, fixed=None):
  path = os.pathsep.join([str(folder), os.environ['LV2_PATH']])
  result = subprocess.run(
    [
      sys.executable,
      '-c',
      IN_NEW_PROCESS,
      uri,
      json.dumps(fixed or {}),
      *names,
    ],
    env={
      **os.environ,
      'LV2_PATH': path,
      'PYTHONPATH': os.pathsep.join(sys.path),
    },
    capture_output=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  found = json.loads(result.stdout.splitlines()[-1])  # plugins may print, too
  for one, other in found.values():
    assert one == other or 'Settings' in other
  return {name: answers[0] for name, answers in found.items()}


def test_the_state_of_a_preset_is_restored_or_refused(tmp_path):
  uri = KEEPERS[0]
  port = 'lv2:port [ lv2:symbol "amount" ; pset:value 2.0 ]'
  bundle = add_preset(
    tmp_path,
    'whole',
    uri,
    f'{port} ; state:state [ <{TAPS}> <taps.txt> ; <{TRIM}> "0.5"^^xsd:float ]',
  )
  (bundle / 'taps.txt').write_text('1 -2 3')
  add_preset(tmp_path, 'lost', uri, f'state:state [ <{TAPS}> <gone.txt> ]')
  add_preset(tmp_path, 'alien', uri, 'state:state [ <urn:a> "1"^^xsd:int ]')
  add_preset(tmp_path, 'wrong', uri, f'state:state [ <{TAPS}> "1"^^xsd:int ]')
  found = render_in_new_process(
    tmp_path, uri, 'whole', 'lost', 'alien', 'wrong', 'none'
  )
  assert found['whole'] == [1.0, -2.0, 3.0, 0, 0, 0, 0, 0]
  assert 'gone.txt, which is not there' in found['lost']
  assert (
    'does not take the state of the preset urn:preset:alien' in (found['alien'])
  )
  assert 'refuses the state of the preset urn:preset:wrong' in found['wrong']
  assert 'is no preset of urn:dafx-test:keeper' in found['none']
  # What is fixed wins.
  fixed = {TRIM: 1.0, 'amount': 3.0}
  found = render_in_new_process(tmp_path, uri, 'whole', fixed=fixed)
  assert found['whole'][:3] == [3.0, -6.0, 9.0]
  # One that keeps nothing.
  add_preset(
    tmp_path, 'plain', 'urn:dafx-test:gain', 'state:state [ <urn:a> 1 ]'
  )
  found = render_in_new_process(tmp_path, 'urn:dafx-test:gain', 'plain')
  assert 'keeps no state' in found['plain']


def test_a_preset_that_dafx_writes_holds_the_file(tmp_path, taps):
  path, values = taps
  lv2.write_preset(
    tmp_path, KEEPERS[0], 'mine', {'amount': 2.0, TAPS: path, TRIM: 0.25}
  )
  found = render_in_new_process(tmp_path, KEEPERS[0], 'mine')
  np.testing.assert_allclose(found['mine'], 0.5 * values[:8], rtol=1e-6)


@pytest.mark.parametrize('uri', CONVOLVERS)
def test_a_preset_that_dafx_writes_is_a_whole_state(uri, tmp_path, response):
  """Some plugins, such as convoLV2, take no other."""
  path, values = response
  name, others, gain = CONVOLVERS[uri]
  kept = {lv2.get_plugin(uri).parameter(name).uri: path}
  lv2.write_preset(tmp_path, uri, 'mine', {**others, **kept})
  found = render_in_new_process(tmp_path, uri, 'mine')
  np.testing.assert_allclose(found['mine'], gain * values[:8], atol=1e-6)


def test_a_preset_takes_over_the_state_of_another(tmp_path):
  uri, other = f'{ZERO}Mono', 'No-OP Mono'
  lv2.write_preset(tmp_path, uri, 'mine', {}, other)
  found = render_in_new_process(tmp_path, uri, 'mine', other)
  assert found['mine'] == found[other] and any(found['mine'])


def test_an_installed_preset_brings_its_response():
  uri = f'{ZERO}Mono'
  audio = noise(1, 3000, 1)
  renderer = lv2.Renderer(uri, RATE, preset='No-OP Mono')
  np.testing.assert_allclose(renderer.render(audio), audio, atol=2e-7)
  assert not lv2.Renderer(uri, RATE).render(audio).any()


# ---------------------------------------------------------------- Layers ----
def test_a_layer_keeps_a_file_and_a_model_notices_another(taps, tmp_path):
  path, values = taps
  layer = effects.LV2Plugin(
    KEEPERS[0],
    ['amount'],
    {TAPS: str(path)},
    sample_rate=RATE,
    name='plugin',
  )
  audio = noise(2, 500)
  start = layer.control_map.defaults[np.newaxis]
  out = layer(audio, np.repeat(start, 2, 0))
  want = scipy.signal.lfilter(values, 1.0, audio)
  np.testing.assert_allclose(out, want, atol=1e-6)
  # In a stream, in a copy, and at another rate.
  again = effects.LV2Plugin(**layer.arguments())
  state = again.initial_state(2)
  controls = np.ones((2, 1, 1), np.float32)
  first, state = again.stream(state, audio[:, :200], controls)
  second, _ = again.stream(state, audio[:, 200:], controls)
  streamed = tf.concat([first, second], 1)
  np.testing.assert_allclose(streamed, want, atol=1e-6)
  # A model that was trained with one file is refused with another.
  before = meanings_of(layer)
  assert before['plugin/taps'].startswith('a file of SHA-256')
  (tmp_path / 'copy.txt').write_bytes(path.read_bytes())
  path.write_text('1 2 3')
  for name, is_same in (('copy.txt', True), ('taps.txt', False)):
    new = effects.LV2Plugin(
      KEEPERS[0], ['amount'], {TAPS: str(tmp_path / name)}, name='plugin'
    )
    assert (meanings_of(new) == before) == is_same


def meanings_of(layer):
  group = processors.ProcessorGroup([(layer, ['audio', 'knobs'])])
  return models.EffectModel(group, [losses.EsrLoss()], RATE).meanings()


def test_a_preset_takes_the_place_of_the_defaults():
  uri = 'urn:zamaudio:ZamComp'
  values = lv2.load_preset(uri, 'VocalLeveller')
  symbol = 'thr'
  layer = effects.LV2Plugin(uri, [symbol], preset='VocalLeveller')
  start = layer.control_map.to_port_units(layer.control_map.defaults)
  np.testing.assert_allclose(start, values[symbol], rtol=1e-5)
  others = {s: v for s, v in values.items() if s != symbol}
  assert {s: layer.port_values[s] for s in others} == pytest.approx(others)
  assert outputs.control_map_of(layer).fixed == {}
  fixed = effects.LV2Plugin(uri, [], {'thr': -20.0}, preset='VocalLeveller')
  assert fixed.control_map.fixed == {'thr': -20.0}


# -------------------------------------------------------------- Commands ----
def run(*arguments):
  parsed = dafx_plugins.make_parser().parse_args(arguments)
  parsed.run(parsed)


@pytest.mark.parametrize('given', ['taps={}', TAPS + '={}', '{}'])
def test_the_command_takes_files(given, taps, tmp_path, capsys):
  path, values = taps
  audio = noise(3000)
  scipy.io.wavfile.write(tmp_path / 'in.wav', RATE, audio)
  files = [f'--input={tmp_path / "in.wav"}', f'--output={tmp_path / "out.wav"}']
  run('render', MAILBOX, *files, '--file', given.format(path))
  out = audio_files.read(tmp_path / 'out.wav')[0][:, 0]
  want = scipy.signal.lfilter(values, 1.0, audio)
  np.testing.assert_allclose(out, want, atol=1e-6)
  assert '3000 samples' in capsys.readouterr().out


@pytest.mark.parametrize(
  'uri, given, error, match',
  [
    (MAILBOX, 'trim=0.5', ValueError, 'is no file'),
    (MAILBOX, 'tapes=a', KeyError, f'It has {TAPS}'),
    (f'{ZERO}Mono', 'a.wav', ValueError, 'takes these files: none'),
    (f'{LSP[:-4]}stereo', 'a.wav', ValueError, 'these files: ifn0, ifn1'),
  ],
)
def test_the_command_says_which_files_there_are(uri, given, error, match):
  with pytest.raises(error, match=match):
    dafx_plugins.parse_files(uri, [given])


def test_show_gin_and_check_name_the_files(capsys):
  run('show', KEEPERS[0])
  assert f'taps: Taps (a file)  <{TAPS}>' in capsys.readouterr().out
  assert f"#     {TAPS!r}: 'FILE',  # Taps" in binding.gin_binding(
    lv2.get_plugin(KEEPERS[0]), {}
  )


@pytest.mark.slow  # 15 s
def test_a_card_knows_whether_a_file_is_needed():
  needs = checks.check(f'{ZERO}CfgMono')
  assert needs.files == [f'{ZERO}ir']
  assert any('It needs a file' in advice for advice in needs.verdict.advice)
  may = checks.check(KEEPERS[0])  # an impulse response is no text
  assert any('which it may need' in advice for advice in may.verdict.advice)
  leaves_aside = checks.check(LSP).verdict.advice
  assert any('is heard with cs=1' in advice for advice in leaves_aside)
