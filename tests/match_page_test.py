"""The page beside a match: what is said, drawn and heard."""

import numpy as np
import pytest
from match_test import RATE, gain_and_filter, music
from report_test import Page

from dafx import effects
from dafx.training import matching
from dafx.training.evaluation import report
from dafx.training.matching import page


def match_of(audio, **given):
  return matching.match(
    gain_and_filter(), audio, RATE, max_renders=60, time_limit_s=None, **given
  )


def test_the_page_tells_verdict_settings_and_figures(tmp_path):
  audio = music(n_channels=2)
  target = np.pad(0.3 * audio, ((50, 0), (0, 0)))
  found = match_of(audio, target=target)
  page.write(tmp_path / 'out.html', found, audio)
  shown = Page((tmp_path / 'out.html').read_text(encoding='utf-8'))
  assert shown.text('button') == ['input', 'result', 'target']
  told = ' '.join(shown.text('p'))
  for sentence in matching.result.paragraphs(found):
    assert sentence in told
  assert len(shown.text('figcaption')) == 3
  value = found.controls['gain']['amount']
  assert any(t.startswith(f'{value:.5g}') for t in shown.text('td'))
  assert shown.text('th').count('input') == 1


def test_what_is_heard_beside_the_input_is_on_its_time():
  audio = music(n_channels=1)
  late = np.pad(-0.3 * audio, ((50, 0), (0, 0)))
  found = match_of(audio, target=late)
  assert found.lag_samples == pytest.approx(50, abs=0.1)
  np.testing.assert_allclose(
    found.others['target'][100:-100], 0.3 * audio[100:-100], atol=1e-3
  )


@pytest.mark.slow
def test_references_are_heard_and_no_fine_structure_is_compared(tmp_path):
  audio = music(n_channels=2)
  others = [0.5 * music(3 * RATE, 2, seed=seed) for seed in (1, 2)]
  found = match_of(audio, reference=others)
  page.write(tmp_path / 'out.html', found, audio)
  shown = Page((tmp_path / 'out.html').read_text(encoding='utf-8'))
  assert shown.text('button') == ['input', 'result', 'reference', 'reference 2']
  headings = ' '.join(shown.text('th'))
  assert 'Crest error' in headings and 'MR-STFT' not in headings


def test_of_long_audio_the_loudest_part_is_heard(tmp_path, monkeypatch):
  audio = music(4 * RATE)
  audio[: 2 * RATE] *= 0.01
  found = matching.match([effects.Gain()], audio, RATE, target=0.5 * audio,
                         max_renders=20, time_limit_s=None)  # fmt: skip
  monkeypatch.setattr(page, '_HEARD_S', 1.0)
  clips = []
  monkeypatch.setattr(
    report, 'write_report', lambda path, clips_=clips, **a: clips_.extend(
      a['clips']
    )
  )  # fmt: skip
  page.write(tmp_path / 'out.html', found, audio)
  (clip,) = clips
  assert clip['name'] == 'The loudest 1 s'
  heard = {name: np.float32(x) for name, x in clip['audio'].items()}
  assert {len(x) for x in heard.values()} == {RATE}
  np.testing.assert_allclose(heard['target'], 0.5 * heard['input'], atol=1e-6)
  assert np.abs(heard['input']).max() > 0.05


@pytest.mark.parametrize(
  'rate, seconds',
  [(96000, 0.6), pytest.param(8000, 0.6, marks=pytest.mark.slow)],
)
def test_rates_that_mp3_has_not_and_short_audio(tmp_path, rate, seconds):
  audio = music(int(seconds * rate))
  found = matching.match([effects.Gain()], audio, rate, target=0.5 * audio,
                         max_renders=20, time_limit_s=None)  # fmt: skip
  page.write(tmp_path / 'out.html', found, audio)
  shown = Page((tmp_path / 'out.html').read_text(encoding='utf-8'))
  assert len(shown.all('audio')) == 3
