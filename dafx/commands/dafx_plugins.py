r"""dafx_plugins: lists, shows, renders and checks LV2 plugins.

    dafx_plugins COMMAND [URI] [flags]

Commands
  list    List the plugins that are installed.
      dafx_plugins list --filter=compressor
  show    Show a plugin's ports, their ranges, and its presets.
      dafx_plugins show http://calf.sourceforge.net/plugins/Compressor
  render  Render an audio file through a plugin.
      dafx_plugins render http://calf.sourceforge.net/plugins/Compressor \
        --input=in.wav --output=out.wav --set threshold=0.1 --set ratio=4
  gin     Print the gin configuration of a plugin, to paste into a file.
      dafx_plugins gin http://calf.sourceforge.net/plugins/Compressor
  check   Try a plugin: is it repeatable, how fast, which controls matter.
      dafx_plugins check http://calf.sourceforge.net/plugins/Compressor
      dafx_plugins check --all --json=cards.json

A plugin is named by its URI, as `list` prints it. LV2_PATH, if set, says which
folders hold plugins, in place of the standard ones.
"""

import json
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from absl import app, flags

from dafx import _folders, lv2
from dafx.commands import running
from dafx.lv2 import world
from dafx.lv2.cards import binding

FLAGS = flags.FLAGS

# Not the whole of RFC 3986, but what no URI is without.
_URI = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\s<>"{}|\\^`]+')

# Seconds that a render may take per second of audio, and in any case.
_TIME_LIMIT_RATIO = 10.0
_TIME_LIMIT_S = 60.0


def get_plugin(uri: str) -> lv2.Plugin:
  """Returns what the plugin of a URI says of itself, if that can be read.

  Args:
    uri: The plugin's URI.

  Raises:
    ValueError: No URI, or no such plugin is installed; the closest ones are
      named.
    lv2.PluginError: Its description is missing or not valid Turtle.
  """
  if not _URI.fullmatch(uri):
    raise ValueError(
      f'uri={uri!r} is no URI: one has a scheme and no spaces, such as '
      'http://calf.sourceforge.net/plugins/Compressor or urn:zamaudio:ZamComp. '
      '`dafx_plugins list` names those of the installed plugins.'
    )
  plugin = lv2.get_plugin(uri)
  if not plugin.ports:
    raise lv2.PluginError(
      f'The ports of {uri} in {plugin.bundle_path} could not be read: a file '
      'of its bundle is missing or not valid Turtle; lilv names the line '
      'above. Install it anew.'
    )
  return plugin


# ------------------------------------------------------------ list, show ----
def summarize(plugin: lv2.Plugin) -> dict:
  """Returns a plugin's line in the list.

  Args:
    plugin: The plugin.

  Returns:
    Its 'uri', 'name', 'author' and 'class', and the numbers of its
    'audio_inputs', 'audio_outputs' and 'trainable' controls.
  """
  return {
    'uri': plugin.uri,
    'name': binding.one_line(plugin.name),
    'author': binding.one_line(plugin.author),
    'class': plugin.plugin_class,
    'audio_inputs': len(plugin.audio_inputs),
    'audio_outputs': len(plugin.audio_outputs),
    'trainable': len(binding.trainable_controls(plugin)),
  }


def find_plugins(text: str = '') -> list[dict]:
  """Returns `summarize` of the plugins that have a text, by URI.

  Args:
    text: Looked for in URI, name, author and class, in any case of letters.
  """
  rows = (summarize(lv2.get_plugin(uri)) for uri in lv2.list_uris())
  return [
    row
    for row in rows
    if any(
      text.lower() in row[key].lower()
      for key in ('uri', 'name', 'author', 'class')
    )
  ]


def describe(uri: str) -> dict:
  """Returns all that is to know of a plugin without running it.

  Args:
    uri: The plugin's URI.

  Returns:
    What can be written as JSON. Values of controls are in port units.

  Raises:
    ValueError: No such plugin is installed.
    lv2.PluginError: Its description cannot be read.
  """
  plugin = get_plugin(uri)
  latency_port = plugin.latency_port
  return {
    'uri': plugin.uri,
    'name': binding.one_line(plugin.name),
    'author': binding.one_line(plugin.author),
    'version': plugin.version,
    'class': plugin.plugin_class,
    'bundle': str(plugin.bundle_path),
    'required_features': list(plugin.required_features),
    'missing_features': sorted(
      set(plugin.required_features) - world.SUPPORTED_FEATURES
    ),
    'latency_port': latency_port.symbol if latency_port else None,
    'audio_inputs': [p.symbol for p in plugin.audio_inputs],
    'audio_outputs': [p.symbol for p in plugin.audio_outputs],
    'controls': [
      {
        'symbol': port.symbol,
        'name': binding.one_line(port.name),
        'kind': binding.control_kind(port),
        'default': port.default,
        'minimum': port.minimum,
        'maximum': port.maximum,
        'unit': port.unit,
        'scale': port.scale,
        'scale_points': [
          {'value': value, 'label': binding.one_line(label)}
          for value, label in port.scale_points
        ],
      }
      for port in plugin.controls.values()
    ],
    'presets': [
      {'label': binding.one_line(p.label), 'uri': p.uri}
      for p in lv2.list_presets(uri)
    ],
  }


def format_description(about: dict) -> str:
  """Returns `describe`'s answer as text for people."""
  missing = set(about['missing_features'])
  features = [
    f'{feature} (this host lacks it)' if feature in missing else feature
    for feature in about['required_features']
  ]
  lines = [
    about['uri'],
    f'  name      {about["name"]}',
    f'  author    {about["author"] or "(not said)"}',
    f'  version   {about["version"]}',
    f'  class     {about["class"]}',
    f'  bundle    {about["bundle"]}',
    f'  needs     {", ".join(features) or "nothing"}',
    f'  latency   {_latency_text(about["latency_port"])}',
  ]
  for title, what in (('inputs', 'audio_inputs'), ('outputs', 'audio_outputs')):
    symbols = ', '.join(about[what])
    lines.append(
      f'  {title:9} {len(about[what])} audio: {symbols}'.rstrip(': ')
    )
  lines.append('')
  if about['controls']:
    header = 'symbol default minimum maximum unit scale kind name'.split()
    rows = [
      [_number(c[h]) if isinstance(c[h], float) else c[h] for h in header]
      for c in about['controls']
    ]
    lines += _table([h.upper() for h in header], rows, numeric=(1, 2, 3))
  else:
    lines.append('No controls.')
  for control in about['controls']:
    if control['scale_points']:
      points = ', '.join(
        f'{_number(p["value"])} {p["label"]}' for p in control['scale_points']
      )
      lines.append(f'{control["symbol"]}: {points}')
  lines += ['', f'{len(about["presets"])} presets']
  lines += [f'  {p["label"]}  <{p["uri"]}>' for p in about['presets']]
  return '\n'.join(lines)


def _latency_text(symbol: str | None) -> str:
  if symbol:
    return f'reported by the control output {symbol}'
  return 'not reported; measured when it renders'


# ---------------------------------------------------------------- render ----
def parse_settings(settings: Iterable[str]) -> dict[str, float]:
  """Returns values by symbol of texts such as 'threshold=0.1'.

  Args:
    settings: One control each; of two for one symbol the last holds.

  Raises:
    ValueError: A text without a symbol, '=' and a number.
  """
  values = {}
  for text in settings:
    symbol, _, value = text.partition('=')
    try:
      values[symbol.strip()] = float(value)
    except ValueError:
      raise ValueError(
        f'--set {text!r} must be symbol=value with a number in port units, '
        'such as --set threshold=0.1.'
      ) from None
  return values


def read_audio(path: str | os.PathLike):
  """Reads an audio file.

  Args:
    path: Of any format that libsndfile knows.

  Returns:
    (audio [n_samples, n_channels] float32, full scale being 1, rate in Hz).

  Raises:
    OSError: No file that can be read.
    ValueError: No audio, no samples, or samples that are NaN or infinite.
  """
  import numpy as np
  import soundfile  # not needed by the other commands

  with open(path, 'rb'):
    pass  # Python says better than libsndfile what is wrong with a path.
  try:
    audio, sample_rate = soundfile.read(path, dtype='float32', always_2d=True)
  except soundfile.LibsndfileError as error:
    raise ValueError(f'{path} is no audio: {error.error_string}') from error
  except TypeError as error:  # soundfile, of headerless files
    raise ValueError(f'{path} has no header that tells its format.') from error
  if not audio.size:
    raise ValueError(f'{path} has no samples.')
  n_bad = np.count_nonzero(~np.isfinite(audio))
  if n_bad:
    raise ValueError(
      f'{path} has {n_bad} samples that are NaN or infinite; clean it first.'
    )
  return audio, sample_rate


def render_file(
  uri: str,
  input_path: str | os.PathLike,
  output_path: str | os.PathLike,
  values: Mapping[str, float] | None = None,
  block_size: int = 1024,
  sample_rate: int | None = None,
  compensate_latency: bool = True,
  isolation: str = 'process',
) -> str:
  """Renders an audio file through a plugin.

  Args:
    uri: The plugin's URI.
    input_path: Audio whose channels are the plugin's audio inputs in port
      order; mono feeds them all.
    output_path: Gets the audio outputs in port order, as WAV of 32-bit floats;
      its folder is made if it does not exist.
    values: Values in port units by symbol; other controls stay at their
      defaults.
    block_size: Largest number of samples per run of the plugin.
    sample_rate: Rate to render at, in Hz, to which the input is resampled;
      that of the input by default.
    compensate_latency: Whether to take the plugin's latency out.
    isolation: 'process' or 'thread'; see `lv2.Renderer`.

  Returns:
    What was done, for people.

  Raises:
    OSError: A file cannot be read or written.
    ValueError: An unknown plugin, a value out of range, or unfit audio.
    KeyError: An unknown symbol.
    lv2.PluginError: The plugin cannot be run here, crashes or hangs.
  """
  import soundfile

  output_path = pathlib.Path(output_path)
  if output_path.suffix.lower() != '.wav':
    raise ValueError(
      f'--output={output_path} must end in .wav: WAV of 32-bit floats is '
      'written.'
    )
  plugin = get_plugin(uri)
  for symbol, value in (values or {}).items():
    lv2.check_value(plugin, symbol, value)
  audio, input_rate = read_audio(input_path)
  n_channels = audio.shape[1]
  _check_channels(plugin, n_channels, input_path)
  sample_rate = sample_rate or input_rate
  done = f'{input_path}: {n_channels} channels, {input_rate} Hz'
  if sample_rate != input_rate:
    import soxr

    audio = soxr.resample(audio, input_rate, sample_rate)
    done += f', resampled to {sample_rate} Hz'
    if not audio.size:
      raise ValueError(f'{input_path} is too short to resample.')

  renderer = lv2.Renderer(
    uri,
    sample_rate,
    fixed=values,
    block_size=block_size,
    n_threads=1,
    compensate_latency=compensate_latency,
    isolation=isolation,
    time_limit_s=_TIME_LIMIT_S + _TIME_LIMIT_RATIO * len(audio) / sample_rate,
  )
  out = renderer.render(audio[None])[0]
  output_path.parent.mkdir(parents=True, exist_ok=True)
  # A failed write leaves no half of a file behind.
  temporary = output_path.with_name(f'.{output_path.stem}.partial.wav')
  try:
    soundfile.write(temporary, out, sample_rate, 'FLOAT')
    temporary.replace(output_path)
  finally:
    temporary.unlink(missing_ok=True)
  symbols = ', '.join(p.symbol for p in plugin.audio_outputs)
  latency = (
    f'{renderer.latency} samples of latency taken out'
    if compensate_latency
    else 'latency left in'
  )
  return (
    f'{done}\n{output_path}: {out.shape[1]} channels ({symbols}), '
    f'{sample_rate} Hz, {len(out)} samples, {latency}'
  )


def _check_channels(plugin, n_channels: int, path):
  allowed = max(len(plugin.audio_inputs), 1)
  if n_channels not in (1, allowed):
    symbols = ', '.join(p.symbol for p in plugin.audio_inputs) or 'none'
    raise ValueError(
      f'{path} has {n_channels} channels; {plugin.uri} has '
      f'{len(plugin.audio_inputs)} audio inputs ({symbols}). Give as many '
      'channels, in that order, or one for all of them.'
    )


# ------------------------------------------------------------------ Text ----
def _number(value: float) -> str:
  return f'{value:g}'


def _table(
  header: Sequence[str],
  rows: Sequence[Sequence[object]],
  numeric: Sequence[int] = (),
) -> list[str]:
  """Returns the lines of a table; columns in `numeric` are set right."""
  cells = [[str(cell) for cell in row] for row in (header, *rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return [
    '  '.join(
      cell.rjust(width) if i in numeric else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in cells
  ]


def _json(value) -> str:
  return json.dumps(value, indent=2, ensure_ascii=False)


# -------------------------------------------------------------- Commands ----
def _list():
  n_plugins = len(lv2.list_uris())
  if not n_plugins:
    raise ValueError(
      'No LV2 plugin is installed. Install some (Debian: apt-get install '
      'calf-plugins lsp-plugins-lv2) or set LV2_PATH to the folder that '
      'holds them.'
    )
  rows = find_plugins(FLAGS.filter)
  if FLAGS.json:
    print(_json(rows))
    return
  columns = (
    'uri name class audio_inputs audio_outputs trainable'.split(),
    'URI NAME CLASS IN OUT TRAINABLE'.split(),
  )
  table = [[row[key] for key in columns[0]] for row in rows]
  print('\n'.join(_table(columns[1], table, numeric=(3, 4, 5))))
  print(f'{len(rows)} of {n_plugins} plugins')


def _show(uri):
  about = describe(uri)
  print(_json(about) if FLAGS.json else format_description(about))


def _render(uri):
  for name in ('input', 'output'):
    if not FLAGS[name].value:
      raise app.UsageError(f'render needs --{name}=FILE.wav.')
  values = lv2.load_preset(uri, FLAGS.preset) if FLAGS.preset else {}
  values |= parse_settings(FLAGS['set'].value)
  done = render_file(
    uri,
    _folders.expand_user(FLAGS.input),
    _folders.expand_user(FLAGS.output),
    values,
    FLAGS.block_size,
    FLAGS.sample_rate,
    FLAGS.latency_compensation and not FLAGS.no_latency_compensation,
    FLAGS.isolation,
  )
  print(done)


def _gin(uri):
  plugin = get_plugin(uri)
  # A binding of what cannot be run is none; the error says why.
  fixed = {s: value for s, (value, _) in binding.find_traps(plugin).items()}
  lv2.Renderer(uri, 44100, fixed=fixed, isolation='process')
  print(binding.gin_binding(plugin))


def _check(*uris):
  if bool(uris) == FLAGS.all:
    raise app.UsageError('check takes either a URI or --all.')
  for uri in uris:
    get_plugin(uri)
  from dafx.lv2.cards import card, checks

  path = FLAGS.json and _folders.expand_user(FLAGS.json)
  if path:  # An error now, not after half an hour.
    path.parent.mkdir(parents=True, exist_ok=True)
  found = checks.check_all(
    list(uris or lv2.list_uris()), str(path) if path else None
  )
  if FLAGS.all:
    print(card.format_summary(found))
    return
  print(card.format_card(found[0]))
  if found[0]['status'] != 'ok':
    raise lv2.PluginError(
      f'{uris[0]} cannot be used, as the card says: FAILED.'
    )


# By command: what does it, and how many arguments it takes, at least and most.
_COMMANDS = {
  'list': (_list, 0, 0),
  'show': (_show, 1, 1),
  'render': (_render, 1, 1),
  'gin': (_gin, 1, 1),
  'check': (_check, 0, 1),
}


def _define_flags(command: str, values: flags.FlagValues):
  # Not on import, and only those of the command: another's is an error, and
  # --json is a switch of some and takes a file for others.
  if command == 'list':
    flags.DEFINE_string(
      'filter',
      '',
      'Text that URI, name, author or class must have; --filter=compressor.',
      flag_values=values,
    )
  if command in ('list', 'show'):
    flags.DEFINE_bool('json', False, 'Write JSON.', flag_values=values)
  if command == 'check':
    flags.DEFINE_bool(
      'all', False, 'Check all plugins that are installed.', flag_values=values
    )
    flags.DEFINE_string(
      'json',
      None,
      'File to write the cards to; --json=cards.json.',
      flag_values=values,
    )
  if command == 'render':
    _define_render_flags(values)


def _define_render_flags(values):
  flags.DEFINE_string(
    'input',
    None,
    'Audio file: its channels are the audio inputs in port order, or one for '
    'all of them; --input=in.wav.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'output',
    None,
    'WAV of 32-bit floats: its channels are the audio outputs in port order; '
    '--output=out.wav.',
    flag_values=values,
  )
  flags.DEFINE_multi_string(
    'set',
    [],
    'A control, as symbol=value in port units, such as --set ratio=4. It wins '
    'over the preset.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'preset',
    None,
    'Label or URI of a preset of the plugin, as `show` lists them; '
    '--preset=Vocal.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'block_size',
    1024,
    'Largest number of samples per run of the plugin; --block_size=64.',
    lower_bound=1,
    upper_bound=1 << 20,
    flag_values=values,
  )
  flags.DEFINE_integer(
    'sample_rate',
    None,
    'Rate to render at, in Hz; the input is resampled to it. By default the '
    "input's; --sample_rate=48000.",
    lower_bound=1000,
    upper_bound=768000,
    flag_values=values,
  )
  flags.DEFINE_bool(
    'latency_compensation',
    True,
    "Leave the plugin's latency in. Without it, the output starts where the "
    'input does.',
    flag_values=values,
  )
  flags.DEFINE_bool(
    'no_latency_compensation',
    False,
    'The same as --nolatency_compensation.',
    flag_values=values,
  )
  flags.DEFINE_enum(
    'isolation',
    'process',
    lv2.ISOLATIONS,
    'process: run the plugin in a process of its own, so that a crash or hang '
    'becomes an error message; thread: in this process, which is faster.',
    flag_values=values,
  )


def main(argv):
  """Does what the arguments say."""
  if len(argv) < 2 or argv[1] not in _COMMANDS:
    raise app.UsageError(
      f'Give one command of {", ".join(_COMMANDS)} first, not '
      f'{argv[1] if len(argv) > 1 else "none"}.'
    )
  command, fewest, most = _COMMANDS[argv[1]]
  if not fewest <= len(argv) - 2 <= most:
    needs = 'the URI of one plugin' if fewest else f'{most} URI at most'
    raise app.UsageError(
      f'{argv[1]} takes {needs if most else "no URI"}, not '
      f'{" ".join(argv[2:]) or "none"}.'
    )
  command(*argv[2:])


def _sections(command: str) -> dict[str, flags.FlagValues]:
  """Returns the flags of a command, or of each if it is none, by heading."""
  sections = {}
  for name in [command] if command in _COMMANDS else _COMMANDS:
    values = flags.FlagValues()
    _define_flags(name, values)
    if len(values):
      sections[f'Flags of {name}'] = values
  return sections


def console_entry_point():
  """The command dafx_plugins."""
  command = sys.argv[1] if len(sys.argv) > 1 else ''
  _define_flags(command, FLAGS)
  running.run('dafx_plugins', main, __doc__, _sections(command))


if __name__ == '__main__':
  console_entry_point()
