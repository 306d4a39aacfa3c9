"""Runs the host's C code and the test plugins under GCC's sanitizers.

    python tests/sanitizers/run.py

`program.c` has the host in it. It is built three times, with the plugins: for
AddressSanitizer with UndefinedBehaviorSanitizer, for the latter alone, which
leaves the C library's allocator in place and with it forks while threads run,
and for ThreadSanitizer. The first report ends it.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path.insert(0, str(_HERE.parent))

from plugins import build  # noqa: E402

_SANITIZERS = {
  'AddressSanitizer, UndefinedBehaviorSanitizer': ['address', 'undefined'],
  'UndefinedBehaviorSanitizer, forks amid threads': ['undefined'],
  'ThreadSanitizer': ['thread'],
}
# Which take the host down on purpose, are refused by it, or wait for others.
_LEFT_OUT = ('alien', 'fatal', 'nan', 'rootless', 'single', 'together')
_TIME_LIMIT_S = 300


def _flags(kinds: list[str]) -> list[str]:
  return [
    '-g',
    '-O1',
    '-fno-omit-frame-pointer',
    '-fno-sanitize-recover=all',
  ] + [f'-fsanitize={kind}' for kind in kinds]


def run(kinds: list[str], folder: pathlib.Path) -> int:
  """Builds the program and the plugins, and runs them.

  Args:
    kinds: What `-fsanitize` takes.
    folder: Empty, to build in.

  Returns:
    What the program returned: 0 if there is nothing to report.
  """
  flags = _flags(kinds)
  build.build(folder / 'lv2', flags)
  packages = subprocess.run(
    ['pkg-config', '--cflags', '--libs', 'lilv-0', 'lv2'],
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()
  program = folder / 'program'
  subprocess.run(
    ['gcc', '-std=gnu11', '-Wall', '-Wextra', *flags]
    + [f'-I{_ROOT / "dafx" / "lv2"}', str(_HERE / 'program.c')]
    + ['-o', str(program), *packages, '-lpthread', '-ldl', '-lm'],
    check=True,
  )
  uris = [f'urn:dafx-test:{n}' for n in build.NAMES if n not in _LEFT_OUT]
  environment = {**os.environ, 'LV2_PATH': str(folder / 'lv2')}
  environment.pop('DAFX_LV2_PLAIN_MEMORY', None)
  command = [str(program), *uris]
  if 'thread' in kinds and shutil.which('setarch'):
    # Older ThreadSanitizers do not bear the addresses of newer kernels.
    command = ['setarch', '-R', *command]
  return subprocess.run(
    command, env=environment, check=False, timeout=_TIME_LIMIT_S
  ).returncode


def main() -> int:
  """Runs all; returns 1 after a report."""
  for name, kinds in _SANITIZERS.items():
    print(f'{name}:', flush=True)
    with tempfile.TemporaryDirectory(prefix='dafx-sanitizers-') as folder:
      if run(kinds, pathlib.Path(folder)):
        return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
