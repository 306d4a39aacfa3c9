"""How near matches come: hidden settings, other makers' plugins, references.

    pip install 'dafx[benchmarks]' matchering
    python benchmarks/matching.py
    python benchmarks/matching.py --sets=references --problems=3

Four sets of problems, made of the embedded songs, 8 s each, at -20 LUFS:

- hidden: five chains, each at random settings of its own plugins. CMA-ES, and
  Adam on SPSA, go down the same distance from the same start, with as many
  renders.
- others: match_master to x42's equaliser and limiter and Invada's compressor.
- masters: the same with a fader ride before the limiter.
- references: a song, and another one through the hand of 'others' as its
  reference; the first song through that hand is the true master. Loudness alone
  and PyPI's `matchering` stand beside it.

A line is printed for each problem, with CPU seconds, wall seconds, renders of
one plugin, and what ended the search; then medians, the worst, and the targets
that were reached. The exit status is 1 if one was missed. Rows are kept in
--output_dir, and what is there of an earlier call with the same limits is not
done again. `results` says what --write_results and --json do.
"""

import json
import pathlib
import sys
import tempfile
import time

import cma
import gin
import numpy as np
import results
import soundfile
import threadpoolctl
from absl import app, flags

from dafx import effects, lv2, metrics
from dafx.audio import files as audio_files
from dafx.audio import sources
from dafx.commands import running
from dafx.training import gin_files, matching
from dafx.training.data_preparation import mastering
from dafx.training.matching import chain as chain_lib
from dafx.training.matching import pairing, result
from dafx.training.matching import problem as problem_lib
from dafx.training.matching import search as search_lib

FLAGS = flags.FLAGS
SETS = ('hidden', 'others', 'masters', 'references')
flags.DEFINE_list('sets', list(SETS), f'Of {", ".join(SETS)}.')
flags.DEFINE_integer('problems', 20, 'Of each set.', lower_bound=1)
flags.DEFINE_integer('first', 0, 'Of the problems, which comes first.')
flags.DEFINE_list('chains', [], 'Of the hidden set, these alone.')
flags.DEFINE_bool('baselines', True, 'CMA-ES and Adam on SPSA too.')
flags.DEFINE_float('time_limit', 60.0, 'Seconds of a search; 0 for any.')
flags.DEFINE_integer('max_renders', 0, 'Of a search; 0 for any number.')
flags.DEFINE_string('output_dir', 'build/matching', 'Where rows are kept.')

_RATE, _LUFS = 44100, -20.0
_TASKS = ('match_master', 'match_vocal', 'match_guitar', 'match_minimal')
_CALF = 'calf_multiband'
CHAINS = (*_TASKS, _CALF)
# From this number of controls on, CMA-ES is to be far behind.
_MANY_CONTROLS = 20
_FIGURES = (
  'matched_mr_stft', 'average_spectrum_db', 'crest_error_db',
  'loudness_error_lu',
)  # fmt: skip
COMPRESSOR = 'http://invadarecords.com/plugins/lv2/compressor/stereo'


# ------------------------------------------------------------- Problems ----
def songs() -> list[pathlib.Path]:
  """Returns the paths of the embedded songs."""
  return audio_files.find_audio(mastering.DEMO_AUDIO)


def load(path: pathlib.Path) -> np.ndarray:
  """Returns a song, [n_samples, 2]."""
  audio, rate = audio_files.read(path)
  return mastering.to_loudness(audio, rate, _LUFS)


def calf_multiband():
  """Returns Calf's multiband compressor, LSP's equaliser, Calf's limiter."""
  calf = 'http://calf.sourceforge.net/plugins/'
  lsp = 'http://lsp-plug.in/plugins/lv2/'
  bands, gains = range(4), [f'g_{k}' for k in range(32)]
  multiband = effects.LV2Plugin(
    f'{calf}MultibandCompressor',
    [f'{k}{i}' for i in bands for k in ('threshold', 'ratio', 'makeup')]
    + ['freq0', 'freq1', 'freq2'],
    {f'{k}{i}': v for i in bands
     for k, v in (('bypass', 0), ('attack', 10), ('release', 80))},
    {
      **{f'threshold{i}': (0.003, 1, 'log', 0.1) for i in bands},
      **{f'ratio{i}': (1, 8, 'log', 1.2) for i in bands},
      **{f'makeup{i}': (1, 5, 'log') for i in bands},
      'freq0': (60, 400), 'freq1': (400, 3000), 'freq2': (3000, 10000),
    },
    name='multiband', sample_rate=_RATE, channels='stereo',
  )  # fmt: skip
  equaliser = effects.LV2Plugin(
    f'{lsp}graph_equalizer_x32_stereo', [*gains, 'g_out'], {'slope': 4},
    {**{g: (0.125, 8, 'log') for g in gains}, 'g_out': (0.0625, 10, 'log')},
    name='equaliser', sample_rate=_RATE, channels='stereo',
  )  # fmt: skip
  limiter = effects.LV2Plugin(
    f'{calf}Limiter', ['level_in', 'limit', 'release'],
    {'attack': 5, 'asc': 0, 'auto_level': 0},
    {'level_in': (0.25119, 10, 'log'), 'limit': (0.25119, 1, 'log', 1),
     'release': (5, 500, 'log')},
    name='limiter', sample_rate=_RATE, channels='stereo',
  )  # fmt: skip
  return chain_lib.make_group([multiband, equaliser, limiter])


def graph_of(name: str):
  """Returns the graph of a task, or Calf's."""
  if name == _CALF:
    return calf_multiband()
  gin.clear_config()
  gin_files.parse_gin([f'{name}.gin'])
  bound = gin.query_parameter('dafx.training.matching.match.graph')
  return bound.scoped_configurable_fn()


def hidden_target(graph, audio: np.ndarray, seed: int) -> np.ndarray:
  """Returns audio through a graph at a random setting near its defaults."""
  chain = chain_lib.Chain(graph)
  start, rng = chain.start(), np.random.default_rng(seed)
  moves = rng.uniform(-0.3, 0.3, chain.n_controls)
  controls = np.clip(start.controls + moves, 0.05, 0.95)
  point = chain_lib.Point(controls, start.choices)
  return chain.output(chain.signals(audio[np.newaxis], point))[0]


def others_target(audio: np.ndarray, seed: int, rides: bool) -> np.ndarray:
  """Returns audio as other makers' plugins master it, at random settings."""
  rng = np.random.default_rng(seed)
  tone = mastering.equaliser_settings(rng.uniform(-5.0, 5.0, 6))
  compressor = dict(
    threshold=rng.uniform(-28, -16), ratio=rng.uniform(1.5, 4), rms=0.5,
    attack=rng.uniform(0.002, 0.03), release=rng.uniform(0.04, 0.3), noClip=0,
  )  # fmt: skip
  limiter = dict(gain=rng.uniform(8, 14), threshold=-1.0)
  audio = through(mastering.EQUALISER, audio, tone)
  audio = through(COMPRESSOR, audio, compressor)
  if rides:
    points = rng.uniform(-1.5, 1.5, 5)
    times = np.linspace(0, len(points) - 1, len(audio))
    ride_db = np.interp(times, np.arange(len(points)), points)
    audio = audio * np.float32(10 ** (ride_db / 20))[:, np.newaxis]
  return through(mastering.LIMITER, audio, limiter)


def through(uri: str, audio: np.ndarray, settings: dict) -> np.ndarray:
  """Returns audio through a plugin, [n_samples, 2]."""
  plugin = lv2.Renderer(
    uri, _RATE, fixed=settings, warm_up=8192, compensate_latency=True
  )
  return plugin.render(audio[np.newaxis])[0].copy()


# ------------------------------------------------------------ Baselines ----
class CmaEs(search_lib.Search):
  """CMA-ES on the distance itself, from the defaults."""

  def _search(self):
    start = self.chain.start()
    options = {'bounds': [0, 1], 'seed': 1 + self._seed, 'verbose': -9}
    strategy = cma.CMAEvolutionStrategy(start.controls, 0.1, options)
    while not strategy.stop():
      drawn = strategy.ask()
      points = [chain_lib.Point(each, start.choices) for each in drawn]
      values = self._distances(points)
      strategy.tell(drawn, values)
      best = int(np.argmin(values))
      self._keep('cma', values[best], points[best])


class AdamOnSpsa(search_lib.Search):
  """Adam on slopes along random directions, four at a time."""

  def _search(self):
    start, rng = self.chain.start(), np.random.default_rng(self._seed)
    controls = start.controls.copy()
    first, second = np.zeros_like(controls), np.zeros_like(controls)
    for step in range(1, 100000):
      signs = rng.choice([-1.0, 1.0], [4, len(controls)])
      ends = [controls + side * 0.01 * s for s in signs for side in (1, -1)]
      values = self._distances(
        [chain_lib.Point(np.clip(each, 0, 1), start.choices) for each in ends]
      )
      slopes = (np.array(values[::2]) - values[1::2]) / 0.02
      slope = slopes @ signs / len(signs)
      first = 0.9 * first + 0.1 * slope
      second = 0.999 * second + 0.001 * slope**2
      move = first / (1 - 0.9**step)
      move /= np.sqrt(second / (1 - 0.999**step)) + 1e-8
      controls = np.clip(controls - 0.01 * move, 0.0, 1.0)
      best = int(np.argmin(values))
      self._keep('adam', values[best], chain_lib.Point(
        np.clip(ends[best], 0, 1), start.choices))  # fmt: skip


def run_baseline(make_search, graph, audio, target, n_renders, seed) -> float:
  """Returns the MR-STFT at equal level that a baseline reaches."""
  with threadpoolctl.threadpool_limits(1):
    chain = chain_lib.Chain(graph)
    pair = pairing.make_pair(audio, target, _RATE)
    items, targets, lead = pairing.crops(pair, _RATE)
    problem = problem_lib.Problem(
      items, targets, _RATE, lead, pairing.side_weight(pair)
    )
    chain.find_linear(audio.shape[1])
    budget = problem_lib.Budget(None, n_renders)
    search = make_search(chain, problem, problem, budget, seed)
    search.run()
  setting = chain.setting(search.best)
  source = sources.from_array(audio, _RATE)
  made = np.concatenate(list(result.render(graph, setting, source).blocks()))
  return metrics.matched(target, made, _RATE)['matched_mr_stft']


def run_matchering(audio: np.ndarray, reference: np.ndarray) -> np.ndarray:
  """Returns what Matchering makes of audio and a reference."""
  try:
    import matchering
  except ImportError:
    sys.exit('The references need Matchering: pip install matchering')
  with tempfile.TemporaryDirectory() as folder:
    paths = [f'{folder}/{name}.wav' for name in ('in', 'reference', 'out')]
    for path, signal in zip(paths, (audio, reference), strict=False):
      soundfile.write(path, signal, _RATE, 'FLOAT')
    matchering.process(*paths[:2], [matchering.Result(paths[2], 'FLOAT')])
    return audio_files.read(pathlib.Path(paths[2]))[0]


# ----------------------------------------------------------------- Rows ----
def limits() -> dict:
  """Returns what a search may take."""
  return {
    'time_limit_s': FLAGS.time_limit or None,
    'max_renders': FLAGS.max_renders or None,
  }


def match_row(graph, audio, true, given, **options) -> dict:
  """Matches, and returns distances to a true target and the cost.

  Args:
    graph: The graph.
    audio: The input.
    true: What it is to become.
    given: `target` or `reference`, as `matching.match` takes them.
    **options: Others of its arguments.
  """
  cpu, wall = time.process_time(), time.perf_counter()
  found = matching.match(graph, audio, _RATE, **given, **options, **limits())
  cost = {
    'cpu_s': time.process_time() - cpu,
    'wall_s': time.perf_counter() - wall,
    'search_s': found.history[-1].seconds if found.history else 0.0,
    'n_renders': found.history[-1].n_renders if found.history else 0,
    'end': found.end,
  }
  figures = result.compare(true, audio, found.audio, _RATE)
  return {
    'alone': {name: figures['loudness'][name] for name in _FIGURES},
    'result': {name: figures['result'][name] for name in _FIGURES},
    'told': found.figures['result'],
    **cost,
  }


def pair_row(kind: str, chain: str, audio: np.ndarray, seed: int) -> dict:
  """Returns the figures of a pair."""
  graph = graph_of(chain)
  if kind == 'hidden':
    target = hidden_target(graph, audio, seed)
  else:
    target = others_target(audio, seed, rides=kind == 'masters')
  row = match_row(graph, audio, target, {'target': target})
  row['n_controls'] = chain_lib.Chain(graph).n_controls
  if kind == 'hidden' and FLAGS.baselines:
    for name, search in (('cma_es', CmaEs), ('adam_on_spsa', AdamOnSpsa)):
      row[name] = run_baseline(
        search, graph_of(chain), audio, target, row['n_renders'], seed
      )
  return row


def reference_row(audio: np.ndarray, other: np.ndarray, seed: int) -> dict:
  """Returns the figures of a reference: by default, at 1, and of Matchering."""
  true, reference = (others_target(x, seed, False) for x in (audio, other))
  given = {'reference': reference}
  row = match_row(graph_of('match_master'), audio, true, given)
  row['whole'] = match_row(
    graph_of('match_master'), audio, true, given, amount=1.0
  )
  made = run_matchering(audio, reference)
  row['matchering'] = {
    name: result.measure(true, made, _RATE)[name] for name in _FIGURES
  }
  told = result.compare_characters([reference], audio, made, _RATE)
  row['matchering_told'] = told['result']
  return row


def problems():
  """Yields (set, chain, song, seed)."""
  n_songs = len(songs())
  for i in range(FLAGS.first, FLAGS.first + FLAGS.problems):
    chain = CHAINS[i % len(CHAINS)]
    if 'hidden' in FLAGS.sets and chain in (FLAGS.chains or CHAINS):
      yield 'hidden', chain, i % n_songs, i
  for kind in SETS[1:]:
    for i in range(FLAGS.first, FLAGS.first + FLAGS.problems):
      if kind in FLAGS.sets:
        yield kind, 'match_master', i % n_songs, 100 + i


def run(kind, chain, song, seed) -> dict:
  """Returns the row of one problem."""
  paths = songs()
  audio = load(paths[song])
  if kind == 'references':
    other = load(paths[(song + 7) % len(paths)])
    return reference_row(audio, other, seed)
  return pair_row(kind, chain, audio, seed)


# -------------------------------------------------------------- Targets ----
def values(rows: list[dict], version: str, figure: str) -> np.ndarray:
  """Returns a figure of a version, of each row."""
  return np.array([row[version][figure] for row in rows])


def targets(kind: str, rows: list[dict]) -> dict[str, bool]:
  """Returns {target: whether the rows of a set reach it}."""

  def mean(figure, version='result'):
    return values(rows, version, figure).mean()

  if kind == 'hidden':
    near = values(rows, 'result', 'matched_mr_stft')
    found = {
      'MR-STFT at most 0.06 at the median': np.median(near) <= 0.06,
      'MR-STFT at most 0.12 at the worst': near.max() <= 0.12,
    }
    many = [
      r['result']['matched_mr_stft'] / r['cma_es']
      for r in rows
      if 'cma_es' in r and r['n_controls'] >= _MANY_CONTROLS
    ]
    if many:
      found["a third of CMA-ES's at the median, many controls"] = (
        np.median(many) <= 1 / 3
      )
    return found
  if kind == 'others':
    share = mean('matched_mr_stft') / mean('matched_mr_stft', 'alone')
    return {
      'average spectrum within 0.5 dB': mean('average_spectrum_db') <= 0.5,
      'crest within 0.5 dB': mean('crest_error_db') <= 0.5,
      'MR-STFT at least 60 % below untreated': share <= 0.4,
    }
  if kind == 'masters':
    return {
      'MR-STFT at most 0.41': mean('matched_mr_stft') <= 0.41,
      'average spectrum within 0.4 dB': mean('average_spectrum_db') <= 0.4,
      'crest within 0.3 dB': mean('crest_error_db') <= 0.3,
    }
  whole = [row['whole'] for row in rows]
  return {
    'told loudness within 1 LU': max(
      values(rows, 'told', 'loudness_error_lu')
    ) <= 1.0,
    'crest at least 35 % below loudness alone': mean('crest_error_db')
    <= 0.65 * mean('crest_error_db', 'alone'),
    **{
      f'{figure} not above loudness alone': mean(figure)
      <= mean(figure, 'alone')
      for figure in _FIGURES[:2]
    },
    **{
      f'at amount 1, {figure} below Matchering': values(
        whole, 'result', figure
      ).mean() <= mean(figure, 'matchering')
      for figure in _FIGURES
    },
  }  # fmt: skip


# The versions of a set that are told, and what the table calls them.
_VERSIONS = {
  'alone': 'loudness alone', 'result': 'dafx', 'whole': 'dafx, amount 1',
  'matchering': 'Matchering',
}  # fmt: skip
_BASELINES = {'cma_es': 'CMA-ES', 'adam_on_spsa': 'Adam on SPSA'}


def table(rows_of: dict[str, list[dict]]) -> list[list]:
  """Returns medians and the worst of all versions of all sets."""
  lines = []
  for kind, rows in rows_of.items():
    groups = {kind: rows}
    if kind == 'hidden':
      groups = {
        f'hidden: {name}': [r for r in rows if r['chain'] == name]
        for name in CHAINS
      }
    for title, own in groups.items():
      for version, name in _VERSIONS.items() if own else ():
        if version not in own[0]:
          continue
        each = [
          row['whole']['result'] if version == 'whole' else row[version]
          for row in own
        ]
        figures = [np.array([e[f] for e in each]) for f in _FIGURES]
        medians = [round(float(np.median(f)), 3) for f in figures]
        lines.append([title, name, len(own), *medians,
                      round(float(figures[0].max()), 3)])  # fmt: skip
      for name in _BASELINES:
        found = [row[name] for row in own if name in row]
        if found:
          lines.append([title, _BASELINES[name], len(found),
                        round(float(np.median(found)), 3), None, None, None,
                        round(float(np.max(found)), 3)])  # fmt: skip
  return lines


def report(rows_of: dict[str, list[dict]]) -> bool:
  """Prints table, cost and targets; returns whether all were reached."""
  lines = table(rows_of)
  for line in lines:
    print(' | '.join(str(cell) for cell in line))
  reached = True
  for kind, rows in rows_of.items():
    ends = [row['end'] for row in rows]
    counted = ', '.join(f'{e} {ends.count(e)}' for e in sorted(set(ends)))
    costs = [
      np.median([row[name] for row in rows])
      for name in ('cpu_s', 'wall_s', 'n_renders')
    ]
    print(
      f'{kind}: {costs[0]:.0f} CPU s, {costs[1]:.0f} s, {costs[2]:.0f} renders '
      f'at the median; ended by: {counted}'
    )
    for target, is_reached in targets(kind, rows).items():
      print(f'{kind}: {target}: {"yes" if is_reached else "NO"}')
      reached &= bool(is_reached)
  return reached


_COLUMNS = (
  'Problems', 'Version', 'How many', 'MR-STFT at equal level',
  'Average spectrum, dB', 'Crest, dB', 'Loudness, LU', 'MR-STFT at worst',
)  # fmt: skip
_PLUGINS = (
  COMPRESSOR, mastering.EQUALISER, 'urn:zamaudio:ZaMultiCompX2',
  'http://calf.sourceforge.net/plugins/Limiter',
  'http://lsp-plug.in/plugins/lv2/para_equalizer_x16_stereo',
)  # fmt: skip


def main(argv):
  """Runs the problems that are not there yet, and reports."""
  del argv
  gin_files.add_gin_search_paths()
  path = pathlib.Path(FLAGS.output_dir) / 'rows.json'
  path.parent.mkdir(parents=True, exist_ok=True)
  kept = json.loads(path.read_text()) if path.exists() else {}
  rows_of: dict[str, list[dict]] = {}
  for kind, chain, song, seed in problems():
    budget = f'{FLAGS.time_limit:g} s {FLAGS.max_renders} renders'
    key = f'{kind} {chain} {song} {seed} {budget}'
    if key not in kept:
      kept[key] = {'chain': chain, **run(kind, chain, song, seed)}
      path.write_text(json.dumps(kept, indent=1) + '\n', encoding='utf-8')
    row = kept[key]
    told = {k: v for k, v in row.items() if k not in ('told', 'whole')}
    print(key, json.dumps(told), flush=True)
    rows_of.setdefault(kind, []).append(row)
  reached = report(rows_of)
  results.keep(rows_of)
  results.write('matching', _COLUMNS, table(rows_of), _PLUGINS, decimals=3)
  sys.exit(0 if reached else 1)


if __name__ == '__main__':
  running.prepare_tensorflow(0)
  app.run(main)
