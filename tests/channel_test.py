"""Who trains together, and what they tell each other: no TensorFlow."""

import concurrent.futures
import json
import socket
import threading
import time

import pytest

from dafx.training import channel, cluster


def clusters(n):
  addresses = cluster.local(n)
  return [cluster.Cluster(addresses, i) for i in range(n)]


def connect(n, time_limit_s=20.0):
  """Returns channels of n workers, made side by side."""
  with concurrent.futures.ThreadPoolExecutor(n) as executor:
    return list(
      executor.map(lambda c: channel.Channel(c, time_limit_s), clusters(n))
    )


def together(functions):
  with concurrent.futures.ThreadPoolExecutor(len(functions)) as executor:
    futures = [executor.submit(function) for function in functions]
    return [future.result(timeout=20) for future in futures]


@pytest.fixture(autouse=True, scope='module')
def _no_end():
  """A lost worker does not end the tests, some seconds later."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(channel.Channel, '_end_in_time', lambda self: None)
    yield


# --------------------------------------------------------------- Cluster ----
def test_tf_config_is_read_as_tensorflow_does(monkeypatch):
  content = {
    'cluster': {'chief': ['a:1'], 'worker': ['b:2', '[::1]:3']},
    'task': {'type': 'worker', 'index': 1},
  }
  monkeypatch.setenv('TF_CONFIG', json.dumps(content))
  found = cluster.from_environment()
  assert found == cluster.Cluster(('a:1', 'b:2', '[::1]:3'), 2)
  assert found.name(2) == 'worker 2 ([::1]:3)'
  assert cluster.split_address('[::1]:3') == ('::1', 3)
  monkeypatch.setenv('TF_CONFIG', '')
  assert cluster.from_environment() is None
  for text, message in (
    ('{', 'cannot be read'),
    ('[]', 'cannot be read'),
    ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}}', 'names ps'),
    ('{"cluster": {"worker": ["b"]}}', "'b' is no address"),
    ('{"cluster": {"worker": ["b:1"]}, "task": {"index": 1}}', 'worker 1: '),
  ):
    monkeypatch.setenv('TF_CONFIG', text)
    with pytest.raises(ValueError, match=message):
      cluster.from_environment()


@pytest.mark.parametrize(
  'addresses, index, message',
  [
    (['a:1', 'b:2'], None, 'needs --worker'),
    (['a:1', 'b:2'], 2, 'from 0 to 1'),
    (['a:1', 'a:1'], 0, 'the same address'),
    (['a:1', 'b'], 0, "'b' is no address"),
    (['a:1', 'b:70000'], 0, "'b:70000' is no address"),
  ],
)
def test_lists_of_workers_that_are_none(addresses, index, message):
  with pytest.raises(ValueError, match=message):
    cluster.from_list(addresses, index)


# --------------------------------------------------------------- Channel ----
def test_all_hear_what_each_says():
  first, *others = connect(3)
  workers = [first, *others]
  for step in range(3):
    found = together(
      [
        lambda i=i, w=w, step=step: w.gather(f's{step}', b'%d' % i, True)
        for i, w in enumerate(workers)
      ]
    )
    assert found == [[b'0', b'1', b'2']] * 3
  together([each.finish for each in workers])
  assert all(each.lost() is None for each in workers)


def test_who_is_at_a_barrier_is_left_out_before_it():
  workers = connect(2)

  def one():
    seen = workers[0].gather('sizes', b'a')
    again = workers[0].gather('sizes', b'b')  # a second attempt at a step
    return seen, again, workers[0].gather('step', b'0', True)

  def two():
    return workers[1].gather('step', b'1', True)

  assert together([one, two]) == [([b'a'], [b'a'], [b'0', b'1']), [b'0', b'1']]
  for each in workers:
    each.close()


@pytest.mark.parametrize('lost', [0, 1, 2])
def test_a_worker_that_ends_is_named_at_once(lost):
  workers = connect(3)
  rest = [w for i, w in enumerate(workers) if i != lost]
  threading.Timer(0.2, lambda: workers[lost].close('OSError: no room')).start()
  start = time.monotonic()

  def wait(worker):
    with pytest.raises(channel.WorkerError) as caught:
      worker.gather('step', b'', True)
    return str(caught.value)

  said = together([lambda w=w: wait(w) for w in rest])
  assert time.monotonic() - start < 10.0
  for text in said:
    assert text.startswith(f'Worker {lost} (127.0.0.1:')
    assert 'OSError: no room' in text and 'the last checkpoint' in text
  for each in rest:
    each.close('lost')


def test_workers_that_do_not_come_or_are_others():
  ours, other = clusters(2)
  with pytest.raises(channel.WorkerError, match=r'worker 1 .*did not come'):
    channel.Channel(ours, 0.3)
  with pytest.raises(channel.WorkerError, match=r'worker 0 .*be reached'):
    channel.Channel(other, 0.3)
  nowhere = cluster.Cluster(('no-such-host.invalid:1', other.addresses[1]), 1)
  with pytest.raises(
    channel.WorkerError, match=r'invalid:1\): the host is not'
  ):
    channel.Channel(nowhere, 0.3)
  another = cluster.Cluster((ours.addresses[0], *cluster.local(2)), 1)

  def refused():
    with pytest.raises(channel.WorkerError, match='worker 0 .* has --workers='):
      channel.Channel(another, 5.0)
    return channel.Channel(other, 5.0)

  first, second = together([lambda: channel.Channel(ours, 20.0), refused])
  first.close()
  second.close()


def test_a_port_in_use_is_said():
  ours, _ = clusters(2)
  address = cluster.split_address(ours.addresses[0])
  with socket.create_server(address):
    with pytest.raises(OSError, match=r'Worker 0 .*port \d+ cannot be opened'):
      channel.Channel(ours, 1.0)


def test_strangers_at_the_port_do_no_harm():
  ours, other = clusters(2)

  def stranger():
    address = cluster.split_address(ours.addresses[0])
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
      try:
        with socket.create_connection(address, timeout=1) as connection:
          connection.sendall(b'GET / HTTP/1.1\r\n\r\n' * 3)
        break
      except OSError:
        time.sleep(0.02)
    return channel.Channel(other, 5.0)

  first, second = together([lambda: channel.Channel(ours, 20.0), stranger])
  assert (
    together(
      [
        lambda: first.gather('x', b'0', True),
        lambda: second.gather('x', b'1', True),
      ]
    )
    == [[b'0', b'1']] * 2
  )
  first.close()
  second.close()


def test_the_chief_is_answered_last():
  # TensorFlow's start keeps the interpreter's lock until all have come to it.
  answered = []
  hub = channel._Hub(3, lambda worker, header, blobs: answered.append(worker))
  for worker in (2, 0, 1):
    hub.put(worker, 'reach', True, b'')
  assert answered == [2, 1, 0]
