"""No installed plugin ends the host, whatever its controls are set to."""

import extremes
import pytest

from dafx import lv2
from dafx.lv2 import processes

_TIME_LIMIT_S = 300.0


def test_values_beyond_the_range_are_counted():
  found = extremes.outlive('urn:dafx-test:table')
  n_beyond = len(extremes.BEYOND) + 1
  assert found == dict(rendered=14, refused=n_beyond, beyond=n_beyond)


def try_all(uris):
  """Returns (settings that were rendered, what fell and why, by URI)."""
  n_settings, fell = 0, {}
  for uri in uris:
    try:
      found = processes.call('extremes', 'outlive', {'uri': uri}, _TIME_LIMIT_S)
    except lv2.CrashError as error:
      fell[uri] = str(error)
      continue
    except lv2.PluginError:
      continue  # refused in words: it cannot be run here
    n_settings += found['rendered']
    if found['refused'] != found['beyond']:
      fell[uri] = f'not refused: {found}'
  return n_settings, fell


@pytest.mark.slow
def test_installed_plugins_outlive_all_settings():
  uris = [uri for uri in lv2.list_uris() if 'dafx-test' not in uri]
  n_settings, fell = try_all(uris)
  print(f'{len(uris)} plugins, {n_settings} settings, {len(fell)} fell: {fell}')
  assert not fell
