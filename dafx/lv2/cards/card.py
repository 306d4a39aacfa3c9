"""The card of a plugin: what was found out about it, and the verdict on it."""

import dataclasses
import typing
from collections.abc import Mapping

AUDIBLE_DB = -60.0
# No level below this is told from silence.
SILENCE_DB = -200.0
# Below it an output counts as silent.
_QUIET_DB = -100.0
# An echo's lag is no latency; nor is that of a filter, by a sample or two.
_LATENCY_TOLERANCE = 4


@dataclasses.dataclass
class Fault:
  """What went wrong in a part of the check.

  Attributes:
    stage: Which part.
    kind: What sort of failure, such as 'crash' or 'hang'.
    where: At which settings, or ''.
    text: What happened.
  """

  stage: str
  kind: str
  where: str
  text: str


@dataclasses.dataclass
class Control:
  """What a control does.

  Levels are of the largest change, in dB relative to the output at the
  defaults; -200 for no change, or not tried.

  Attributes:
    symbol: The control.
    kind: 'switch', 'enum', 'integer' or 'range'.
    n_nonfinite: Samples not finite while it was moved from the defaults.
    effect_db: Moved from the defaults.
    fixed_effect_db: The same while the traps are fixed.
    other_effect_db: Moved from random settings of the other ranges.
    switched_effect_db: Moved from random settings of the switches too.
  """

  symbol: str
  kind: str
  n_nonfinite: int
  effect_db: float
  fixed_effect_db: float = SILENCE_DB
  other_effect_db: float = SILENCE_DB
  switched_effect_db: float = SILENCE_DB

  @property
  def unswitched_effect_db(self) -> float:
    """Level of the largest change without moving switches."""
    return max(self.effect_db, self.fixed_effect_db, self.other_effect_db)

  @property
  def largest_effect_db(self) -> float:
    """Level of the largest change at any setting."""
    return max(self.unswitched_effect_db, self.switched_effect_db)

  @property
  def is_audible(self) -> bool:
    """Whether it changes the sound at any setting that was tried."""
    return self.largest_effect_db > AUDIBLE_DB


class Verdict(typing.NamedTuple):
  """Whether a plugin can be trained.

  Attributes:
    train: 'yes', 'with care' or 'no'.
    advice: Sentences on what to mind.
  """

  train: str
  advice: list[str]


@dataclasses.dataclass
class Card:
  """What was found out about a plugin.

  None stands for what was not: the check did not come so far, or it means
  nothing of a plugin that is not repeatable.

  Attributes:
    uri: The plugin.
    name: Its name for people.
    version: Its version.
    audio_inputs: Symbols of its audio inputs but for side chains, in port
      order: its channels.
    audio_outputs: Symbols of its audio outputs.
    sample_rate: Rate that it was run at, in Hz.
    block_size: Largest number of samples per run.
    side_chains: Symbols of its side chains, which hear what goes in.
    files: URIs of its parameters that are files.
    has_presets: Whether presets of it are installed.
    file_levels: Level of the output at the defaults, in dB, with an impulse
      response for one of them, by URI.
    file_advice: What lets those be heard that change nothing at the defaults,
      in words, by URI.
    status: 'ok', or 'failed' if it does not render.
    reason: Why it failed, or the faults in one line; ''.
    kind: What sort of failure, as of a `Fault`; ''.
    faults: Crashes and the like, in what else was tried.
    seconds: What each part of the check took.
    latency: Samples that a `Renderer` takes out.
    latency_reported: Samples that the plugin reports; None without such a port.
    latency_measured: Lag in samples at which an output is a copy of an input;
      None if none is.
    latency_moves: (Lowest, highest) latency in samples of the controls that
      move it, by symbol.
    n_nonfinite: Samples at the defaults that are NaN or infinite.
    level_db: Level of the output at the defaults.
    peak: Its largest sample.
    real_time_factor: Seconds of audio per second of rendering, one thread.
    instance_ms: Cost of a new instance, in milliseconds.
    block_difference_db: Level of what small blocks change, at the defaults and
      at random settings, relative to the output; -200 for nothing.
    refused_block_sizes: Block sizes that it does not take.
    start_difference_db: The same of what a longer time of silence before the
      audio changes: it glides to its values, or has a clock of its own.
    stream_error: Largest difference of a stream to one render.
    threads_error: Largest difference of renders side by side.
    repeatable: Whether the same render gives the same samples.
    why_not_repeatable: Why not, or ''.
    digests: Hashes of one render in two processes.
    instances_error: Largest difference of two instances.
    alike_error: The same while fresh memory holds the same bytes.
    memory_error: Largest difference by what fresh memory holds.
    controls: What each does, in port order.
    traps: (Value to fix, why) of controls that spoil the training, by symbol.
    default_cost: What it changes at its defaults, MR-STFT of input and output
      at equal level; None for what takes or gives no audio, or silence.
    neutral_cost: The same at the setting at which it is to do nothing; see
      `binding.find_neutral`.
    n_settings: Random settings that were tried.
    n_bad_settings: Those of them with samples that are not finite.
  """

  uri: str
  name: str
  version: str
  audio_inputs: list[str]
  audio_outputs: list[str]
  sample_rate: int
  block_size: int
  side_chains: list[str] = dataclasses.field(default_factory=list)
  files: list[str] = dataclasses.field(default_factory=list)
  has_presets: bool = False
  file_levels: dict[str, float] = dataclasses.field(default_factory=dict)
  file_advice: dict[str, str] = dataclasses.field(default_factory=dict)
  status: str = 'ok'
  reason: str = ''
  kind: str = ''
  faults: list[Fault] = dataclasses.field(default_factory=list)
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)
  latency: int | None = None
  latency_reported: int | None = None
  latency_measured: int | None = None
  latency_moves: dict[str, list[int]] = dataclasses.field(default_factory=dict)
  n_nonfinite: int = 0
  level_db: float | None = None
  peak: float | None = None
  real_time_factor: float | None = None
  instance_ms: float | None = None
  block_difference_db: float | None = None
  refused_block_sizes: list[int] = dataclasses.field(default_factory=list)
  start_difference_db: float | None = None
  stream_error: float | None = None
  threads_error: float | None = None
  repeatable: bool | None = None
  why_not_repeatable: str = ''
  digests: list[str] = dataclasses.field(default_factory=list)
  instances_error: float | None = None
  alike_error: float | None = None
  memory_error: float | None = None
  controls: list[Control] | None = None
  traps: dict[str, list] = dataclasses.field(default_factory=dict)
  default_cost: float | None = None
  neutral_cost: float | None = None
  n_settings: int | None = None
  n_bad_settings: int = 0

  def to_json(self) -> dict:
    """Returns it, and the verdict, as what JSON can hold."""
    return dataclasses.asdict(self) | {'verdict': self.verdict._asdict()}

  @classmethod
  def from_json(cls, content: Mapping) -> 'Card':
    """Returns the card that `to_json` gave.

    Args:
      content: What it gave, or what JSON made of that.

    Raises:
      TypeError: It is not of that form, as of another version of dafx.
    """
    fields = {key: value for key, value in content.items() if key != 'verdict'}
    controls = fields.get('controls')
    if controls is not None:
      fields['controls'] = [Control(**control) for control in controls]
    fields['faults'] = [Fault(**fault) for fault in fields.get('faults', ())]
    return cls(**fields)

  @property
  def verdict(self) -> 'Verdict':
    """What comes of it all."""
    return judge(self)

  @property
  def is_ok(self) -> bool:
    """Whether it renders."""
    return self.status == 'ok'

  @property
  def ranges(self) -> list[Control]:
    """Its controls with a range."""
    return [c for c in self.controls or () if c.kind == 'range']

  @property
  def audible_controls(self) -> list[Control]:
    """Its controls with a range that change the sound, the most first."""
    audible = [control for control in self.ranges if control.is_audible]
    return sorted(audible, key=lambda c: -c.largest_effect_db)

  @property
  def late_by(self) -> int:
    """Samples by which the output is off the latency that it reports."""
    if self.latency_reported is None or self.latency_measured is None:
      return 0
    late = self.latency_measured - self.latency_reported
    return late if abs(late) > _LATENCY_TOLERANCE else 0

  @property
  def fault_texts(self) -> list[str]:
    """What is wrong with a plugin that renders."""
    texts = []
    if self.n_nonfinite:
      texts.append(f'{self.n_nonfinite} samples at the defaults are not finite')
    texts += [
      f'{fault.kind} in {fault.stage}'
      + (f' ({fault.where})' if fault.where else '')
      + f': {fault.text}'
      for fault in self.faults
    ]
    return texts


def judge(card: Card) -> Verdict:
  """Says whether a plugin can be trained and what to mind.

  Args:
    card: What was found out.
  """
  if not card.is_ok:
    return Verdict('no', [card.reason])
  audible = card.audible_controls
  advice = []
  if not audible:
    advice.append(
      'No control with a range changes the sound, at any setting that was '
      'tried.'
    )
  switched = [c.symbol for c in audible if c.unswitched_effect_db <= AUDIBLE_DB]
  if switched:
    advice.append(
      f'{_join(switched)} need{"s" if len(switched) == 1 else ""} switches '
      'at other settings than the defaults: fix these, or leave them out.'
    )
  if card.level_db is not None and card.level_db < _QUIET_DB:
    advice.append('Silent at its defaults.' + _needed_files(card))
  if not card.audio_inputs:
    advice.append('It takes no audio: it makes sound of MIDI or by itself.')
  fixed = [f'{symbol}={value:g}' for symbol, (value, _) in card.traps.items()]
  if fixed and audible:
    advice.append(f'Fix {_join(fixed)}, as `dafx_plugins gin` does.')

  train = 'yes' if audible and card.audio_inputs else 'no'
  care = _reasons_for_care(card)
  if train == 'yes' and care:
    train = 'with care'
  return Verdict(train, advice + care + _remarks(card))


def _needed_files(card: Card) -> str:
  """Says which files, or what else, may make a silent plugin sound."""
  heard = [uri for uri, db in card.file_levels.items() if db >= _QUIET_DB]
  if heard:
    return (
      ' It needs a file: with an impulse response it sounds. Give one by '
      f'`fixed`, or by --file of dafx_plugins render: {_join(heard)}.'
    )
  if card.files:
    return f' It takes files, which it may need: {_join(card.files)}.'
  if card.has_presets:
    return (
      ' It has presets, which may hold what it needs; `dafx_plugins show` '
      'names them.'
    )
  return ''


def _reasons_for_care(card: Card) -> list[str]:
  """Returns what can make the training of a plugin go wrong."""
  care = []
  if card.repeatable is False:
    why = card.why_not_repeatable
    care.append(f'Not repeatable, {why}: gradients are noisy.')
  if card.threads_error:
    care.append('Not safe on threads: n_threads=1, or isolation="process".')
  if any(fault.kind in ('crash', 'exit', 'hang') for fault in card.faults):
    care.append('It crashes or hangs at some settings: isolation="process".')
  bad = [c.symbol for c in card.audible_controls if c.n_nonfinite]
  if bad:
    care.append(
      f'Samples are not finite at ends of {_join(bad)}: narrow their ranges.'
    )
  elif card.n_bad_settings or card.n_nonfinite:
    care.append('Some settings give samples that are not finite.')
  if card.late_by:
    care.append(
      f'The output is {card.late_by:+d} samples off the latency that it '
      'reports.'
    )
  if card.stream_error:
    care.append('Streams (stateful=True) do not give what one render does.')
  return care


def _remarks(card: Card) -> list[str]:
  """Returns what else to mind."""
  remarks = [
    f'A file for {uri} changes nothing at the defaults. {advice}'
    for uri, advice in card.file_advice.items()
  ]
  if card.latency_moves:
    names = _join(list(card.latency_moves))
    remarks.append(f'Not to be trained, as the latency moves with it: {names}.')
  change_db = card.block_difference_db
  if change_db is not None and change_db > AUDIBLE_DB:
    remarks.append(
      'Another host may sound otherwise: it depends on the block size. Train '
      'with the one that you will use.'
    )
  change_db = card.start_difference_db
  if change_db is not None and change_db > AUDIBLE_DB:
    remarks.append(
      'Another host may sound otherwise: it depends on how long it ran before, '
      'as what glides to its values does, or has a clock.'
    )
  speed = card.real_time_factor
  if speed is not None and speed < 20.0:
    milliseconds = 1e3 / speed
    remarks.append(f'Slow: {milliseconds:.0f} ms per second of audio.')
  return remarks


def _join(names: list[str], most: int = 6) -> str:
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more
