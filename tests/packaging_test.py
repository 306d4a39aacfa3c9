"""What the wheel holds; what scripts/setup does and says."""

import importlib.machinery
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_BUILD_INPUTS = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md')

# Stands for python3: venv and pip only write down what they were asked for;
# everything else goes to the real interpreter.
_FAKE_PYTHON = """#!/bin/sh
case "$*" in
  '-m venv '*)
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    echo "$*" >>"$CALLS" ;;
  '-m pip install '*)
    shift 3; echo "pip $*" >>"$CALLS"
    case "$*" in *--editable*)
      eval "$PIP_SCRIPT"
      touch "dafx/lv2/_host{suffix}" ;;
    esac ;;
  *) exec '{python}' "$@" ;;
esac
"""


def _write_program(path: pathlib.Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding='utf-8')
  path.chmod(0o755)


def _copy_sources(target: pathlib.Path) -> pathlib.Path:
  for name in ('dafx', 'gin', 'scripts'):
    shutil.copytree(
      _ROOT / name,
      target / name,
      ignore=shutil.ignore_patterns('__pycache__', '*.so'),
    )
  for name in (*_BUILD_INPUTS, 'LICENSE'):
    shutil.copy(_ROOT / name, target / name)
  return target


@pytest.fixture(scope='module')
def wheel_names(tmp_path_factory) -> set[str]:
  """The names of the files in a wheel built from a copy of the checkout."""
  source = _copy_sources(tmp_path_factory.mktemp('source') / 'dafx')
  target = tmp_path_factory.mktemp('wheel')
  result = subprocess.run(
    [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-index']
    + ['--no-build-isolation', '--wheel-dir', target, source],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stdout + result.stderr
  (wheel,) = target.glob('dafx-*.whl')
  with zipfile.ZipFile(wheel) as archive:
    return set(archive.namelist())


def _files(folder: str, pattern: str) -> set[str]:
  found = {
    path.relative_to(_ROOT).as_posix()
    for path in (_ROOT / folder).rglob(pattern)
    if path.is_file()
  }
  assert found, f'nothing matches {pattern} in {folder}'
  return found


def test_wheel_holds_every_module(wheel_names):
  assert _files('dafx', '*.py') <= wheel_names


def test_wheel_holds_gin_files_inside_the_package(wheel_names):
  expected = _files('gin', '*.gin') | _files('gin', 'README.md')
  assert {f'dafx/{name}' for name in expected} <= wheel_names


def test_wheel_holds_demo_audio_with_its_license(wheel_names):
  folder = 'dafx/training/data_preparation/demo_audio'
  expected = _files(folder, '*.flac') | _files(folder, 'LICENSE.md')
  assert expected <= wheel_names


def test_wheel_holds_the_standard_input_of_nam_with_its_license(wheel_names):
  folder = 'dafx/neural/nam'
  expected = _files(folder, '*.flac') | _files(folder, 'README.md')
  assert len(expected) == 2 and expected <= wheel_names


def test_wheel_holds_tutorials_and_page_templates(wheel_names):
  expected = _files('dafx/colab', '*.ipynb')
  assert any('/demos/' in name for name in expected)
  assert expected | _files('dafx/training', '*.html') <= wheel_names


def test_wheel_holds_the_compiled_host(wheel_names):
  suffixes = importlib.machinery.EXTENSION_SUFFIXES
  assert any(f'dafx/lv2/_host{suffix}' in wheel_names for suffix in suffixes)


def test_wheel_claims_no_top_level_name_but_dafx(wheel_names):
  tops = {name.split('/')[0] for name in wheel_names}
  assert {top for top in tops if not top.endswith('.dist-info')} == {'dafx'}
  assert not any(name.startswith('dafx/tests') for name in wheel_names)


def test_the_version_has_one_source():
  citation = (_ROOT / 'CITATION.cff').read_text(encoding='utf-8')
  keys = [line.split(':')[0] for line in citation.splitlines()]
  assert {'cff-version', 'title', 'authors', 'license'} <= set(keys)
  assert 'version' not in keys  # dafx/__init__.py has it, setup.py reads it


class _Machine:
  """A checkout and a PATH on which the system's programs are stand-ins."""

  def __init__(self, path: pathlib.Path):
    self.root = path / 'checkout'
    self.root.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'scripts', 'dafx/lv2'):
      source, target = _ROOT / name, self.root / name
      if source.is_dir():
        ignore = shutil.ignore_patterns('__pycache__', '*.so')
        shutil.copytree(source, target, ignore=ignore)
      else:
        shutil.copy(source, target)
    self._programs = path / 'bin'
    self._calls = path / 'calls'
    self.program('id', 'echo 1000')
    self.program('sudo', 'echo sudo: a password is required >&2; exit 1')
    self.program('apt-get', 'echo "apt-get $*" >>"$CALLS"')
    self.installed('shift 3; for p in "$@"; do echo "installed $p"; done')
    text = _FAKE_PYTHON.format(
      python=sys.executable,
      suffix=importlib.machinery.EXTENSION_SUFFIXES[0],
    )
    _write_program(self._programs / 'python3', text)

  def program(self, name: str, script: str) -> None:
    _write_program(self._programs / name, f'#!/bin/sh\n{script}\n')

  def installed(self, script: str) -> None:
    """Sets what dpkg-query answers."""
    self.program('dpkg-query', script)

  def setup(self, *extras: str, **env: str) -> subprocess.CompletedProcess:
    """Runs scripts/setup without a terminal."""
    path = f'{self._programs}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run(
      ['bash', self.root / 'scripts/setup', *extras],
      env={'PATH': path, 'CALLS': str(self._calls), **env},
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      check=False,
    )

  def calls(self) -> list[str]:
    """Returns what was asked of apt-get, venv and pip since the last time."""
    if not self._calls.exists():
      return []
    lines = self._calls.read_text(encoding='utf-8').splitlines()
    self._calls.unlink()
    return lines

  def snapshot(self) -> dict[str, int]:
    return {
      str(path): path.stat().st_mtime_ns
      for path in (self.root, *self.root.rglob('*'))
    }


@pytest.fixture
def machine(tmp_path) -> _Machine:
  return _Machine(tmp_path)


def test_setup_lists_missing_packages_where_it_may_not_install(machine):
  machine.installed(
    'shift 3; for p in "$@"; do case $p in'
    ' liblilv-dev|zam-plugins) ;; gcc) echo "config-files gcc" ;;'
    ' *) echo "installed $p" ;; esac; done; exit 1'
  )
  before = machine.snapshot()
  result = machine.setup()
  assert result.returncode == 1
  last_line = result.stderr.splitlines()[-1].strip()
  assert last_line == (
    'apt-get install --no-install-recommends gcc liblilv-dev zam-plugins'
  )
  assert not machine.calls()
  assert machine.snapshot() == before


def test_setup_says_why_a_python_will_not_do(machine):
  machine.program('old', 'cat >/dev/null; echo "3.9.2 is not 3.10 to 3.13"')
  result = machine.setup(PYTHON='old')
  assert result.returncode == 1
  assert 'old: 3.9.2 is not 3.10 to 3.13' in result.stderr
  assert not machine.calls()


@pytest.mark.parametrize(
  ('name', 'script'),
  [('id', 'echo 0'), ('sudo', '[ "$1" != -n ] || shift; exec "$@"')],
  ids=['root', 'sudo'],
)
def test_setup_installs_packages_where_it_may(machine, name, script):
  machine.program(name, script)
  machine.installed('exit 1')
  result = machine.setup()
  assert result.returncode == 0, result.stderr
  update, install, *rest = machine.calls()
  assert update == 'apt-get -q update'
  assert install.startswith('apt-get -qy install --no-install-recommends make ')
  assert len(rest) == 5


def test_setup_says_what_to_install_when_apt_fails(machine):
  machine.program('id', 'echo 0')
  machine.program('apt-get', 'echo E: Unable to locate package abgate; false')
  machine.installed(
    'shift 3; for p in "$@"; do [ $p = abgate ] || echo "installed $p"; done'
  )
  result = machine.setup()
  assert result.returncode == 1
  assert 'E: Unable to locate package abgate' in result.stderr
  assert result.stderr.endswith('--no-install-recommends abgate\n')
  assert not (machine.root / '.venv').exists()


def test_setup_installs_once(machine):
  result = machine.setup()
  assert result.returncode == 0, result.stderr
  venv, tools, tensorflow, dafx, ddsp = machine.calls()
  assert venv == '-m venv .venv'
  assert tools.endswith(' pip setuptools cffi')
  assert tensorflow.endswith(' tensorflow')
  assert dafx.endswith(
    ' --config-settings editable_mode=compat --editable .[pitch]'
  )
  assert '--no-build-isolation' in dafx
  assert ddsp.endswith('--no-deps ddsp==3.7.0')
  for call in (tools, tensorflow, dafx, ddsp):
    assert '--constraint scripts/requirements.lock' in call
    assert '--only-binary :all: --no-binary pesq' in call

  before = machine.snapshot()
  result = machine.setup()
  assert result.returncode == 0, result.stderr
  assert result.stdout == 'setup: .venv is up to date\n'
  assert not machine.calls()
  assert machine.snapshot() == before


def test_setup_adds_extras_and_keeps_them(machine):
  machine.setup('test')
  assert machine.calls()[3].endswith('--editable .[pitch,test]')
  machine.setup('test')
  machine.setup()
  assert not machine.calls()
  machine.setup('speech', 'notebooks')
  *_, dafx, ddsp, pesq = machine.calls()
  assert dafx.endswith('--editable .[notebooks,pitch,test]')
  # Built with what pip puts beside it, not with what the environment holds.
  assert pesq.endswith('--build-constraint scripts/requirements.lock pesq')
  assert '--no-build-isolation' not in pesq
  machine.setup('test', 'speech')
  assert not machine.calls()


@pytest.mark.parametrize('extra', ['tests', 'te.t', '.*', ''])
def test_setup_names_the_extras_where_one_is_unknown(machine, extra):
  result = machine.setup(extra)
  assert result.returncode == 1
  assert f"no extra named '{extra}'; there are: benchmarks" in result.stderr
  assert not machine.calls()


@pytest.mark.parametrize('venv', ['-x', 'my env', 'v[1]', './v//'])
def test_setup_takes_odd_names_of_the_environment(machine, venv):
  result = machine.setup(VENV=venv)
  assert result.returncode == 0, result.stderr
  assert (machine.root / venv / '.dafx-setup').is_file()
  assert 'is up to date' in machine.setup(VENV=venv).stdout


def test_setup_does_not_take_the_disk_for_the_environment(machine):
  result = machine.setup(VENV='/')
  assert result.returncode == 1
  assert result.stderr == (
    'setup: VENV=/ is all of the disk; give another path\n'
  )
  assert not machine.calls()


def test_setup_keeps_its_note_while_it_makes_the_environment(machine):
  script = 'cat "v[1]/.dafx-setup" >>"$CALLS"'
  machine.setup(VENV='v[1]', PIP_SCRIPT=script)
  assert 'unfinished' in machine.calls()


def test_setup_follows_a_checkout_that_was_moved(machine):
  machine.setup()
  command = machine.root / '.venv/bin/dafx_run'
  shebang = f'#!{machine.root}/.venv/bin/python\n'
  _write_program(command, shebang)
  machine.calls()
  machine.root = machine.root.rename(machine.root.with_name('ma musique é'))
  result = machine.setup()
  assert result.returncode == 0, result.stderr
  command = machine.root / '.venv/bin/dafx_run'
  # The kernel would split a path with blanks: sh runs the second line.
  assert command.read_text().splitlines()[:2] == [
    '#!/bin/sh',
    f'\'\'\'exec\' "{machine.root}/.venv/bin/python" "$0" "$@"',
  ]
  assert any('--editable' in call for call in machine.calls())


@pytest.mark.parametrize(
  ('said', 'words'),
  [
    ('[Errno 28] No space left on device', 'the disk is full'),
    ("ProxyError('Cannot connect to proxy.')", 'the proxy http://p:1 does not'),
    ("NewConnectionError('Network is unreachable')", 'check the network'),
    ('SSLError(CERTIFICATE_VERIFY_FAILED)', 'PIP_CERT=path'),
    ('ERROR: unheard of', 'pip did not finish'),
  ],
)
def test_setup_says_why_pip_failed_and_goes_on(machine, said, words):
  script = f'echo "{said}"; exit 1'
  result = machine.setup(PIP_SCRIPT=script, https_proxy='http://p:1')
  assert result.returncode == 1
  assert words in result.stderr.splitlines()[-1]
  assert 'it goes on.' in result.stderr.splitlines()[-1]
  machine.calls()
  assert machine.setup().returncode == 0
  assert not any('venv' in call for call in machine.calls())


def test_setup_says_where_there_is_no_room(machine):
  machine.program('df', 'echo head; echo /dev/x 9000 8900 100 99% /')
  result = machine.setup()
  assert result.returncode == 1
  (line,) = result.stderr.splitlines()
  assert 'its disk has 100 MB' in line and 'VENV=path' in line
  assert not machine.calls()


@pytest.mark.parametrize('name', ['setup.py', 'dafx/lv2/_host.c'])
def test_setup_follows_a_changed_input(machine, name):
  machine.setup()
  machine.calls()
  with (machine.root / name).open('a', encoding='utf-8') as file:
    file.write('\n')
  assert machine.setup().returncode == 0
  assert [call.split()[0] for call in machine.calls()] == ['pip'] * 4
  machine.setup()
  assert not machine.calls()


def test_setup_rebuilds_a_removed_extension(machine):
  machine.setup()
  machine.calls()
  (host,) = (machine.root / 'dafx/lv2').glob('_host*.so')
  host.unlink()
  assert machine.setup().returncode == 0
  assert host.exists()


def test_setup_keeps_the_environment_when_pip_fails(machine):
  machine.setup()
  machine.calls()
  (machine.root / 'dafx/lv2/_host.c').write_text('', encoding='utf-8')
  result = machine.setup(PIP_SCRIPT='exit 1')
  assert result.returncode == 1
  assert 'pip did not finish' in result.stderr
  machine.calls()
  assert machine.setup().returncode == 0
  assert [call.split()[0] for call in machine.calls()] == ['pip'] * 4


@pytest.mark.parametrize(
  'pip_script',
  ['kill -KILL $PPID', 'echo Installing collected packages: a; exit 1'],
  ids=['killed', 'failed'],
)
def test_setup_goes_on_after_half_an_installation(machine, pip_script):
  assert machine.setup(PIP_SCRIPT=pip_script).returncode != 0
  site = machine.root / '.venv/lib/python3.11/site-packages'
  for name, files in {'whole': 'a.py,,', 'half': 'b.py,,'}.items():
    record = site / f'{name}-1.0.dist-info/RECORD'
    record.parent.mkdir(parents=True)
    record.write_text(f'{files}\n', encoding='utf-8')
  (site / 'a.py').touch()
  (site / 'unrecorded-1.0.dist-info').mkdir()
  (site / '~aside').mkdir()
  machine.calls()
  result = machine.setup()
  assert result.returncode == 0, result.stderr
  assert len(machine.calls()) == 4
  assert {path.name for path in site.iterdir()} == {
    'a.py',
    'whole-1.0.dist-info',
  }
  assert 'installing half again' in result.stdout


def test_setup_leaves_a_foreign_environment_alone(machine):
  kept = machine.root / '.venv/pyvenv.cfg'
  kept.parent.mkdir()
  kept.touch()
  result = machine.setup()
  assert result.returncode == 1
  assert 'was not made by this script' in result.stderr
  assert kept.exists()
  assert not machine.calls()
