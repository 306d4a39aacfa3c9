"""Models that come trained, how much of them is done, and their peaks."""

import dataclasses

import numpy as np
import pytest
import soundfile
from cases import some_quick

from dafx import core, effects, losses, metrics, processors
from dafx.lv2 import packages
from dafx.training import (
  data,
  descriptions,
  inference,
  models,
  trained_models,
)

RATE = 22050
HEADINGS = (
  'What it does',
  'What it does not do',
  'Data and authors',
  'Licence',
  'Figures',
  'Train it again',
)


def gain_model(gain_db, **kwargs):
  """Sets a gain to a value, whatever it hears."""
  gain = effects.Gain(
    name='gain', trainable=['gain_db'], ranges={'gain_db': (-30.0, 30.0)}
  )
  group = processors.ProcessorGroup([(gain, ['audio', 'gain_controls'])])
  model = models.ControlModel(
    models.Constant(), group, [losses.TimeDomainLoss()], RATE, **kwargs
  )
  model.make_variables()
  head = model.heads['gain_controls']
  place = (gain_db + 30.0) / 60.0
  head.kernel.assign(np.zeros([1, 1]))
  head.bias.assign([np.log(place / (1.0 - place))])
  return model


def noise(n_samples=4000, level=0.05):
  rng = np.random.default_rng(0)
  return level * rng.standard_normal([n_samples, 2]).astype('f')


@pytest.mark.parametrize('amount', [0.0, 0.25, 0.5, 1.0])
def test_amount_is_the_part_of_the_decibels(amount):
  audio = noise()
  model = gain_model(12.0)
  out = inference.process_audio(model, audio, RATE, amount=amount).audio
  wanted = audio * 10 ** (amount * 12.0 / 20)
  np.testing.assert_allclose(out, wanted, rtol=1e-4)
  if amount == 0.0:
    np.testing.assert_array_equal(out, audio)
  if amount == 1.0:
    whole = inference.process_audio(model, audio, RATE).audio
    np.testing.assert_array_equal(out, whole)


def test_more_of_an_amount_is_more_of_a_plugins_gain():
  """The plugin starts at its default, 1; the setting is 3."""
  gain = effects.LV2Plugin(
    'urn:dafx-test:gain', ranges={'amount': (0.25, 4.0, 'log')}, name='gain'
  )
  group = processors.ProcessorGroup([(gain, ['audio', 'gain_controls'])])
  model = models.ControlModel(
    models.Constant(), group, [losses.TimeDomainLoss()], 16000
  )
  top = core.range_to_unit(np.array([[3.0]]), 0.25, 4.0, True)
  gains = [
    inference.process_audio(
      model,
      noise(),
      16000,
      setting={'gain_controls': top.astype('f')},
      amount=amount,
    ).audio.std()
    / noise().std()
    for amount in (0.0, 0.25, 0.5, 1.0)
  ]
  np.testing.assert_allclose(gains, [1.0, 3**0.25, 3**0.5, 3.0], rtol=1e-4)


def test_an_amount_of_0_leaves_a_file_to_the_bit(tmp_path):
  """Not even the preprocessor changes it."""
  quieter = data.Preprocessor(input_lufs=-60.0)
  audio = noise(9000)
  soundfile.write(tmp_path / 'in.wav', audio, RATE, 'FLOAT')
  for amount in (0.0, 1.0):
    inference.process(
      gain_model(0.0, preprocessor=quieter),
      tmp_path / 'in.wav',
      tmp_path / 'out.wav',
      amount=amount,
    )
    out, _ = soundfile.read(tmp_path / 'out.wav', dtype='float32')
    assert np.array_equal(out, audio) == (amount == 0.0)


def test_amount_is_from_0_to_1_and_for_models_that_set_something():
  with pytest.raises(ValueError, match='amount=1.5 must be from 0 to 1'):
    inference.process_audio(gain_model(1.0), noise(), RATE, amount=1.5)
  effect = models.EffectModel.__new__(models.EffectModel)
  with pytest.raises(ValueError, match='does not take amount'):
    inference.process_audio(effect, noise(), RATE, amount=0.5)


@pytest.mark.parametrize('rate', some_quick([4000, RATE, 96000], [RATE]))
@pytest.mark.parametrize('gain_db', [-3.0, 20.0])
def test_what_becomes_louder_stays_below_the_true_peak(gain_db, rate, tmp_path):
  """Quieter files are left alone, even where their peaks are higher."""
  audio = noise(9000, level=0.2 if gain_db > 0 else 0.5)
  soundfile.write(tmp_path / 'in.wav', audio, rate, 'FLOAT')
  model = gain_model(gain_db, max_true_peak_dbtp=-1.0)
  inference.process(model, tmp_path / 'in.wav', tmp_path / 'out.wav')
  out, _ = soundfile.read(tmp_path / 'out.wav')
  in_memory = inference.process_audio(model, audio, rate).audio
  np.testing.assert_allclose(in_memory, out, atol=1e-6)
  peak_dbtp = metrics.true_peak_dbtp(out, rate)
  if gain_db > 0:
    assert -1.05 < peak_dbtp <= -1.0
    whole = inference.process_audio(gain_model(gain_db), audio, rate).audio
    np.testing.assert_allclose(
      out / np.std(out), whole / np.std(whole), atol=1e-3
    )
  else:
    assert peak_dbtp > 0.0


def test_a_file_that_is_turned_down_is_not_said_to_be_clipped(tmp_path, caplog):
  audio = noise(9000, level=0.2)
  soundfile.write(tmp_path / 'in.wav', audio, RATE, 'FLOAT')
  model = gain_model(20.0, max_true_peak_dbtp=-1.0)
  with caplog.at_level('INFO', logger='absl'):
    inference.process(model, tmp_path / 'in.wav', tmp_path / 'out.flac')
  lines = [line for line in caplog.messages if ' dB' in line]
  assert len(lines) == 1 and 'turned down by' in lines[0]
  out, _ = soundfile.read(tmp_path / 'out.flac')
  np.testing.assert_allclose(
    out / np.std(out), audio / np.std(audio), atol=1e-3
  )


def test_models_are_found_by_name(tmp_path):
  assert trained_models.names(tmp_path) == []
  with pytest.raises(ValueError, match='no such model comes.*there are none'):
    trained_models.folder('mastering', tmp_path)
  (tmp_path / 'amp').mkdir()
  (tmp_path / 'amp' / 'checkpoint').touch()
  assert trained_models.folder('amp', tmp_path) == tmp_path / 'amp'
  with pytest.raises(ValueError, match='--model=bass.*there are amp'):
    trained_models.folder('bass', tmp_path)


@pytest.mark.parametrize('name', trained_models.names())
def test_a_packaged_model_masters_and_says_what_it_is(name):
  folder = trained_models.folder(name)
  card = (folder / 'model_card.md').read_text(encoding='utf-8')
  assert [h for h in HEADINGS if f'## {h}\n' not in card] == []
  assert len((folder / 'LICENSE').read_text(encoding='utf-8')) > 200
  files = {path: path.stat() for path in folder.rglob('*')}
  assert sum(stat.st_size for stat in files.values()) < 3e6
  model = inference.load_model(folder)
  audio = noise(2 * 44100, level=0.02)
  result = inference.process_audio(model, audio, 44100)
  assert result.audio.shape == audio.shape
  assert np.isfinite(result.audio).all() and not result.automation.moves
  before, after = (
    metrics.loudness_lufs(x, 44100) for x in (audio, result.audio)
  )
  # The package may be where nothing can be written.
  now = {path: path.stat() for path in folder.rglob('*')}
  assert {p: s.st_mtime_ns for p, s in now.items()} == {
    p: s.st_mtime_ns for p, s in files.items()
  }
  assert after > before + 6.0  # -33 LUFS is far below a master


def told_of_versions(monkeypatch, caplog, version):
  """Returns what is warned of where a packaged model finds other plugins."""
  monkeypatch.setattr(packages, 'installed_version', lambda *_: version)
  saved = descriptions.Description.from_json

  def of_others(text):
    found = saved(text)
    versions = dict.fromkeys(found.versions, '0.0')
    ports = {k: {**v, 'no_more': 1.0} for k, v in found.ports.items()}
    return dataclasses.replace(found, versions=versions, ports=ports)

  monkeypatch.setattr(descriptions.Description, 'from_json', of_others)
  caplog.clear()
  with caplog.at_level('WARNING', logger='absl'):
    model = inference.load_model(trained_models.folder('mastering'))
  assert model.driven
  return caplog.messages


def test_other_versions_are_told_once_and_outside_of_the_tested_ones(
  monkeypatch, caplog
):
  assert told_of_versions(monkeypatch, caplog, '1.2.21') == []
  (told,) = told_of_versions(monkeypatch, caplog, '1.2.22')
  assert 'lsp-plugins-lv2 is of version 1.2.22' in told
