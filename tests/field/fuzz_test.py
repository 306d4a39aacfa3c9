"""What a stranger's file may do: spoilt files are refused, whatever is wrong.

Kind: a reader that believes what it reads. Each file is spoilt 10,000 times, in
a process of its own, for some end in C libraries: see `fuzzing`.
"""

import json
import os
import pathlib
import subprocess
import sys

import fuzzing
import pytest

ROOT = pathlib.Path(__file__).parents[2]
COUNT = 10_000
# lilv reads what lies there when a process begins, and not again.
AT_ONCE = {'preset': 100}


def spoil(name, folder, count, seed):
  """Returns the lines that `fuzzing` printed, and what it died of."""
  result = subprocess.run(
    [sys.executable, fuzzing.__file__, name, str(count), str(seed), folder],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    errors='replace',
  )
  lines = [json.loads(line) for line in result.stdout.splitlines()]
  if result.returncode or not lines or 'end' not in lines[-1]:
    index = folder / 'index'
    place = index.read_text() if index.exists() else 'before the first'
    died = f'died of {result.returncode} at {place}: {result.stderr[-3000:]}'
    lines.append({'fault': died})
  return lines


@pytest.mark.slow
@pytest.mark.parametrize('name', fuzzing.READERS)
def test_spoilt_files_are_refused(name, tmp_path):
  count = AT_ONCE.get(name, COUNT)
  lines = []
  for seed in range(COUNT // count):
    (tmp_path / str(seed)).mkdir()
    lines += spoil(name, tmp_path / str(seed), count, seed)
  faults = [line for line in lines if 'fault' in line]
  assert not faults, json.dumps(faults[:5], indent=1)
  ends = [line for line in lines if 'end' in line]
  n_read, n_refused = (sum(e[key] for e in ends) for key in ('read', 'refused'))
  assert n_read + n_refused == COUNT
  # It was spoilt in places that matter, and not always in the first.
  assert n_read > COUNT // 100 and n_refused > COUNT // 10
