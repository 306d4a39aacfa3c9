"""Worker processes: the same sound, and no harm from any plugin."""

import gc
import os

import numpy as np
import pytest

from dafx import lv2
from dafx.lv2 import processes

RATE = 22050
CALF = 'http://calf.sourceforge.net/plugins/MultibandCompressor'


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return (0.2 * rng.standard_normal(shape)).astype(np.float32)


def fatal(**kwargs):
  return lv2.Renderer(
    'urn:dafx-test:fatal', RATE, ['amount'], isolation='process', **kwargs
  )


def amounts(*values):
  return np.array(values, np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize(
  'uri, controls, fixed',
  [
    (CALF, ['threshold0', 'ratio0'], {'bypass0': 0}),
    ('http://lsp-plug.in/plugins/lv2/limiter_mono', ['th'], {'alr': 0}),
    ('urn:dafx-test:late', ['amount'], {}),
  ],
)
def test_processes_render_what_threads_render(uri, controls, fixed):
  plugin = lv2.get_plugin(uri)
  low = [plugin.control(s).minimum for s in controls]
  high = [plugin.control(s).maximum for s in controls]
  values = np.random.default_rng(1).uniform(low, high, (5, 4, len(controls)))
  audio = noise(5, 4000, 1)
  thread, process = (
    lv2.Renderer(uri, RATE, controls, fixed, isolation=i, n_threads=2)
    for i in lv2.ISOLATIONS
  )
  assert thread.latency == process.latency
  np.testing.assert_array_equal(
    thread.render(audio, values), process.render(audio, values)
  )


def test_processes_stream_what_threads_stream():
  audio = noise(2, 1000, 1)
  controls = np.random.default_rng(0).uniform(0, 0.9, (2, 10, 1))
  thread, process = (
    lv2.Renderer(
      'urn:dafx-test:onepole', RATE, ['amount'], isolation=isolation,
      stateful=True, warm_up=50,
    )
    for isolation in lv2.ISOLATIONS
  )  # fmt: skip
  for _ in range(2):
    for start, end in ((0, 300), (300, 1000)):
      chunk = audio[:, start:end], controls[:, start // 100 : end // 100], 100
      np.testing.assert_array_equal(
        thread.render(*chunk), process.render(*chunk)
      )
    thread.reset_state()
    process.reset_state()


def test_a_stream_ends_with_its_process():
  stream = fatal(stateful=True)
  audio = noise(1, 100, 1)
  stream.render(audio, amounts(0))
  with pytest.raises(lv2.PluginError, match='crashed'):
    stream.render(audio, amounts(1))
  with pytest.raises(lv2.PluginError, match='begin anew by reset_state'):
    stream.render(audio, amounts(0))
  stream.reset_state()
  np.testing.assert_array_equal(
    stream.render(audio, amounts(0)), fatal().render(audio, amounts(0))
  )


def test_memory_grows_with_the_audio():
  gain = lv2.Renderer(
    'urn:dafx-test:gain', RATE, ['amount'], isolation='process', n_threads=1
  )
  for n_samples in (100, 3_000_000, 100):
    audio = noise(1, n_samples, 1)
    np.testing.assert_array_equal(
      gain.render(audio, amounts(2)), np.float32(2) * audio
    )


@pytest.mark.parametrize(
  'amount, what',
  [(1, r'crashed \(SIGSEGV\)'), (2, r'crashed \(SIGABRT\)'), (3, r'exit\(3\)')],
)
def test_a_crash_is_an_error_and_the_run_goes_on(amount, what):
  renderer = fatal(n_threads=2)
  audio = noise(3, 500, 1)
  with pytest.raises(lv2.PluginError, match=what) as error:
    renderer.render(audio, amounts(0, amount, 0))
  assert 'urn:dafx-test:fatal' in str(error.value)
  assert f'rendered 500 samples at amount={amount}.' in str(error.value)
  np.testing.assert_array_equal(renderer.render(audio, amounts(0, 0, 0)), audio)


def test_a_hang_is_an_error_and_the_run_goes_on():
  renderer = fatal(n_threads=1)
  audio = noise(1, 100, 1)
  renderer.time_limit_s = 0.5  # too short for a start on a busy machine
  with pytest.raises(lv2.PluginError, match='hung for more than 0.5 s'):
    renderer.render(audio, amounts(4))
  renderer.time_limit_s = 60.0
  np.testing.assert_array_equal(renderer.render(audio, amounts(0)), audio)


def test_a_worker_outlives_errors_that_it_reports():
  renderer = fatal(n_threads=1)
  renderer.render(noise(1, 10, 1), amounts(0))
  before = processes.n_idle_workers()
  with pytest.raises(lv2.PluginError, match='192000 Hz'):
    lv2.Renderer('urn:dafx-test:fussy', 192000, isolation='process')
  assert processes.n_idle_workers() == before


def test_workers_are_reused_and_leave_nothing_behind():
  renderer = fatal(n_threads=1)
  audio = noise(1, 100, 1)
  renderer.render(audio, amounts(0))
  n_workers = processes.n_idle_workers()
  n_files = len(os.listdir('/proc/self/fd'))
  for _ in range(5):
    renderer.render(audio, amounts(0))
    with pytest.raises(lv2.PluginError):
      renderer.render(audio, amounts(3))
    renderer.render(audio, amounts(0))
  gc.collect()
  assert processes.n_idle_workers() == n_workers
  assert len(os.listdir('/proc/self/fd')) <= n_files


def test_a_worker_that_holds_much_memory_is_replaced(monkeypatch):
  renderer = fatal(n_threads=1)
  audio = noise(1, 100, 1)
  renderer.render(audio, amounts(0))
  n_workers = processes.n_idle_workers()
  monkeypatch.setattr(processes, '_MOST_BYTES', 0)
  np.testing.assert_array_equal(renderer.render(audio, amounts(0)), audio)
  assert processes.n_idle_workers() == n_workers - 1
  monkeypatch.undo()
  np.testing.assert_array_equal(renderer.render(audio, amounts(0)), audio)


def test_a_worker_serves_more_renderers_than_it_keeps():
  audio = noise(1, 100, 1)
  renderers = [
    lv2.Renderer(
      'urn:dafx-test:gain', RATE, fixed={'amount': gain}, isolation='process'
    )
    for gain in np.linspace(0.1, 2.0, 20)
  ]
  for renderer in [*renderers, renderers[0]]:
    want = np.float32(renderer.fixed['amount']) * audio
    np.testing.assert_allclose(renderer.render(audio), want, rtol=1e-6)


def test_nonfinite_output_is_reported_from_a_worker():
  nan = lv2.Renderer(
    'urn:dafx-test:nan', RATE, ['amount'], isolation='process', strict=True
  )
  with pytest.raises(lv2.PluginError, match='50 samples.*amount=2'):
    nan.render(noise(1, 50, 1), amounts(2))


def test_unknown_isolation_is_named():
  with pytest.raises(ValueError, match="isolation='container'"):
    lv2.Renderer('urn:dafx-test:gain', RATE, isolation='container')
