"""Models that come trained, how much of them is done, and their peaks."""

import numpy as np
import pytest
import soundfile

from dafx import effects, losses, metrics, processors
from dafx.training import inference, models, trained_models

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


def test_amount_is_from_0_to_1_and_for_models_that_set_something():
  with pytest.raises(ValueError, match='amount=1.5 must be from 0 to 1'):
    inference.process_audio(gain_model(1.0), noise(), RATE, amount=1.5)


@pytest.mark.parametrize('gain_db', [-3.0, 20.0])
def test_what_becomes_louder_stays_below_the_true_peak(gain_db, tmp_path):
  """Quieter files are left alone, even where their peaks are higher."""
  audio = noise(9000, level=0.2 if gain_db > 0 else 0.5)
  soundfile.write(tmp_path / 'in.wav', audio, RATE, 'FLOAT')
  model = gain_model(gain_db, max_true_peak_dbtp=-1.0)
  inference.process(model, tmp_path / 'in.wav', tmp_path / 'out.wav')
  out, _ = soundfile.read(tmp_path / 'out.wav')
  peak_dbtp = metrics.true_peak_dbtp(out, RATE)
  if gain_db > 0:
    assert -1.05 < peak_dbtp <= -1.0
    np.testing.assert_allclose(
      out / np.std(out), audio / np.std(audio), atol=1e-3
    )
  else:
    assert peak_dbtp > 0.0


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
  size = sum(path.stat().st_size for path in folder.rglob('*'))
  assert size < 3e6
  model = inference.load_model(folder)
  audio = noise(2 * 44100, level=0.02)
  result = inference.process_audio(model, audio, 44100)
  assert result.audio.shape == audio.shape
  assert np.isfinite(result.audio).all() and not result.automation.moves
  before, after = (
    metrics.loudness_lufs(x, 44100) for x in (audio, result.audio)
  )
  assert after > before + 6.0  # -33 LUFS is far below a master
