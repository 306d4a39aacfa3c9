"""Plugin cards: whether a plugin can be trained, and how."""

import concurrent.futures
import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import re
import sys
import threading
import time

import numpy as np
import tqdm

from dafx.lv2 import errors, processes, stimuli, world
from dafx.lv2.cards import binding
from dafx.lv2.cards import card as cards

_log = logging.getLogger('dafx.lv2')
_SAMPLE_RATE = 48000
_BLOCK_SIZE = 1024
_TIME_LIMIT_S = 60.0
# Why the same render may come out otherwise.
RANDOM = 'it is random'
MEMORY = 'it reads memory that it never wrote to'
UNEQUAL = 'new instances differ'
# Hangs and crashes of one plugin after which the rest is left out.
_MAX_HANGS, _MAX_CRASHES = 3, 8
# Settings other than the defaults from which silent controls are moved.
_N_BASES = 3
# Time to find out what controls do at settings other than the defaults.
_PATIENCE_S = 15.0
_CONTROLS_PER_CALL = 64
_N_SETTINGS = 8
# Seeds made from the clock count seconds.
_CLOCK_S = 1.1

# What failures are called, by what is said of them.
_KINDS = (
  ('left out', r'^left out'),
  ('crash', r'crashed \(SIG'),
  ('hang', r'hung for more than'),
  ('exit', r'ended its process'),
  ('no audio output', r'has no audio output'),
  ('missing feature', r'needs what this host does not have'),
  ('library does not load', r'its library does not load'),
  ('refuses to start', r'could not be instantiated|refuses'),
  ('not readable', r'could not be read'),
)


def failure_kind(reason: str) -> str:
  """Returns what kind of failure a message tells of, such as 'crash'."""
  return next((k for k, text in _KINDS if re.search(text, reason)), 'other')


# As many plugins are looked at side by side as there are processors.
_N_PROCESSES = len(os.sched_getaffinity(0))
_slots = threading.BoundedSemaphore(_N_PROCESSES)
_is_interrupted = threading.Event()


def _call(module, function, arguments, in_new_process, seconds):
  """Runs an experiment in a worker process.

  What crashes a worker that has run other plugins before is tried again in a
  new one: it may be another's fault. `seconds` by function are added to.
  """

  def attempt(in_new_process):
    with _slots:
      if _is_interrupted.is_set():
        raise concurrent.futures.CancelledError
      start = time.monotonic()
      try:
        return processes.call(
          f'dafx.lv2.{module}',
          function,
          arguments,
          _TIME_LIMIT_S,
          in_new_process,
        )
      finally:
        seconds[function] = (
          seconds.get(function, 0.0) + time.monotonic() - start
        )

  if in_new_process:
    return attempt(True)
  try:
    return attempt(False)
  except errors.PluginError as error:
    if failure_kind(str(error)) not in ('crash', 'exit'):
      raise
  return attempt(True)


class _Examination:
  """The experiments with one plugin, each of which may fail."""

  def __init__(self, plugin: world.Plugin):
    self.plugin = plugin.at_rate(_SAMPLE_RATE)
    self.settings = dict(
      uri=plugin.uri, sample_rate=_SAMPLE_RATE, block_size=_BLOCK_SIZE
    )
    self.card = cards.Card(
      uri=plugin.uri,
      name=binding.one_line(plugin.name),
      version=plugin.version,
      audio_inputs=[p.symbol for p in plugin.main_inputs],
      audio_outputs=[p.symbol for p in plugin.audio_outputs],
      sample_rate=_SAMPLE_RATE,
      block_size=_BLOCK_SIZE,
      side_chains=[p.symbol for p in plugin.side_chains],
      files=[p.uri for p in plugin.files],
      has_presets=plugin.has_presets,
    )
    self.n_hangs = self.n_crashes = 0

  @contextlib.contextmanager
  def stage(self, name: str):
    """Notes what a part failed by."""
    try:
      yield
    except errors.PluginError as error:
      self.note(name, error)

  def note(self, stage: str, error, where: str = ''):
    """Keeps a fault on the card."""
    text = binding.one_line(str(error))
    # What follows is of use to who renders, not on a card.
    text = text.partition(' Its process is replaced;')[0]
    kind = failure_kind(text)
    self.card.faults.append(cards.Fault(stage, kind, where, text))

  def call(
    self,
    function,
    *,
    module='cards.experiments',
    in_new_process=False,
    **kwargs,
  ):
    """Runs an experiment on this plugin."""
    if self.n_hangs >= _MAX_HANGS or self.n_crashes >= _MAX_CRASHES:
      raise errors.PluginError('left out, because it crashed or hung too often')
    arguments = {**self.settings, **kwargs}
    try:
      return _call(
        module, function, arguments, in_new_process, self.card.seconds
      )
    except errors.PluginError as error:
      kind = failure_kind(str(error))
      self.n_hangs += kind == 'hang'
      self.n_crashes += kind in ('crash', 'exit')
      raise

  def run(self) -> cards.Card:
    """Does them all; returns the card."""
    with self.stage('sound'):
      self.keep(self.call('sound'))
    if self.card.faults:
      fault = self.card.faults[0]
      self.keep(dict(status='failed', reason=fault.text, kind=fault.kind))
      return self.card
    if self.plugin.files:
      with self.stage('files'):
        self.keep(self.call('file_levels', module='cards.file_levels'))
    with self.stage('blocks'):
      self.keep(self.call('host_dependence'))
    with self.stage('threads'):
      self.keep(self.call('thread_safety'))
    with self.stage('repeatability'):
      self.measure_repeatability()
    with self.stage('latency'):
      moves = self.call(
        'find_moves_of_latency',
        module='safety',
        symbols=[p.symbol for p in self.plugin.controls.values()],
      )
      self.keep({'latency_moves': moves})
    self.measure_controls()
    with self.stage('neutral setting'):
      self.measure_neutral()
    with self.stage('settings'):
      self.card.n_settings = _N_SETTINGS
      for found in self.bisect('sweep', 'seeds', list(range(_N_SETTINGS))):
        self.card.n_bad_settings += bool(found['n_nonfinite'])
    if self.card.digests:
      self.judge_repeatability()
    self.card.reason = '; '.join(self.card.fault_texts)
    return self.card

  def keep(self, found: dict):
    """Notes what an experiment found on the card."""
    self.card = dataclasses.replace(self.card, **found)

  def measure_repeatability(self):
    """Renders the same in two processes, and on many instances."""
    started = time.monotonic()
    # What crashes at random settings is rendered at the defaults alone.
    for seeds in ([0], []):
      try:
        first = self.call('digest', in_new_process=True, seeds=seeds)
        time.sleep(max(0.0, started + _CLOCK_S - time.monotonic()))
        found = self.call('repeatability', seeds=seeds)
      except errors.PluginError as error:
        if not seeds:
          raise
        self.note('repeatability', error, where=f'seed: {seeds[0]}')
      else:
        digests = [first, found.pop('digest')]
        self.keep({**found, 'digests': digests})
        return

  def judge_repeatability(self):
    """Says whether two renders of the same give the same, and why not."""
    card = self.card
    causes = {
      RANDOM: len(set(card.digests)) > 1 or bool(card.alike_error),
      MEMORY: bool(card.memory_error),
      UNEQUAL: bool(card.instances_error),
    }
    card.why_not_repeatable = next((w for w in causes if causes[w]), '')
    card.repeatable = not card.why_not_repeatable
    if not card.repeatable:  # of no meaning then
      card.threads_error = card.block_difference_db = card.stream_error = None
      card.start_difference_db = None

  def measure_controls(self):
    """Finds out what each control does, also where traps are avoided."""
    card, plugin = self.card, self.plugin
    symbols = [p.symbol for p in plugin.controls.values()]
    with self.stage('controls'):
      effects = self.effects(symbols, {})
      card.controls = [
        cards.Control(
          **effect, kind=binding.control_kind(plugin.control(symbol))
        )
        for symbol, effect in effects.items()
      ]
    traps = binding.find_traps(plugin)
    fixed = {symbol: value for symbol, (value, _) in traps.items()}
    fixed = {s: v for s, v in fixed.items() if v != plugin.control(s).default}
    card.traps = {s: [fixed[s], traps[s][1]] for s in fixed}
    if fixed:
      with self.stage('traps'):
        self.wake('fixed_effect_db', fixed, {})
    # What controls do may hang on others.
    ranges = [p.symbol for p in binding.trainable_controls(plugin)]
    switches = [
      p.symbol
      for p in plugin.controls.values()
      if p.is_discrete and p.symbol not in fixed and not binding.silences(p)
    ]
    for seed in range(_N_BASES):
      base = self.random_base(ranges, seed)
      with self.stage('other settings'):
        self.wake('other_effect_db', fixed, base)
      base.update(self.random_base(switches, seed))
      with self.stage('other settings'):
        self.wake('switched_effect_db', fixed, base)

  def measure_neutral(self):
    """Finds out what an effect changes where it is to do nothing."""
    if self.card.audio_inputs and self.card.audio_outputs:
      neutral = binding.find_neutral(self.plugin)
      module = 'cards.neutral'
      self.keep(self.call('neutral_cost', module=module, neutral=neutral))

  def random_base(self, symbols, seed) -> dict[str, float]:
    """Returns random values of controls, by symbol."""
    rng = np.random.default_rng(seed)
    values = stimuli.random_settings(self.plugin, symbols, rng)
    return dict(zip(symbols, values.tolist(), strict=True))

  def wake(self, key, fixed, base):
    """Notes what controls do that did nothing so far, as an attribute."""
    if self.card.seconds.get('control_effects', 0.0) > _PATIENCE_S:
      return
    controls = self.card.controls or []
    asleep = [c for c in controls if c.kind == 'range' and not c.is_audible]
    effects = self.effects([c.symbol for c in asleep], fixed, base)
    for control in asleep:
      if control.symbol in effects:
        found = effects[control.symbol]['effect_db']
        found = max(found, dataclasses.asdict(control)[key])
        place = controls.index(control)
        controls[place] = dataclasses.replace(control, **{key: found})

  def effects(self, symbols, fixed, base=None) -> dict[str, dict]:
    """Returns the effects of controls, by symbol."""
    base = base or {}
    found = []
    for start in range(0, len(symbols), _CONTROLS_PER_CALL):
      some = symbols[start : start + _CONTROLS_PER_CALL]
      found += self.bisect(
        'control_effects', 'symbols', some, fixed=fixed, base=base
      )
    return {effect['symbol']: effect for effect in found}

  def bisect(self, function, name, items, **kwargs) -> list:
    """Returns an experiment's answers for items, but for those that crash.

    Crashes are noted, with the item that causes each.
    """
    try:
      return self.call(function, **{name: items}, **kwargs)
    except errors.PluginError as error:
      if len(items) == 1 or failure_kind(str(error)) == 'hang':
        what = items[0] if len(items) == 1 else f'{items[0]} to {items[-1]}'
        self.note(function, error, where=f'{name}: {what}')
        return []
      if failure_kind(str(error)) == 'left out':
        raise
    half = len(items) // 2
    return [
      found
      for some in (items[:half], items[half:])
      for found in self.bisect(function, name, some, **kwargs)
    ]


def check(uri: str) -> cards.Card:
  """Tries a plugin out in worker processes.

  Args:
    uri: URI of the plugin.

  Returns:
    The plugin's card, as far as the check came.

  Raises:
    ValueError: No such plugin.
  """
  return _Examination(world.get_plugin(uri)).run()


# ------------------------------------------------------------------ All ----
class _Log:
  """Cards as they are made, kept in a file of one line each.

  Args:
    path: Of the file that the cards are for at the end; None keeps nothing.
  """

  def __init__(self, path: str | None):
    self._path = pathlib.Path(f'{path}.partial') if path else None
    self._lock = threading.Lock()

  def read(self) -> dict[str, cards.Card]:
    """Returns the cards that an interrupted run left, by URI."""
    found = {}
    if self._path and self._path.exists():
      for line in self._path.read_text(encoding='utf-8').splitlines():
        # The last line may be a half, and cards of another version of dafx.
        with contextlib.suppress(ValueError, TypeError):
          card = cards.Card.from_json(json.loads(line))
          found[card.uri] = card
    return found

  def add(self, card: cards.Card):
    """Keeps a card."""
    if self._path:
      with self._lock, self._path.open('a', encoding='utf-8') as file:
        file.write(json.dumps(card.to_json()) + '\n')

  def remove(self):
    """Removes the file: all is written elsewhere."""
    if self._path:
      self._path.unlink(missing_ok=True)


def check_all(
  uris: list[str], json_path: str | None = None
) -> list[cards.Card]:
  """Checks plugins, as many at a time as there are processors.

  Shows how far it is. Cards are kept as they are made, in `json_path` and
  '.partial'; a run that was interrupted goes on from there.

  Args:
    uris: URIs of the plugins.
    json_path: Where to write the cards; None for nowhere.

  Returns:
    Their cards, in order.
  """
  log = _Log(json_path)
  versions = {uri: world.get_plugin(uri).version for uri in uris}
  found = {
    uri: card
    for uri, card in log.read().items()
    if card.version == versions.get(uri)
  }
  if found:
    _log.info('Going on: %d plugins were checked before.', len(found))
  missing = [uri for uri in uris if uri not in found]
  bar = tqdm.tqdm(
    total=len(uris),
    initial=len(found),
    unit='plugin',
    disable=not sys.stderr.isatty(),
  )
  last = time.monotonic()
  # More threads than processes that they wait for: some sleep.
  executor = concurrent.futures.ThreadPoolExecutor(2 * _N_PROCESSES)
  _is_interrupted.clear()

  def check_and_keep(uri):
    card = check(uri)
    log.add(card)
    return card

  try:
    futures = [executor.submit(check_and_keep, uri) for uri in missing]
    for future in concurrent.futures.as_completed(futures):
      card = future.result()
      found[card.uri] = card
      bar.update()
      if bar.disable and time.monotonic() - last > 10.0:
        last = time.monotonic()
        _log.info('Checked %d of %d plugins.', len(found), len(uris))
  except BaseException:
    _is_interrupted.set()
    raise
  finally:
    executor.shutdown(wait=False, cancel_futures=True)
    bar.close()
  ordered = [found[uri] for uri in uris]
  if json_path:
    temporary = f'{json_path}.new'
    with open(temporary, 'w', encoding='utf-8') as file:
      json.dump([card.to_json() for card in ordered], file, indent=1)
      file.write('\n')
    os.replace(temporary, json_path)
    log.remove()
  return ordered
