"""Where benchmarks put what they measured: results, and from them the tables.

Two flags come from here to every benchmark:

- --write_results writes benchmarks/results/NAME.json, and the tables of the
  pages anew. Nothing is copied by hand.
- --json=FILE writes all that was measured, row by row, for a look of one's own.

A file of results holds what its table shows (columns and rows) and where it is
from: the command, the day, the versions of dafx, TensorFlow and the packages of
the plugins, the number of processors, and the load that was on them before.
"""

import datetime
import json
import math
import os
import pathlib
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import write_tables
from absl import flags

import dafx
from dafx import lv2
from dafx.lv2 import packages

FLAGS = flags.FLAGS
flags.DEFINE_bool('write_results', False, 'Write benchmarks/results and pages.')
flags.DEFINE_string('json', None, 'File for all that was measured.')

# Flags that name places and programs, which change no figure.
_PLACES = ('output_dir', 'data_dir', 'nam_python')
# What else runs on the machine, before the benchmark itself does.
_LOAD = os.getloadavg()[0]


def write(
  name: str,
  columns: Sequence[str],
  rows: Iterable[Sequence],
  plugins: Iterable[str] = (),
  decimals: int = 2,
):
  """Writes a table's results and the pages, if --write_results is given.

  Args:
    name: Of the table: that of its file, and its mark in the page.
    columns: Heads.
    rows: A value for each column: text, whole number, float, or None.
    plugins: URIs of those that were measured, whose packages' versions count.
    decimals: That floats are rounded to.

  Raises:
    ValueError: A row of another length than the columns.
  """
  if not FLAGS.write_results:
    return
  content = {
    'command': command(),
    'date': datetime.date.today().isoformat(),
    **versions(plugins),
    'n_processors': os.cpu_count(),
    'load_before': round(_LOAD, 1),
    'columns': list(columns),
    'rows': [[_plain(value, decimals) for value in row] for row in rows],
  }
  write_tables.check(name, content)
  path = write_tables.RESULTS / f'{name}.json'
  path.write_text(write_tables.to_json(content), encoding='utf-8')
  write_tables.main()
  print(f'Wrote {path}.')


def keep(content: Any):
  """Writes all that was measured to --json, if it is given.

  Args:
    content: What JSON can hold, NaN and infinity included.
  """
  if FLAGS.json:
    text = json.dumps(content, indent=2)
    pathlib.Path(FLAGS.json).write_text(text + '\n', encoding='utf-8')


def command() -> str:
  """Returns the command that is running, without what changes no figure."""
  given = [
    flag.serialize()
    for flag in FLAGS.get_key_flags_for_module(sys.argv[0])
    if flag.present and flag.name not in _PLACES
  ]
  home = str(pathlib.Path.home())
  words = [
    shlex.quote(word.replace(home, '~'))
    for text in given
    for word in text.splitlines()
  ]
  script = f'benchmarks/{pathlib.Path(sys.argv[0]).name}'
  return ' '.join(['python', script, *words])


def versions(plugins: Iterable[str] = ()) -> dict:
  """Returns what the figures depend on.

  Args:
    plugins: URIs of those that were measured.

  Returns:
    'dafx', 'tensorflow' where it is in use, and 'plugins': by Debian package,
    None where it cannot be told.
  """
  found: dict[str, Any] = {'dafx': dafx.__version__}
  if 'tensorflow' in sys.modules:
    found['tensorflow'] = sys.modules['tensorflow'].__version__
  by_package: dict[str, str | None] = {}
  for uri in plugins:
    package = packages.package_of(uri)
    if package and by_package.get(package) is None:
      by_package[package] = packages.installed_version(
        package, lv2.get_plugin(uri).bundle_path
      )
  if by_package:
    found['plugins'] = dict(sorted(by_package.items()))
  return found


class Report:
  """Prints figures beside their targets and keeps them.

  Attributes:
    rows: A dictionary per figure, for `keep`.
  """

  def __init__(self):
    self.rows: list[dict] = []

  def add(
    self,
    part: str,
    name: str,
    value: float,
    target: float | None = None,
    note: str = '',
  ):
    """Prints and keeps one figure; the target is what it must reach."""
    reached = None if target is None else bool(value >= target)
    self.rows.append(
      dict(part=part, name=name, value=value, target=target, reached=reached)
    )
    wanted = '' if target is None else f'at least {target:.2f}'
    verdict = {None: '', True: 'reached', False: 'MISSED'}[reached]
    print(f'{name:58} {value:6.3f}  {wanted:14} {verdict:8} {note}', flush=True)


def _plain(value, decimals):
  """Returns a value as JSON has it; None for what is not finite."""
  if value is None or isinstance(value, (str, bool, int)):
    return value
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float):
    return round(value, decimals) if math.isfinite(value) else None
  return value
