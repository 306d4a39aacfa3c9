"""Sessions beside what `process` and `match` write."""

import xml.etree.ElementTree as ET

import ddsp
import numpy as np
import pytest
import soundfile
from inference_test import RATE, TEST, make_model, noise

from dafx import effects, processors
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.training import inference, matching, models
from dafx.training.inference import sessions


def write(path, audio, rate=RATE):
  soundfile.write(path, audio, rate, 'FLOAT')
  return path


def plugins(folder, name):
  root = ET.parse(folder / f'{name}.ardour').getroot()
  assert root.get('sample-rate') == str(RATE)
  found = root.findall("Routes/Route[@name='input']/Processor[@type='lv2']")
  values = {
    p.get('unique-id').removeprefix(TEST): float(
      p.find('lv2/Port').get('value')
    )
    for p in found
  }
  return root, found, values


def test_what_moves_is_automation_and_the_track_is_what_was_heard(tmp_path):
  model, told = make_model(), []
  audio = noise(RATE // 2, 2) * np.linspace(0, 4, RATE // 2)[:, np.newaxis]
  # At half the rate: the plugins run at the model's.
  path = write(tmp_path / 'mix.wav', audio, RATE // 2)
  inference.process(model, path, tmp_path / 'out.wav', told.append)
  folder = tmp_path / 'out_session'
  assert str(folder) in told[0] and 'ardour7-export' in told[0]
  _, found, _ = plugins(folder, 'out')
  assert [p.get('count') for p in found] == ['2', '2']
  heard, _ = audio_files.read(
    folder / 'interchange' / 'out' / 'audiofiles' / 'input.wav'
  )
  expected = sources.resample(np.float32(audio), RATE // 2, RATE)
  np.testing.assert_allclose(heard, expected, atol=1e-6)
  result = inference.process_audio(model, audio, RATE // 2)
  for processor, name in zip(found, ('gain', 'onepole'), strict=True):
    text = processor.find('Automation/AutomationList/events').text
    points = np.array([row.split() for row in text.splitlines()], float)
    grid = np.array([0, *range(256, RATE, 1024)])
    moving = np.interp(
      grid / RATE,
      result.automation.point_times_s,
      result.automation.points[name][:, 0],
    )
    assert np.ptp(moving) > 0.01
    np.testing.assert_allclose(np.interp(grid, *points.T), moving, rtol=1e-5)


def test_what_holds_are_values_and_what_does_not_run_is_not_there(tmp_path):
  model, told = make_model(encoder=models.Constant(), as_chain=True), []
  path = write(tmp_path / 'mix.wav', noise(RATE))
  inference.process(model, path, tmp_path / 'out.wav', told.append, n_plugins=1)
  root, found, values = plugins(tmp_path / 'out_session', 'out')
  result = inference.process_audio(model, noise(RATE), RATE)
  assert values == pytest.approx({'gain': result.controls['gain'][0, 0]})
  assert root.find('.//AutomationList') is None


def test_what_is_turned_down_is_turned_down_by_the_fader(tmp_path):
  model = make_model(kinds=('gain',), encoder=models.Constant())
  model.max_true_peak_dbtp = -20.0
  setting = {'gain_controls': np.array([[0.9]], np.float32)}
  path = write(tmp_path / 'mix.wav', noise(RATE))
  inference.process(model, path, tmp_path / 'out.wav', print, setting=setting)
  root, _, values = plugins(tmp_path / 'out_session', 'out')
  fader = float(root.find(".//Controllable[@name='gaincontrol']").get('value'))
  out, _ = audio_files.read(tmp_path / 'out.wav')
  assert fader < 0.5
  np.testing.assert_allclose(
    out, noise(RATE) * values['gain'] * fader, atol=1e-6
  )


def test_a_match_has_its_clip_gain_and_the_target(tmp_path):
  audio = noise(2 * RATE, 2)
  gain = effects.LV2Plugin(
    TEST + 'gain', ['amount'], sample_rate=RATE, name='gain'
  )
  target = 0.3 * audio
  told = []
  jobs = [(
    write(tmp_path / 'mix.wav', audio), write(tmp_path / 'master.wav', target),
    tmp_path / 'out.wav',
  )]  # fmt: skip
  ((_, found),) = matching.match_files(
    jobs, told.append, graph=[gain], max_renders=50, time_limit_s=None,
    amount=0.5,
  )  # fmt: skip
  folder = tmp_path / 'out_session'
  assert 'target' in told[0]
  root, _, values = plugins(folder, 'out')
  assert values == pytest.approx(found.controls['gain'] and {
    'gain': found.controls['gain']['amount']
  })  # fmt: skip
  region = root.find('Playlists/Playlist/Region')
  amplitude = float(region.get('scale-amplitude'))
  assert amplitude == pytest.approx(10 ** (found.gain_db / 20))
  np.testing.assert_allclose(
    found.audio, audio * amplitude * values['gain'], atol=1e-5
  )
  written, _ = audio_files.read(
    folder / 'interchange' / 'out' / 'audiofiles' / 'target.wav'
  )
  np.testing.assert_array_equal(written, np.float32(target))


def test_a_match_by_what_no_daw_has_is_warned_of(tmp_path, caplog):
  audio, told = noise(2 * RATE), []
  jobs = [(
    write(tmp_path / 'mix.wav', audio), write(tmp_path / 'to.wav', 0.5 * audio),
    tmp_path / 'out.wav',
  )]  # fmt: skip
  matching.match_files(
    jobs, told.append, graph=[effects.Gain()], max_renders=20,
    time_limit_s=None,
  )  # fmt: skip
  assert not told and (tmp_path / 'out.wav').exists()
  assert not (tmp_path / 'out_session').exists()
  assert "'gain' is no LV2 plugin but Gain" in caplog.text


def test_graphs_that_are_no_chains_are_refused_before_anything_is_written(
  tmp_path,
):
  nodes = [
    effects.LV2Plugin(TEST + 'gain', ['amount'], sample_rate=RATE, name=name)
    for name in 'ab'
  ]
  group = ddsp.processors.ProcessorGroup(
    dag=[(node, ['audio', f'{node.name}_controls']) for node in nodes]
  )
  with pytest.raises(ValueError, match="'b' takes audio, not a alone"):
    sessions.chain_of(group)
  gain = processors.ProcessorGroup([(effects.Gain(), ['audio', 'controls'])])
  model = make_model(encoder=models.Constant())
  own = models.ControlModel(models.Constant(), gain, model.loss_objs, RATE)
  path = write(tmp_path / 'mix.wav', noise(RATE))
  with pytest.raises(ValueError, match='mix.wav.*no LV2 plugin'):
    inference.process(own, path, tmp_path / 'out.wav', print)
  assert [p.name for p in tmp_path.iterdir()] == ['mix.wav']


def test_at_an_amount_of_0_there_is_nothing_to_write(tmp_path):
  model = make_model(encoder=models.Constant())
  path = write(tmp_path / 'mix.wav', noise(RATE))
  with pytest.raises(ValueError, match='Nothing was set'):
    inference.process(model, path, tmp_path / 'out.wav', print, amount=0.0)
