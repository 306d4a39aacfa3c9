"""The program of a worker process; `processes` starts it.

python -m dafx.lv2.worker SOCKET LIFE MEMORY  (file descriptors)
"""

import collections
import faulthandler
import json
import multiprocessing.connection
import os
import sys
import threading

from dafx.lv2 import errors, processes, renderer

# Renderers that are kept: those that were used last.
_MOST_RENDERERS = 16


def _end_with_parent(descriptor: int):
  """Ends this process when the other end of a socket is gone."""
  os.read(descriptor, 1)
  os._exit(0)


def _serve(connection, memory):
  """Answers messages until the parent is gone."""
  renderers: collections.OrderedDict = collections.OrderedDict()
  streams: dict = {}
  connection.send('ready')
  while True:
    try:
      message = connection.recv()
    except EOFError:
      return
    kind, settings, *rest = message
    try:
      if kind == 'call':
        module, function = rest
        answer = processes.call(module, function, settings, time_limit_s=0.0)
        connection.send(('done', answer))
        continue
      key = json.dumps(settings, sort_keys=True, default=list)
      if key not in renderers:
        renderers[key] = renderer.Renderer(**settings, n_threads=1)
        if len(renderers) > _MOST_RENDERERS:
          renderers.popitem(last=False)
      renderers.move_to_end(key)
      if kind == 'open':
        answer = renderers[key].latency
      elif kind == 'go_on':
        hop_size, warm_up, shapes = rest
        if key not in streams:
          streams[key] = renderers[key].new_instance()
        audio, controls, out = memory.arrays(*shapes)
        answer = streams[key].run(
          audio, controls, hop_size, out, warm_up=warm_up
        )
      else:
        hop_size, shapes = rest
        audio, controls, out = memory.arrays(*shapes)
        answer = renderers[key].render_item(audio, controls, hop_size, out)
    except (errors.PluginError, ValueError, KeyError) as error:
      connection.send(('error', str(error)))
    else:
      connection.send(('done', answer))


def main():
  """Serves the process that started this one."""
  faulthandler.enable()
  processes.is_worker = True
  to_parent, life, memory = map(int, sys.argv[1:])
  threading.Thread(target=_end_with_parent, args=(life,), daemon=True).start()
  _serve(
    multiprocessing.connection.Connection(to_parent),
    processes.SharedMemory(memory),
  )


if __name__ == '__main__':
  main()
