"""Whether plugins sound here as they do in ffmpeg, the other LV2 host at hand.

    python benchmarks/host_parity.py
    python benchmarks/host_parity.py --filter=calf --write_results

Renders the same second of bursts and sines through every installed plugin with
audio in and out, at default settings, in both hosts, each in a process of its
own, and compares sample by sample. ffmpeg (Debian: ffmpeg) says which blocks it
runs a plugin in; here it gets the same ones. Nothing is taken out for latency.

Where outputs differ, or ffmpeg has none, further runs find out why; `KINDS`
says what counts as a reason. Outputs of plugins without a reason are faults of
one of the hosts.
"""

import concurrent.futures
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import results
import tqdm
from absl import app, flags

from dafx import lv2

FLAGS = flags.FLAGS
flags.DEFINE_string('filter', '', 'Only plugins whose URI contains this.')
flags.DEFINE_integer('n_processes', 2, 'Renders side by side.')
flags.DEFINE_float('render_limit', 60.0, 'For one render, in seconds.')

SAMPLE_RATE = 48000
N_SAMPLES = 48 * 1024
BLOCK_SIZE = 1024
TIGHT, LOOSE = 1e-6, 1e-4  # largest difference of a sample, full scale being 1
TARGET = 342  # plugins that agree to TIGHT, of the 387 that ffmpeg can run

KINDS = {
  'random': 'two renders by the same host differ, whatever memory holds',
  'uninitialised': 'output depends on what fresh memory holds',
  'in place': 'ffmpeg gives it one buffer for input and output; given two, it '
  'agrees',
  'sample rate': 'ffmpeg leaves out that a default is to be multiplied by the '
  'sample rate; told the product, it agrees',
  'no default': 'ffmpeg starts controls at what the plugin data say, be it NaN '
  'or out of range; told the values used here, it agrees',
  'block size': 'output depends on the size of blocks',
  'unexplained': 'none of these',
  'ffmpeg refuses': 'it ends with an error',
  'ffmpeg crashes': 'it ends by a signal, or not at all',
  'fails here': 'it does not render here',
}

# What ffmpeg's filter offers to plugins.
_FFMPEG_FEATURES = frozenset(
  (
    'http://lv2plug.in/ns/ext/urid#map',
    'http://lv2plug.in/ns/ext/urid#unmap',
    'http://lv2plug.in/ns/ext/buf-size#boundedBlockLength',
    'http://lv2plug.in/ns/ext/buf-size#fixedBlockLength',
    'http://lv2plug.in/ns/ext/buf-size#powerOf2BlockLength',
  )
)

_RENDER_HERE = """
import sys
import numpy as np
from dafx import lv2

uri, sample_rate, block_size, path = sys.argv[1:]
renderer = lv2.Renderer(
  uri, float(sample_rate), block_size=int(block_size), n_threads=1,
  compensate_latency=False, warm_up=0)
output = renderer.render(np.load(path + '/in.npy')[np.newaxis])[0]
np.savez(path + '/out.npz', output=output, n_nonfinite=renderer.n_nonfinite)
"""


@dataclasses.dataclass
class Render:
  """What a host made of an item.

  Attributes:
    output: Audio [n_samples, n_outputs] with zeros for what is not finite, or
      None if there is none.
    fault: Why there is none.
    crashed: Whether the host died or hung, instead of saying why not.
    n_nonfinite: Samples that were not finite.
    block_sizes: Sizes of the blocks that it ran, where the host says so.
  """

  output: np.ndarray | None = None
  fault: str = ''
  crashed: bool = False
  n_nonfinite: int = 0
  block_sizes: tuple[int, ...] = ()


def make_input(n_channels: int, n_samples: int = N_SAMPLES) -> np.ndarray:
  """Returns sines with bursts of noise, another mix in each channel.

  Args:
    n_channels: Number of channels.
    n_samples: Length.

  Returns:
    Audio of shape [n_samples, n_channels], float32, within -1 and 1.
  """
  rng = np.random.default_rng(0)
  seconds = np.arange(n_samples)[:, np.newaxis] / SAMPLE_RATE
  channel = np.arange(n_channels)
  audio = 0.2 * np.sin(2 * np.pi * (147 + 110 * (channel % 8)) * seconds)
  audio += 0.1 * np.sin(2 * np.pi * 3000 * seconds + channel)
  burst = np.floor(8 * seconds) % 2 == 0
  audio += 0.1 * burst * rng.standard_normal(audio.shape)
  return audio.astype(np.float32)


def _fill_memory(byte: int) -> dict[str, str]:
  """Returns the environment in which glibc fills all new memory alike."""
  return {
    'MALLOC_PERTURB_': str(byte),
    'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=0',
  }


def _run(command, time_limit, environment) -> subprocess.CompletedProcess | str:
  """Runs a command; returns what came of it, or how it died."""
  try:
    done = subprocess.run(
      command,
      capture_output=True,
      timeout=time_limit,
      env={**os.environ, **(environment or {})},
      check=False,
    )
  except subprocess.TimeoutExpired:
    return f'took more than {time_limit:g} s'
  if done.returncode < 0:
    return f'died of signal {-done.returncode}'
  return done


def _last_line(text: bytes, pattern: str = '') -> str:
  lines = [x for x in text.decode(errors='replace').splitlines() if x.strip()]
  lines = [x for x in lines if re.search(pattern, x)] or lines
  # Without the name of a class or the address of a filter.
  prefix = r'^(\[\w+ @ \w+\]|[\w.]+(Error|Exception):) '
  return re.sub(prefix, '', lines[-1].strip()) if lines else 'says nothing'


def render_here(
  uri: str,
  audio: np.ndarray,
  block_size: int = BLOCK_SIZE,
  time_limit: float = 60.0,
  environment: dict[str, str] | None = None,
) -> Render:
  """Renders through this library, in a process of its own.

  Args:
    uri: URI of the plugin.
    audio: Shape [n_samples, n_channels], at `SAMPLE_RATE`.
    block_size: Samples per run of the plugin.
    time_limit: In seconds.
    environment: Variables to add for the process.

  Returns:
    What came of it.
  """
  with tempfile.TemporaryDirectory() as folder:
    np.save(f'{folder}/in.npy', audio)
    command = [sys.executable, '-c', _RENDER_HERE, uri, str(SAMPLE_RATE)]
    done = _run([*command, str(block_size), folder], time_limit, environment)
    if isinstance(done, str):
      return Render(fault=done, crashed=True)
    if done.returncode:
      return Render(fault=_last_line(done.stderr, r'\w(Error|Exception): '))
    with np.load(f'{folder}/out.npz') as file:
      return Render(file['output'], n_nonfinite=int(file['n_nonfinite']))


def render_ffmpeg(
  uri: str,
  audio: np.ndarray,
  n_outputs: int,
  values: dict[str, float] | None = None,
  in_place: bool = True,
  time_limit: float = 60.0,
  environment: dict[str, str] | None = None,
) -> Render:
  """Renders through ffmpeg's `lv2` filter in blocks of `BLOCK_SIZE`.

  Args:
    uri: URI of the plugin.
    audio: Shape [n_samples, n_channels], at `SAMPLE_RATE`.
    n_outputs: Number of the plugin's audio outputs.
    values: Values of control ports by symbol; ffmpeg's own choice for others.
    in_place: Whether the plugin may get its input's buffer for output. This is
      what ffmpeg does if the numbers of inputs and outputs are equal.
    time_limit: In seconds.
    environment: Variables to add for the process.

  Returns:
    What came of it.
  """
  # Quotes guard the URI from the parser of graphs, backslashes from the
  # filter's.
  escaped = uri.replace('\\', '\\\\').replace(':', '\\:').replace("'", '')
  controls = '|'.join(f'{k}={v:.9g}' for k, v in (values or {}).items())
  plugin = f"lv2=p='{escaped}'" + (f":c='{controls}'" if controls else '')
  # Frames in the filter's own format, so that it adds no conversion behind.
  blocks = f'[0:a]aformat=sample_fmts=fltp,asetnsamples=n={BLOCK_SIZE}:p=0'
  if in_place:
    graph = f'{blocks},{plugin},ashowinfo'
    n_columns = n_outputs
  else:
    # A frame of which someone else waits for a copy must not be overwritten.
    graph = f'{blocks},asplit[a][b];[a]{plugin},ashowinfo[c];[c][b]amerge'
    n_columns = n_outputs + audio.shape[1]
  with tempfile.TemporaryDirectory() as folder:
    path = f'{folder}/in.f32'
    np.ascontiguousarray(audio, '<f4').tofile(path)
    command = ['ffmpeg', '-nostdin', '-hide_banner', '-nostats', '-v', 'info']
    # No guess: ffmpeg would mix channels where two guesses do not agree.
    command += ['-guess_layout_max', '0', '-f', 'f32le']
    command += ['-ar', str(SAMPLE_RATE), '-ac', str(audio.shape[1])]
    command += ['-i', path, '-filter_complex', graph, '-f', 'f32le', '-']
    done = _run(command, time_limit, environment)
  if isinstance(done, str):
    return Render(fault=done, crashed=True)
  if done.returncode or len(done.stdout) != 4 * len(audio) * n_columns:
    reason = r'(?i)missing|required|instantiate|too many|unsupported|layout'
    return Render(fault=_last_line(done.stderr, reason))
  output = np.frombuffer(done.stdout, '<f4').reshape(-1, n_columns)
  output = output[:, :n_outputs]
  finite = np.isfinite(output)
  sizes = re.findall(rb'nb_samples:(\d+)', done.stderr)
  return Render(
    np.where(finite, output, 0.0),
    n_nonfinite=int(np.count_nonzero(~finite)),
    block_sizes=tuple(sorted({int(size) for size in sizes})),
  )


def difference(a: Render, b: Render) -> float:
  """Returns the largest difference of two renders; infinity if one failed."""
  if a.output is None or b.output is None or a.output.shape != b.output.shape:
    return np.inf
  if a.n_nonfinite != b.n_nonfinite:
    return np.inf
  return float(np.max(np.abs(a.output.astype(np.float64) - b.output)))


def explain(plugin, audio, here: Render, theirs: Render, limit: float):
  """Finds out why a plugin's outputs differ.

  Args:
    plugin: The plugin.
    audio: What it got, [n_samples, n_channels].
    here: Its output here.
    theirs: Its output in ffmpeg.
    limit: For one render, in seconds.

  Returns:
    (one of `KINDS`, what was measured: largest differences by what was
    compared).
  """
  block_size = theirs.block_sizes[-1]

  def again(byte=None, size=block_size):
    environment = None if byte is None else _fill_memory(byte)
    return render_here(plugin.uri, audio, size, limit, environment)

  def again_there(byte=None, **kwargs):
    return render_ffmpeg(
      plugin.uri,
      audio,
      len(plugin.audio_outputs),
      time_limit=limit,
      environment=None if byte is None else _fill_memory(byte),
      **kwargs,
    )

  # Outputs of controls count: some plugins read them back.
  ports = plugin.at_rate(SAMPLE_RATE).ports
  # As 32-bit floats: ffmpeg reads what lies halfway between two as the other.
  values = {
    p.symbol: float(np.float32(p.default)) for p in ports if p.kind == 'control'
  }
  time.sleep(1.1)  # seeds made from the clock count seconds
  found = {
    'here, twice': difference(here, again()),
    'ffmpeg, twice': difference(theirs, again_there()),
    'not in place': difference(here, again_there(in_place=False)),
    'values given': difference(here, again_there(values=values)),
    'values given, not in place': difference(
      here, again_there(values=values, in_place=False)
    ),
    'blocks of 64': difference(here, again(size=64)),
  }
  filled = {
    host: [render(byte) for byte in (85, 85, 170)]
    for host, render in (('here', again), ('ffmpeg', again_there))
  }
  for host, (first, second, other) in filled.items():
    found[f'{host}, memory alike'] = difference(first, second)
    found[f'{host}, memory other'] = difference(first, other)

  def differ(*names):
    return any(found[name] > TIGHT for name in names)

  if differ('here, memory alike', 'ffmpeg, memory alike'):
    kind = 'random'
  elif not differ('not in place'):
    kind = 'in place'
  elif not differ('values given') or not differ('values given, not in place'):
    scaled = any(port.per_sample_rate for port in plugin.ports)
    kind = 'sample rate' if scaled else 'no default'
  elif differ('here, memory other', 'ffmpeg, memory other'):
    kind = 'uninitialised'
  elif differ('here, twice', 'ffmpeg, twice'):
    kind = 'random'
  elif differ('blocks of 64'):
    kind = 'block size'
  else:
    kind = 'unexplained'
  return kind, found


def compare(uri: str, limit: float) -> dict:
  """Renders a plugin in both hosts and compares.

  Args:
    uri: URI of the plugin.
    limit: For one render, in seconds.

  Returns:
    What was found, for JSON: 'difference' (None if a host failed), 'kind' (one
    of `KINDS`, or '' if they agree to `TIGHT`) and its evidence.
  """
  plugin = lv2.get_plugin(uri)
  audio = make_input(len(plugin.audio_inputs))
  theirs = render_ffmpeg(
    uri, audio, len(plugin.audio_outputs), time_limit=limit
  )
  block_size = theirs.block_sizes[-1] if theirs.block_sizes else BLOCK_SIZE
  here = render_here(uri, audio, block_size, limit)
  row = {
    'uri': uri,
    'difference': None,
    'kind': '',
    'block_size': block_size,
    'n_nonfinite': here.n_nonfinite,
    'n_nonfinite_ffmpeg': theirs.n_nonfinite,
    'fault': here.fault,
    'fault_ffmpeg': theirs.fault,
  }
  if here.output is not None:
    row['peak'] = float(np.max(np.abs(here.output)))
  if here.output is None:
    row['kind'] = 'fails here'
  elif theirs.output is None:
    row['kind'] = 'ffmpeg crashes' if theirs.crashed else 'ffmpeg refuses'
    lacking = set(plugin.required_features) - _FFMPEG_FEATURES
    row['ffmpeg_lacks'] = sorted(lacking)
  else:
    # Finite here and not there is a difference, though not one in numbers.
    row['difference'] = float(np.max(np.abs(here.output - theirs.output)))
    if difference(here, theirs) > TIGHT:
      row['kind'], row['evidence'] = explain(plugin, audio, here, theirs, limit)
  return row


def print_rows(rows: list[dict]):
  """Prints what does not agree, by kind, and the counts."""
  for kind, meaning in KINDS.items():
    of_kind = [row for row in rows if row['kind'] == kind]
    if not of_kind:
      continue
    print(f'\n{kind}: {len(of_kind)} ({meaning})')
    for row in of_kind:
      found = [row['fault'], row['fault_ffmpeg'], *row.get('ffmpeg_lacks', ())]
      evidence = row.get('evidence', {})
      found += [f'{k}: {v:.1e}' for k, v in evidence.items() if v > TIGHT]
      same = [k for k, v in evidence.items() if v <= TIGHT]
      found += [f'the same: {", ".join(same)}'] if same else []
      if row['difference'] is not None:
        found.insert(0, f'differs by {row["difference"]:.1e}')
      print(f'  {row["uri"]}')
      print(f'    {"; ".join(text for text in found if text)}')


def summarise(rows: list[dict]) -> dict:
  """Returns the counts of all rows."""
  both = [row for row in rows if row['difference'] is not None]
  tight = sum(not row['kind'] for row in both)
  loose = sum(bool(row['kind']) and row['difference'] <= LOOSE for row in both)
  return {
    'installed': len(rows),
    'compared': len(both),
    'agree_to_1e-6': tight,
    'agree_to_1e-4': loose,
    'differ': len(both) - tight - loose,
    'unexplained': sum(row['kind'] == 'unexplained' for row in rows),
    'fail_here': sum(row['kind'] == 'fails here' for row in rows),
    'nonfinite_here': sum(row['n_nonfinite'] > 0 for row in rows),
    'silent_here': sum(row.get('peak') == 0.0 for row in rows),
  }


def main(argv):
  """Compares, prints and saves."""
  del argv
  os.nice(10)
  plugins = [lv2.get_plugin(u) for u in lv2.list_uris() if FLAGS.filter in u]
  uris = [p.uri for p in plugins if p.audio_inputs and p.audio_outputs]
  with concurrent.futures.ThreadPoolExecutor(FLAGS.n_processes) as pool:
    compared = pool.map(lambda uri: compare(uri, FLAGS.render_limit), uris)
    rows = list(tqdm.tqdm(compared, total=len(uris), unit='plugin'))
  print_rows(rows)
  counts = summarise(rows)
  results.keep({'summary': counts, 'plugins': rows})
  results.write(
    'host_parity',
    ['Plugins', 'How many'],
    [[name.replace('_', ' '), n] for name, n in counts.items()],
    uris,
  )
  print(
    f'\nOf {counts["installed"]} plugins with audio in and out, '
    f'{counts["compared"]} run in both hosts. '
    f'{counts["silent_here"]} are silent by default, '
    f'{counts["nonfinite_here"]} give samples that are not finite, '
    f'{counts["fail_here"]} fail here.\n'
    f'{counts["agree_to_1e-6"]} agree to 1e-6, {counts["agree_to_1e-4"]} more '
    f'to 1e-4, {counts["differ"]} differ, {counts["unexplained"]} of them '
    f'unexplained. Target: {TARGET} of 387 to 1e-6: '
    f'{"reached" if counts["agree_to_1e-6"] >= TARGET else "missed"}.'
  )


if __name__ == '__main__':
  app.run(main)
