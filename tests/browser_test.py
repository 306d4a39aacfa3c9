"""Tests of what happens without a browser: left out and said, or an error."""

import pathlib
import types

import browser
import conftest
import pytest


@pytest.fixture(params=['chromium', 'chromedriver', 'selenium'])
def without(request, monkeypatch):
  """Lacks one of what it takes, and has the rest."""

  def which(name):
    return None if name == request.param else f'/usr/bin/{name}'

  def find_spec(name):
    return None if name == request.param else object()

  monkeypatch.setattr(browser, '_BROWSERS', ('chromium',))
  monkeypatch.setattr(browser.shutil, 'which', which)
  monkeypatch.setattr(browser.importlib.util, 'find_spec', find_spec)


def ignored(name):
  return conftest.pytest_ignore_collect(pathlib.Path('tests') / name, None)


def test_page_test_is_left_out_and_that_is_said(without):
  assert ignored('page_test.py')
  assert not ignored('report_test.py')
  lines = []
  conftest.pytest_terminal_summary(
    types.SimpleNamespace(write_line=lines.append)
  )
  assert lines[0].startswith('No browser: tests/page_test.py was left out.')
  assert 'chromium-driver' in lines[0] and 'selenium' in lines[0]


def test_without_a_browser_none_starts(without):
  with pytest.raises(RuntimeError, match='no browser: install the packages'):
    browser.start()


def test_a_browser_may_be_required(without):
  config = types.SimpleNamespace(getoption=lambda name: 'required')
  with pytest.raises(pytest.UsageError, match='finds no browser: install'):
    conftest.pytest_configure(config)


def test_with_a_browser_nothing_is_left_out(monkeypatch):
  monkeypatch.setattr(browser, 'is_there', lambda: True)
  assert not ignored('page_test.py')
