"""The command dafx_plugins: what it prints, renders and refuses."""

import json
import os
import re
import subprocess
import sys
import tracemalloc
import types

import gin
import numpy as np
import pytest
import soundfile
import soxr

from dafx import lv2
from dafx.audio import sources
from dafx.commands import dafx_plugins, running
from dafx.lv2.cards import binding, text
from dafx.lv2.cards import card as cards

RATE = 44100
TEST = 'urn:dafx-test:'
CALF = 'http://calf.sourceforge.net/plugins/MultibandCompressor'
LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'
ZAM = 'urn:zamaudio:ZamComp'
HINT = '  (--verbosity=1 shows the traceback.)\n'

PREFIXES = """\
@prefix doap: <http://usefulinc.com/ns/doap#> .
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
"""
PORTS = """
  lv2:port [
    a lv2:AudioPort , lv2:OutputPort ;
    lv2:index 0 ; lv2:symbol "out" ; lv2:name "Out"
  ]"""


@pytest.fixture
def dafx_plugins_command(capsys):
  """Runs the command in this process; returns (exit code, stdout, stderr)."""

  def run(*args):
    code = 0
    try:
      parsed = dafx_plugins.make_parser().parse_args(list(map(str, args)))
      running.with_messages('dafx_plugins', parsed.run)(parsed)
    except SystemExit as end:
      code = end.code
    return code, *capsys.readouterr()

  return run


def run_program(*args, **environment):
  return subprocess.run(
    [sys.executable, '-m', 'dafx.commands.dafx_plugins', *map(str, args)],
    capture_output=True,
    text=True,
    env={
      **os.environ,
      'PYTHONPATH': os.pathsep.join(sys.path),
      **environment,
    },
  )


def noise(n_samples=3000, n_channels=1, seed=0):
  rng = np.random.default_rng(seed)
  audio = 0.2 * rng.standard_normal((n_samples, n_channels))
  return audio.astype(np.float32)


@pytest.fixture
def wav(tmp_path):
  """Writes audio to a file; returns its path."""

  def write(audio, rate=RATE, name='in.wav', subtype='FLOAT'):
    soundfile.write(tmp_path / name, audio, rate, subtype)
    return tmp_path / name

  return write


# ------------------------------------------------------------ list, show ----
def test_lists_all_plugins_without_tensorflow():
  result = run_program('list', '--json')
  rows = json.loads(result.stdout)
  assert [row['uri'] for row in rows] == lv2.list_uris()
  by_uri = {row['uri']: row for row in rows}
  assert by_uri[TEST + 'cross'] == {
    'uri': TEST + 'cross',
    'name': 'Test cross',
    'author': '',
    'class': 'Plugin',
    'audio_inputs': 2,
    'audio_outputs': 2,
    'trainable': 1,
  }
  assert by_uri[CALF]['class'] == 'Compressor Plugin'
  assert by_uri[CALF]['trainable'] == 29
  code = (
    'import sys; from dafx.commands import dafx_plugins; '
    "sys.exit(bool({'tensorflow', 'gin', 'ddsp'} & set(sys.modules)))"
  )
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize(
  'text', ['MULTIBANDCOMP', 'multiband compressor', 'Calf studio', 'compressor']
)
def test_filters_by_uri_name_author_and_class(dafx_plugins_command, text):
  code, out, _ = dafx_plugins_command('list', '--filter', text)
  lines = out.splitlines()
  assert code == 0
  assert any(line.split()[0] == CALF for line in lines)
  assert not any(line.startswith(TEST) for line in lines)
  n_listed, n_installed = re.findall(r'\d+', lines[-1])
  assert int(n_listed) == len(lines) - 2
  assert int(n_installed) == len(lv2.list_uris())


def test_a_filter_may_match_nothing(dafx_plugins_command):
  code, out, _ = dafx_plugins_command('list', '--filter=no such text')
  assert code == 0 and out.splitlines()[-1].startswith('0 of')


def test_shows_ports_scale_points_and_presets(dafx_plugins_command):
  code, out, _ = dafx_plugins_command('show', LIMITER)
  assert code == 0
  assert re.search(r'latency +reported by the control output out_latency', out)
  assert re.search(
    r'^th +1 +0\.003981 +1 +G +log +range +Threshold$', out, re.M
  )
  assert re.search(r'^boost .* switch +Gain boost$', out, re.M)
  assert 'mode: 0 Herm Thin, 1 Herm Wide,' in out
  _, out, _ = dafx_plugins_command('show', ZAM)
  presets = lv2.list_presets(ZAM)
  assert f'{len(presets)} presets' in out
  assert all(f'{p.label}  <{p.uri}>' in out for p in presets)


def test_shows_the_same_as_json(dafx_plugins_command):
  about = json.loads(dafx_plugins_command('show', CALF, '--json')[1])
  plugin = lv2.get_plugin(CALF)
  assert about['audio_inputs'] == ['in_l', 'in_r']
  assert [c['symbol'] for c in about['controls']] == list(plugin.controls)
  for control in about['controls']:
    port = plugin.control(control['symbol'])
    assert control['default'] == port.default
    assert control['maximum'] == port.maximum
    assert (control['kind'] == 'range') == (not port.is_discrete)
  alien = json.loads(dafx_plugins_command('show', TEST + 'alien', '--json')[1])
  assert alien['missing_features'] == [TEST + 'feature']


# ---------------------------------------------------------------- render ----
@pytest.mark.parametrize('n_channels', [1, 2])
def test_renders_what_the_renderer_does(
  dafx_plugins_command, wav, tmp_path, n_channels
):
  audio = noise(5001, n_channels)
  output = tmp_path / 'new' / 'out.wav'
  code, out, err = dafx_plugins_command(
    'render', CALF, '--input', wav(audio), '--output', output,
    '--set', 'bypass0=0', '--set=threshold0=0.01', '--block_size=64',
  )  # fmt: skip
  assert (code, err) == (0, '')
  assert '2 channels (out_l, out_r), 44100 Hz, 5001 samples' in out
  expected = lv2.Renderer(
    CALF, RATE, fixed={'bypass0': 0, 'threshold0': 0.01}, block_size=64
  ).render(audio[None])[0]
  rendered, rate = soundfile.read(output, dtype='float32')
  assert rate == RATE
  assert soundfile.info(output).subtype == 'FLOAT'
  np.testing.assert_array_equal(rendered, expected)
  assert np.abs(rendered - audio).max() > 0.01
  assert os.listdir(output.parent) == ['out.wav']


def test_floats_beyond_full_scale_are_kept(dafx_plugins_command, wav, tmp_path):
  audio, output = noise(), tmp_path / 'out.wav'
  for isolation in lv2.ISOLATIONS:
    dafx_plugins_command(
      'render', TEST + 'gain', '--input', wav(audio), '--output', output,
      '--set=amount=2', '--set=amount=4', f'--isolation={isolation}',
    )  # fmt: skip
    rendered = soundfile.read(output, dtype='float32', always_2d=True)[0]
    np.testing.assert_array_equal(rendered, 4 * audio)
  assert np.abs(rendered).max() > 1


@pytest.mark.parametrize('flag', [None, '--nolatency_compensation'])
def test_latency_is_taken_out_or_left(
  dafx_plugins_command, wav, tmp_path, flag
):
  audio, output = noise(), tmp_path / 'out.wav'
  _, out, _ = dafx_plugins_command(
    'render', TEST + 'late', '--input', wav(audio), '--output', output,
    *([flag] if flag else []),
  )  # fmt: skip
  rendered = soundfile.read(output, dtype='float32', always_2d=True)[0]
  if flag:
    assert 'latency left in' in out
    np.testing.assert_array_equal(rendered[37:], audio[:-37])
  else:
    assert '37 samples of latency taken out' in out
    np.testing.assert_array_equal(rendered, audio)


def test_resamples_and_says_so(dafx_plugins_command, wav, tmp_path):
  audio, output = noise(4000, 2), tmp_path / 'out.wav'
  _, out, _ = dafx_plugins_command(
    'render', TEST + 'cross', '--input', wav(audio), '--output', output,
    '--sample_rate=22050',
  )  # fmt: skip
  assert '44100 Hz, resampled to 22050 Hz' in out
  rendered, rate = soundfile.read(output, dtype='float32')
  assert rate == 22050
  np.testing.assert_array_equal(rendered, soxr.resample(audio, RATE, 22050))


@pytest.mark.parametrize('name', ['late', 'fixed', 'onepole'])
def test_chunks_are_rendered_as_one(wav, tmp_path, monkeypatch, name):
  monkeypatch.setattr(dafx_plugins, '_CHUNK', 256)
  audio, output = noise(5001), tmp_path / 'out.wav'
  for compensate_latency in (True, False):
    dafx_plugins.render_file(
      TEST + name,
      wav(audio),
      output,
      block_size=64,
      compensate_latency=compensate_latency,
    )
    expected = lv2.Renderer(
      TEST + name,
      RATE,
      block_size=64,
      compensate_latency=compensate_latency,
    ).render(audio[None])[0]
    rendered = soundfile.read(output, dtype='float32', always_2d=True)[0]
    np.testing.assert_array_equal(rendered, expected)


def test_a_folder_is_rendered_file_by_file(dafx_plugins_command, wav, tmp_path):
  audio = noise()
  for name in ('a.wav', 'b.flac'):
    subtype = 'FLOAT' if name == 'a.wav' else 'PCM_24'
    wav(audio, name=name, subtype=subtype)
  code, out, _ = dafx_plugins_command(
    'render', TEST + 'gain', '--input', tmp_path, '--output', tmp_path / 'out',
    '--set=amount=0.5',
  )  # fmt: skip
  assert code == 0 and out.count('1 channel (out)') == 2
  assert sorted(os.listdir(tmp_path / 'out')) == ['a.wav', 'b.flac']
  for name in ('a.wav', 'b.flac'):
    rendered = soundfile.read(tmp_path / 'out' / name, always_2d=True)[0]
    np.testing.assert_allclose(rendered, 0.5 * audio, atol=1e-6)


def test_memory_does_not_grow_with_the_file(wav, tmp_path, monkeypatch):
  """A file of many chunks is held a few chunks at a time."""
  monkeypatch.setattr(dafx_plugins, '_CHUNK', 2**12)
  monkeypatch.setattr(sources, '_BLOCK', 2**12)
  path = wav(np.zeros([2**21, 1], np.float32))  # 8 MB
  tracemalloc.start()
  dafx_plugins.render_file(
    TEST + 'gain', path, tmp_path / 'out.wav', isolation='thread'
  )
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2**20


def test_applies_a_preset_which_settings_outrank(
  dafx_plugins_command, wav, tmp_path
):
  audio, output = noise(), tmp_path / 'out.wav'
  preset = lv2.list_presets(ZAM)[0]
  values = {**lv2.load_preset(ZAM, preset.label), 'mak': 6.0}
  code, _, err = dafx_plugins_command(
    'render', ZAM, '--input', wav(audio), '--output', output,
    '--preset', preset.label, '--set=mak=6',
  )  # fmt: skip
  assert code == 0, err
  expected = lv2.Renderer(ZAM, RATE, fixed=values).render(
    np.repeat(audio, len(lv2.get_plugin(ZAM).audio_inputs), 1)[None]
  )[0]
  rendered = soundfile.read(output, dtype='float32', always_2d=True)[0]
  np.testing.assert_array_equal(rendered, expected)


# ------------------------------------------------------------------- gin ----
@pytest.mark.parametrize(
  'uri, name',
  [
    (CALF, 'multiband_compressor'),
    ('http://gareus.org/oss/lv2/fil4#stereo', 'fil4_stereo'),
    ('http://invadarecords.com/plugins/lv2/tube/mono', 'tube_mono'),
    ('urn:zamaudio:ZamComp', 'zam_comp'),
    ('http://example.org/3-band/', 'plugin_3_band'),
    ('urn:\N{GREEK SMALL LETTER PI}', 'plugin_'),
  ],
)
def test_scope_is_a_name_of_the_plugin(uri, name):
  assert binding.scope_name(uri) == name


def bound_list(text, name):
  """Returns the keys or elements of a list or dict in gin text."""
  body = re.search(rf'\.{name} = [\[{{]\n(.*?)^[\]}}]$', text, re.M | re.S)
  return re.findall(r"^    '(\w+)'", body[1], re.M) if body else []


def test_gin_names_ranges_and_traps(dafx_plugins_command):
  code, text, _ = dafx_plugins_command('gin', CALF)
  assert code == 0
  assert (
    "    'threshold0',  # Threshold 1: 0.000976563 to 1, log, default 0.25\n"
  ) in text
  assert "    'freq0',  # Split 1/2: 10 to 20000 Hz, log, default 120\n" in text
  assert bound_list(text, 'fixed') == [f'bypass{i}' for i in range(4)]
  assert "    'bypass0': 0,  # default 1:" in text
  continuous = [
    p.symbol
    for p in lv2.get_plugin(CALF).controls.values()
    if not p.is_discrete
  ]
  assert bound_list(text, 'trainable') == continuous


def gin_text(uri):
  plugin = lv2.get_plugin(uri)
  symbols = [port.symbol for port in binding.trainable_controls(plugin)]
  return binding.gin_binding(plugin, lv2.moves_of_latency(uri, 44100, symbols))


def test_gin_leaves_out_what_moves_latency_or_displays():
  text = gin_text(LIMITER)
  assert 'lk' not in bound_list(text, 'trainable')
  assert re.search("^#     'lk': moves the latency", text, re.M)
  assert bound_list(text, 'fixed') == ['boost']
  assert "'g_in',  # Input gain: 0 to 1000 G, linear" in text
  assert 'narrow it by `ranges`' in text
  equaliser = gin_text(
    'http://lsp-plug.in/plugins/lv2/graph_equalizer_x32_mono'
  )
  assert not {'zoom', 'react'} & set(bound_list(equaliser, 'trainable'))
  assert re.search("^#     'zoom': changes what is displayed", equaliser, re.M)


@pytest.mark.parametrize(
  'uri, some',
  [
    ('http://gareus.org/oss/lv2/fil4#mono', ['HighPass', 'LowPass']),
    ('http://calf.sourceforge.net/plugins/Equalizer5Band', ['ls_active']),
    ('http://lsp-plug.in/plugins/lv2/para_equalizer_x16_mono', ['ft_0']),
    (LIMITER, []),
  ],
)
def test_gin_names_switches_that_are_off(uri, some):
  plugin = lv2.get_plugin(uri)
  sleepers = binding.find_sleepers(plugin)
  assert set(some) <= set(sleepers)
  assert all(plugin.control(s).default == 0.0 for s in sleepers)
  text = gin_text(plugin.uri)
  for symbol in some:
    assert re.search(f"^# they are fixed: .*'{symbol}'", text, re.M)


def port(symbol, **kwargs):
  return lv2.Port(0, symbol, symbol.title(), 'control', True, **kwargs)


@pytest.mark.parametrize(
  'trap, value',
  [
    (port('bypass_2', toggled=True, default=1.0), 0),
    (port('my_bypass', integer=True, default=1.0), 0),
    (port('bypass', toggled=True, default=0.0), None),
    (port('bypass_gain', default=1.0), None),
    (
      port('on', toggled=True, designation=binding._ENABLED),
      1,
    ),
    (port('boost', toggled=True, default=1.0), 1),
  ],
)
def test_traps(trap, value):
  plugin = types.SimpleNamespace(controls={trap.symbol: trap})
  traps = binding.find_traps(plugin)
  assert {s: v for s, (v, _) in traps.items()} == (
    {} if value is None else {trap.symbol: value}
  )


@pytest.mark.parametrize(
  'uri',
  [
    CALF,
    LIMITER,
    'http://calf.sourceforge.net/plugins/VintageDelay',
    'http://gareus.org/oss/lv2/fat1#microtonal',
    'http://invadarecords.com/plugins/lv2/tube/mono',
    TEST + 'late',
  ],
)
def test_gin_builds_under_strict_parsing(uri):
  text = gin_text(uri)
  name = binding.scope_name(uri)
  with gin.unlock_config():
    gin.clear_config()
    try:
      gin.parse_config(text + '\nsample_rate = 44100', skip_unknown=False)
      effect = gin.get_configurable(f'{name}/effects.LV2Plugin')()
    finally:
      gin.clear_config()
  assert (effect.name, effect.uri, effect.sample_rate) == (name, uri, 44100)
  assert list(effect.symbols) == bound_list(text, 'trainable')
  fixed = effect.renderer.fixed
  assert list(fixed) == bound_list(text, 'fixed')
  # The scales that the comments name are those that it is trained on.
  scales = re.findall(r"^    '\w+',  # .*, (log|linear), default", text, re.M)
  assert scales == [
    'log' if log else 'linear' for log in effect.control_map.is_log
  ]


# ----------------------------------------------------------------- check ----
@pytest.fixture
def checks(monkeypatch):
  """Stands for `dafx.lv2.cards.checks`; keeps what it was asked."""
  asked = []

  def check_all(uris, json_path):
    asked.append((uris, json_path))
    return [
      cards.Card(
        uri,
        'Made up',
        '1.0',
        ['in'],
        ['out'],
        RATE,
        1024,
        status='failed' if uri.endswith('fatal') else 'ok',
      )
      for uri in uris
    ]

  module = types.SimpleNamespace(asked=asked, check_all=check_all)
  monkeypatch.setattr(text, 'format_card', lambda card: f'card of {card.uri}')
  monkeypatch.setattr(
    text, 'format_summary', lambda found: f'{len(found)} cards'
  )
  monkeypatch.setitem(sys.modules, 'dafx.lv2.cards.checks', module)
  monkeypatch.setattr('dafx.lv2.cards.checks', module, raising=False)
  return module


def test_check_prints_the_card(dafx_plugins_command, checks):
  code, out, _ = dafx_plugins_command('check', TEST + 'gain')
  assert (code, out) == (0, f'card of {TEST}gain\n')
  assert checks.asked == [([TEST + 'gain'], None)]


def test_check_of_a_plugin_that_fails(dafx_plugins_command, checks):
  code, out, err = dafx_plugins_command('check', TEST + 'fatal')
  assert (code, out) == (1, f'card of {TEST}fatal\n')
  assert err == (
    f'dafx_plugins: {TEST}fatal cannot be used, as the card says: FAILED.\n'
    + HINT
  )


def test_check_all_prints_a_summary(dafx_plugins_command, checks, tmp_path):
  path = tmp_path / 'new' / 'cards.json'
  code, out, _ = dafx_plugins_command('check', '--all', '--json', path)
  uris = lv2.list_uris()
  assert (code, out) == (0, f'{len(uris)} cards\n')
  assert checks.asked == [(uris, str(path))] and path.parent.is_dir()


def test_check_writes_the_card_too(dafx_plugins_command, tmp_path):
  path = tmp_path / 'card.json'
  code, out, err = dafx_plugins_command('check', TEST + 'alien', '--json', path)
  assert code == 1 and 'FAILED        missing feature: ' in out
  assert err.startswith('dafx_plugins: ') and err.count('\n') == 2
  (card,) = json.loads(path.read_text())
  assert (card['uri'], card['status']) == (TEST + 'alien', 'failed')


# ------------------------------------------------------------- Bad input ----
def assert_refused(result, *words):
  code, out, err = result
  assert code == 1 and out == ''
  # One line and the hint, besides what lilv says of broken files.
  assert err.startswith('dafx_plugins: ') and err.count('\n') == 2, err
  assert err.endswith(HINT)
  for word in words:
    assert word in err, err


@pytest.mark.parametrize('command', ['show', 'gin', 'check'])
@pytest.mark.parametrize(
  'uri, words',
  [
    (TEST + 'gian', ['no such LV2 plugin', TEST + 'gain']),
    ('not a uri', ["'not a uri' is no URI", 'dafx_plugins list']),
    ('Compressor', ["'Compressor' is no URI", 'dafx_plugins list']),
  ],
)
def test_unknown_plugin(dafx_plugins_command, checks, command, uri, words):
  assert_refused(dafx_plugins_command(command, uri), *words)
  assert not checks.asked


@pytest.mark.parametrize(
  'name, args, words',
  [
    ('gian', [], ['no such LV2 plugin', TEST + 'gain']),
    ('gain', ['--set=amuont=1'], ["'amuont'", 'The closest are amount']),
    ('gain', ['--set=amount=5'], ['amount=5.0 is out of range', '0 to 4 coef']),
    ('gain', ['--set=amount=nan'], ['amount=nan is out of range']),
    ('gain', ['--set=amount=inf'], ['amount=inf is out of range']),
    ('gain', ['--set=amount'], ["'amount' must be symbol=value"]),
    ('gain', ['--set=amount=loud'], ["'amount=loud' must be symbol=value"]),
    ('gain', ['--set=amount=1=2'], ['must be symbol=value']),
    ('gain', ['--preset=Vocal'], ["'Vocal' is no preset"]),
    ('gain', ['--output=out.txt'], ['out.txt must end in one of .wav, .flac']),
    ('gain', ['--input=gone.wav'], ['gone.wav: there is no such file']),
    ('alien', [], ['does not have', TEST + 'feature']),
    ('fussy', ['--sample_rate=192000'], ['192000 Hz', 'the plugin refuses']),
    ('fatal', ['--set=amount=1'], [TEST + 'fatal', 'crashed (SIGSEGV)']),
    ('fatal', ['--set=amount=3'], [TEST + 'fatal', 'exit(3)']),
  ],
)
def test_refuses_to_render(
  dafx_plugins_command, wav, tmp_path, name, args, words
):
  output = tmp_path / 'out.wav'
  result = dafx_plugins_command(
    'render', TEST + name, '--input', wav(noise()), '--output', output, *args
  )
  assert_refused(result, *words)
  assert not output.exists()


def test_refuses_a_preset_of_another_plugin(
  dafx_plugins_command, wav, tmp_path
):
  preset = lv2.list_presets(ZAM)[0]
  result = dafx_plugins_command(
    'render', TEST + 'gain', '--input', wav(noise()),
    '--output', tmp_path / 'out.wav', '--preset', preset.uri,
  )  # fmt: skip
  assert_refused(result, f'is a preset of {ZAM}, not of {TEST}gain')


def test_refuses_unfit_audio(dafx_plugins_command, wav, tmp_path):
  def render(path, name='gain'):
    return dafx_plugins_command(
      'render', TEST + name, '--input', path, '--output', tmp_path / 'out.wav'
    )

  assert_refused(
    render(wav(noise(100, 3)), 'cross'), '3 channels', '(in, in_right)'
  )
  assert_refused(render(wav(noise(100, 2))), '2 channels', 'takes 1 (in).')
  for bad in (np.nan, np.inf):
    audio = noise(100)
    audio[50] = bad
    assert_refused(render(wav(audio)), 'in.wav has 1 samples that are NaN')
  assert_refused(render(wav(noise(0))), 'in.wav holds no samples')
  for name, words in (
    ('text.wav', 'is damaged or no audio file'),
    ('empty.wav', 'is an empty file'),
    ('text.raw', 'has no header'),
  ):
    path = tmp_path / name
    path.write_text('' if name == 'empty.wav' else 'This is no audio.' * 9)
    assert_refused(render(path), name, words)
  assert not (tmp_path / 'out.wav').exists()


def test_an_output_that_would_replace_the_input_is_refused(
  dafx_plugins_command, wav, tmp_path
):
  path = wav(noise(100))
  before = path.read_bytes()
  result = dafx_plugins_command(
    'render', TEST + 'gain', '--input', path, '--output', tmp_path
  )
  assert_refused(result, 'in.wav would replace an input')
  assert path.read_bytes() == before


@pytest.fixture(scope='module')
def broken(tmp_path_factory):
  """LV2_PATH with the test plugins and five bundles with a fault each."""
  folder = tmp_path_factory.mktemp('broken')

  def write(name, manifest, **files):
    bundle = folder / f'{name}.lv2'
    bundle.mkdir()
    plugin = f'<urn:broken:{name}> a lv2:Plugin ; lv2:binary <plugin.so> ;\n'
    (bundle / 'manifest.ttl').write_text(PREFIXES + plugin + manifest)
    for file_name, turtle in files.items():
      (bundle / f'{file_name}.ttl').write_text(PREFIXES + turtle)
    return bundle

  title = 'doap:name "Broken" ;'
  write('no_so', f'{title} {PORTS} .')
  bad_so = write('bad_so', f'{title} {PORTS} .')
  (bad_so / 'plugin.so').write_text('no library')
  write('manifest', f'{title} lv2:port [ [')
  write(
    'plugin',
    'rdfs:seeAlso <plugin.ttl> .',
    plugin='<urn:broken:plugin> doap:name "Broken" ; lv2:port [ [ .',
  )
  write('gone', 'rdfs:seeAlso <gone.ttl> .')
  return os.pathsep.join([str(folder), pytest.lv2_folder.name])


def test_broken_bundles_leave_the_others_listed(broken):
  result = run_program('list', LV2_PATH=broken)
  assert result.returncode == 0, result.stderr
  uris = [line.split()[0] for line in result.stdout.splitlines()[1:-1]]
  assert TEST + 'gain' in uris
  assert {f'urn:broken:{name}' for name in ('no_so', 'bad_so')} <= set(uris)
  assert 'urn:broken:manifest' not in uris


@pytest.mark.parametrize(
  'name, words',
  [
    ('no_so', 'plugin.so: cannot open shared object file'),
    ('bad_so', 'plugin.so: file too short'),
    ('manifest', 'no such LV2 plugin is installed'),
    ('plugin', 'could not be read'),
    ('gone', 'could not be read'),
  ],
)
def test_broken_bundles_are_named_errors(broken, wav, tmp_path, name, words):
  output = tmp_path / 'out.wav'
  result = run_program(
    'render', f'urn:broken:{name}', '--input', wav(noise(100)),
    '--output', output, LV2_PATH=broken,
  )  # fmt: skip
  assert result.returncode == 1 and not output.exists()
  last = result.stderr.splitlines()[-2]
  assert last.startswith('dafx_plugins: ') and words in last
  assert f'urn:broken:{name}' in last
  assert 'Traceback' not in result.stderr


def test_no_plugin_at_all(tmp_path):
  result = run_program('list', LV2_PATH=str(tmp_path))
  assert result.returncode == 1
  assert 'No LV2 plugin is installed' in result.stderr


# ----------------------------------------------------------------- Usage ----
RENDER = ('render', 'urn:a', '--input=a.wav', '--output=b.wav')


@pytest.mark.parametrize(
  'args, words',
  [
    ([], 'are required: {list,show,render,gin,check}'),
    (['lsit'], "invalid choice: 'lsit' (choose from 'list', 'show', 'render'"),
    (['show'], ' show: the following arguments are required: URI'),
    (['show', 'urn:a', 'urn:b'], ' show: urn:b is not known here'),
    (['check'], ' check: one of the arguments URI --all is required'),
    (['check', '--all', 'urn:a'], ' check: argument URI: not allowed with'),
    (['list', 'calf'], ' list: calf is not known here'),
    (['list', '--input=a.wav'], ' list: --input=a.wav is not known here'),
    (['list', '--filtre=a'], 'Did you mean --filter?'),
    (['render', TEST + 'gain', '--output=a.wav'], ' required: --input'),
    (['render', TEST + 'gain', '--input=a.wav'], ' required: --output'),
    (
      [*RENDER, '--no_latency_compensation'],
      'Did you mean --nolatency_compensation?',
    ),
    ([*RENDER, '--block_size=0'], "'0' must be a whole number from 1 to"),
    ([*RENDER, '--sample_rate=nan'], "'nan' must be a whole number"),
    ([*RENDER, '--isolation=none'], "choose from 'thread', 'process'"),
  ],
)
def test_wrong_usage(dafx_plugins_command, args, words):
  code, out, err = dafx_plugins_command(*args)
  assert (code, out) == (1, '')
  first, hint = err.splitlines()
  assert first.startswith('dafx_plugins')
  # Some versions of Python put choices in quotes.
  assert words.replace("'", '') in first.replace("'", '')
  command = first.partition(':')[0]
  assert hint == f'  ({command} --help shows what there is.)'


def test_help_of_a_command_names_its_flags():
  result = run_program('render', '--help')
  assert (result.returncode, result.stderr) == (0, '')
  for word in ('--block_size N', '--set SYMBOL=VALUE', '--verbosity N'):
    assert word in result.stdout
  assert '--filter' not in result.stdout
  result = run_program()
  assert result.returncode == 1 and result.stdout == ''
  assert 'are required: {list,show,' in result.stderr


def test_a_reader_that_stops_is_no_traceback():
  read_end, write_end = os.pipe()
  os.close(read_end)
  result = subprocess.run(
    [sys.executable, '-m', 'dafx.commands.dafx_plugins', 'show', CALF],
    stdout=write_end,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
  )
  os.close(write_end)
  assert (result.returncode, result.stderr) == (1, '')
