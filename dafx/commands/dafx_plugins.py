r"""dafx_plugins: lists, shows, renders and checks LV2 plugins.

    dafx_plugins list --filter=compressor
    dafx_plugins show http://calf.sourceforge.net/plugins/Compressor
    dafx_plugins render http://calf.sourceforge.net/plugins/Compressor \
      --input=in.wav --output=out.wav --set threshold=0.1 --set ratio=4
    dafx_plugins render http://gareus.org/oss/lv2/zeroconvolv#CfgMono \
      --input=in.wav --output=out.wav --file ir=room.wav
    dafx_plugins gin http://calf.sourceforge.net/plugins/Compressor
    dafx_plugins check http://calf.sourceforge.net/plugins/Compressor
    dafx_plugins check --all --json=cards.json

A plugin is named by its URI, as `list` prints it. LV2_PATH, if set, says which
folders hold plugins, in place of the standard ones.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dafx import _folders, lv2
from dafx.commands import running
from dafx.lv2.cards import binding, listing, text

# Samples that are rendered at a time, about.
_CHUNK = 2**16


# ---------------------------------------------------------------- Render ----
def parse_settings(settings: Iterable[str]) -> dict[str, float]:
  """Returns values by symbol of texts such as 'threshold=0.1'.

  Args:
    settings: One control each; of two for one symbol the last holds.

  Raises:
    ValueError: A text without a symbol, '=' and a number.
  """
  values = {}
  for setting in settings:
    symbol, _, value = setting.partition('=')
    try:
      values[symbol.strip()] = float(value)
    except ValueError:
      raise ValueError(
        f'--set {setting!r} must be symbol=value with a number in port units, '
        'such as --set threshold=0.1.'
      ) from None
  return values


def parse_files(uri: str, files: Iterable[str]) -> dict[str, str]:
  """Returns paths by the URI of a parameter, of texts such as 'ir=room.wav'.

  Args:
    uri: The plugin's URI.
    files: One parameter each, by its URI or what stands behind the last '#',
      '/' or ':' of it; of two for one parameter the last holds. A plugin that
      takes one file needs no name: 'room.wav' does.

  Raises:
    KeyError: No such parameter.
    ValueError: A text without a parameter, of a plugin that does not take just
      one file; or a parameter that is no file.
  """
  plugin = listing.get_plugin(uri)
  values = {}
  for given in files:
    name, _, path = given.rpartition('=')
    if not name and len(plugin.files) != 1:
      names = ', '.join(p.short_name for p in plugin.files) or 'none'
      raise ValueError(
        f'--file {given!r} must be parameter=path, such as --file ir=room.wav. '
        f'{uri} takes these files: {names}.'
      )
    parameter = plugin.files[0] if not name else plugin.parameter(name.strip())
    if not parameter.is_file:
      raise ValueError(f'--file {given!r}: {parameter.uri} is no file.')
    values[parameter.uri] = path
  return values


def render_file(
  uri: str,
  input_path: str | os.PathLike,
  output_path: str | os.PathLike,
  values: Mapping[str, Any] | None = None,
  block_size: int = 1024,
  sample_rate: int | None = None,
  compensate_latency: bool = True,
  isolation: str = 'process',
  preset: str | None = None,
) -> str:
  """Renders an audio file through a plugin, chunk by chunk.

  Args:
    uri: The plugin's URI.
    input_path: Audio whose channels are the plugin's audio inputs in port
      order, with side chains or without; mono feeds them all.
    output_path: Gets the audio outputs in port order, in the format of its
      suffix; its folder is made if it does not exist.
    values: Values in port units by symbol, and of parameters, such as files,
      by URI; all else stays at its default.
    block_size: Largest number of samples per run of the plugin.
    sample_rate: Rate to render at, in Hz, to which the input is resampled;
      that of the input by default.
    compensate_latency: Whether to take the plugin's latency out.
    isolation: 'process' or 'thread'; see `lv2.Renderer`.
    preset: Label or URI of a preset, in place of the defaults.

  Returns:
    What was done, for people.

  Raises:
    OSError: A file cannot be read or written.
    ValueError: An unknown plugin, a value out of range, or unfit audio.
    KeyError: An unknown symbol, parameter or preset.
    lv2.PluginError: The plugin cannot be run here, crashes or hangs, or cannot
      use a file or the state of the preset.
  """
  from dafx.audio import files, sources  # not needed by the other commands

  plugin = listing.get_plugin(uri)
  given = sources.from_file(input_path)
  _check_channels(plugin, given.n_channels, input_path)
  source = sources.resampled(given, sample_rate or given.sample_rate)
  renderer = lv2.Renderer(
    uri,
    source.sample_rate,
    fixed=values,
    block_size=block_size,
    n_threads=1,
    compensate_latency=compensate_latency,
    isolation=isolation,
    stateful=True,
    preset=preset,
  )
  with (
    lv2.errors_with(input_path),
    files.Writer(output_path, source.sample_rate, source.n_samples) as writer,
  ):
    for block in _rendered(renderer, source):
      writer.write(block)
  done = f'{input_path}: {_channels(given.n_channels)}, {given.sample_rate} Hz'
  if source is not given:
    done += f', resampled to {source.sample_rate} Hz'
  symbols = ', '.join(p.symbol for p in plugin.audio_outputs)
  latency = (
    f'{renderer.latency} samples of latency taken out'
    if compensate_latency
    else 'latency left in'
  )
  return (
    f'{done}\n{output_path}: {_channels(len(plugin.audio_outputs))} '
    f'({symbols}), {source.sample_rate} Hz, {source.n_samples} samples, '
    f'{latency}'
  )


def _rendered(renderer: lv2.Renderer, source) -> Iterator:
  """Yields what comes out of a plugin, without its latency.

  The plugin is run on the same blocks as if all were rendered at once.

  Args:
    renderer: A stateful renderer.
    source: The audio, at the renderer's rate.

  Yields:
    Audio [n, n_channels], as many samples in all as the source has.
  """
  import numpy as np

  from dafx.audio import sources

  def followed_by_silence():
    yield from source.blocks()
    yield np.zeros([renderer.latency, source.n_channels], np.float32)

  n_late, block_size = renderer.latency, renderer.block_size
  size = max(_CHUNK // block_size, 1) * block_size
  for chunk, _ in sources.windows(followed_by_silence(), size):
    fill = -len(chunk) % block_size if renderer.plugin.needs_fixed_block else 0
    filled = np.pad(chunk, ((0, fill), (0, 0)))
    out = renderer.render(filled[np.newaxis])[0, : len(chunk)]
    yield out[n_late:]
    n_late = max(n_late - len(chunk), 0)


def _channels(n_channels: int) -> str:
  return f'{n_channels} channel{"" if n_channels == 1 else "s"}'


def _check_channels(plugin, n_channels: int, path):
  takes = {1, len(plugin.main_inputs) or 1, len(plugin.audio_inputs) or 1}
  if n_channels not in takes:
    raise ValueError(
      f'{path} has {_channels(n_channels)}; {plugin.uri} takes '
      f'{lv2.describe_inputs(plugin)}.'
    )


# -------------------------------------------------------------- Commands ----
def _print_json(value):
  print(json.dumps(value, indent=2, ensure_ascii=False))


def _list(args):
  n_plugins = len(lv2.list_uris())
  if not n_plugins:
    raise ValueError(
      'No LV2 plugin is installed. Install some (Debian: apt-get install '
      f'calf-plugins lsp-plugins-lv2). {lv2.advice_on_path()}'
    )
  rows = listing.find_plugins(args.filter)
  if args.json:
    _print_json(rows)
    return
  print(listing.format_list(rows))
  print(f'{len(rows)} of {n_plugins} plugins')


def _show(args):
  about = listing.describe(args.uri)
  if args.json:
    _print_json(about)
  else:
    print(listing.format_description(about))


def _render(args):
  from dafx.audio import files

  values = {**parse_settings(args.set), **parse_files(args.uri, args.file)}
  for path, output in files.plan_outputs(args.input, args.output):
    done = render_file(
      args.uri,
      path,
      output,
      values,
      args.block_size,
      args.sample_rate,
      args.latency_compensation,
      args.isolation,
      args.preset,
    )
    print(done)


def _gin(args):
  plugin = listing.get_plugin(args.uri)
  # A binding of what cannot be run is none; the error says why.
  fixed = {s: value for s, (value, _) in binding.find_traps(plugin).items()}
  lv2.Renderer(args.uri, 44100, fixed=fixed, isolation='process')
  moves = lv2.moves_of_latency(
    args.uri,
    44100,
    [p.symbol for p in binding.trainable_controls(plugin)],
    fixed,
    isolation='process',
  )
  print(binding.gin_binding(plugin, moves))


def _check(args):
  if args.uri:
    listing.get_plugin(args.uri)
  from dafx.lv2.cards import checks

  path = args.json and _folders.expand_user(args.json)
  if path:  # An error now, not after half an hour.
    path.parent.mkdir(parents=True, exist_ok=True)
  uris = [args.uri] if args.uri else lv2.list_uris()
  found = checks.check_all(uris, str(path) if path else None)
  if args.all:
    print(text.format_summary(found))
    return
  print(text.format_card(found[0]))
  if not found[0].is_ok:
    raise lv2.PluginError(
      f'{args.uri} cannot be used, as the card says: FAILED.'
    )


def make_parser() -> running.Parser:
  """Returns what parses the command line."""
  parser = running.Parser(prog='dafx_plugins', description=__doc__)
  commands = parser.add_subparsers(
    title='commands, each with its own --help',
    required=True,
  )

  def add(run, name, about, takes_uri=True):
    command = commands.add_parser(name, help=about, description=about)
    command.set_defaults(run=run)
    if takes_uri:
      command.add_argument('uri', metavar='URI', help='The plugin.')
    return command

  command = add(_list, 'list', 'List the plugins that are installed.', False)
  command.add_argument(
    '--filter',
    default='',
    metavar='TEXT',
    help='Text that URI, name, author or class must have; --filter=compressor.',
  )
  command.add_argument('--json', action='store_true', help='Write JSON.')
  about = "Show a plugin's ports, their ranges, and its presets."
  command = add(_show, 'show', about)
  command.add_argument('--json', action='store_true', help='Write JSON.')
  _add_render_arguments(
    add(_render, 'render', 'Render audio files through a plugin.')
  )
  about = 'Print the gin configuration of a plugin, to paste into a file.'
  add(_gin, 'gin', about)
  command = add(
    _check,
    'check',
    'Try a plugin: is it repeatable, how fast, which controls matter.',
    takes_uri=False,
  )
  which = command.add_mutually_exclusive_group(required=True)
  which.add_argument('uri', nargs='?', metavar='URI', help='The plugin.')
  which.add_argument(
    '--all',
    action='store_true',
    help='Check all plugins that are installed.',
  )
  command.add_argument(
    '--json',
    metavar='FILE',
    help='File to write the cards to; --json=cards.json.',
  )
  return parser


def _add_render_arguments(command):
  command.add_argument(
    '--input',
    required=True,
    metavar='PATH',
    help='Audio file, or a folder of them: the channels are the audio inputs '
    'in port order, or one for all of them; --input=in.wav.',
  )
  command.add_argument(
    '--output',
    required=True,
    metavar='PATH',
    help='The file, or the folder, to write: the channels are the audio '
    'outputs in port order. WAV is of 32-bit floats; --output=out.wav.',
  )
  command.add_argument(
    '--set',
    action='append',
    default=[],
    metavar='SYMBOL=VALUE',
    help='A control, in port units, such as --set ratio=4. It wins over the '
    'preset. Can be given again.',
  )
  command.add_argument(
    '--file',
    action='append',
    default=[],
    metavar='PARAMETER=PATH',
    help='A file that the plugin is to load, such as an impulse response, by '
    'the parameter that `show` lists: --file ir=room.wav. Where the plugin '
    'takes one file, --file=room.wav does. Can be given again.',
  )
  command.add_argument(
    '--preset',
    metavar='NAME',
    help='Label or URI of a preset of the plugin, as `show` lists them; '
    '--preset=Vocal.',
  )
  command.add_argument(
    '--block_size',
    type=running.whole_number(1, 1 << 20),
    default=1024,
    metavar='N',
    help='Largest number of samples per run of the plugin. By default '
    '%(default)s.',
  )
  command.add_argument(
    '--sample_rate',
    type=running.whole_number(1000, 768000),
    metavar='HZ',
    help='Rate to render at; the input is resampled to it. By default the '
    "input's.",
  )
  command.add_argument(
    '--nolatency_compensation',
    dest='latency_compensation',
    action='store_false',
    help="Leave the plugin's latency in. Without it, the output starts where "
    'the input does.',
  )
  command.add_argument(
    '--isolation',
    choices=lv2.ISOLATIONS,
    default='process',
    help='process (the default): run the plugin in a process of its own, so '
    'that a crash or hang becomes an error message; thread: in this process, '
    'which is faster.',
  )


def console_entry_point():
  """The command dafx_plugins."""
  running.run_parsed(make_parser())


if __name__ == '__main__':
  console_entry_point()
