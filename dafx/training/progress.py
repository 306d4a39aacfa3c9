"""How far long work is, what it does now, and how long it will take."""

import sys
import time
from collections.abc import Callable

import tqdm
from absl import logging

# What takes longer gets a warning; what takes less than a minute needs no word.
_LONG_S = 2 * 3600.0
_SHORT_S = 60.0
# Steps that are measured before their time is told: three of slow ones, more of
# fast ones.
_FEWEST_STEPS = 3
_MEASURED_S = 2.0


def describe_duration(seconds: float) -> str:
  """Returns a time as people say it: '40 s', '12 minutes', '61 hours'."""
  for unit_s, name, most in ((1, 's', 90), (60, 'minutes', 90)):
    if seconds / unit_s < most:
      return f'{seconds / unit_s:.0f} {name}'
  hours = seconds / 3600
  if hours < 10:
    return f'{hours:.1f} hours'
  return f'{hours:.0f} hours' if hours < 96 else f'{hours / 24:.0f} days'


def describe_time(seconds_per_unit: float, n_left: float, unit: str) -> str:
  """Says how long the rest of some work takes on this machine.

  Args:
    seconds_per_unit: As measured.
    n_left: How many units are left.
    unit: What is counted, such as 'step'.
  """
  took = describe_duration(seconds_per_unit * n_left)
  each = f'{seconds_per_unit:.3g} s'
  an_hour = 3600 / seconds_per_unit
  return (
    f'at {each} a {unit} ({an_hour:,.0f} an hour), the {n_left:,.0f} that are '
    f'left take about {took} on this machine'
  )


class Progress:
  """How far long work is, what it does now, and how long it will take.

  A bar on a terminal; otherwise a line in the log every `seconds`. Once a few
  steps are measured, without the first, in which graphs are traced, it says how
  long the rest will take: as a warning if it is hours.

  Args:
    total: Units of work in all.
    done: Those done before.
    label: What the work is.
    unit: What is counted.
    advice: What makes it shorter; said if it takes hours.
    seconds: Time between lines of the log.
    clock: Gives the time in s.
  """

  def __init__(
    self,
    total: float,
    done: float = 0,
    label: str = '',
    unit: str = 'file',
    advice: str = '',
    seconds: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    self.total, self.done, self.label = total, done, label
    self._unit, self._advice, self._seconds = unit, advice, seconds
    word, *rest = unit.split(' ')
    self._units = ' '.join([f'{word}s', *rest])
    self._clock = clock
    self._last = clock()
    self._measure_anew()
    self._bar = None
    if sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        total=total,
        initial=done,
        desc=label,
        bar_format='{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} '
        + self._units
        + ' [{elapsed}<{remaining}{postfix}]',
      )

  def _measure_anew(self):
    """Forgets what steps took: the next one is not like those before."""
    self._n_steps = 0  # measured, but for the first
    self._first_end: float | None = None
    self._first_done = 0.0
    self._is_told = False

  def say(self, text: str):
    """Says what is done now, such as before the first step has ended."""
    if self._bar is not None:
      self._bar.set_postfix_str(text)
    else:
      logging.info('%s: %s', self.label, text)

  def restart(self, text: str):
    """Says what begins now, and measures its steps anew."""
    self._measure_anew()
    self.say(text)

  def update(self, text: str = '', n: float = 1):
    """Counts a step.

    Args:
      text: How it went.
      n: How many units of work it was.
    """
    self.done += n
    now = self._clock()
    if self._first_end is None:
      self._first_end, self._first_done = now, self.done
    else:
      self._n_steps += 1
    if self._bar is not None:
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(n)
    elif now - self._last >= self._seconds or self._is_done():
      self._last = now
      each_s, left = self._seconds_per_unit(now), max(self.total - self.done, 0)
      logging.info(
        '%s %.0f/%.0f %s%s%s',
        self.label,
        self.done,
        self.total,
        self._units,
        f', {text}' if text else '',
        '' if each_s is None else f', {describe_duration(each_s * left)} left',
      )
    self._tell_time(now)

  def _is_done(self):
    return self.total - self.done < 1e-6  # seconds of audio add up to that

  def _seconds_per_unit(self, now):
    """Returns the time of a unit in s, or None before one is measured."""
    if not self._n_steps or self._first_end is None:
      return None
    return (now - self._first_end) / (self.done - self._first_done)

  def _tell_time(self, now):
    """Says once, after a few steps, how long the rest will take."""
    if self._is_told or self._n_steps < _FEWEST_STEPS:
      return
    if now - self._first_end < _MEASURED_S:
      return
    self._is_told = True
    seconds_per_unit = self._seconds_per_unit(now)
    left = self.total - self.done
    if seconds_per_unit * left < _SHORT_S:
      return
    text = describe_time(seconds_per_unit, left, self._unit)
    if seconds_per_unit * left < _LONG_S:
      logging.info('%s: %s.', self.label, text)
    else:
      logging.warning('%s: %s. %s', self.label, text, self._advice)

  def close(self):
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()
