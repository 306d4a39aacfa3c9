"""Recordings of one instrument, made ready to train a model that plays it.

As `ddsp_prepare_tfrecord` does: recordings are cut, pitch and loudness of each
frame are found, and both are written as TFRecord files that DDSP reads too.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from dafx import pitch
from dafx.audio import disk, scans, sources
from dafx.audio import files as audio_files
from dafx.training import progress as progress_bar
from dafx.training import transfer
from dafx.training.data_preparation import files

SPLITS = ('train', 'valid', 'test')
EXAMPLE_S = 4.0
# Recordings are cut into stretches of so many examples; of ten stretches, one
# goes to valid and one to test.
_EXAMPLES_OF_STRETCH = 3
_EVERY = 10
# Less than this is no training set.
_LEAST_S = 3 * EXAMPLE_S
# Of the power of voiced frames, the share that lies at partials of the pitch:
# below the first, several voices sound at a time; below the second, there is
# noise or reverberation.
_LEAST_HARMONIC, _GOOD_HARMONIC = 0.6, 0.85
_GOOD_VOICED_S = 600.0
_GOOD_SNR_DB = 30.0
_NOTES = ('C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B')


def note_name(midi: float) -> str:
  """Returns the name of a note, such as A4 for 69."""
  octave, name = divmod(round(midi), 12)
  return f'{_NOTES[name]}{octave - 1}'


@dataclasses.dataclass(frozen=True)
class Recording:
  """A recording with what was found in it.

  Attributes:
    name: For messages.
    audio: At the rate of the records, [n_samples].
    curves: 'f0_hz', 'f0_confidence', 'loudness_db' and others of the same
      frames, [n_frames] each.
    n_clipped: Samples that are clipped.
    harmonic_share: Of the power of voiced frames, the share that lies at the
      partials of the pitch; NaN without voiced frames.
  """

  name: str
  audio: np.ndarray
  curves: Mapping[str, np.ndarray]
  n_clipped: int = 0
  harmonic_share: float = float('nan')

  @property
  def is_voiced(self) -> np.ndarray:
    """Which frames have a pitch, [n_frames]."""
    return self.curves['f0_confidence'] >= pitch.VOICED


@dataclasses.dataclass(frozen=True)
class Form:
  """What records are like.

  Attributes:
    sample_rate: Of the audio, in Hz.
    frame_rate: Frames per second; they hold whole samples.
    tracker: Finds the pitch.
    f_min_hz: The lowest pitch of the instrument; None for the tracker's.
    f_max_hz: The highest.
  """

  sample_rate: int = 16000
  frame_rate: int = 250
  tracker: str = 'swift_f0'
  f_min_hz: float | None = None
  f_max_hz: float | None = None

  def __post_init__(self):
    """Raises ValueError for frames that hold no whole samples."""
    if self.frame_rate < 1 or self.sample_rate % self.frame_rate:
      raise ValueError(
        f'--frame_rate={self.frame_rate} does not divide '
        f'--sample_rate={self.sample_rate}: frames must hold whole samples.'
      )


def analyse(name: str, source: sources.Source, form: Form) -> Recording:
  """Finds pitch and loudness of a recording.

  Args:
    name: For messages.
    source: Audio of any rate and channels, which are mixed.
    form: What records are like.

  Raises:
    ValueError: Samples that are not finite.
    ImportError: The tracker is not installed.
  """
  found = scans.scan(source.blocks(), source.sample_rate)
  if found.fault:
    raise ValueError(found.fault)
  mono = sources.mixed(source)
  audio, heard = (
    np.concatenate(list(sources.resampled(mono, rate).blocks()))[:, 0]
    for rate in (form.sample_rate, pitch.SAMPLE_RATE)
  )
  rates = pitch.SAMPLE_RATE, form.frame_rate
  f0_hz, confidence = pitch.estimate(
    heard, *rates, form.tracker, form.f_min_hz, form.f_max_hz
  )
  curves = {
    'f0_hz': f0_hz,
    'f0_confidence': confidence,
    'loudness_db': pitch.loudness_db(heard, *rates),
  }
  share = pitch.harmonic_share(heard, *rates, f0_hz, confidence)
  return Recording(name, audio, curves, found.n_clipped, share)


def _examples(recording, form):
  """Yields (stretch, example) of what lies in a recording and sounds."""
  n_samples = round(EXAMPLE_S * form.sample_rate)
  n_frames = round(EXAMPLE_S * form.frame_rate)
  # What is left at the end is filled with silence, if it is half an example.
  n_examples = int(len(recording.audio) / n_samples + 0.5)
  for i in range(n_examples):
    audio = recording.audio[i * n_samples : (i + 1) * n_samples]
    curves = {
      key: values[i * n_frames : (i + 1) * n_frames]
      for key, values in recording.curves.items()
    }
    if not (curves['f0_confidence'] >= pitch.VOICED).any():
      continue
    example = {'audio': np.pad(audio, (0, n_samples - len(audio)))}
    missing = n_frames - len(curves['f0_hz'])
    for key, values in curves.items():
      # Pitch goes on, without confidence.
      last = values[-1] if key == 'f0_hz' else 0.0
      last = pitch.FLOOR_DB if key == 'loudness_db' else last
      example[key] = np.pad(values, (0, missing), constant_values=last)
    yield i // _EXAMPLES_OF_STRETCH, example


def share_out(
  recordings: Sequence[Recording], form: Form
) -> dict[str, list[dict[str, np.ndarray]]]:
  """Cuts recordings into examples, and shares them out.

  Neighbours stay together in stretches of 12 s: of ten stretches one goes to
  valid and one to test, and at least one each.

  Args:
    recordings: What was recorded.
    form: What records are like.

  Returns:
    Examples by split.

  Raises:
    ValueError: There are less than three stretches.
  """
  stretches: dict[tuple[int, int], list] = {}
  for i, recording in enumerate(recordings):
    for stretch, example in _examples(recording, form):
      stretches.setdefault((i, stretch), []).append(example)
  if len(stretches) < len(SPLITS):
    # So little that stretches are single examples.
    single = [e for found in stretches.values() for e in found]
    stretches = {(0, i): [example] for i, example in enumerate(single)}
  if len(stretches) < len(SPLITS):
    seconds = len(stretches) * EXAMPLE_S
    raise ValueError(
      f'There are {seconds:g} s with notes in the recordings; {_LEAST_S:g} s '
      'is the least that can be shared out, and 10 minutes of one instrument '
      'in one room make it sound well.'
    )
  shared: dict[str, list] = {split: [] for split in SPLITS}
  for i, found in enumerate(stretches.values()):
    place = {1: 'valid', 2: 'test'}.get(i % _EVERY, 'train')
    shared[place] += found
  return shared


def _check(recordings, form):
  """Raises ValueError for material that no instrument can be learned from."""
  seconds = sum(len(r.audio) for r in recordings) / form.sample_rate
  if not any(r.audio.any() for r in recordings):
    raise ValueError('The recordings are silent.')
  if seconds < _LEAST_S:
    raise ValueError(
      f'The recordings last {seconds:.1f} s in all. {_LEAST_S:g} s is the '
      'least, and 10 minutes of one instrument in one room make it sound well.'
    )
  voiced_s = sum(r.is_voiced.sum() for r in recordings) / form.frame_rate
  if voiced_s < 0.05 * seconds:
    low, high = pitch.bounds_hz(form.tracker, form.f_min_hz, form.f_max_hz)
    raise ValueError(
      f'A pitch was found in {voiced_s:.1f} of {seconds:.1f} s. The sound is '
      'noisy or of several voices, or its pitch lies out of the range of '
      f'{form.tracker}, {low:.0f} to {high:.0f} Hz. Drums and chords cannot be '
      'learned; for a bass, try --tracker=crepe or pyin.'
    )
  share = _harmonic_share(recordings)
  if share < _LEAST_HARMONIC:
    worst = min(
      recordings, key=lambda r: np.nan_to_num(r.harmonic_share, nan=1)
    )
    raise ValueError(
      f'{1 - share:.0%} of the sound lies beside the partials of its pitch: '
      'several voices sound at a time, or there is much noise or reverberation '
      f'(most in {worst.name}). Give recordings of one voice alone.'
    )


def _harmonic_share(recordings):
  shares = [r.harmonic_share for r in recordings]
  sizes = [r.is_voiced.sum() for r in recordings]
  known = [i for i, share in enumerate(shares) if np.isfinite(share)]
  return float(
    np.average([shares[i] for i in known], weights=[sizes[i] for i in known])
  )


def describe(
  recordings: Sequence[Recording],
  statistics: transfer.Statistics,
  form: Form,
) -> tuple[dict[str, float], str]:
  """Says whether recordings will do.

  Args:
    recordings: What was recorded.
    statistics: Of the training set.
    form: What records are like.

  Returns:
    (Figures by name, words for people).
  """
  seconds = sum(len(r.audio) for r in recordings) / form.sample_rate
  voiced = np.concatenate([r.is_voiced for r in recordings])
  loudness = np.concatenate([r.curves['loudness_db'] for r in recordings])
  voiced_s = float(voiced.sum() / form.frame_rate)
  snr_db = float(np.median(loudness[voiced]) - np.quantile(loudness, 0.02))
  share = _harmonic_share(recordings)
  n_clipped = sum(r.n_clipped for r in recordings)
  low, high = statistics.min_pitch, statistics.max_pitch
  range_semitones = high - low
  figures = {
    'seconds': seconds,
    'voiced_s': voiced_s,
    'harmonic_share': share,
    'snr_db': snr_db,
    'n_clipped': n_clipped,
    'lowest_midi': low,
    'highest_midi': high,
  }
  words = [
    f'{seconds / 60:.1f} minutes, of which {voiced_s / 60:.1f} have a pitch, '
    f'from {note_name(low)} to {note_name(high)}.'
  ]
  faults = []
  if voiced_s < _GOOD_VOICED_S:
    faults.append(
      f'10 minutes of notes are recommended: with {voiced_s / 60:.1f} the '
      'instrument may sound like its recordings only.'
    )
  if share < _GOOD_HARMONIC:
    faults.append(
      f'{1 - share:.0%} of the sound lies beside the partials of its pitch: '
      'noise, reverberation or a second voice.'
    )
  if snr_db < _GOOD_SNR_DB:
    faults.append(
      f'The quietest moments are only {snr_db:.0f} dB below the notes: there '
      'is noise, or there are no pauses.'
    )
  if n_clipped:
    faults.append(f'{n_clipped} samples are clipped.')
  if range_semitones < 12.0:
    faults.append(
      f'The notes span {range_semitones:.0f} semitones: others will be guessed.'
    )
  if faults:
    words += ['It can be learned, but:', *(f'- {fault}' for fault in faults)]
  else:
    words.append('It will do.')
  return figures, '\n'.join(words)


def write(
  recordings: Sequence[Recording], output_dir: pathlib.Path, form: Form
) -> str:
  """Writes records, statistics and a report.

  Args:
    recordings: What was recorded.
    output_dir: Gets train.tfrecord, valid.tfrecord, test.tfrecord,
      statistics.json and report.json.
    form: What records are like.

  Returns:
    Words for people.

  Raises:
    ValueError: Material that no instrument can be learned from.
  """
  from dafx.training.data import instruments  # TensorFlow

  _check(recordings, form)
  shared = share_out(recordings, form)
  statistics = transfer.measure(shared['train'], form.frame_rate)
  figures, words = describe(recordings, statistics, form)
  output_dir.mkdir(parents=True, exist_ok=True)
  for split, examples in shared.items():
    instruments.write_examples(examples, output_dir / f'{split}.tfrecord')
  with disk.replacing(output_dir / 'statistics.json') as temporary:
    temporary.write_text(statistics.to_json() + '\n', encoding='utf-8')
  report = {**dataclasses.asdict(form), **figures, 'words': words}
  files.write_json(output_dir / 'report.json', report)
  return words


def prepare_folder(
  input_dir: pathlib.Path, output_dir: pathlib.Path, form: Form
) -> str:
  """Makes a training set of a folder of recordings of one instrument.

  Args:
    input_dir: A folder of audio files, or one file.
    output_dir: As of `write`.
    form: What records are like.

  Returns:
    Words for people.

  Raises:
    FileNotFoundError: There are no recordings.
    ValueError: As of `write`; or a file that cannot be read.
  """
  paths = [input_dir]
  if input_dir.is_dir():
    paths = audio_files.find_audio(input_dir)
  progress = progress_bar.Progress(len(paths), label='Preparing')
  recordings = []
  for path in paths:
    with audio_files.named(path):
      source = sources.from_file(path)
      recordings.append(analyse(path.name, source, form))
    progress.update(path.name)
  progress.close()
  return write(recordings, output_dir, form)
