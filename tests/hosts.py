"""Two hosts on this machine: namespaces of Linux, joined by a cable.

Each has a name, a network and mounts of its own; files are shared unless
something is mounted over them. No rights are needed where the system lets users
have namespaces of their own, and nothing is left behind.
"""

import functools
import pathlib
import subprocess
import tempfile
import time

NAMES = ('first', 'second')
_ADDRESSES = ('10.213.0.1', '10.213.0.2')
REMEDY = (
  'unshare, nsenter and ip (packages util-linux and iproute2) must be there, '
  'and allowed to make namespaces'
)
_ALL = ('--user', '--mount', '--uts', '--net')


def _check(words):
  subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)


class Hosts:
  """Two hosts, as a context.

  Args:
    folder: For their lists of names.
  """

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._holders: list[subprocess.Popen] = []

  def __enter__(self) -> 'Hosts':
    """Makes them, and lays the cable."""
    try:
      self._make()
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *args):
    """Ends them, and all that is theirs."""
    for each in self._holders:
      each.kill()
      each.wait()

  def _hold(self, words):
    """Starts what keeps namespaces; returns once it is there."""
    holder = subprocess.Popen(
      [*words, 'sh', '-c', 'echo there; exec sleep infinity'],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
    )
    self._holders.append(holder)
    if holder.stdout.readline() != 'there\n':
      raise OSError(REMEDY)

  def _make(self):
    # The first one has the others, and the right to move the cable's ends.
    self._hold(['unshare', '--map-root-user', *_ALL[1:]])
    for _ in NAMES:
      self._hold([*self._inside(0), 'unshare', *_ALL[1:]])
    ends = [f'end{i}' for i in range(2)]
    outside = [*self._inside(0), 'ip', 'link']
    _check([*outside, 'add', ends[0], 'type', 'veth', 'peer', ends[1]])
    for index, name in enumerate(NAMES):
      place = str(self._holders[1 + index].pid)
      _check([*outside, 'set', ends[index], 'netns', place])
      address = f'{_ADDRESSES[index]}/24'
      self.call(index, 'ip', 'address', 'add', address, 'dev', ends[index])
      self.call(index, 'ip', 'link', 'set', ends[index], 'up')
      self.call(index, 'ip', 'link', 'set', 'lo', 'up')
      self.call(index, 'hostname', name)
      # As Debian has it, a host's own name is of its loopback.
      addresses = dict(zip(NAMES, _ADDRESSES), **{name: '127.0.1.1'})
      lines = [f'{address} {name}\n' for name, address in addresses.items()]
      file = self._folder / f'hosts_{name}'
      file.write_text(''.join(['127.0.0.1 localhost\n', *lines]))
      self.call(index, 'mount', '--bind', str(file), '/etc/hosts')

  def _inside(self, number):
    place = str(self._holders[number].pid)
    return ['nsenter', '--target', place, *_ALL, '--preserve-credentials']

  def on(self, index: int) -> list[str]:
    """Returns what to put before a command, for it to run on a host."""
    return self._inside(1 + index)

  def call(self, index: int, *words: str):
    """Runs a command on a host.

    Raises:
      CalledProcessError: It fails.
    """
    _check([*self.on(index), *words])

  def cut(self):
    """Cuts the cable: nothing arrives any more, and nobody is told."""
    for index in range(2):
      self.call(index, 'ip', 'link', 'set', f'end{index}', 'down')


@functools.cache
def are_there() -> bool:
  """Returns whether such hosts can be made here."""
  with tempfile.TemporaryDirectory() as folder:
    try:
      with Hosts(pathlib.Path(folder)):
        return True
    except (OSError, subprocess.SubprocessError):
      return False


def wait_for(path: pathlib.Path, limit_s: float):
  """Waits until a file is there.

  Raises:
    TimeoutError: It does not come.
  """
  limit = time.monotonic() + limit_s
  while not path.exists():
    if time.monotonic() > limit:
      raise TimeoutError(path)
    time.sleep(0.1)
