"""Tests of the page that shows results."""

import base64
import html.parser
import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from dafx.training import plotting
from dafx.training.evaluation import clip_audio, measures, report

SAMPLE_RATE = 8000
VOID = {'meta', 'img', 'input', 'br', 'hr', 'link'}
MR_STFT = measures.MEASURES['matched_mr_stft']
LOUDNESS = measures.MEASURES['loudness_difference']
TRUE_PEAK = measures.MEASURES['true_peak_dbtp']
PESQ = measures.MEASURES['pesq']
VERSIONS = ('before', 'target', 'best single setting', 'after')


class Page(html.parser.HTMLParser):
  """Parses a page; raises if its elements are not properly nested."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self.open = [], [], []
    self.feed(text)
    self.close()
    assert not self.open, f'not closed: {self.open}'

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    assert len(attrs) == len(dict(attrs))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if not {'style', 'script'} & set(self.open):
      self.texts.append((self.open[-1] if self.open else '', data.strip()))

  def all(self, tag):
    return [attributes for name, attributes in self.elements if name == tag]

  def text(self, tag=None):
    return [text for name, text in self.texts if tag in (None, name) and text]


def _png():
  fig = plotting.training_curves([0, 1], {'loss': [1.0, 0.5]})
  return plotting.figure_to_png(fig)


PNG = _png()


def _clip(name='Drums', versions=VERSIONS, n_channels=2, seed=0, **changes):
  random = np.random.default_rng(seed)
  clip = {
    'name': name,
    'sample_rate': SAMPLE_RATE,
    'audio': {v: random.uniform(-1, 1, (400, n_channels)) for v in versions},
    'spectrogram': PNG,
    'controls': {'Compressor': [PNG], 'Equalizer': [PNG, PNG]},
  }
  return clip | changes


def _table(**changes):
  arguments = {
    'columns': [MR_STFT, LOUDNESS],
    'rows': {'untreated': [2.0, 6.0], 'single': [1.0, 3.0], 'dafx': [0.5, 4.5]},
  }
  return report.Table(**(arguments | changes))


def _write(path, **changes):
  arguments = {
    'title': 'Mastering',
    'intro_html': '<p>Read <em>this</em>.</p>',
    'table': _table(),
    'clips': [_clip()],
    'figures': {'Training': PNG},
    'footer': 'seed 0',
  }
  report.write_report(path, **(arguments | changes))


def _page(tmp_path, **changes):
  path = tmp_path / 'page.html'
  _write(path, **changes)
  return Page(path.read_text(encoding='utf-8'))


def _data(url, kind):
  prefix = f'data:{kind};base64,'
  assert url.startswith(prefix)
  return base64.b64decode(url[len(prefix) :], validate=True)


def test_page_has_everything(tmp_path):
  page = _page(tmp_path, clips=[_clip('Drums'), _clip('Bass', seed=1)])
  assert len(page.all('audio')) == 2 * len(VERSIONS)
  assert len(page.all('img')) == 2 * (1 + 3) + 1
  assert page.text('h1') == page.text('title') == ['Mastering']
  assert page.text('h3') == ['Drums', 'Bass']
  assert page.text('em') == ['this']
  assert page.text('summary') == ['Compressor', 'Equalizer'] * 2
  assert page.text('figcaption') == ['Training']
  assert page.text('footer') == ['seed 0']
  assert page.text('button') == list(VERSIONS) * 2
  assert len(page.all('button')) == 2 * (len(VERSIONS) + 1)
  assert not re.search(r'\$\{?[a-z]', (tmp_path / 'page.html').read_text())


@pytest.mark.parametrize('n_channels', [1, 2])
def test_audio_is_equally_loud_mp3_and_has_its_way_back(tmp_path, n_channels):
  clip = _clip(n_channels=n_channels)
  clip['audio']['before'] *= 0.05
  if n_channels == 1:
    clip['audio']['after'] = clip['audio']['after'][:, 0]  # [n_samples]
  page = _page(tmp_path, clips=[clip])
  (article,) = page.all('article')
  assert article['data-sample-rate'] == str(SAMPLE_RATE)
  divs = [d for d in page.all('div') if d.get('class') == 'version']
  audio = clip_audio.even(clip['audio'], SAMPLE_RATE, 'Drums')
  _, gains_db = clip_audio.equal_loudness(audio, SAMPLE_RATE)
  for player, div, (version, samples) in zip(
    page.all('audio'), divs, audio.items(), strict=True
  ):
    gain = 10 ** (gains_db[version] / 20)
    expected = clip_audio.encode_mp3(samples * gain, SAMPLE_RATE)
    assert _data(player['src'], 'audio/mpeg') == expected
    own_gain = 10 ** (float(div['data-own-gain-db']) / 20)
    assert own_gain * gain == pytest.approx(1.0, rel=1e-4)


def test_levels_are_said(tmp_path):
  tone = 0.1 * np.sin(np.arange(SAMPLE_RATE))
  clip = _clip(audio={'before': tone, 'after': 20.0 * tone})
  page = _page(tmp_path, clips=[clip])
  (note,) = [text for text in page.text('p') if 'LUFS' in text]
  _, gains_db = clip_audio.equal_loudness(
    {k: v[:, np.newaxis] for k, v in clip['audio'].items()}, SAMPLE_RATE
  )
  before, after = gains_db.values()
  assert before - after == pytest.approx(20 * np.log10(20))
  assert f'LUFS: before +{before:.1f} dB, after −{-after:.1f} dB.' in note
  assert note.endswith(
    'Clipped at its own level: after, which peaks at +6.0 dBFS.'
  )
  titles = [button.get('title') for button in page.all('button')]
  assert titles[0] == f'+{before:.1f} dB at equal loudness'


def test_silent_versions_are_called_silent(tmp_path):
  tone, silence = 0.1 * np.sin(np.arange(SAMPLE_RATE)), np.zeros(SAMPLE_RATE)
  page = _page(tmp_path, clips=[_clip(audio={'one': tone, 'two': silence})])
  (note,) = [text for text in page.text('p') if 'Equally loud at' in text]
  assert note.endswith(', two silent.') and '70' not in note
  titles = [button.get('title') for button in page.all('button')]
  assert titles[1] == 'silent'
  page = _page(tmp_path, clips=[_clip(audio={'one': silence, 'two': silence})])
  assert 'One silent, two silent.' in page.text('p')
  assert 'Equally loud at' not in ' '.join(page.text('p'))


def test_images_are_the_pngs_with_size_and_alt(tmp_path):
  original = Image.open(io.BytesIO(PNG)).convert('RGB')
  page = _page(tmp_path)
  for picture in page.all('img'):
    data = _data(picture['src'], 'image/webp')
    shown = Image.open(io.BytesIO(data))
    difference = np.asarray(shown, float) - np.asarray(original, float)
    assert np.sqrt(np.mean(difference**2)) < 3.0
    assert (picture['width'], picture['height']) == tuple(
      map(str, original.size)
    )
  alts = [picture['alt'] for picture in page.all('img')]
  assert alts[0].startswith('Spectrograms of Drums')
  assert alts[0].endswith(', '.join(VERSIONS))
  assert alts[1] == 'Controls of Compressor, for Drums'
  assert alts[-1] == 'Training'


def test_nothing_is_loaded_from_elsewhere(tmp_path):
  page = _page(tmp_path, intro_html='<a href="https://example.org">data</a>')
  text = (tmp_path / 'page.html').read_text()
  assert re.findall(r'https?://[^"]*', text) == ['https://example.org']
  assert '@import' not in text and 'url(' not in text
  for tag, attributes in page.elements:
    assert tag not in ('link', 'iframe', 'object', 'embed', 'base')
    assert attributes.get('src', 'data:').startswith('data:')
    assert 'srcset' not in attributes
  (policy,) = [
    meta['content']
    for meta in page.all('meta')
    if meta.get('http-equiv') == 'Content-Security-Policy'
  ]
  assert policy.startswith("default-src 'none'")


def test_players_work_without_javascript(tmp_path):
  page = _page(tmp_path)
  for player in page.all('audio'):
    assert 'controls' in player and 'hidden' not in player
  assert page.text('span')[-2 * len(VERSIONS) :] != []
  # The buttons are of use with JavaScript only: the script unhides them.
  for name in ('bar', 'deck'):
    (hidden,) = [d for d in page.all('div') if d.get('class') == name]
    assert 'hidden' in hidden
  assert all(button['type'] == 'button' for button in page.all('button'))


def test_table_marks_the_best_and_the_change(tmp_path):
  page = _page(tmp_path, table=_table(caption='Mean of 3 < 4 clips.'))
  assert page.text('th') == [
    *('MR-STFT', 'Loudness error'),
    *('untreated', 'single', 'dafx'),
  ]
  assert page.text('strong') == ['3.00', '0.500']
  assert page.text('td') == ['2.00', '6.00', '1.00', '4.50']
  assert page.text('small') == [
    *('at equal level', 'raw'),
    *('−50\xa0%', '−50\xa0%'),
    *('−75\xa0%', '−25\xa0%'),
  ]
  (note,) = [text for text in page.text('p') if text.startswith('Mean')]
  assert note.startswith('Mean of 3 < 4 clips. Bold: the best')
  assert note.endswith('relative to untreated.')


def test_table_with_gaps_ties_and_zero(tmp_path):
  rows = {
    'a': [None, 0.0, 1.0001, -14.0],
    'b': [float('nan'), 1.0, 1.0002, -0.001],
  }
  columns = [MR_STFT, LOUDNESS, MR_STFT, TRUE_PEAK]
  page = _page(tmp_path, table=_table(columns=columns, rows=rows))
  # What reads the same is equally good; no true peak is better than another.
  assert page.text('strong') == ['0.00', '1.00', '1.00']
  assert page.text('td') == ['–', '−14.00', '–', '1.00', '0.00']
  assert page.text('small')[4:] == ['±0\xa0%']


def test_table_where_higher_is_better(tmp_path):
  rows = {'a': [1.0], 'b': [3.0]}
  page = _page(tmp_path, table=_table(columns=[PESQ], rows=rows))
  assert page.text('strong') == ['3.00']
  assert page.text('small')[0] == 'at equal level, higher is better'


def test_full_table_says_what_measures_follow(tmp_path):
  full = _table(columns=[LOUDNESS, MR_STFT])
  page = _page(tmp_path, full_table=full)
  assert page.text('summary')[0] == 'All that was measured'
  assert len(page.all('table')) == 2
  (follows,) = [t for t in page.text('li') if 'as it is heard' in t]
  assert follows == f'follows {LOUDNESS.follows}.'
  assert 'Loudness error (LU), raw' in page.text('b')


EVIL = '<script>alert("1")</script> & \'$title\''


def test_names_are_escaped(tmp_path):
  evil = measures.Measure(EVIL, EVIL, EVIL, True, EVIL, True)
  evil_table = _table(columns=[evil], rows={EVIL: [1.0]}, caption=EVIL)
  clip = _clip(EVIL, versions=(EVIL,), controls={EVIL: [PNG]})
  clip['audio'][EVIL] *= 2
  page = _page(
    tmp_path,
    title=EVIL,
    table=evil_table,
    full_table=evil_table,
    clips=[clip],
    figures={EVIL: PNG},
    footer=EVIL,
  )
  assert len(page.all('script')) == 1
  for tag in ('title', 'h1', 'h3', 'figcaption', 'footer'):
    assert page.text(tag) == [EVIL]
  assert page.text('summary')[1:] == [EVIL]
  assert page.text('th') == [EVIL] * 4
  assert f'({EVIL})' in page.text('span') and EVIL in page.text('span')
  assert page.text('button') == [EVIL]
  assert page.all('img')[-1]['alt'] == EVIL
  assert page.all('audio')[0]['aria-label'] == f'{EVIL}: {EVIL}'


def test_ids_are_unique_and_referred_to(tmp_path):
  page = _page(tmp_path, clips=[_clip('A'), _clip('A')])
  ids = [a['id'] for _, a in page.elements if 'id' in a]
  assert len(set(ids)) == len(ids)
  for _, attributes in page.elements:
    for key in ('aria-labelledby', 'aria-describedby'):
      assert attributes.get(key, ids[0]) in ids


def test_figures_and_controls_may_be_absent(tmp_path):
  page = _page(tmp_path, clips=[_clip(controls={})], figures={})
  assert len(page.all('img')) == 1
  assert page.text('h2') == ['Results', 'Listen']
  assert not page.text('h4')


def test_write_is_atomic_and_makes_the_folder(tmp_path):
  path = tmp_path / 'new' / 'folder' / 'page.html'
  _write(str(path), title='First')
  first = path.read_text()
  with pytest.raises(ValueError):
    _write(path, title='Second', figures={'broken': b'GIF'})
  assert path.read_text() == first
  _write(path, title='Third')
  assert Page(path.read_text()).text('h1') == ['Third']
  assert [p.name for p in path.parent.iterdir()] == ['page.html']


def test_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
  path = tmp_path / 'page.html'
  _write(path, title='First')

  def fail(source, target):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', fail)
  with pytest.raises(OSError, match='disk full'):
    _write(path, title='Second')
  assert Page(path.read_text()).text('h1') == ['First']
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'title': ''}, 'title'),
    ({'clips': []}, 'at least one clip'),
    ({'clips': [_clip(audio={})]}, "clip 'Drums' has no audio"),
    ({'clips': [_clip(audio={'after': []})]}, "'after' of clip 'Drums'"),
    ({'clips': [_clip(audio={'after': [np.nan]})]}, 'not finite'),
    ({'clips': [_clip(n_channels=3)]}, 'one or two channels'),
    ({'clips': [_clip(spectrogram=b'')]}, 'no PNG'),
    ({'clips': [_clip(controls={'EQ': ['page.png']})]}, 'no PNG but str'),
    ({'table': _table(columns=[])}, '0 columns'),
    ({'table': _table(rows={})}, '0 rows'),
    ({'table': _table(rows={'untreated': [1.0]})}, "Row 'untreated' has 1"),
    ({'figures': {'broken': None}}, 'figure_to_png'),
  ],
)
def test_bad_input(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    _write(tmp_path / 'page.html', **changes)
  assert not list(tmp_path.iterdir())


def test_settings_are_tables(tmp_path):
  values = {'Calf <EQ>': {'p1 (Level)': '2 dB'}, 'Limiter': {'limit': '0.5'}}
  page = _page(tmp_path, settings=values)
  assert 'Settings' in page.text('h2')
  assert page.text('summary')[-2:] == ['Calf <EQ>', 'Limiter']
  assert page.text('td')[-2:] == ['2 dB', '0.5']
  assert 'p1 (Level)' in page.text('th')
