"""Builds the LV2 bundle of the tests' own plugins."""

import pathlib
import subprocess

_PREFIXES = """\
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix atom: <http://lv2plug.in/ns/ext/atom#> .
@prefix bufsz: <http://lv2plug.in/ns/ext/buf-size#> .
@prefix doap: <http://usefulinc.com/ns/doap#> .
@prefix patch: <http://lv2plug.in/ns/ext/patch#> .
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix state: <http://lv2plug.in/ns/ext/state#> .
@prefix units: <http://lv2plug.in/ns/extensions/units#> .
@prefix work: <http://lv2plug.in/ns/ext/worker#> .
@prefix test: <urn:dafx-test:> .
"""

_PLUGINS = {
  # name: (default, minimum, maximum, more about the plugin)
  'gain': (1, 0, 4, ''),
  'square': (1, 0.01, 10, ''),
  'onepole': (0.5, 0, 0.99, ''),
  'delay': (1, 0, 1, ''),
  'late': (1, 0, 1, ''),
  'nan': (0, 0, 2, ''),
  'block': (0, 0, 0.5, ''),
  'fixed': (0, 0, 0.5, 'lv2:requiredFeature bufsz:fixedBlockLength ;'),
  'options': (0, 0, 1, ''),
  'cross': (0, 0, 1, ''),
  'fatal': (0, 0, 4, ''),
  'alien': (1, 0, 1, 'lv2:requiredFeature <urn:dafx-test:feature> ;'),
  'fussy': (1, 0, 1, ''),
  'worker': (0, 0, 1, ''),
  'tuned': (0.5, 0, 0.5, ''),
  'uninitialised': (0, 0, 1, ''),
  'random': (1, 0, 1, ''),
  'hidden': (0.5, 0, 0.99, ''),
  'grows': (0.5, 0, 0.99, ''),
  'shared': (1, 0, 4, ''),
  'stepped': (0, 0, 8, ''),
  'modal': (1, 0, 4, ''),
  'chain': (1, 0, 4, ''),
  'scribble': (1, 0, 4, ''),
  'table': (1, 0, 4, ''),
  'careful': (1, 0, 1, ''),
  'slow': (1, 0, 4, ''),
  'ahead': (5, 0, 36, ''),
  'brittle': (1, 0, 4, ''),
  'keyed': (1, 0, 1, ''),
}
_WRITABLE = (
  'patch:writable test:taps , test:trim ; lv2:requiredFeature work:schedule ; '
  'lv2:extensionData work:interface '
)
# Those of keepers.c, which keep more than their ports hold.
_KEEPERS = {
  'keeper': (1, 0, 4, _WRITABLE + ', state:interface ;'),
  'frail': (1, 0, 4, _WRITABLE + ', state:interface ;'),
  'mailbox': (1, 0, 4, _WRITABLE + ';'),
}
# Those of strangers.c, which do what plugins may not.
_STRANGERS = {
  'single': (1, 0, 4, ''),
  'fickle': (1, 0, 4, ''),
  'together': (1, 0, 4, ''),
  'restless': (1, 0, 4, 'lv2:extensionData work:interface ;'),
  'endless': (1, 0, 4, ''),
  'rootless': (1, 0, 4, ''),
  'wanderer': (1, 0, 4, ''),
}
_PLUGINS |= {**_KEEPERS, **_STRANGERS}
_LIBRARIES = {
  **dict.fromkeys(_KEEPERS, 'keepers'),
  **dict.fromkeys(_STRANGERS, 'strangers'),
}
_PARAMETERS = """
test:taps a lv2:Parameter ; rdfs:label "Taps" ; rdfs:range atom:Path .
test:trim a lv2:Parameter ; rdfs:label "Trim" ; rdfs:range atom:Float .
"""
NAMES = tuple(_PLUGINS)


def _port(index, kinds, symbol, more=''):
  return (
    f'[ a {kinds} ; lv2:index {index} ; lv2:symbol "{symbol}" ; '
    f'lv2:name "{symbol.title()}" ; {more} ]'
  )


def _turtle(name, default, minimum, maximum, more):
  span = (
    f'lv2:default {default} ; lv2:minimum {minimum} ; lv2:maximum {maximum} ; '
    'units:unit units:coef ;'
  )
  if name == 'tuned':
    span += ' lv2:portProperty lv2:sampleRate ;'
  if name == 'stepped':
    span += (
      ' lv2:portProperty lv2:enumeration ; '
      + ' ; '.join(
        f'lv2:scalePoint [ rdfs:label "{x}" ; rdf:value {x} ]'
        for x in (0, 1, 8)
      )
      + ' ;'
    )
  latency = ''
  if name in ('late', 'ahead', 'endless'):
    latency = 'lv2:designation lv2:latency ;'
  ports = [
    _port(0, 'lv2:AudioPort , lv2:InputPort', 'in'),
    _port(1, 'lv2:AudioPort , lv2:OutputPort', 'out'),
    _port(2, 'lv2:ControlPort , lv2:InputPort', 'amount', span),
    _port(3, 'lv2:ControlPort , lv2:OutputPort', 'report', latency),
  ]
  if name in ('modal', 'brittle'):
    whole = 'lv2:default 0 ; lv2:minimum 0 ; lv2:maximum 2 ; '
    whole += 'lv2:portProperty lv2:integer ;'
    ports.append(_port(4, 'lv2:ControlPort , lv2:InputPort', 'mode', whole))
  if name == 'keyed':
    key = 'lv2:portProperty lv2:isSideChain ;'
    ports.append(_port(4, 'lv2:AudioPort , lv2:InputPort', 'key', key))
  if name == 'cross':
    ports.append(_port(4, 'lv2:AudioPort , lv2:InputPort', 'in_right'))
    ports.append(_port(5, 'lv2:AudioPort , lv2:OutputPort', 'out_right'))
  if name in _KEEPERS:
    atoms = 'lv2:designation lv2:control ; atom:bufferType atom:Sequence ;'
    ports.append(_port(4, 'atom:AtomPort , lv2:InputPort', 'control', atoms))
  return (
    f'test:{name} a lv2:Plugin ; doap:name "Test {name}" ; '
    f'lv2:minorVersion 1 ; lv2:microVersion 2 ; {more}\n'
    f'  lv2:port {", ".join(ports)} .\n'
  )


def build(folder: pathlib.Path, flags=('-O2',)) -> pathlib.Path:
  """Compiles the bundle into a folder; returns the folder for LV2_PATH."""
  bundle = folder / 'dafx-test.lv2'
  bundle.mkdir(parents=True)
  for name in ('plugins', 'keepers', 'strangers'):
    source = pathlib.Path(__file__).with_name(f'{name}.c')
    subprocess.run(
      ['gcc', *flags, '-Wall', '-shared', '-fPIC', '-o']
      + [str(bundle / f'{name}.so'), str(source), '-lm', '-lpthread'],
      check=True,
    )
  manifest = ''.join(
    f'test:{name} a lv2:Plugin ; '
    f'lv2:binary <{_LIBRARIES.get(name, "plugins")}.so> ; '
    'rdfs:seeAlso <plugins.ttl> .\n'
    for name in _PLUGINS
  )
  (bundle / 'manifest.ttl').write_text(_PREFIXES + manifest)
  plugins = ''.join(_turtle(name, *row) for name, row in _PLUGINS.items())
  (bundle / 'plugins.ttl').write_text(_PREFIXES + _PARAMETERS + plugins)
  return folder
