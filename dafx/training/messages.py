"""Messages over a connection: a header, as JSON can hold it, and bytes."""

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

_LENGTH = struct.Struct('<Q')
_MOST_BYTES = 2**32
# Seconds between questions whether the other side is there, and how many.
_KEEP_ALIVE_S, _N_KEEP_ALIVE = 4, 3


def send(
  connection: socket.socket,
  header: Mapping[str, Any],
  blobs: Sequence[bytes] = (),
):
  """Sends a message.

  Args:
    connection: To whom.
    header: As JSON can hold it.
    blobs: Bytes that go with it.

  Raises:
    OSError: The other side ended.
  """
  header = {**header, 'sizes': [len(blob) for blob in blobs]}
  text = json.dumps(header).encode()
  connection.sendall(b''.join([_LENGTH.pack(len(text)), text, *blobs]))


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[bytes]]:
  """Waits for a message; returns (header, bytes).

  Args:
    connection: From whom.

  Raises:
    OSError: The other side ended, or sends what is no message.
    ValueError: It sends what is no message.
  """

  def exactly(n_bytes):
    if n_bytes > _MOST_BYTES:
      raise OSError(f'a message of {n_bytes} bytes')
    parts = []
    while n_bytes:
      part = connection.recv(min(n_bytes, 2**20))
      if not part:
        raise ConnectionError('the connection was closed')
      parts.append(part)
      n_bytes -= len(part)
    return b''.join(parts)

  (size,) = _LENGTH.unpack(exactly(_LENGTH.size))
  header = json.loads(exactly(size))
  return header, [exactly(size) for size in header['sizes']]


def keep_alive(connection: socket.socket):
  """Has the system ask whether the other side is still there.

  Args:
    connection: Which ends in an error once it is not.
  """
  options = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_ALIVE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _N_KEEP_ALIVE),
    # The same for what was sent and is not answered, in ms.
    (
      socket.IPPROTO_TCP,
      socket.TCP_USER_TIMEOUT,
      1000 * _KEEP_ALIVE_S * (1 + _N_KEEP_ALIVE),
    ),
  ]
  for option in options:
    connection.setsockopt(*option)
