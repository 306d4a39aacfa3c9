"""Matches of files: what is written, what is refused, what is applied."""

import json

import numpy as np
import pytest
import soundfile
from match_test import RATE, TEST, gain_and_filter, music

from dafx import effects, lv2, processors
from dafx.audio import files as audio_files
from dafx.commands import match_mode
from dafx.training import matching
from dafx.training.matching import matcher, settings


def write(path, audio, rate=RATE):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate, 'FLOAT')
  return path


@pytest.fixture(scope='module')
def matched(tmp_path_factory):
  """Returns a folder with mix, master and what was found."""
  folder = tmp_path_factory.mktemp('match')
  audio = music(n_channels=2)
  mix = write(folder / 'mix.wav', audio)
  master = write(folder / 'master.wav', 0.3 * audio)
  jobs = match_mode.plan(mix, folder / 'out.wav', master)
  ((output, found),) = matching.match_files(
    jobs, graph=gain_and_filter(), max_renders=400, time_limit_s=None
  )
  assert output == folder / 'out.wav'
  return folder, found


def test_audio_settings_and_presets_are_written(matched):
  folder, found = matched
  audio, rate = audio_files.read(folder / 'out.wav')
  assert rate == RATE
  np.testing.assert_array_equal(audio, found.audio)
  written = json.loads((folder / 'out.settings.json').read_text())
  assert written['verdict'] == found.verdict()
  by_name = {node['name']: node for node in written['nodes']}
  assert by_name['gain']['controls'] == found.controls['gain']
  assert by_name['gain']['inputs'] == ['onepole']
  presets = sorted(p.name for p in (folder / 'out.presets').iterdir())
  assert '<button' in (folder / 'out.html').read_text(encoding='utf-8')
  assert len(presets) == 2 and all('preset.lv2' in name for name in presets)
  assert not [p for p in folder.iterdir() if 'partial' in p.name]


def test_settings_do_to_a_file_what_was_found(matched, tmp_path):
  folder, found = matched
  again = tmp_path / 'again.wav'
  paths = matching.process_files(
    folder / 'out.settings.json', folder / 'mix.wav', again
  )
  assert paths == [again]
  audio, _ = audio_files.read(again)
  np.testing.assert_allclose(audio, found.audio, atol=1e-6)


def test_changed_settings_are_what_is_done(matched, tmp_path):
  folder, _ = matched
  changed = json.loads((folder / 'out.settings.json').read_text())
  changed['nodes'][0]['controls']['amount'] = 0.0
  changed['nodes'][1]['controls']['amount'] = 2.0
  changed['gain_db'] = 20 * np.log10(0.25)
  path = tmp_path / 'changed.json'
  path.write_text(json.dumps(changed))
  matching.process_files(path, folder / 'mix.wav', tmp_path / 'out.wav')
  mix, audio = (
    audio_files.read(p)[0] for p in (folder / 'mix.wav', tmp_path / 'out.wav')
  )
  np.testing.assert_allclose(audio, 0.5 * mix, atol=1e-6)


def test_settings_hold_effects_of_dafx_and_single_values(tmp_path):
  audio = music()
  stepped = effects.DiscreteLV2Plugin(
    TEST + 'modal', {'mode': None}, sample_rate=RATE, name='modal'
  )
  found = matching.match(
    [effects.Gain(name='trim'), stepped], audio, RATE, target=0.3 * audio,
    max_renders=100, time_limit_s=None,
  )  # fmt: skip
  settings.write(tmp_path / 'own.json', found)
  write(tmp_path / 'mix.wav', audio)
  matching.process_files(
    tmp_path / 'own.json', tmp_path / 'mix.wav', tmp_path / 'out.wav'
  )
  again, _ = audio_files.read(tmp_path / 'out.wav')
  np.testing.assert_allclose(again, found.audio, atol=1e-5)


def test_settings_hold_the_files_of_plugins(tmp_path):
  audio, taps = music(), tmp_path / 'taps.txt'
  taps.write_text('0.5 0.25')
  keeper = effects.LV2Plugin(
    TEST + 'keeper', ['amount'], {TEST + 'taps': str(taps)}, sample_rate=RATE,
    name='keeper',
  )  # fmt: skip
  found = matching.match(
    [keeper], audio, RATE, target=0.3 * audio, max_renders=50,
    time_limit_s=None,
  )  # fmt: skip
  settings.write(tmp_path / 'own.json', found)
  write(tmp_path / 'mix.wav', audio)
  paths = [tmp_path / name for name in ('own.json', 'mix.wav', 'out.wav')]
  matching.process_files(*paths)
  again, _ = audio_files.read(paths[-1])
  np.testing.assert_allclose(again, found.audio, atol=1e-5)
  assert np.std(again) > 1e-3
  taps.unlink()
  with pytest.raises(ValueError, match='there is no file'):
    matching.process_files(*paths)


@pytest.mark.parametrize('amount', [0.0, 0.5])
def test_an_amount_keeps_the_loudness_and_halves_the_way(amount):
  audio = music()
  found = matching.match(
    gain_and_filter(), audio, RATE, target=0.2 * audio, amount=amount,
    max_renders=400, time_limit_s=None,
  )  # fmt: skip
  assert found.figures['result']['loudness_error_lu'] < 0.1
  default = 1.0
  whole = 0.2
  expected = default * (whole / default) ** amount
  assert found.controls['gain']['amount'] == pytest.approx(expected, rel=0.1)


def test_folders_are_matched_by_name(tmp_path):
  audio = music()
  for name in ('a', 'b'):
    write(tmp_path / 'mixes' / f'{name}.wav', audio)
    write(tmp_path / 'masters' / f'{name}.wav', 0.5 * audio)
  write(tmp_path / 'mixes' / 'alone.wav', audio)
  jobs = match_mode.plan(
    tmp_path / 'mixes', tmp_path / 'out', tmp_path / 'masters'
  )
  assert [[path.name for path in job] for job in jobs] == [
    ['a.wav'] * 3, ['b.wav'] * 3,
  ]  # fmt: skip
  assert jobs[0][2] == tmp_path / 'out' / 'a.wav'


@pytest.mark.slow
def test_a_target_at_another_rate_is_resampled(tmp_path):
  audio = music()
  path = write(tmp_path / 'master.wav', np.repeat(0.5 * audio, 2, 0), 2 * RATE)
  mix = write(tmp_path / 'mix.wav', audio)
  jobs = match_mode.plan(mix, tmp_path / 'out.wav', path)
  ((_, found),) = matching.match_files(
    jobs, graph=[effects.Gain()], max_renders=100, time_limit_s=None
  )
  assert found.sample_rate == RATE
  assert found.controls['gain']['gain_db'] == pytest.approx(-6.0, abs=0.7)


def test_references_are_read_and_what_is_found_is_written(tmp_path):
  mix = write(tmp_path / 'mix.wav', music())
  others = [
    write(tmp_path / f'{seed}.wav', 0.5 * music(seed=seed)) for seed in (1, 2)
  ]
  jobs = match_mode.plan(mix, tmp_path / 'out.wav', references=others)
  told = []
  ((output, found),) = matching.match_files(
    jobs, told.append, others, graph=gain_and_filter(), amount=0.0,
    with_page=False,
  )  # fmt: skip
  assert not (tmp_path / 'out.html').exists()
  assert found.figures['result']['loudness_error_lu'] < 0.3
  assert output.exists() and (tmp_path / 'out.settings.json').exists()
  assert len(told) == 1 and 'target' not in told[0]
  missing = [tmp_path / 'none.wav']
  with pytest.raises(FileNotFoundError, match='none.wav'):
    match_mode.plan(mix, tmp_path / 'out.wav', references=missing)
  with pytest.raises(ValueError, match='1.wav would be replaced'):
    match_mode.plan(mix, others[0], references=others)


# ---------------------- Bad input ---------------------------------------------
def test_bad_files_are_named_before_anything_is_written(tmp_path):
  mix = write(tmp_path / 'mix.wav', music())
  output = tmp_path / 'out.wav'
  with pytest.raises(FileNotFoundError, match='none.wav'):
    match_mode.plan(tmp_path / 'none.wav', output, mix)
  with pytest.raises(FileNotFoundError, match='none.wav'):
    match_mode.plan(mix, output, tmp_path / 'none.wav')
  (tmp_path / 'text.wav').write_text('no audio')
  with pytest.raises(audio_files.FileError, match='text.wav'):
    match_mode.plan(mix, output, tmp_path / 'text.wav')
  with pytest.raises(ValueError, match='both'):
    match_mode.plan(mix, output, tmp_path)
  master = write(tmp_path / 'master.wav', music())
  with pytest.raises(ValueError, match='would replace a target'):
    match_mode.plan(mix, master, master)
  with pytest.raises(ValueError, match='would replace an input'):
    match_mode.plan(mix, mix, master)


def test_two_songs_leave_nothing_behind(tmp_path):
  mix = write(tmp_path / 'mix.wav', music(seed=1))
  other = write(tmp_path / 'other.wav', music(seed=2))
  jobs = match_mode.plan(mix, tmp_path / 'out.wav', other)
  with pytest.raises(audio_files.FileError, match='mix.wav and .*other.wav'):
    matching.match_files(jobs, graph=gain_and_filter(), max_renders=10)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['mix.wav', 'other.wav']


@pytest.mark.parametrize(
  'text, message',
  [('{', 'no JSON'), ('{}', 'lacks'), ('3', 'must be an object')],
)
def test_what_is_no_file_of_settings_is_refused(tmp_path, text, message):
  path = tmp_path / 'settings.json'
  path.write_text(text)
  with pytest.raises(audio_files.FileError, match=message):
    settings.read(path)


@pytest.mark.parametrize('value', [99.0, 10**30])  # no int64 holds it
def test_settings_that_a_plugin_does_not_take_are_refused(
  matched, tmp_path, value
):
  folder, _ = matched
  changed = json.loads((folder / 'out.settings.json').read_text())
  changed['nodes'][1]['controls']['amount'] = value
  path = tmp_path / 'changed.json'
  path.write_text(json.dumps(changed))
  with pytest.raises(
    audio_files.FileError, match=f'amount={value} is out of range'
  ):
    matching.process_files(path, folder / 'mix.wav', tmp_path / 'out.wav')
  assert not (tmp_path / 'out.wav').exists()


# ---------------------- Tasks -------------------------------------------------
def test_the_limiter_of_match_master_does_not_depend_on_blocks():
  """So that a DAW, whatever its blocks, gives what was found."""
  import gin

  from dafx.training import gin_files

  gin_files.add_gin_search_paths()
  gin_files.parse_gin(['match_master.gin'])
  bound = gin.query_parameter('matching.match.graph')
  group = bound.scoped_configurable_fn()
  audio = np.repeat(music(n_channels=2), 1, axis=0)[np.newaxis] * 3.0
  loud = {'equalizer': {}, 'multiband': {'rat1': 4.0, 'rat2': 4.0}}
  loud['limiter'] = {'level_in': 5.0, 'limit': 0.5}
  for name, node in processors.nodes(group).items():
    outputs = [
      lv2.Renderer(
        node.uri, 44100, fixed={**node.control_map.fixed, **loud[name]},
        block_size=size, warm_up=warm_up,
      ).render(audio)
      for size, warm_up in ((1024, 1024), (64, 1024), (333, 8192))
    ]  # fmt: skip
    for other in outputs[1:]:
      np.testing.assert_allclose(other, outputs[0], atol=1e-6, err_msg=name)
  gin.clear_config()


def test_tasks_start_neutral(monkeypatch):
  import gin

  from dafx.training import gin_files

  gin_files.add_gin_search_paths()
  audio = music(n_channels=2)
  for task in ('match_master', 'match_vocal', 'match_minimal'):
    gin.clear_config()
    gin_files.parse_gin([f'{task}.gin'])
    found = matcher.match(
      audio=audio, sample_rate=RATE, target=audio, max_renders=0,
      time_limit_s=None,
    )  # fmt: skip
    np.testing.assert_allclose(found.audio, audio, atol=2e-4, err_msg=task)
  gin.clear_config()


@pytest.mark.parametrize(
  'layer',
  [
    {'module': 'keras.layers', 'class_name': 'Lambda', 'config': {}},
    {'module': 'os', 'class_name': 'system', 'config': {}},
    {
      'class_name': 'dafx>Gain',
      'config': {'ranges': {'module': 'os', 'class_name': 'x', 'config': {}}},
    },
  ],
)
def test_settings_of_a_stranger_make_nothing_but_effects(layer):
  """A kind of fault: what is read as data runs what it names."""
  entry = {'name': 'x', 'inputs': ['audio'], 'controls': {}, 'layer': layer}
  found = {'sample_rate': RATE, 'gain_db': 0.0, 'nodes': [entry]}
  with pytest.raises(ValueError, match='neither of dafx nor of DDSP'):
    settings.make_graph(found)


def _wrong(change):
  """Returns settings of two nodes as JSON, after a change to them."""
  node = {'uri': f'{TEST}gain', 'channels': 'mono', 'controls': {}}
  found = {
    'sample_rate': 44100,
    'gain_db': 0.0,
    'nodes': [
      {'name': 'a', 'inputs': ['audio'], **node},
      {'name': 'b', 'inputs': ['a'], **node},
    ],
  }
  change(found)
  return json.dumps(found)


@pytest.mark.parametrize(
  'change, place',
  [
    (lambda s: s.update(nodes=[]), r'\$.nodes is \[\]'),
    (lambda s: s.update(sample_rate=1), r'\$.sample_rate is 1;'),
    (lambda s: s['nodes'][0].update(name=''), r'\$.nodes\[0\].name'),
    (lambda s: s['nodes'][0].update(name='x\ny'), r'\$.nodes\[0\].name'),
    (lambda s: s['nodes'][0].update(name='\ud800'), r'\$.nodes\[0\].name'),
    (lambda s: s['nodes'][0].update(name='audio'), r'\$.nodes\[0\].name'),
    (lambda s: s['nodes'][0].update(name='x' * 10**6), r'\$.nodes\[0\].name'),
    (lambda s: s['nodes'][1].update(name='a'), r'\$.nodes\[1\].name'),
    (lambda s: s['nodes'][0].update(name='c'), r'\$.nodes\[1\].inputs\[0\]'),
    (lambda s: s['nodes'][0].update(inputs=[]), r'\$.nodes\[0\].inputs'),
    (lambda s: s['nodes'][0].update(inputs=['b']), r'\$.nodes\[0\].inputs\[0'),
    (lambda s: s['nodes'][0].update(inputs=['']), r'\$.nodes\[0\].inputs\[0'),
    (lambda s: s['nodes'][0].update(uri='x' * 10**6), r'\$.nodes\[0\].uri'),
  ],
)
def test_settings_of_no_graph_are_refused_with_the_place(
  tmp_path, change, place
):
  path = tmp_path / 'settings.json'
  path.write_text(_wrong(change))
  with pytest.raises(ValueError, match=place) as caught:
    settings.read(path)
  assert len(str(caught.value)) < 500
  path.write_text(_wrong(lambda found: None))
  assert len(settings.read(path)['nodes']) == 2
