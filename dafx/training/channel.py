"""What workers tell each other besides tensors, and how one's end is noticed.

All of them hold a connection to the chief, worker 0. What each of them says
comes back to all, in the order of their numbers. A process that ends closes its
connection, however it ends; a machine that is gone stops answering. Both are
noticed within seconds, and all others told.
"""

import contextlib
import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

from dafx.training import cluster as cluster_lib
from dafx.training import messages

_log = logging.getLogger('dafx')

_THE_END = 'the end'
# Seconds that a process has to end by itself once another one is lost: it may
# wait for tensors that will never come.
_GRACE_S = 12.0
# Seconds in which another worker answers.
_REACH_S = 10.0
# Seconds after which a worker says whom it waits for.
_PATIENCE_S = 10.0


class WorkerError(RuntimeError):
  """Another worker has ended, or cannot be reached."""


class _Notice:
  """Says once whom this worker waits for, if it takes long."""

  def __init__(self):
    self._due = time.monotonic() + _PATIENCE_S

  def waits_for(self, names: str):
    """Takes in that somebody is still missing."""
    if time.monotonic() > self._due:
      self._due = math.inf
      _log.info('Waiting for %s.', names)


class _Hub:
  """What the chief does for all: collects what each says, and answers.

  Args:
    n_workers: How many there are.
    send: Called (worker, header, blobs).
  """

  def __init__(self, n_workers: int, send: Callable):
    self._n_workers = n_workers
    self._send = send
    self.lock = threading.RLock()  # held until all are answered
    self._parts: dict[str, dict[int, bytes]] = {}
    self._barriers: set[str] = set()
    self._at_barrier: set[int] = set()

  def put(self, worker: int, name: str, is_barrier: bool, blob: bytes):
    """Takes what a worker says; answers where that was the last word."""
    with self.lock:
      self._parts.setdefault(name, {})[worker] = blob
      if is_barrier:
        self._barriers.add(name)
        self._at_barrier.add(worker)
      everyone = set(range(self._n_workers))
      for each, parts in list(self._parts.items()):
        # Who is at a barrier already says nothing more before it.
        missing = everyone - set(parts)
        if missing - (set() if each in self._barriers else self._at_barrier):
          continue
        del self._parts[each]
        if each in self._barriers:
          self._barriers.discard(each)
          self._at_barrier.clear()
        header = {'answer': each, 'workers': sorted(parts)}
        # The chief last: what it begins then may keep this thread from running
        # until the others have begun, too, as TensorFlow's server does.
        for receiver in sorted(parts, reverse=True):
          self._send(receiver, header, [parts[w] for w in sorted(parts)])

  def end(self, worker: int, text: str):
    """Tells all that a worker has ended."""
    for receiver in range(self._n_workers):
      if receiver != worker:
        self._send(receiver, {'ended': worker, 'text': text}, [])


@contextlib.contextmanager
def _own_port(cluster):
  """Yields a server at the worker's own address, which must be free."""
  host, port = cluster_lib.split_address(cluster.addresses[cluster.index])
  if not cluster_lib.is_here(host):
    _log.warning(
      'This host does not have the address of %s. Where no router passes it '
      'on, --worker is not the number of this host.',
      cluster.name(cluster.index),
    )
  # Others reach a host by any of its names: only what is local stays so.
  place = host if host in ('localhost', '127.0.0.1', '::1') else ''
  is_both = not place and socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if is_both or ':' in place else socket.AF_INET
  try:
    server = socket.create_server(
      (place, port),
      family=family,
      backlog=cluster.n_workers,
      dualstack_ipv6=is_both,
    )
  except OSError as error:
    reason = os.strerror(error.errno or 0)
    raise OSError(
      f'{cluster.name(cluster.index).capitalize()}: port {port} cannot be '
      f'opened: {reason}. Choose another one in --workers, on all hosts.'
    ) from error
  with server:
    yield server


class Channel:
  """A worker's connection to all others; see the module.

  Args:
    cluster: Who trains.
    time_limit_s: Seconds to wait for the others.

  Raises:
    OSError: The worker's port is in use.
    WorkerError: Another worker does not come, was started otherwise, or is not
      reached by all.
  """

  def __init__(self, cluster: cluster_lib.Cluster, time_limit_s: float = 300.0):
    self._cluster = cluster
    self._state = threading.Condition()
    self._answers: dict[str, tuple[list[int], list[bytes]]] = {}
    self._ended: tuple[int, str] | None = None
    self._is_over = False
    self._hub: _Hub | None = None
    self._connections: dict[int, socket.socket] = {}
    self._locks: dict[int, threading.Lock] = {}
    with _own_port(cluster) as server:
      if cluster.index == 0:
        self._hub = _Hub(cluster.n_workers, self._send_to)
        self._accept_all(server, time_limit_s)
      else:
        self._connect(time_limit_s)
      for index in self._connections:
        self._locks[index] = threading.Lock()
      for index in self._connections:
        thread = threading.Thread(target=self._listen, args=(index,))
        thread.daemon = True
        thread.start()
      self._check_reach()

  # -------------------- Coming together ---------------------------------------
  def _hello(self):
    return {'addresses': list(self._cluster.addresses)}

  def _accept_all(self, server, time_limit_s):
    """Waits for all workers, as the chief."""
    limit = time.monotonic() + time_limit_s
    notice = _Notice()
    while missing := [
      i for i in range(1, self._cluster.n_workers) if i not in self._connections
    ]:
      server.settimeout(max(min(limit - time.monotonic(), 1.0), 0.01))
      try:
        connection, _ = server.accept()
      except TimeoutError as error:
        notice.waits_for(', '.join(self._cluster.name(i) for i in missing))
        if time.monotonic() < limit:
          continue
        text = self._describe_missing(missing, time_limit_s)
        for other in self._connections.values():
          with contextlib.suppress(OSError):
            messages.send(other, {'ended': 0, 'text': text})
        self._close_all()
        raise WorkerError(text) from error
      try:
        connection.settimeout(10.0)
        self._welcome(connection)
      except (OSError, ValueError, KeyError, TypeError):
        connection.close()  # what comes to an open port may be anyone

  def _welcome(self, connection):
    """Takes a worker in, or tells it why not."""
    header, _ = messages.receive(connection)
    index, theirs = int(header['index']), header['addresses']
    if theirs != self._hello()['addresses'] or not (
      0 < index < self._cluster.n_workers
    ):
      ours = ','.join(self._cluster.addresses)
      messages.send(connection, {'refused': f'has --workers={ours}'})
      connection.close()
    elif index in self._connections:
      messages.send(connection, {'refused': f'has a worker {index} already'})
      connection.close()
    else:
      messages.send(connection, {'welcome': True})
      connection.settimeout(None)
      messages.keep_alive(connection)
      self._connections[index] = connection

  def _describe_missing(self, missing, time_limit_s):
    names = ', '.join(self._cluster.name(i) for i in missing)
    return (
      f'{names} did not come within {time_limit_s:g} s. Start the same command '
      'with another --worker on each host; they must reach '
      f'{self._cluster.addresses[0]}.'
    )

  def _connect(self, time_limit_s):
    """Connects to the chief, which may come later."""
    cluster, limit = self._cluster, time.monotonic() + time_limit_s
    address = cluster_lib.split_address(cluster.addresses[0])
    chief, notice = cluster.name(0), _Notice()
    while True:
      try:
        connection = socket.create_connection(address, timeout=10.0)
        messages.send(connection, {'index': cluster.index, **self._hello()})
        # The chief may be answering others.
        connection.settimeout(time_limit_s)
        header, _ = messages.receive(connection)
        break
      except socket.gaierror as error:
        raise WorkerError(
          f'{chief}: the host is not known here ({error.strerror}).'
        ) from error
      except OSError as error:
        if time.monotonic() > limit:
          raise WorkerError(
            f'{chief} cannot be reached from here: {error}. Is it started, and '
            'does a firewall let it through?'
          ) from error
        notice.waits_for(chief)
        time.sleep(0.2)
    if 'refused' in header:
      connection.close()
      raise WorkerError(
        f'{chief} {header["refused"]}, and this one is worker {cluster.index} '
        f'of --workers={",".join(cluster.addresses)}. Give all the same list, '
        'and each its own number.'
      )
    connection.settimeout(None)
    messages.keep_alive(connection)
    self._connections[0] = connection

  def _check_reach(self):
    """Raises WorkerError on all unless each reaches each, as tensors must.

    All hold their ports until then.
    """
    self.gather('here', b'', is_barrier=True)
    text = json.dumps(self._unreached()).encode()
    for index, said in enumerate(self.gather('reach', text, is_barrier=True)):
      if said := json.loads(said):
        self.finish()
        raise WorkerError(
          f'{self._cluster.name(index).capitalize()} cannot reach '
          f'{self._cluster.name(said[0])}: {said[1]}. Each worker must reach '
          'each, by the names in --workers: does a firewall let them through?'
        )

  def _unreached(self):
    """Returns the first worker that this one does not reach, and why; []."""
    for index, address in enumerate(self._cluster.addresses):
      if index in (0, self._cluster.index):
        continue  # the chief has welcomed it
      try:
        place = cluster_lib.split_address(address)
        socket.create_connection(place, timeout=_REACH_S).close()
      except OSError as error:
        return [index, error.strerror or str(error)]
    return []

  # -------------------- Messages ----------------------------------------------
  def _send_to(self, worker, header, blobs):
    """Sends a message; the chief's own come at once."""
    if worker == self._cluster.index:
      self._take(header, blobs)
      return
    # Its end is noticed where it is listened to.
    with contextlib.suppress(OSError), self._locks[worker]:
      messages.send(self._connections[worker], header, blobs)

  def _listen(self, other):
    """Takes messages until the other side ends; in a thread of its own."""
    text = 'it has ended, or does not answer'
    try:
      while True:
        header, blobs = messages.receive(self._connections[other])
        if 'bye' in header:
          text = header['bye']
          break
        if self._hub is None:
          self._take(header, blobs)
        else:
          self._hub.put(other, header['name'], header['is_barrier'], blobs[0])
    except (OSError, ValueError, KeyError, TypeError):
      pass
    with self._state:
      is_over = self._is_over
    if not is_over:
      if self._hub is not None:
        self._hub.end(other, text)
      self._take({'ended': other, 'text': text}, [])

  def _take(self, header, blobs):
    """Takes a message in."""
    with self._state:
      if 'answer' in header:
        # Before the others' ends can be heard.
        self._is_over = self._is_over or header['answer'] == _THE_END
        self._answers[header['answer']] = (header['workers'], blobs)
      elif 'ended' in header and self._ended is None and not self._is_over:
        self._ended = (header['ended'], header['text'])
        threading.Thread(target=self._end_in_time, daemon=True).start()
      self._state.notify_all()

  def _end_in_time(self):
    """Ends the process where it does not end by itself, in time."""
    time.sleep(_GRACE_S)
    with self._state:
      is_told = self._is_over
    if not is_told:
      print(self.lost(), file=sys.stderr, flush=True)
    os._exit(1)

  def lost(self) -> WorkerError | None:
    """Returns the error for a worker that has ended; None if none has."""
    with self._state:
      if self._ended is None:
        return None
      index, text = self._ended
    return WorkerError(
      f'{self._cluster.name(index).capitalize()} is lost: {text}. All end; the '
      'same command on all hosts goes on from the last checkpoint.'
    )

  def gather(
    self, name: str, blob: bytes, is_barrier: bool = False
  ) -> list[bytes]:
    """Returns what all workers say, in order; waits for them.

    Args:
      name: What of; the same on all. Said again before the next barrier, it
        has the same answer.
      blob: What this worker says.
      is_barrier: Whether all must say something. Otherwise those are left out
        that are at a barrier already.

    Raises:
      WorkerError: Another worker has ended.
    """
    with self._state:
      known = self._answers.get(name)
    if known is None:
      if self._hub is not None:
        self._hub.put(0, name, is_barrier, blob)
      else:
        header = {'name': name, 'is_barrier': is_barrier}
        self._send_to(0, header, [blob])
    with self._state:
      self._state.wait_for(lambda: name in self._answers or self._ended)
      if name not in self._answers:
        raise self.lost() or WorkerError('The connection was closed.')
      _, blobs = self._answers[name]
      if is_barrier:
        self._answers.clear()
    return blobs

  def finish(self):
    """Ends the connection where all end, once all have come so far.

    Raises:
      WorkerError: Another worker has ended before.
    """
    try:
      self.gather(_THE_END, b'', is_barrier=True)
    finally:
      self.close()

  def close(self, error: str | None = None):
    """Ends the connection.

    Args:
      error: What this worker ends of, which the others are told.
    """
    with self._state:
      self._is_over = error is None or self._ended is not None
    if error is not None and self._hub is not None:
      self._hub.end(0, error)
    with self._state:
      self._is_over = True
    if self._hub is not None:
      with self._hub.lock:
        self._close_all()
      return
    if error is not None:
      self._send_to(0, {'bye': error}, [])
    self._close_all()

  def _close_all(self):
    for connection in self._connections.values():
      with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
      connection.close()
