"""A page to listen to results: one HTML file with all audio and figures in it.

`write_report` takes what was measured and rendered and writes a self-contained
page: no script, style, font, image or sound comes from elsewhere, so it can be
mailed, attached to a CI run or put on any web server. The versions of a clip
play side by side and are switched at the same sample, equally loud unless one
asks for their own levels; without JavaScript they stand below each other.
"""

import base64
import dataclasses
import html
import io
import math
import pathlib
import string
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import TypedDict

import ddsp
import numpy as np
from PIL import Image

from dafx.audio import disk
from dafx.training import plotting
from dafx.training.evaluation import clip_audio, measures

_TEMPLATE = pathlib.Path(__file__).with_name('report.html')
# Clips that are encoded side by side; each is held a few times meanwhile.
_CLIPS_AT_ONCE = 2


@dataclasses.dataclass(frozen=True)
class Table:
  """Measures by version.

  The best of each column is shown in bold, with those that read the same, where
  a measure has a best; and each row but the first with its change relative to
  the first.

  Attributes:
    columns: What was measured, e.g. of `measures.MEASURES`.
    rows: dict of version to one value per column; the first row is what the
      others are compared to, e.g. 'untreated'. None or NaN where there is none.
    caption: Of what, e.g. 'Mean over 24 test clips of 4 s.'
  """

  columns: Sequence[measures.Measure]
  rows: Mapping[str, Sequence[float | None]]
  caption: str = ''


class Clip(TypedDict):
  """One recording in all its versions.

  Attributes:
    name: Heading.
    sample_rate: Of all its audio, Hz; one that MP3 knows, at most 48,000.
    audio: dict of version ('before', 'target', 'best single setting', 'after',
      or any other) to samples, full scale at +-1, [n_samples] or
      [n_samples, n_channels] of one or two channels. The page offers them in
      this order; shorter ones are filled up with silence.
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


def write_report(
  path,
  *,
  title,
  intro_html,
  table,
  clips,
  figures,
  footer,
  full_table=None,
  settings=None,
):
  """Writes the page; an old one stays whole until the new one is complete.

  Args:
    path: Of the HTML file; its folder is made if need be.
    title: Plain text.
    intro_html: HTML, inserted as it is: what is heard here, how it was made.
    table: `Table` of what counts.
    clips: List of `Clip`, at least one.
    figures: dict of caption (plain text) to PNG, e.g. of
      `plotting.figure_to_png(plotting.training_curves(...))`; may be empty.
    footer: Plain text, e.g. versions, data and their licence, command line.
    full_table: `Table` of all that was measured, folded away below the other;
      what each measure follows is said below it.
    settings: dict of plugin to {control: value as text}, shown as tables.

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
  tables = _table_html(table, 'metrics')
  if full_table is not None:
    tables += (
      '\n<details><summary>All that was measured</summary>\n'
      f'{_table_html(full_table, "all-metrics")}\n'
      f'{_explanations_html(full_table.columns)}</details>'
    )
  # Encoding releases Python's lock.
  with futures.ThreadPoolExecutor(_CLIPS_AT_ONCE) as pool:
    shown = list(pool.map(_clip_html, range(1, len(clips) + 1), clips))
  page = string.Template(_TEMPLATE.read_text(encoding='utf-8')).substitute(
    title=html.escape(title),
    intro=intro_html,
    table=tables,
    clips=''.join(shown),
    figures=_settings_html(settings or {}) + _figures_html(figures),
    footer=html.escape(footer),
  )
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with disk.replacing(path) as temporary:
    # Names of files may be no text.
    temporary.write_text(page, 'utf-8', errors='xmlcharrefreplace')


# ------------------------------------------------------------------ Table ----
def format_value(value: float, measure: measures.Measure) -> str:
  """Writes a value as people read it.

  Args:
    value: What was measured, finite.
    measure: What it is: with a unit, it has two digits behind the point,
      without one, three digits that count.

  Returns:
    E.g. '12.30', without the unit.
  """
  if measure.unit:
    text = f'{round(value, 2) + 0.0:.2f}'  # no -0.00
  else:
    text = f'{value:#.3g}'.rstrip('.')
  return text.replace('-', '\N{MINUS SIGN}')


def _best(values, measure):
  """Returns how the best value of a column reads, or None without one."""
  finite = values[np.isfinite(values)]
  if measure.lower_is_better is None or not len(finite):
    return None
  best = finite.min() if measure.lower_is_better else finite.max()
  return format_value(best, measure)


def _table_html(table, name):
  """Writes a `Table` as HTML; `name` is its id."""
  if not table.columns or not table.rows:
    raise ValueError(
      f'The table has {len(table.columns)} columns and {len(table.rows)} rows; '
      'it needs one of each at least.'
    )
  for row_name, row in table.rows.items():
    if len(row) != len(table.columns):
      raise ValueError(
        f"Row '{row_name}' has {len(row)} values, but the table has "
        f'{len(table.columns)} columns: {[m.name for m in table.columns]}; '
        'write None where there is no value.'
      )
  values = np.array(list(table.rows.values()), dtype=np.float64)
  best = [_best(*c) for c in zip(values.T, table.columns, strict=True)]
  head = ''.join(_heading_html(measure) for measure in table.columns)
  body = ''
  for i, (row_name, row) in enumerate(zip(table.rows, values, strict=True)):
    firsts = values[0] if i else [math.nan] * len(row)
    cells = ''.join(
      f'<td>{_cell_html(*cell)}</td>'
      for cell in zip(row, firsts, best, table.columns, strict=True)
    )
    body += f'<tr><th scope="row">{html.escape(row_name)}</th>{cells}</tr>\n'
  note = 'Bold: the best of a column'
  if any(measure.lower_is_better is False for measure in table.columns):
    note += ', the lowest or where it says so the highest.'
  else:
    note += ', which is the lowest.'
  if len(values) > 1:
    note += f' Percentages: change relative to {next(iter(table.rows))}.'
  return (
    '<div class="scroll" tabindex="0" role="region" aria-label="Measures">\n'
    f'<table aria-describedby="{name}">\n<thead><tr><td></td>{head}</tr>'
    f'</thead>\n<tbody>\n{body}</tbody>\n</table></div>\n<p class="note" '
    f'id="{name}">{html.escape(f"{table.caption} {note}".strip())}</p>'
  )


def _heading_html(measure):
  """Writes what a column is, in what unit, and at which level."""
  name = html.escape(measure.heading)
  if measure.unit:
    name += f' <span class="unit">({html.escape(measure.unit)})</span>'
  kind = measure.kind
  if measure.lower_is_better is False:
    kind += ', higher is better'
  return f'<th scope="col">{name} <small>{html.escape(kind)}</small></th>'


def _cell_html(value, reference, best, measure):
  """Writes a value, and its change relative to a reference if there is one."""
  if not math.isfinite(value):
    return '–'
  text = format_value(value, measure)
  cell = f'<strong>{text}</strong>' if text == best else text
  if measure.lower_is_better is None:
    return cell
  change = ''
  if reference > 0.0:
    percent = round(100.0 * (value / reference - 1.0))
    change = f'{percent:+d}&nbsp;%' if percent else '±0&nbsp;%'
    change = change.replace('-', '\N{MINUS SIGN}')
  return f'{cell} <small>{change}</small>'  # Empty, it keeps the columns even.


def _explanations_html(columns):
  """Writes what each measure follows, as a list."""
  items = ''.join(
    f'<li><b>{html.escape(measure.title)}</b> follows '
    f'{html.escape(measure.follows)}.</li>\n'
    for measure in columns
  )
  return f'<ul class="note">\n{items}</ul>'


# ------------------------------------------------------------------ Clips ----
def _clip_html(number, clip):
  """Writes a `Clip` as HTML; its number, from 1, makes ids unique."""
  name = html.escape(clip['name'])
  rate = clip['sample_rate']
  audio = clip_audio.even(clip['audio'], rate, f"clip '{clip['name']}'")
  lufs, gains_db = clip_audio.equal_loudness(audio, rate)
  seconds = len(next(iter(audio.values()))) / rate
  buttons, players = '', ''
  for i, (version, samples) in enumerate(audio.items(), start=1):
    label = html.escape(version)
    gain_db = gains_db.get(version, 0.0)
    gain = ddsp.core.db_to_amplitude(gain_db)
    mp3 = clip_audio.encode_mp3(samples * gain, rate)
    title = 'silent'
    if version in gains_db:
      title = f'{_db(gain_db)} at equal loudness'
    buttons += (
      '<button type="button" aria-pressed="false" '
      f'aria-keyshortcuts="{i}" title="{title}" '
      f'style="--version:{plotting.color_of(version)}">'
      f'<kbd>{i}</kbd>{label}</button>\n'
    )
    # As encoded, all are equally loud: this gain takes a version back.
    players += (
      f'<div class="version" data-own-gain-db="{-gain_db:.4f}">'
      f'<span class="label">{label}</span>'
      f'<audio controls preload="metadata" aria-label="{name}: {label}" '
      f'src="data:audio/mpeg;base64,{_base64(mp3)}"></audio></div>\n'
    )
  versions = ', '.join(audio)
  picture = _image_html(
    clip['spectrogram'],
    f'Spectrograms of {clip["name"]}, from top to bottom: {versions}',
  )
  controls = ''
  for plugin, images in clip['controls'].items():
    alt = f'Controls of {plugin}, for {clip["name"]}'
    pictures = ''.join(_image_html(image, alt) for image in images)
    controls += (
      f'<details{" open" if number == 1 else ""}>'
      f'<summary>{html.escape(plugin)}</summary>{pictures}</details>\n'
    )
  if controls:
    controls = f'<h4>Controls</h4>\n{controls}'
  return (
    f'<article class="clip" aria-labelledby="clip-{number}" '
    f'data-sample-rate="{rate}">\n'
    f'<h3 id="clip-{number}">{name}</h3>\n'
    f'<div class="deck" hidden>\n'
    f'<div class="switch" role="group" aria-label="Versions of {name}">\n'
    f'{buttons}</div>\n{_transport_html(name, seconds)}</div>\n'
    f'<div class="players">\n{players}</div>\n'
    f'<p class="note">{_levels_html(audio, lufs, gains_db)}</p>\n'
    f'{picture}\n{controls}</article>\n'
  )


def _transport_html(name, seconds):
  """Writes what plays and seeks a clip; the script gives it its function."""
  return (
    '<div class="transport">\n<button type="button" class="play" '
    f'aria-label="Play {name}" aria-keyshortcuts="Space"></button>\n'
    '<input type="range" class="seek" min="0" value="0" step="any" '
    f'max="{seconds:.6f}" '
    f'autocomplete="off" aria-label="Position in {name}">\n'
    '<span class="time">0:00</span>\n'
    '<label><input type="checkbox" class="loop" checked autocomplete="off">'
    'Loop</label>\n</div>\n'
  )


def _db(gain_db):
  """Writes a gain with its sign."""
  text = f'{round(gain_db, 1) + 0.0:+.1f} dB'
  return text.replace('-', '\N{MINUS SIGN}')


def _levels_html(audio, lufs, gains_db):
  """Says by which gains the versions are equally loud, and which clip."""
  levels = ', '.join(
    f'{version} {_db(gains_db[version]) if version in gains_db else "silent"}'
    for version in audio
  )
  text = levels[0].upper() + levels[1:]
  if gains_db:
    text = f'Equally loud at {_db(lufs)[:-3]} LUFS: {levels}'
  peaks = {version: np.abs(samples).max() for version, samples in audio.items()}
  over = [
    f'{version}, which peaks at {_db(20.0 * math.log10(peak))[:-3]} dBFS'
    for version, peak in peaks.items()
    if peak > 1.0
  ]
  if over:
    text += f'. Clipped at its own level: {"; ".join(over)}'
  return f'{html.escape(text)}.'


# ---------------------------------------------------------------- Figures ----
def _settings_html(settings):
  """Writes dict of plugin to {control: value}, folded but for the first."""
  if not settings:
    return ''
  tables = ''
  for plugin, values in settings.items():
    rows = ''.join(
      f'<tr><th scope="row">{html.escape(control)}</th>'
      f'<td>{html.escape(value)}</td></tr>\n'
      for control, value in values.items()
    )
    tables += (
      f'<details{"" if tables else " open"}><summary>{html.escape(plugin)}'
      f'</summary>\n<table class="settings"><tbody>\n{rows}</tbody></table>'
      '</details>\n'
    )
  return (
    f'<section>\n<h2>Settings</h2>\n<div class="card">\n{tables}</div>\n'
    '</section>\n'
  )


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
  """Embeds a PNG as WebP, in a frame that scrolls on a narrow screen."""
  if not isinstance(png, bytes) or not png.startswith(b'\x89PNG\r\n\x1a\n'):
    raise ValueError(
      f'The image "{alt}" is no PNG but {type(png).__name__}; make it with '
      'plotting.figure_to_png.'
    )
  picture = Image.open(io.BytesIO(png))
  buffer = io.BytesIO()  # A fifth of the PNG where it is a spectrogram.
  picture.convert('RGB').save(buffer, 'WEBP', quality=90)
  width, height = picture.size
  alt = html.escape(alt)
  return (
    f'<div class="scroll" tabindex="0" role="region" aria-label="{alt}">'
    f'<img src="data:image/webp;base64,{_base64(buffer.getvalue())}" '
    f'alt="{alt}" width="{width}" height="{height}" decoding="async"></div>'
  )


def _base64(data):
  return base64.b64encode(data).decode('ascii')
