"""What is labelled in a file: breaths and pops, by samples."""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from dafx.audio import disk


@dataclasses.dataclass(frozen=True)
class Event:
  """Something labelled in a file, such as a breath.

  Attributes:
    kind: What it is: 'breath' or 'pop'.
    start: Its first sample.
    stop: The sample after its last one.
  """

  kind: str
  start: int
  stop: int

  def at_rate(self, from_hz: int, to_hz: int) -> 'Event':
    """Returns the event as it lies in the file at another rate."""
    return Event(
      self.kind,
      round(self.start * to_hz / from_hz),
      round(self.stop * to_hz / from_hz),
    )


def events_path(folder: pathlib.Path, name: str) -> pathlib.Path:
  """Returns where the labels of a pair lie in the folder of its split."""
  return folder / 'labels' / f'{name}.csv'


def write_events(events: list[Event], path: pathlib.Path):
  """Writes labels as CSV, in columns kind, start and stop."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with (
    disk.replacing(path) as temporary,
    open(temporary, 'w', newline='', encoding='utf-8') as file,
  ):
    writer = csv.writer(file)
    writer.writerow(['kind', 'start', 'stop'])
    writer.writerows([e.kind, e.start, e.stop] for e in events)


def read_events(path: pathlib.Path) -> tuple[Event, ...]:
  """Reads what `write_events` wrote; none where there is no file.

  Raises:
    ValueError: The file is damaged.
  """
  if not path.exists():
    return ()
  with open(path, newline='', encoding='utf-8') as file:
    try:
      return tuple(
        Event(row['kind'], int(row['start']), int(row['stop']))
        for row in csv.DictReader(file)
      )
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f'{path} must have the columns kind, start and stop, the last two in '
        f'samples: {type(error).__name__} {error}'
      ) from error


def event_mask(
  events: tuple[Event, ...], n_samples: int, kind: str | None = None
) -> np.ndarray:
  """Returns which samples lie in an event.

  Args:
    events: The events of a file.
    n_samples: Its length.
    kind: Only those of this kind; all by default.

  Returns:
    Shape [n_samples], bool.
  """
  mask = np.zeros(n_samples, bool)
  for event in events:
    if kind in (None, event.kind):
      mask[event.start : event.stop] = True
  return mask


def event_changes(
  source: np.ndarray,
  audio: np.ndarray,
  events: Sequence[Event],
) -> dict[str, float]:
  """Measures what became of labelled events, and of all else.

  Args:
    source: What went in, [n_samples, n_channels].
    audio: What came out, of that shape.
    events: What is labelled in the source.

  Returns:
    Changes of energy in dB, negative where there is less than before:
    'events_change_db' in all events together, '<kind>_change_db' in those of a
    kind, 'rest_change_db' outside of them. {} without events.
  """
  if not events:
    return {}
  n_samples = len(source)
  masks = {'events': event_mask(tuple(events), n_samples)}
  for kind in sorted({event.kind for event in events}):
    masks[kind] = event_mask(tuple(events), n_samples, kind)
  masks['rest'] = ~masks['events']
  changes = {}
  for name, mask in masks.items():
    before, after = (
      np.sum(np.asarray(x, np.float64)[mask] ** 2) for x in (source, audio)
    )
    with np.errstate(divide='ignore', invalid='ignore'):
      changes[f'{name}_change_db'] = float(10 * np.log10(after / before))
  return changes
