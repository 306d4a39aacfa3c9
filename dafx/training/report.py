"""A page to listen to results: one HTML file with all audio and figures in it.

`write_report` takes what was measured and rendered and writes a self-contained
page: no script, style, font, image or sound comes from elsewhere, so it can be
mailed, attached to a CI run or put on any web server. The players of a clip
switch at the same position, which is how one hears small differences; without
JavaScript they stand below each other.
"""

import base64
import dataclasses
import html
import io
import math
import os
import pathlib
import string
import struct
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import soundfile

from dafx.training import plotting

_TEMPLATE = pathlib.Path(__file__).with_name('report.html')
_FULL_SCALE = 32768  # of 16 bits


@dataclasses.dataclass(frozen=True)
class Table:
  """Metrics by version, lower is better.

  The best of each column is shown in bold, and each row but the first with its
  change relative to the first.

  Attributes:
    columns: Names of the metrics with their unit, e.g.
      ('MR-STFT', 'Loudness difference (LU)').
    rows: dict of version to one value per column; the first row is what the
      others are compared to, e.g. 'untreated'. None or NaN where there is none.
    caption: What was measured, e.g. 'Mean over 24 test clips of 4 s.'
  """

  columns: Sequence[str]
  rows: Mapping[str, Sequence[float | None]]
  caption: str = ''


class Clip(TypedDict):
  """One recording in all its versions.

  Attributes:
    name: Heading.
    sample_rate: Of all its audio, Hz.
    audio: dict of version ('before', 'target', 'best single setting', 'after',
      or any other) to samples in [-1, 1], [n_samples] or
      [n_samples, n_channels], at most 8 channels. The page offers them in this
      order, and says so where a version exceeds the range and is clipped.
    spectrogram: PNG of `plotting.spectrograms`.
    controls: dict of plugin to its PNGs, e.g. one of
      `plotting.control_trajectories` and one of `plotting.gain_heatmap`; may be
      empty.
  """

  name: str
  sample_rate: int
  audio: Mapping[str, np.ndarray]
  spectrogram: bytes
  controls: Mapping[str, Sequence[bytes]]


def write_report(path, *, title, intro_html, table, clips, figures, footer):
  """Writes the page; an old one stays whole until the new one is complete.

  Args:
    path: Of the HTML file; its folder is made if need be.
    title: Plain text.
    intro_html: HTML, inserted as it is: what is heard here, how it was made.
    table: `Table`.
    clips: List of `Clip`, at least one.
    figures: dict of caption (plain text) to PNG, e.g. of
      `plotting.figure_to_png(plotting.training_curves(...))`; may be empty.
    footer: Plain text, e.g. versions, data and their licence, command line.

  Raises:
    ValueError: If title, table, clips or a clip's audio is empty, a row has not
      as many values as there are columns, a figure is no PNG, or audio is not
      as `Clip` says.
  """
  if not title or not clips:
    raise ValueError(
      f'title={title!r} with {len(clips)} clips; a report needs a title and at '
      'least one clip.'
    )
  page = string.Template(_TEMPLATE.read_text(encoding='utf-8')).substitute(
    title=html.escape(title),
    intro=intro_html,
    table=_table_html(table),
    clips=''.join(_clip_html(i, clip) for i, clip in enumerate(clips, start=1)),
    figures=_figures_html(figures),
    footer=html.escape(footer),
  )
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # In the same folder, as a file is replaced at once only within a disk.
  draft = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    draft.write_text(page, encoding='utf-8')
    os.replace(draft, path)
  finally:
    draft.unlink(missing_ok=True)


# ------------------------------------------------------------------ Table ----
def _table_html(table):
  """Writes a `Table` as HTML."""
  if not table.columns or not table.rows:
    raise ValueError(
      f'The table has {len(table.columns)} columns and {len(table.rows)} rows; '
      'it needs one of each at least.'
    )
  for name, row in table.rows.items():
    if len(row) != len(table.columns):
      raise ValueError(
        f"Row '{name}' has {len(row)} values, but the table has "
        f'{len(table.columns)} columns: {list(table.columns)}; write None '
        'where there is no value.'
      )
  values = np.array(list(table.rows.values()), dtype=np.float64)
  reference = next(iter(table.rows))
  head = ''.join(
    f'<th scope="col">{html.escape(name)}</th>' for name in table.columns
  )
  body = ''
  for name, row in zip(table.rows, values):
    cells = ''
    for value, column in zip(row, values.T):
      first = column[0] if name != reference else math.nan
      best = value == np.min(column, where=np.isfinite(column), initial=np.inf)
      cells += f'<td>{_cell_html(value, first, best)}</td>'
    body += f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>\n'
  note = 'Lower is better; the best of each column is bold.'
  if len(values) > 1:
    note += f' Percentages: change relative to {reference}.'
  return (
    '<div class="scroll" tabindex="0" role="region" aria-label="Metrics">\n'
    f'<table aria-describedby="metrics">\n<thead><tr><td></td>{head}</tr>'
    f'</thead>\n<tbody>\n{body}</tbody>\n</table></div>\n<p class="note" '
    f'id="metrics">{html.escape(f"{table.caption} {note}".strip())}</p>'
  )


def _cell_html(value, reference, best):
  """Writes a value, and its change relative to a reference if there is one."""
  if not math.isfinite(value):
    return '–'
  # Three digits, those behind the point also where they are zero.
  text = f'{value:#.3g}'.rstrip('.').replace('-', '\N{MINUS SIGN}')
  cell = f'<strong>{text}</strong>' if best else text
  change = ''
  if math.isfinite(reference) and reference > 0.0:
    percent = round(100.0 * (value / reference - 1.0))
    change = f'{percent:+d}&nbsp;%' if percent else '±0&nbsp;%'
    change = change.replace('-', '\N{MINUS SIGN}')
  return f'{cell} <small>{change}</small>'  # Empty, it keeps the columns even.


# ------------------------------------------------------------------ Clips ----
def _clip_html(number, clip):
  """Writes a `Clip` as HTML; its number, from 1, makes ids unique."""
  name = html.escape(clip['name'])
  if not clip['audio']:
    raise ValueError(
      f"Clip '{clip['name']}' has no audio; give at least one version."
    )
  buttons, players = '', ''
  for i, (version, audio) in enumerate(clip['audio'].items(), start=1):
    label = html.escape(version)
    flac, peak = _encode_flac(
      audio, clip['sample_rate'], f"'{version}' of clip '{clip['name']}'"
    )
    buttons += (
      '<button type="button" aria-pressed="false" '
      f'style="--version:{plotting.color_of(version)}">'
      f'<kbd>{i}</kbd>{label}</button>\n'
    )
    note = ''
    if peak > 1.0:
      note = (
        f'<p class="note">{label} peaks at {20.0 * math.log10(peak):+.1f} dBFS '
        'and is clipped here.</p>'
      )
    players += (
      f'<div class="version"><span class="label">{label}</span>'
      f'<audio controls preload="metadata" aria-label="{name}: {label}" '
      f'src="data:audio/flac;base64,{_base64(flac)}"></audio>{note}</div>\n'
    )
  versions = ', '.join(clip['audio'])
  picture = _image_html(
    clip['spectrogram'],
    f'Spectrograms of {clip["name"]}, from top to bottom: {versions}',
  )
  controls = ''
  for plugin, images in clip['controls'].items():
    alt = f'Controls of {plugin} over time, for {clip["name"]}'
    pictures = ''.join(_image_html(image, alt) for image in images)
    controls += (
      f'<details{" open" if number == 1 else ""}>'
      f'<summary>{html.escape(plugin)}</summary>{pictures}</details>\n'
    )
  if controls:
    controls = f'<h4>Controls over time</h4>\n{controls}'
  return (
    f'<article class="clip" aria-labelledby="clip-{number}">\n'
    f'<h3 id="clip-{number}">{name}</h3>\n'
    f'<div class="switch" role="group" aria-label="Versions of {name}" hidden>'
    f'\n{buttons}<label><input type="checkbox" checked>Loop</label>\n</div>\n'
    f'<div class="players">\n{players}</div>\n{picture}\n{controls}</article>\n'
  )


def _encode_flac(audio, sample_rate, name):
  """Encodes audio as 16 bit FLAC.

  Args:
    audio: [n_samples] or [n_samples, n_channels], clipped to [-1, 1].
    sample_rate: Hz.
    name: What to call it in an error.

  Returns:
    The file's content, and the peak before clipping. Decoded, a sample x in
    [-1, 1] is within 1 / 32768 of x.

  Raises:
    ValueError: If audio is not as above or FLAC cannot hold it.
  """
  audio = plotting.as_channels(audio, name)
  # Rounded here: libsndfile would scale by 32767 and read by 32768.
  levels = np.clip(np.round(audio * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
  buffer = io.BytesIO()
  try:
    soundfile.write(
      buffer,
      levels.astype(np.int16),
      int(sample_rate),
      format='FLAC',
      subtype='PCM_16',
    )
  except soundfile.LibsndfileError as error:
    raise ValueError(
      f'FLAC cannot hold {name}: {audio.shape[1]} channels at {sample_rate} '
      'Hz; allowed are up to 8 channels and 655,350 Hz.'
    ) from error
  return buffer.getvalue(), np.abs(audio).max()


# ---------------------------------------------------------------- Figures ----
def _figures_html(figures):
  """Writes dict of caption to PNG as a section, or nothing if it is empty."""
  if not figures:
    return ''
  pictures = ''.join(
    f'<figure>{_image_html(png, caption)}'
    f'<figcaption>{html.escape(caption)}</figcaption></figure>\n'
    for caption, png in figures.items()
  )
  return f'<section>\n<h2>Figures</h2>\n{pictures}</section>'


def _image_html(png, alt):
  """Embeds a PNG, in a frame that scrolls where the screen is narrow."""
  if not isinstance(png, bytes) or not png.startswith(b'\x89PNG\r\n\x1a\n'):
    raise ValueError(
      f'The image "{alt}" is no PNG but {type(png).__name__}; make it with '
      'plotting.figure_to_png.'
    )
  width, height = struct.unpack('>II', png[16:24])  # Of the IHDR chunk.
  alt = html.escape(alt)
  return (
    f'<div class="scroll" tabindex="0" role="region" aria-label="{alt}">'
    f'<img src="data:image/png;base64,{_base64(png)}" alt="{alt}" '
    f'width="{width}" height="{height}" decoding="async"></div>'
  )


def _base64(data):
  return base64.b64encode(data).decode('ascii')
