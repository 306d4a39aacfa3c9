"""Faults of the LV2 host, each of a kind, that plugins or callers bring about.

What is said of a kind stands above its tests. Other members of it are in
`fresh_state_test` (state that is kept wherever, another allocator),
`isolation_test` (crashes and hangs) and `supply_test` (forks and exits).
"""

import dataclasses
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from dafx import effects, lv2
from dafx.audio import files
from dafx.commands import dafx_plugins
from dafx.lv2 import instances

RATE = 22050
BLOCK = 100
TEST = 'urn:dafx-test:'


def renderer(name, **kwargs):
  kwargs = {'block_size': BLOCK, 'compensate_latency': False, **kwargs}
  return lv2.Renderer(TEST + name, RATE, ['amount'], **kwargs)


def noise(*shape):
  return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def amounts(*values):
  return np.array(values, np.float32).reshape(-1, 1, 1)


def run_program(code):
  """Runs code in a process of its own, which must end well."""
  ended = subprocess.run(
    [sys.executable, '-c', _START + code],
    env=os.environ,
    stderr=subprocess.PIPE,
    text=True,
    timeout=100,
  )
  assert ended.returncode == 0, ended.stderr


_START = f"""
import os, signal, threading, time
import numpy as np
from dafx import lv2
from dafx.lv2 import instances

def renderer(name, **kwargs):
  return lv2.Renderer(
    '{TEST}' + name, {RATE}, ['amount'], block_size={BLOCK},
    compensate_latency=False, **kwargs)

ones = np.ones((4, 1000, 1), np.float32)
sums = np.tile(np.arange(1, 1001, dtype=np.float32)[:, None], (4, 1, 1))
"""


# ---------------------------------------------------------------- Chains ----
# Kind: what a plugin asks for while the host answers it (worker extension).
@pytest.mark.parametrize('n_threads', [1, 2])
def test_an_answer_may_ask_for_more_work(n_threads):
  host = renderer('chain', n_threads=n_threads)
  out = host.render(noise(3, 20 * BLOCK, 1), amounts(1, 1, 1))
  # An answer after each run, the first after the first.
  want = np.repeat(np.arange(20, dtype=np.float32), BLOCK)
  np.testing.assert_array_equal(out[..., 0], np.tile(want, (3, 1)))


def test_answers_that_ask_for_ever_more_are_bounded():
  out = renderer('chain').render(noise(1, 40 * BLOCK, 1), amounts(4))
  per_run = np.diff(out[0, ::BLOCK, 0])
  np.testing.assert_array_equal(per_run[:6], 4.0 ** np.arange(1, 7))
  assert per_run.max() == 4096


def test_work_that_asks_for_work_is_bounded():
  out = renderer('chain').render(noise(1, 3 * BLOCK, 1), amounts(0))
  np.testing.assert_array_equal(out[0, ::BLOCK, 0], [0, 16, 16])


def test_no_answer_goes_to_the_next_instance():
  host = renderer('chain', n_threads=1)
  for _ in range(3):  # each ends while answers wait
    out = host.render(noise(1, 2 * BLOCK, 1), amounts(3))
    np.testing.assert_array_equal(out[0, ::BLOCK, 0], [0, 3])


def test_a_thread_of_the_plugin_gets_no_work_done():
  host = renderer('restless')
  audio = noise(4, 100 * BLOCK, 1)
  for _ in range(3):
    out = host.render(audio, amounts(1, 2, 3, 4))
    np.testing.assert_array_equal(out, audio * amounts(1, 2, 3, 4))


# ------------------------------------------------------------- Instances ----
# Kind: plugins that are not as long or as many as the host wants them.
@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_a_plugin_that_refuses_another_instance_is_an_error(isolation):
  run_program(f"""
host = renderer('single', isolation={isolation!r}, n_threads=1)
for _ in range(3):
  try:
    host.render(ones)
    raise SystemExit('It has made two.')
  except lv2.CrashError as error:
    raise SystemExit(str(error))
  except lv2.PluginError as error:
    assert 'could not be instantiated' in str(error)
del host
""")


def test_a_plugin_without_cleanup_is_left():
  run_program("""
for _ in range(3):
  host = renderer('rootless')
  np.testing.assert_array_equal(host.render(ones), ones)
  del host
""")


def test_what_is_the_callers_stays_as_it_was():
  run_program("""
def thread():
  blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
  return os.getcwd(), blocked, float(np.float32(1.0) / np.float32(3.0))

before = thread()
host = renderer('wanderer', n_threads=1)
for _ in range(3):
  np.testing.assert_array_equal(host.render(ones), ones)
  assert thread() == before
""")


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_a_latency_without_end_is_refused(isolation):
  with pytest.raises(
    lv2.PluginError, match=r'latency of 3e\+09 .*60 s at most'
  ):
    renderer('endless', compensate_latency=True, isolation=isolation)
  out = renderer('endless', isolation=isolation).render(noise(1, BLOCK, 1))
  np.testing.assert_array_equal(out, noise(1, BLOCK, 1))


# ---------------------------------------------------------------- Inputs ----
# Kind: plugins that write to what they may only read.
@pytest.mark.parametrize('n_samples', [10 * BLOCK, 7 * BLOCK + 30])
def test_the_callers_audio_stays_as_it_is(n_samples):
  audio = noise(2, n_samples, 1)
  kept = audio.copy()
  host = renderer('scribble', warm_up=150)
  for _ in range(2):
    # It spoils its control, too: at the first of ten blocks of one frame.
    out = host.render(audio, amounts(0.5, 2.0))
    np.testing.assert_array_equal(out[0], np.float32(0.5) * kept[0])
    np.testing.assert_array_equal(out[1], np.float32(2.0) * kept[1])
    np.testing.assert_array_equal(audio, kept)


def test_audio_behind_the_latency_is_silence_all_the_same():
  host = renderer('scribble')
  host.latency = 150  # then as much silence follows the audio
  out = host.render(np.zeros((1, 10 * BLOCK, 1), np.float32), amounts(1))
  assert not out.any()


# ---------------------------------------------------------------- Ranges ----
# Kind: values that no plugin need bear.
@pytest.mark.parametrize('amount', [4.1, -0.001, 1e9, -1e30])
@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_values_out_of_range_are_refused(amount, isolation):
  host = renderer('table', isolation=isolation)
  with pytest.raises(ValueError, match=r'amount=\S+ is out.*takes 0 to 4'):
    host.render(noise(2, 50, 1), amounts(1, amount))
  stream = renderer('table', isolation=isolation, stateful=True)
  with pytest.raises(ValueError, match='amount=.*takes 0 to 4'):
    stream.render(noise(1, 50, 1), amounts(amount))


def test_what_rounding_put_beyond_the_range_is_clipped():
  host = renderer('table')
  for amount, gain in ((np.nextafter(4, 5, dtype='f'), 4.0), (-1e-6, 0.25)):
    out = host.render(np.ones((1, 50, 1)), amounts(amount))
    np.testing.assert_array_equal(out, gain)


@pytest.mark.parametrize('isolation', lv2.ISOLATIONS)
def test_fixed_values_are_as_those_that_move(isolation):
  def table(amount):
    host = lv2.Renderer(
      TEST + 'table', RATE, fixed={'amount': amount}, isolation=isolation
    )
    return host.render(np.ones((1, 50, 1)))

  for amount in (4.1, -0.001, 1e30, np.nan):
    with pytest.raises(ValueError, match='amount=.* is out of range'):
      table(amount)
  for amount, gain in ((np.nextafter(4, 5, dtype='f'), 4.0), (-1e-6, 0.25)):
    np.testing.assert_array_equal(table(float(amount)), gain)


def test_a_latency_is_not_asked_for_out_of_range():
  for amount in (100.0, np.nan):
    with pytest.raises(ValueError, match='amount=100|NaN or infinite'):
      renderer('ahead').latency_at(np.array([[amount]]))


def test_a_layer_clips_what_networks_give_and_refuses_the_rest():
  layer = effects.LV2Plugin(TEST + 'table', sample_rate=RATE)
  ones = tf.ones([1, 50])
  for unit, gain in ((7.0, 4.0), (-7.0, 0.25), (1e30, 4.0)):
    np.testing.assert_array_equal(layer(ones, tf.fill([1, 1], unit)), gain)
    state = layer.initial_state(1)
    controls = layer.get_controls(ones, tf.fill([1, 1], unit))['controls']
    np.testing.assert_array_equal(layer.stream(state, ones, controls)[0], gain)
  beyond = tf.fill([1, 1, 1], 4.1)
  with pytest.raises(ValueError, match='amount=4.0.*is out of range'):
    layer.get_signal(ones, beyond)
  with pytest.raises(ValueError, match='amount=4.0.*is out of range'):
    layer.stream(layer.initial_state(1), ones, beyond)
  modal = effects.LV2Plugin(TEST + 'modal', ['amount'], sample_rate=RATE)
  with pytest.raises(ValueError, match='mode=9.0 is out of range'):
    modal.hold_ports({'mode': 9.0})


def test_the_command_refuses_values_out_of_range(tmp_path):
  files.write(tmp_path / 'in.wav', np.ones((50, 1)), RATE)
  paths = tmp_path / 'in.wav', tmp_path / 'out.wav'
  with pytest.raises(ValueError, match=r'amount=1000000000\.0 is out of range'):
    dafx_plugins.render_file(TEST + 'table', *paths, {'amount': 1e9})
  assert not paths[1].exists()


def test_rounding_stays_within_the_range():
  # What plugins say of their ports need not fit together.
  port = lv2.Port(0, 'a', 'A', 'control', True, minimum=0.5, maximum=3.6)
  whole = dataclasses.replace(port, integer=True)
  np.testing.assert_array_equal(whole.nearest([0.5, 2.2, 3.6]), [1, 2, 3])
  points = tuple((value, str(value)) for value in (1.0, 3.0, 8.0))
  choice = dataclasses.replace(port, enumeration=True, scale_points=points)
  np.testing.assert_array_equal(choice.nearest([0.5, 3.6, 8.0]), [1, 3, 3])
  none = dataclasses.replace(choice, minimum=4.2, maximum=4.8)
  np.testing.assert_array_equal(none.nearest([4.0, 8.0]), [4.2, 4.8])


def test_values_of_choices_are_checked_before_they_are_rounded():
  stepped = renderer('stepped')
  with pytest.raises(ValueError, match='amount=100.0.*takes 0 to 8'):
    stepped.render(noise(1, 50, 1), amounts(100))


# Kind: arrays that the C part would read past their ends, or as other numbers.
def test_arrays_that_do_not_fit_are_refused():
  host = renderer('careful')
  audio, out = np.ones((1, 50), np.float32), np.zeros((1, 50), np.float32)
  controls = host.default_controls()
  for arrays in (
    (audio.astype(np.float64), controls, out),
    (audio, controls.astype(np.float64), out),
    (audio, controls, out.astype(np.float64)),
  ):
    with pytest.raises(TypeError, match='float64.*must be float32'):
      host.render_item(*arrays[:2], 50, arrays[2])
  for arrays in (
    (np.concatenate([controls] * 2, axis=1), out),
    (controls, np.concatenate([out] * 2)),
  ):
    with pytest.raises(ValueError, match='audio outputs, and 1 controls'):
      host.render_item(audio, arrays[0], 50, arrays[1])
  assert host.render_item(audio, controls, 50, out) == 0


# ---------------------------------------------------------------- Threads ---
# Kind: two threads in one instance, whatever led there.
def test_two_callers_of_one_stream_take_turns():
  stream = renderer('careful', stateful=True, n_threads=2)
  ends = []

  def work():
    for _ in range(5):
      out = stream.render(np.ones((2, 300, 1)), amounts(1, 1))
      np.testing.assert_array_equal(np.diff(out, axis=1), 1.0)
      ends.append(out[:, -1, 0].tolist())

  threads = [threading.Thread(target=work) for _ in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert sorted(ends) == [[300.0 * n] * 2 for n in range(1, 16)]


def test_an_instance_that_runs_refuses_another_thread():
  host = renderer('careful')
  instance = host.new_instance()
  audio, controls = np.ones((1, 500), np.float32), host.default_controls()
  refused, n_samples = threading.Event(), []

  def work(function):
    while not refused.is_set():
      try:
        n_samples.append(function())
      except lv2.PluginError as error:
        assert 'Another thread runs this instance' in str(error)
        refused.set()

  def run():
    out, _ = host.run(instance, audio, controls, 500)
    assert np.isfinite(out).all()

  def renew():
    instance.renew()

  for others in ((run, run), (run, renew)):
    refused.clear()
    threads = [threading.Thread(target=work, args=(f,)) for f in others]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert refused.is_set()


def test_an_error_waits_for_items_that_have_begun(monkeypatch):
  host = renderer('careful', stateful=True, n_threads=2)
  audio = np.ones((6, 1000, 1), np.float32)
  inside, begun = [], []
  run = instances.Instance.run

  def run_or_fail(self, audio, *args, **kwargs):
    begun.append(self)
    if len(begun) == 2:
      raise KeyboardInterrupt
    inside.append(self)
    try:
      return run(self, audio, *args, **kwargs)
    finally:
      inside.remove(self)

  monkeypatch.setattr(instances.Instance, 'run', run_or_fail)
  with pytest.raises(KeyboardInterrupt):
    host.render(audio, amounts(*[1] * 6))
  assert not inside
  begun.extend([None] * 2)
  with pytest.raises(lv2.PluginError, match=r'begin anew by\s*reset_state'):
    host.render(audio, amounts(*[1] * 6))
  host.reset_state()
  out = host.render(audio, amounts(*[1] * 6))
  np.testing.assert_array_equal(out[..., -1, 0], 1000.0)


def test_interrupts_leave_no_thread_in_a_plugin():
  # A notebook's stop button, pressed twice, in the midst of a render.
  run_program("""
# Shells start what is in the background with interrupts ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
n_inside, main = [], threading.get_ident()
run = instances.Instance.run

def interrupting(self, *args, **kwargs):
  n_inside.append(1)
  signal.pthread_kill(main, signal.SIGINT)
  try:
    return run(self, *args, **kwargs)
  finally:
    signal.pthread_kill(main, signal.SIGINT)
    n_inside.pop()

def press_twice(many):
  def press():
    for _ in range(2):
      time.sleep(0.02)
      signal.pthread_kill(main, signal.SIGINT)

  presser = threading.Thread(target=press)
  presser.start()
  while True:  # until one comes
    many.render(np.ones((400, 5000, 1), np.float32))

for stateful in (True, False):
  host = renderer('careful', stateful=stateful, n_threads=2)
  if stateful:
    instances.Instance.run = interrupting
  try:
    if stateful:
      host.render(ones)
    else:
      press_twice(host)
    raise SystemExit('no interrupt')
  except KeyboardInterrupt:
    pass
  while signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    try:  # another one may be on its way
      signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
      pass
  assert not n_inside
  instances.Instance.run = run
  host.reset_state()
  for _ in range(3):
    assert np.array_equal(host.render(ones), sums)
    host.reset_state()
  signal.signal(signal.SIGINT, signal.default_int_handler)
""")


# ------------------------------------------------------------------ Forks ---
# Kind: a lock that a thread holds which a forked process does not have.
@pytest.mark.parametrize(
  'work',
  [
    'renderer("slow", n_threads=2).render(ones)',  # in `instantiate`
    'lv2.list_uris()',  # in lilv
    'stream.render(ones)',  # in `run`
  ],
)
def test_a_fork_while_others_render(work):
  run_program(f"""
stream = renderer('careful', stateful=True, n_threads=2)
ends = False

def work():
  while not ends:
    {work}

thread = threading.Thread(target=work)
thread.start()
for _ in range(8):
  child = os.fork()
  if not child:
    signal.alarm(60)  # ends one that hangs
    assert np.array_equal(renderer('careful', n_threads=2).render(ones), sums)
    try:
      stream.render(ones)  # one that another thread was rendering is refused
    except lv2.PluginError:
      pass
    stream.reset_state()
    right = np.array_equal(stream.render(ones), sums)
    os._exit(0 if right and lv2.list_uris() else 1)
  if os.waitpid(child, 0)[1]:
    ends = True
    raise SystemExit('a child hangs or fails')
ends = True
thread.join()
""")
