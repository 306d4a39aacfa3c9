"""Which processes train together, and on which hosts."""

import contextlib
import dataclasses
import json
import os
import re
import socket
from collections.abc import Sequence
from typing import Any

_ADVICE = 'Give all workers the same list: --workers=host1:2222,host2:2222.'
# Of a host that the processes of one machine meet at.
_LOCAL = '127.0.0.1'


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The processes of a training.

  Attributes:
    addresses: 'host:port' of each; the first one is the chief, which saves.
    index: Which of them this is.

  Raises:
    ValueError: Addresses that are none, or given twice, or no such index.
  """

  addresses: tuple[str, ...]
  index: int

  def __post_init__(self):
    """Checks the addresses."""
    for address in self.addresses:
      split_address(address)
    if len(set(self.addresses)) < len(self.addresses):
      raise ValueError(
        f'{", ".join(self.addresses)}: two workers have the same address. Give '
        'each a host or a port of its own.'
      )
    if not 0 <= self.index < len(self.addresses):
      raise ValueError(
        f'worker {self.index}: there are {len(self.addresses)} workers, from 0 '
        f'to {len(self.addresses) - 1}. {_ADVICE}'
      )

  @property
  def n_workers(self) -> int:
    """How many processes there are."""
    return len(self.addresses)

  @property
  def place_on_host(self) -> tuple[int, int]:
    """Which of the workers on its host this one is, from 0, of how many.

    >>> from dafx.training import cluster
    >>> cluster.Cluster(('a:1', 'b:1', 'a:2', 'b:2'), 2).place_on_host
    (1, 2)
    """
    hosts = [split_address(address)[0] for address in self.addresses]
    own = hosts[self.index]
    return hosts[: self.index].count(own), hosts.count(own)

  def name(self, index: int) -> str:
    """Returns what a worker is called in messages."""
    return f'worker {index} ({self.addresses[index]})'


def split_address(address: str) -> tuple[str, int]:
  """Returns host and port of an address.

  >>> from dafx.training import cluster
  >>> cluster.split_address('node7:2222')
  ('node7', 2222)

  Args:
    address: 'host:port'; an address of IPv6 is in brackets.

  Raises:
    ValueError: It is none.
  """
  match = re.fullmatch(r'(\[[0-9A-Fa-f:.]+\]|[\w.-]+):(\d{1,5})', address)
  if not match or not 0 < int(match[2]) < 65536:
    raise ValueError(
      f'{address!r} is no address of a worker, such as node7:2222. {_ADVICE}'
    )
  return match[1].strip('[]'), int(match[2])


def is_here(host: str) -> bool:
  """Returns whether a host is this one; True where its name is not known.

  Args:
    host: Its name or address.
  """
  try:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
  except OSError:
    return True
  for family, kind, _, _, place in found:
    with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
      probe.bind((place[0], 0, *place[2:]))
      return True
  return False


def from_list(addresses: Sequence[str], index: int | None) -> Cluster:
  """Returns the cluster that the flags --workers and --worker give.

  Args:
    addresses: 'host:port' of each.
    index: Which of them this process is.

  Raises:
    ValueError: They do not make a cluster.
  """
  if index is None:
    raise ValueError(
      f'--workers={",".join(addresses)} needs --worker, the number of this '
      'process in the list, from 0.'
    )
  return Cluster(tuple(addresses), index)


def from_environment() -> Cluster | None:
  """Returns the cluster of TF_CONFIG; None if that is not set.

  A chief comes first, as in TensorFlow.

  Raises:
    ValueError: It is damaged, or has other tasks than chief and worker.
  """
  text = os.environ.get('TF_CONFIG', '')
  if not text:
    return None
  example = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": '
    '"worker", "index": 0}}'
  )
  try:
    content: Any = json.loads(text)
    jobs = {str(k): list(v) for k, v in content.get('cluster', {}).items()}
    task = content.get('task', {})
    kind, index = str(task.get('type', 'worker')), int(task.get('index', 0))
  except (AttributeError, TypeError, ValueError) as error:
    raise ValueError(
      f'TF_CONFIG={text!r} cannot be read ({error}). It is to be like {example}'
    ) from error
  if not jobs:
    return None
  others = sorted({*jobs, kind} - {'chief', 'worker'})
  if others:
    raise ValueError(
      f'TF_CONFIG names {", ".join(others)}: a training has chief and worker '
      f'only, as in {example}'
    )
  chiefs = [str(a) for a in jobs.get('chief', ())]
  workers = [str(a) for a in jobs.get('worker', ())]
  if kind == 'worker':
    index += len(chiefs)
  return Cluster((*chiefs, *workers), index)


def local(n_workers: int) -> tuple[str, ...]:
  """Returns addresses for so many workers on this machine, on free ports.

  Args:
    n_workers: How many.
  """
  # All open at a time, so that no port is given twice.
  sockets = [socket.create_server((_LOCAL, 0)) for _ in range(n_workers)]
  try:
    return tuple(f'{_LOCAL}:{s.getsockname()[1]}' for s in sockets)
  finally:
    for each in sockets:
      each.close()
