"""What the host adds to a plugin's own time: against lv2bench, and by threads.

    python benchmarks/host_speed.py
    python benchmarks/host_speed.py --all --write_results

lv2bench (Debian: lilv-utils) runs a plugin on silence at 48 kHz, block after
block into the same buffers, and times nothing else: the plugin's own time. Here
the same samples are rendered in items of 40,960, in two ways:

- loop: `Renderer.run`, the C loop on an instance that exists.
- render: `Renderer.render` on one thread, each item from a fresh state.

Both are given as ratios to lv2bench in the same block size, round by round;
medians over rounds count. Then, for plugins over 1 ms per item: the throughput
of `render` on two threads over that on one; and over 5 ms: the time of a render
with isolation='process' over that with 'thread'.

Run it on a machine that does nothing else: another process on one of two
processors shows in the second thread first.
"""

import os
import statistics
import subprocess
import time

import numpy as np
import results
import tqdm
from absl import app, flags

from dafx import lv2

FLAGS = flags.FLAGS
flags.DEFINE_bool('all', False, 'All plugins that lv2bench can run.')
flags.DEFINE_string('filter', '', 'Only plugins whose URI contains this.')
flags.DEFINE_integer('n_plugins', 40, 'Sample size: evenly from the list.')
flags.DEFINE_integer('n_rounds', 7, 'Rounds; their medians count.')
flags.DEFINE_float('seconds', 0.1, 'Aim for one measurement of one host.')

SAMPLE_RATE = 48000
N_SAMPLES = 40960
BLOCK_SIZES = (1024, 64)
HEAVY_S = 1e-3  # own time per item above which the strict targets hold
MAX_RATIO = {1024: 1.03, 64: 1.05}
MAX_RATIO_LIGHT = 1.25
MIN_SPEED_UP = 1.9
ISOLATED_S = 5e-3  # own time per item above which isolation must cost little
MAX_ISOLATION = 1.1
_MAX_ITEMS = 2000


def lv2bench_seconds(uri: str, block_size: int, n_items: int) -> float | None:
  """Returns the seconds that lv2bench takes for items; None if it cannot.

  Args:
    uri: URI of the plugin.
    block_size: Samples per run.
    n_items: Number of items of `N_SAMPLES`.
  """
  command = ['lv2bench', '-b', str(block_size), '-n', str(n_items * N_SAMPLES)]
  try:
    done = subprocess.run(
      [*command, uri], capture_output=True, text=True, timeout=120, check=False
    )
  except subprocess.TimeoutExpired:
    return None
  words = done.stdout.split()
  if done.returncode or uri not in words:
    return None
  return float(words[words.index(uri) - 1])


def wall_seconds(function) -> float:
  """Returns how long a call takes."""
  start = time.perf_counter()
  function()
  return time.perf_counter() - start


def item_seconds(uri: str, block_size: int) -> float | None:
  """Returns lv2bench's time per item, roughly; None if it cannot run it."""
  n_items = 1
  while True:
    seconds = lv2bench_seconds(uri, block_size, n_items)
    if seconds is None:
      return None
    if seconds > 5e-3 or n_items >= _MAX_ITEMS:
      return max(seconds / n_items, 1e-6)
    n_items = min(_MAX_ITEMS, 8 * n_items)


def measure(uri: str, block_size: int) -> dict | None:
  """Compares with lv2bench.

  Args:
    uri: URI of the plugin.
    block_size: Samples per run.

  Returns:
    'own': lv2bench's seconds per item; 'loop' and 'render': medians of the
    ratios to it. None if lv2bench cannot run the plugin.
  """
  own = item_seconds(uri, block_size)
  if own is None:
    return None
  n_items = int(np.clip(FLAGS.seconds / own, 2, _MAX_ITEMS))
  renderer = lv2.Renderer(
    uri,
    SAMPLE_RATE,
    block_size=block_size,
    n_threads=1,
    compensate_latency=False,
  )
  n_channels = renderer.n_channels_in
  item = np.zeros((n_channels, N_SAMPLES), np.float32)
  # Batches as in training: all items at once would not fit the caches.
  batch_size = min(8, n_items)
  batch = np.zeros((batch_size, N_SAMPLES, n_channels), np.float32)
  n_batches = -(-n_items // batch_size)
  controls = renderer.default_controls()
  instance = renderer.new_instance()

  def loop():
    for _ in range(n_items):
      renderer.run(instance, item, controls, N_SAMPLES)

  def render():
    for _ in range(n_batches):
      renderer.render(batch)

  renderer.run(instance, item, controls, N_SAMPLES)
  renderer.render(batch[:2])
  rounds = []
  for _ in range(FLAGS.n_rounds):
    theirs = lv2bench_seconds(uri, block_size, n_items) / n_items
    rounds.append(
      (
        theirs,
        wall_seconds(loop) / n_items / theirs,
        wall_seconds(render) / (n_batches * batch_size) / theirs,
      )
    )
  own, in_loop, in_render = (statistics.median(x) for x in zip(*rounds))
  return {'own': own, 'loop': in_loop, 'render': in_render}


def measure_threads(uri: str, own: float) -> float:
  """Returns the throughput of two threads over that of one.

  Args:
    uri: URI of the plugin.
    own: Its own time per item, in seconds.
  """
  n_items = 2 * int(np.clip(FLAGS.seconds / own / 2, 2, 32))
  renderers = [
    lv2.Renderer(uri, SAMPLE_RATE, n_threads=n, compensate_latency=False)
    for n in (1, 2)
  ]
  shape = (n_items, N_SAMPLES, renderers[0].n_channels_in)
  batch = np.zeros(shape, np.float32)
  ratios = []
  for renderer in renderers:
    renderer.render(batch)
  for _ in range(FLAGS.n_rounds):
    one, two = (wall_seconds(lambda r=r: r.render(batch)) for r in renderers)
    ratios.append(one / two)
  return statistics.median(ratios)


def measure_isolation(uri: str, own: float) -> float:
  """Returns the time of renders in a worker process over those in a thread.

  Args:
    uri: URI of the plugin.
    own: Its own time per item, in seconds.
  """
  n_items = int(np.clip(FLAGS.seconds / own, 1, 8))
  renderers = [
    lv2.Renderer(uri, SAMPLE_RATE, n_threads=1, isolation=isolation)
    for isolation in lv2.ISOLATIONS
  ]
  shape = (n_items, N_SAMPLES, max(renderers[0].n_channels_in, 1))
  batch = np.zeros(shape, np.float32)
  ratios = []
  for renderer in renderers:
    renderer.render(batch)
    renderer.render(batch)
  for _ in range(FLAGS.n_rounds):
    thread, process = (
      wall_seconds(lambda r=r: r.render(batch)) for r in renderers
    )
    ratios.append(process / thread)
  return statistics.median(ratios)


def choose_plugins() -> list[str]:
  """Returns URIs of plugins that lv2bench runs: all, or an even sample."""
  uris = []
  for uri in lv2.list_uris():
    if FLAGS.filter in uri:
      plugin = lv2.get_plugin(uri)
      needs = set(plugin.required_features)
      if needs <= {'http://lv2plug.in/ns/ext/urid#map'} and (
        plugin.audio_inputs and plugin.audio_outputs
      ):
        uris.append(uri)
  if FLAGS.all or len(uris) <= FLAGS.n_plugins:
    return uris
  at = np.linspace(0, len(uris) - 1, FLAGS.n_plugins).round().astype(int)
  return [uris[i] for i in at]


def judge(name: str, values: dict[str, float], limit: float) -> list[list]:
  """Prints the median of values by plugin beside a limit, and who misses it.

  Args:
    name: What the values are.
    values: Values by URI.
    limit: The limit: from below for a speed-up, else from above.

  Returns:
    Rows of the table: one, or none without values.
  """
  if not values:
    print(f'{name}: no such plugin measured')
    return []
  sign = -1 if limit == MIN_SPEED_UP else 1
  median = statistics.median(values.values())
  misses = {u: v for u, v in values.items() if sign * v > sign * limit}
  worst = sorted(misses, key=lambda uri: -sign * misses[uri])[:3]
  print(
    f'{name}: median {median:.3f}, target {"<>"[sign < 0]}= {limit:g}: '
    f'{"reached" if sign * median <= sign * limit else "MISSED"}; '
    f'{len(values) - len(misses)} of {len(values)} plugins within'
    + ''.join(f'; {misses[uri]:.2f} {uri}' for uri in worst)
  )
  n_within = len(values) - len(misses)
  return [[name, len(values), median, limit, n_within]]


def main(argv):
  """Measures, prints and saves."""
  del argv
  uris = choose_plugins()
  rows = {}
  head = ' '.join(f'{b:>7} own loop render' for b in BLOCK_SIZES)
  tqdm.tqdm.write(f'{"ms and ratios, blocks of":40}{head} threads process')
  for uri in tqdm.tqdm(uris, unit='plugin'):
    found = {size: measure(uri, size) for size in BLOCK_SIZES}
    if None in found.values():
      tqdm.tqdm.write(f'{uri[-40:]:40} lv2bench cannot run it')
      continue
    own = found[BLOCK_SIZES[0]]['own']
    threads = measure_threads(uri, own) if own > HEAVY_S else None
    isolation = measure_isolation(uri, own) if own > ISOLATED_S else None
    rows[uri] = {'blocks': found, 'threads': threads, 'isolation': isolation}
    cells = ' '.join(
      f'{1e3 * x["own"]:11.3f} {x["loop"]:4.2f} {x["render"]:6.2f}'
      for x in found.values()
    )
    tqdm.tqdm.write(
      f'{uri[-40:]:40}{cells} '
      + ' '.join(f'{x:7.2f}' if x else '      -' for x in (threads, isolation))
    )
  results.keep(rows)
  print(
    f'\n{len(rows)} plugins, {FLAGS.n_rounds} rounds, load average '
    f'{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors'
  )
  table = []
  for size in BLOCK_SIZES:
    for way in ('loop', 'render'):
      ratios = {uri: row['blocks'][size] for uri, row in rows.items()}
      heavy = {u: x[way] for u, x in ratios.items() if x['own'] > HEAVY_S}
      light = {u: x[way] for u, x in ratios.items() if x['own'] <= HEAVY_S}
      name = f'block {size}, {way}, over 1 ms'
      table += judge(name, heavy, MAX_RATIO[size])
      name = f'block {size}, {way}, lighter'
      table += judge(name, light, MAX_RATIO_LIGHT)
  speed_ups = {u: row['threads'] for u, row in rows.items() if row['threads']}
  table += judge('two threads over one, over 1 ms', speed_ups, MIN_SPEED_UP)
  isolated = {u: r['isolation'] for u, r in rows.items() if r['isolation']}
  table += judge('process over thread, over 5 ms', isolated, MAX_ISOLATION)
  columns = ['What', 'Plugins', 'Median ratio', 'Target', 'Plugins within it']
  results.write('host_speed', columns, table, rows)


if __name__ == '__main__':
  app.run(main)
