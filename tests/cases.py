"""Which of many cases of a test are tried by `make test`."""

from collections.abc import Collection, Iterable

import pytest


def some_quick(cases: Iterable, quick: Collection) -> list:
  """Returns all cases, those that are not quick marked slow.

  Args:
    cases: Of `pytest.mark.parametrize`.
    quick: Those that `make test` tries, too.

  Raises:
    ValueError: A quick one that is no case.
  """
  cases = list(cases)
  if unknown := [case for case in quick if case not in cases]:
    raise ValueError(f'No such case: {unknown}.')
  return [
    case if case in quick else pytest.param(case, marks=pytest.mark.slow)
    for case in cases
  ]
