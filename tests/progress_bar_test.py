"""Progress: what it says, when, on a terminal and in a log."""

import io
import logging
import sys

import pytest

from dafx.commands import running
from dafx.training import progress as progress_bar


class Clock:
  """A clock that is set by hand."""

  def __init__(self):
    self.now_s = 100.0

  def __call__(self):
    return self.now_s


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def log(caplog):
  caplog.set_level(logging.INFO, logger='absl')
  return caplog


def work(total, first_s, each_s, n_steps, **kwargs):
  """Takes steps, of which the first is another."""
  clock = Clock()
  progress = progress_bar.Progress(
    total, label='Training', unit='step', clock=clock, **kwargs
  )
  for step in range(n_steps):
    clock.now_s += each_s if step else first_s
    progress.update('loss 1')
  return progress, clock


def told(log):
  return [m for m in log.messages if 'on this machine' in m]


@pytest.mark.parametrize(
  'seconds, text',
  [
    (40, '40 s'),
    (12 * 60, '12 minutes'),
    (89.6 * 60, '90 minutes'),
    (2.5 * 3600, '2.5 hours'),
    (61.2 * 3600, '61 hours'),
    (240 * 3600, '10 days'),
  ],
)
def test_durations(seconds, text):
  assert progress_bar.describe_duration(seconds) == text


def test_hours_are_a_warning_that_says_what_to_change(log):
  work(18000, first_s=90, each_s=12.3, n_steps=10, advice='Take fewer.')
  (text,) = told(log)
  # Of 18,000 steps, 4 are done when three are measured, without the first.
  assert text == (
    'Training: at 12.3 s a step (293 an hour), the 17,996 that are left take '
    'about 61 hours on this machine. Take fewer.'
  )
  (record,) = [r for r in log.records if 'on this machine' in r.message]
  assert record.levelno == logging.WARNING


def test_minutes_are_said_and_seconds_are_not(log):
  work(200, first_s=60, each_s=1, n_steps=10, advice='Take fewer.')
  (text,) = told(log)
  assert 'take about 3 minutes' in text and 'Take fewer' not in text
  log.clear()
  work(50, first_s=600, each_s=1, n_steps=10)
  assert not told(log)


def test_fast_steps_are_measured_for_a_while(log):
  _, clock = work(10**7, first_s=10, each_s=0.001, n_steps=1000)
  assert not told(log)
  work(10**7, first_s=10, each_s=0.001, n_steps=2100)
  assert 'take about 2.8 hours' in told(log)[0]


def test_what_another_graph_takes_is_measured_anew(log):
  progress, clock = work(10000, first_s=30, each_s=1, n_steps=6)
  progress.restart('tracing a step with them')
  for each_s in (50, 5, 5, 5):
    clock.now_s += each_s
    progress.update()
  first, second = told(log)
  assert 'at 1 s a step' in first and 'take about 2.8 hours' in first
  assert 'at 5 s a step' in second and 'take about 14 hours' in second


def test_units_may_be_large(log):
  clock = Clock()
  progress = progress_bar.Progress(
    3600.0, label='Processing', unit='second of audio', clock=clock
  )
  for seconds in (1.5, 1.5, 0.5, 1.0, 0.1):
    clock.now_s += 2 * seconds
    progress.update('out.wav', seconds)
  assert 'at 2 s a second of audio (1,800 an hour)' in told(log)[0]


def test_without_a_terminal_lines_of_the_log_say_it(log):
  progress, clock = work(4, first_s=5, each_s=4, n_steps=0)
  progress.say('tracing the first step')
  for _ in range(4):
    clock.now_s += 6
    progress.update('loss 1')
  progress.close()
  assert log.messages == [
    'Training: tracing the first step',
    'Training 2/4 steps, loss 1, 12 s left',
    'Training 4/4 steps, loss 1, 0 s left',
  ]


def test_seconds_of_audio_add_up_to_the_end(log):
  progress = progress_bar.Progress(0.3, label='Processing', clock=Clock())
  for _ in range(3):
    progress.update('out.wav', 0.1)
  assert log.messages == ['Processing 0/0 files, out.wav, 0 s left']


def test_lines_of_the_log_do_not_break_the_bar(monkeypatch):
  terminal = Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  progress = progress_bar.Progress(4, label='Training', unit='step')
  progress.say('tracing the first step')
  assert 'tracing the first step' in terminal.getvalue()
  progress.update('loss 1')
  before = len(terminal.getvalue())
  running.announce('Step 1: validation loss 0.5')
  after = terminal.getvalue()[before:]
  progress.close()
  # The bar is wiped out, the line stands alone, the bar is drawn again.
  erased, line, bar = after.partition('Step 1: validation loss 0.5\n')
  assert line and set(erased) <= set('\r ')
  assert bar.startswith('\r') and 'Training' in bar and '1/4' in bar
