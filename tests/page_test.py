"""Tests of the page in a real browser: that it plays, and what is heard.

All that goes to the loudspeaker is measured. Each version is a tone of its own,
which rises over time: its frequency tells which version is heard, and where.
"""

import base64
import dataclasses

import browser
import numpy as np
import pytest
import scipy.signal
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from dafx import effects
from dafx.training import matching, plotting
from dafx.training.evaluation import clip_audio, measures, report
from dafx.training.matching import page as match_page

SAMPLE_RATE = 8000
SECONDS = 4.0
RISE_HZ = 100.0  # per second
VERSIONS = {  # frequency at the beginning in Hz, amplitude
  'before': (400.0, 0.02),
  'target': (1000.0, 0.5),
  'after': (1600.0, 0.25),
}
SECOND = {'before': (2400.0, 0.1), 'after': (3000.0, 0.9)}
# Stands between all that is played and the loudspeaker.
TAP = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function(to, ...more) {
  const isLast = to instanceof AudioDestinationNode;
  if (!isLast) return connect.call(this, to, ...more);
  if (!window.tap) {
    window.tap = new AnalyserNode(this.context, {fftSize: 2048});
    connect.call(window.tap, to);
  }
  connect.call(this, window.tap);
  return to;
};
"""
READ_TAP = """
if (!window.tap) return null;
const samples = new Float32Array(window.tap.fftSize);
window.tap.getFloatTimeDomainData(samples);
return [window.tap.context.sampleRate, [...samples]];
"""
DECODE = """
const [base64, rate, done] = arguments;
const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.buffer).then(
  (buffer) => done([...buffer.getChannelData(0)]),
  (error) => done(String(error)));
"""


def rising_tone(start_hz, amplitude):
  times_s = np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
  cycles = start_hz * times_s + 0.5 * RISE_HZ * times_s**2
  return amplitude * np.sin(2 * np.pi * cycles)


def make_clip(name, versions):
  figure = plotting.training_curves([0, 1], {'loss': [1.0, 0.5]})
  png = plotting.figure_to_png(figure)
  return report.Clip(
    name=name,
    sample_rate=SAMPLE_RATE,
    audio={k: rising_tone(*values) for k, values in versions.items()},
    spectrogram=png,
    controls={'Compressor': [png]},
  )


@pytest.fixture(scope='module')
def clips():
  return [make_clip('First', VERSIONS), make_clip('Second', SECOND)]


@pytest.fixture(scope='module')
def path(clips, tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'index.html'
  columns = [m for m in measures.MEASURES.values() if 'change' not in m.name]
  rows = {
    'untreated at target loudness': np.linspace(1, 2, len(columns)),
    'dafx (network)': np.linspace(2, 1, len(columns)),
  }
  report.write_report(
    path,
    title='A page',
    intro_html='<p>What is heard.</p>',
    table=report.Table(columns[:5], {k: v[:5] for k, v in rows.items()}),
    full_table=report.Table(columns, rows),
    clips=clips,
    figures={},
    footer='',
  )
  return path


@pytest.fixture(scope='module')
def driver():
  driver = browser.start()
  try:
    driver.execute_cdp_cmd(
      'Page.addScriptToEvaluateOnNewDocument', {'source': TAP}
    )
    yield driver
  finally:
    driver.quit()


class Page:
  """The page as a listener has it: what is to be seen, and to be heard."""

  def __init__(self, driver):
    self.driver = driver
    self.clips = self.all('.clip')

  def all(self, selector, clip=None):
    root = self.driver if clip is None else self.clips[clip]
    return root.find_elements(By.CSS_SELECTOR, selector)

  def click(self, selector, clip=None, index=0):
    self.all(selector, clip)[index].click()

  def press(self, *keys):
    ActionChains(self.driver).send_keys(*keys).perform()

  def heard(self):
    """Returns (frequency in Hz, RMS), or (None, 0) in silence."""
    tapped = self.driver.execute_script(READ_TAP)
    if tapped is None:
      return None, 0.0
    rate, samples = tapped
    rms = float(np.sqrt(np.mean(np.square(samples))))
    if rms < 1e-6:
      return None, 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 14))
    return float(np.argmax(spectrum) * rate / (1 << 14)), rms

  def version(self, clip=0):
    """Returns the version that is heard and its position in s, or None."""
    frequency_hz, _ = self.heard()
    versions = (VERSIONS, SECOND)[clip]
    for name, (start_hz, _) in versions.items():
      if frequency_hz and start_hz <= frequency_hz < start_hz + 450.0:
        return name, (frequency_hz - start_hz) / RISE_HZ
    return None

  def wait(self, condition):
    return WebDriverWait(self.driver, 20, 0.05).until(lambda _: condition())

  def wait_for(self, version, clip=0):
    """Waits until a version alone is heard."""
    self.wait(lambda: (self.version(clip) or [None])[0] == version)

  def wait_for_silence(self):
    self.wait(lambda: self.heard()[1] == 0.0)

  def shown(self, clip=0):
    """Returns what the buttons say is chosen."""
    buttons = self.all('.switch button', clip)
    return [
      button.text.split('\n')[-1]
      for button in buttons
      if button.get_attribute('aria-pressed') == 'true'
    ]


@pytest.fixture
def page(driver, path):
  """Returns the page, newly loaded; afterwards the console must be empty."""
  driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
  driver.get(path.as_uri())
  yield Page(driver)
  assert driver.get_log('browser') == []


def test_switches_at_the_same_position(page):
  assert page.shown() == ['before']
  page.click('.play', 0)
  page.wait_for('before')
  for version, i in (('after', 2), ('target', 1), ('before', 0)):
    page.click('.switch button', 0, i)
    page.wait_for(version)
    assert page.shown() == [version]
    # What is seen is where the sound is, within what the window averages.
    seen = float(page.all('.seek', 0)[0].get_property('value'))
    _, position = page.version()
    apart = (position - seen) % SECONDS
    assert min(apart, SECONDS - apart) < 0.5
  page.click('.play', 0)
  page.wait_for_silence()
  assert page.all('.play', 0)[0].get_attribute('aria-label') == 'Play First'


def test_pauses_and_goes_on_where_it_was(page):
  page.driver.execute_script(
    'arguments[0].value = 2.5; arguments[0].dispatchEvent(new Event("input"))',
    page.all('.seek', 0)[0],
  )
  assert page.all('.time', 0)[0].text == '0:02 / 0:04'
  page.press(Keys.SPACE)
  page.wait_for('before')
  _, position = page.version()
  assert position > 2.2
  page.press(Keys.SPACE)
  page.wait_for_silence()
  seen = float(page.all('.seek', 0)[0].get_property('value'))
  assert seen > 2.5 or seen < 1.0  # it may have begun again


@pytest.mark.slow
def test_ends_without_loop_and_begins_again(page):
  page.click('.loop', 0)
  page.click('.play', 0)
  page.wait_for('before')
  page.wait_for_silence()
  assert page.all('.time', 0)[0].text == '0:00 / 0:04'
  page.press('2')
  page.wait_for('target')


def test_one_sound_at_a_time(page):
  page.click('.play', 0)
  page.wait_for('before')
  page.click('.play', 1)
  page.wait_for('before', clip=1)
  assert len(page.all('.clip.playing')) == 1


def wait_for_level(page, rms):
  """Waits until a level is heard; returns what was."""
  heard = []

  def is_there():
    heard[:] = [page.heard()[1]]
    return abs(heard[0] / rms - 1.0) < 0.03

  page.wait(is_there)
  return heard[0]


@pytest.mark.parametrize('is_equal', [True, False])
def test_levels(page, clips, is_equal):
  if not is_equal:
    page.click('#equal')
  audio = clip_audio.even(clips[0]['audio'], SAMPLE_RATE, 'First')
  _, gains_db = clip_audio.equal_loudness(audio, SAMPLE_RATE)
  page.click('.play', 0)
  for key, (version, (_, amplitude)) in enumerate(VERSIONS.items(), start=1):
    page.press(str(key))
    page.wait_for(version)
    gain_db = gains_db[version] if is_equal else 0.0
    wait_for_level(page, amplitude / np.sqrt(2) * 10 ** (gain_db / 20))


def test_the_switch_acts_while_it_plays(page):
  page.click('#equal')
  page.click('.play', 0)
  own = VERSIONS['before'][1] / np.sqrt(2)
  wait_for_level(page, own)
  page.click('#equal')
  page.wait(lambda: page.heard()[1] > 3.0 * own)
  page.click('#equal')
  wait_for_level(page, own)


@pytest.mark.parametrize(
  'selector', ['.switch button', '.play', '#equal', '.seek', 'summary', 'h1']
)
def test_keys_work_wherever_one_clicked(page, selector):
  page.click(selector)
  state = page.driver.execute_script(
    'return [scrollY, document.querySelector("#equal").checked]'
  )
  page.press('3')
  page.wait_for('after')
  page.press(Keys.SPACE)
  page.wait_for_silence()
  page.press(Keys.SPACE)
  page.wait_for('after')
  page.press('1')
  page.wait_for('before')
  assert page.shown() == ['before']
  # Space has neither scrolled nor pressed what has the focus.
  assert state == page.driver.execute_script(
    'return [scrollY, document.querySelector("#equal").checked]'
  )


def test_a_version_that_is_chosen_at_the_very_start_is_heard(page):
  # Within 10 ms, as the start is scheduled so far ahead.
  page.click('.play')  # sound needs a click first
  page.wait_for('before')
  page.click('.play')
  page.wait_for_silence()
  page.driver.execute_script('clips[0].start(); clips[0].choose(2);')
  page.wait_for('after')
  assert page.shown() == ['after']
  page.driver.execute_script('clips[0].pause();')
  page.wait_for_silence()


def test_tab_gives_space_to_the_element(page):
  page.press(Keys.TAB, Keys.TAB)  # table, its details
  for _ in range(20):
    label = page.driver.switch_to.active_element.text
    if label.endswith('target'):
      break
    page.press(Keys.TAB)
  page.press(Keys.SPACE)
  page.wait_for('target')
  page.press('3')  # the focus goes along
  page.wait_for('after')
  assert page.driver.switch_to.active_element.text.endswith('after')


def test_keys_are_left_to_who_types(page):
  page.driver.execute_script(
    'const input = document.createElement("input");'
    'document.querySelector(".intro").append(input); input.focus();'
  )
  page.press('2', Keys.SPACE)
  (field,) = page.all('.intro input')
  assert field.get_property('value') == '2 '
  assert page.shown() == ['before'] and not page.all('.clip.playing')


def test_keys_go_to_the_clip_in_view(page):
  page.driver.execute_script('arguments[0].scrollIntoView()', page.clips[1])
  page.press(Keys.SPACE)
  page.wait_for('before', clip=1)
  page.press('2')
  page.wait_for('after', clip=1)
  assert page.shown(0) == ['before']


@pytest.mark.parametrize('width', [375, 1280])
def test_no_sideways_scroll(page, width):
  page.driver.execute_cdp_cmd(
    'Emulation.setDeviceMetricsOverride',
    dict(width=width, height=800, deviceScaleFactor=1, mobile=False),
  )
  for details in page.all('details'):
    page.driver.execute_script('arguments[0].open = true', details)
  sizes = 'return [innerWidth, document.documentElement.scrollWidth]'
  assert page.driver.execute_script(sizes) == [width, width]


def test_without_javascript(page):
  set_disabled = 'Emulation.setScriptExecutionDisabled'
  page.driver.execute_cdp_cmd(set_disabled, {'value': True})
  try:
    page.driver.refresh()
    assert all(audio.is_displayed() for audio in page.all('audio'))
    assert not any(button.is_displayed() for button in page.all('button'))
  finally:
    page.driver.execute_cdp_cmd(set_disabled, {'value': False})


def test_the_page_of_a_match_plays_input_result_and_target(driver, tmp_path):
  """Each is a tone of its own; all are equally loud, at the same sample."""
  tones = {
    name: rising_tone(*VERSIONS[of])[:, np.newaxis].astype(np.float32)
    for name, of in (
      ('input', 'before'), ('result', 'after'), ('target', 'target'),
    )
  }  # fmt: skip
  audio = tones['input']
  found = matching.match(
    [effects.Gain()], audio, SAMPLE_RATE, target=audio, max_renders=0,
    time_limit_s=None,
  )  # fmt: skip
  found = dataclasses.replace(
    found, audio=tones['result'], others={'target': tones['target']}
  )
  match_page.write(tmp_path / 'out.html', found, audio)
  driver.get((tmp_path / 'out.html').as_uri())
  page = Page(driver)
  even = clip_audio.even(tones, SAMPLE_RATE, 'match')
  _, gains_db = clip_audio.equal_loudness(even, SAMPLE_RATE)
  levels = []
  for key, name, of in (
    (Keys.SPACE, 'input', 'before'), ('2', 'result', 'after'),
    ('3', 'target', 'target'),
  ):  # fmt: skip
    page.press(key)
    page.wait_for(of)
    rms = VERSIONS[of][1] / np.sqrt(2)
    heard = wait_for_level(page, rms * 10 ** (gains_db[name] / 20))
    levels.append(20 * np.log10(heard))
  assert page.shown() == ['target']
  # K-weighting tells 400 Hz from 1,600 Hz by some dB.
  assert np.ptp(levels) < 5.0, levels
  page.press(Keys.SPACE)
  page.wait_for_silence()
  assert driver.get_log('browser') == []


@pytest.mark.parametrize('sample_rate', [8000, 22050, 44100, 48000])
def test_decodes_aligned_to_the_sample(page, sample_rate):
  rng = np.random.default_rng(0)
  audio = 0.2 * rng.normal(size=(sample_rate // 2 + 137, 1))
  mp3 = clip_audio.encode_mp3(audio, sample_rate)
  decoded = page.driver.execute_async_script(
    DECODE, base64.b64encode(mp3).decode(), sample_rate
  )
  assert len(decoded) == len(audio)
  lags = scipy.signal.correlate(decoded, audio[:, 0], 'full')
  assert np.argmax(lags) == len(audio) - 1
