"""Files that are spoilt at random, and read in a process of their own.

    python tests/field/fuzzing.py READER COUNT SEED FOLDER

spoils the files of a reader COUNT times and has each read. What is raised must
be a `ValueError`, within a limit of time and of memory, and no file may appear
or go outside of the folder that was read. Printed is a line of JSON for each
fault, and one for the end: how many were read and refused.
"""

import contextlib
import faulthandler
import json
import logging
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import traceback

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import dafx  # noqa: E402, F401  What makes ddsp importable, so before it.

# Of the processor, for one file; and of memory, beyond that of the process at
# the start. Both are far above what is needed, so that a busy machine passes.
_SECONDS, _BYTES = 20, 2**30
# What a text is spoilt by.
_WORDS = (
  *('null', 'true', '-1', '0', '1e999', 'NaN', '-Infinity', '1' * 400, '""'),
  *(
    '[]',
    '{}',
    '[[',
    '{"',
    '"',
    '\\',
    '\0',
    '../',
    '/',
    '%',
    '@',
    ':',
    '=',
    '\n',
  ),
  *('"../../x"', '"/x"', '99999999', '1' + 30 * '0', '\\ud800', 'ä', 200 * '['),
)
_KEYS = ('', 'x', '../../x', 'train/../../x', '\0', 'class_name')
# What a value of JSON becomes.
_VALUES = (
  *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, 0.5, -0.0),
  *(float('nan'), float('inf'), '', '0', '../../x', '/x', 'x' * 5000, '\0'),
  *([], {}, [None], {'': None}, [[[]]], '\ud800', [1, 2, 3], {'a': 1}),
)


# -------------------------------------------------------------- Spoiling ----
def spoil_bytes(rng: random.Random, content: bytes) -> bytes:
  """Changes, takes out, doubles or swaps some bytes, in some places."""
  content = bytearray(content)
  for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
    n = len(content)
    place = rng.randrange(n + 1)
    if rng.random() < 0.5:  # what matters lies at the start
      place = rng.randrange(min(n, 128) + 1)
    size = min(rng.choice((1, 1, 2, 4, 8, 64)), n - place)
    how = rng.randrange(7)
    if how == 0 and size:
      content[place] ^= 1 << rng.randrange(8)
    elif how == 1:
      content[place : place + size] = rng.randbytes(size)
    elif how == 2:
      del content[place : place + size]
    elif how == 3:
      content[place:place] = content[place : place + size]
    elif how == 4:
      fill = rng.choice((b'\0', b'\xff', b'\x7f', b'\x80'))
      content[place : place + size] = size * fill
    elif how == 5 and rng.random() < 0.3:
      del content[place:]
    else:
      start = rng.randrange(n + 1)
      content[place : place + size] = content[start : start + size]
  return bytes(content)


def spoil_text(rng: random.Random, content: bytes) -> bytes:
  """Puts words of the language where they do not belong; or spoils bytes."""
  if rng.random() < 0.4:
    return spoil_bytes(rng, content)
  text = content.decode('utf-8', 'surrogateescape')
  for _ in range(rng.choice((1, 1, 2, 4))):
    start = rng.randrange(len(text) + 1)
    stop = min(start + rng.choice((0, 0, 1, 3, 20)), len(text))
    word = rng.choice(_WORDS)
    if rng.random() < 0.3:
      word = text[rng.randrange(len(text) + 1) :][: rng.choice((1, 8, 40))]
    text = text[:start] + word + text[stop:]
  return text.encode('utf-8', 'surrogatepass')


def spoil_json(rng: random.Random, content: bytes) -> bytes:
  """Replaces, takes out, doubles or renames values; or spoils the text."""
  if rng.random() < 0.4:
    return spoil_text(rng, content)
  root = [json.loads(content)]
  for _ in range(rng.choice((1, 1, 2, 3))):
    places = []

    def walk(value, places=places):
      keys = ()
      if isinstance(value, dict):
        keys = list(value)
      elif isinstance(value, list):
        keys = range(min(len(value), 20))
      for key in keys:
        places.append((value, key))
        walk(value[key])

    walk(root)
    inside, key = rng.choice(places)
    how = rng.randrange(6)
    if how == 0 and inside is not root:
      del inside[key]
    elif how == 1 and isinstance(inside, dict):
      inside[rng.choice(_KEYS)] = inside.pop(key)
    elif how == 2:
      inside[key] = _copy([inside[key]] * rng.choice((0, 1, 2, 300)))
    elif how == 3:
      other, place = rng.choice(places)
      inside[key] = _copy(other[place])
    elif isinstance(inside[key], int | float) and rng.random() < 0.5:
      inside[key] = inside[key] * rng.choice((-1, 0, 2, 1000, 10**9, 0.5))
    else:
      inside[key] = _copy(rng.choice(_VALUES))
  return json.dumps(root[0]).encode('utf-8', 'surrogatepass')


def _copy(value):
  return json.loads(json.dumps(value))


# --------------------------------------------------------------- Readers ----
class Reader:
  """A way to read files of a kind.

  Subclasses make a good folder once, and spoil and read it again and again.

  Attributes:
    count: How often.
    seed: Of what is spoilt.
  """

  count = seed = 0

  def make(self, folder: pathlib.Path):
    """Writes good files into a folder, and keeps what it takes to spoil."""
    raise NotImplementedError  # abstract

  def spoil(self, rng: random.Random, folder: pathlib.Path):
    """Spoils what `make` made."""
    raise NotImplementedError  # abstract

  def read(self, folder: pathlib.Path):
    """Reads it, in all ways that there are."""
    raise NotImplementedError  # abstract


class Nam(Reader):
  """.nam files: of each architecture, with all that layers may have."""

  def make(self, folder):
    from dafx import neural
    from dafx.neural import nam

    arrays = [neural.LayerArray(2, 1, (1, 2), gating='gated')]
    arrays += [neural.LayerArray(1, 1, (4,), head_bias=True)]
    old = neural.WaveNet(arrays=arrays)
    leaky = neural.Activation('LeakyReLU', {'negative_slope': 0.1})
    array = neural.LayerArray(
      2,
      2,
      (1, 2),
      (2, 1),
      ('none', 'blended'),
      activation=leaky,
      bottleneck=4,
      head1x1=neural.Head1x1(2, 2),
      groups_input=2,
      head_kernel_size=2,
      films={
        'conv_pre_film': neural.Film(),
        'activation_post_film': neural.Film(False),
      },
    )
    new = neural.WaveNet(
      arrays=[array],
      post_head=neural.PostHead(2, (2, 1)),
      condition=neural.Linear(2),
    )
    lstm = neural.Rnn(n_units=2, activation='linear')
    conv_net, linear = neural.ConvNet(2, (1, 2)), neural.Linear(3, True)
    packed = neural.Packed([linear, lstm])
    chain = neural.Chain([conv_net, packed])
    self.contents = []
    for network in (old, new, lstm, conv_net, linear, packed, chain):
      nam.write(folder / 'a.nam', network, 48000, measures=False)
      self.contents.append((folder / 'a.nam').read_bytes())

  def spoil(self, rng, folder):
    content = spoil_json(rng, rng.choice(self.contents))
    (folder / 'a.nam').write_bytes(content)

  def read(self, folder):
    from dafx.neural import nam

    nam.read(folder / 'a.nam', size=0.3)


class Manifest(Reader):
  """What dafx_prepare leaves, and then takes away."""

  def make(self, folder):
    import numpy as np

    from dafx.training.data_preparation import files

    self.names = ['manifest.json', 'alignments.json', 'downloads.json']
    manifest = files.Manifest(folder)
    manifest.settle('files', 8000, 1, 0)
    audio = 0.1 * np.ones([64, 1])
    source = {'input': ['in', 64, 1], 'target': ['out', 64, 1]}
    for split, name in (('train', 'a'), ('train', 'b'), ('valid', 'c/d')):
      sides = audio, audio
      manifest.write_pair(split, name, sides, 8000, (8000, 1), source=source)
    manifest.left_out = {'e': 'too short'}
    manifest.unfinished = ['train/f']
    manifest.save()
    for name in self.names[1:]:
      state = {'a': {'source': source, 'sample_rate': 8000, 'n_bytes': 3}}
      files.write_json(folder / name, state)
    self.contents = {n: (folder / n).read_bytes() for n in self.names}

  def spoil(self, rng, folder):
    for name, content in self.contents.items():
      (folder / name).write_bytes(content)
    name = rng.choice((*self.names, self.names[0], self.names[0]))
    (folder / name).write_bytes(spoil_json(rng, self.contents[name]))

  def read(self, folder):
    from dafx.training.data_preparation import download, files, pairs

    for name in self.names[1:]:
      state = files.read_state(folder / name)
      pairs._is_of(state.get('a'), {}, True)
    remote = download.RemoteFile('', 'a', 3)
    download.Downloads(folder).has(remote)
    manifest = files.Manifest(folder)
    pairs._stale(manifest, [], {})
    with contextlib.suppress(ValueError):  # made in another way
      manifest.settle('files', 8000, 1, 0)
    manifest.keep([])


class Records(Reader):
  """TFRecords: bytes of the file, and of what has the right checksum."""

  def make(self, folder):
    import numpy as np
    import tensorflow as tf

    from dafx.audio import files
    from dafx.training import data, labels

    for side in ('input', 'target'):
      for name in ('a', 'b'):
        path = folder / 'train' / side / f'{name}.wav'
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, 0.1 * np.ones([64, 2]), 8000)
    events = [labels.Event('breath', 3, 9)]
    labels.write_events(events, labels.events_path(folder / 'train', 'a'))
    path = folder / 'train.tfrecord'
    data.write_tfrecord(data.find_pairs(folder / 'train'), path)
    shutil.rmtree(folder / 'train')
    self.content = path.read_bytes()
    dataset = tf.data.TFRecordDataset(str(path))
    self.records = [record.numpy() for record in dataset]

  def spoil(self, rng, folder):
    import tensorflow as tf

    path = folder / 'train.tfrecord'
    if rng.random() < 0.3:
      path.write_bytes(spoil_bytes(rng, self.content))
      return
    records = list(self.records)
    i = rng.randrange(len(records))
    if rng.random() < 0.5:
      example = tf.train.Example.FromString(records[i])
      features = example.features.feature
      name = rng.choice(sorted(features))
      feature = features[name]
      if feature.WhichOneof('kind') == 'bytes_list':
        values = [b'', b'../../x', b'/x', b'\xff', b'abc', 4000 * b'x']
        feature.bytes_list.value[:] = rng.choices(values, k=rng.randrange(3))
      else:
        values = [0, -1, 1, 2, 2**31, 2**62, -(2**63)]
        feature.int64_list.value[:] = rng.choices(values, k=rng.randrange(3))
      records[i] = example.SerializeToString()
    else:
      records[i] = spoil_bytes(rng, records[i])
    with tf.io.TFRecordWriter(str(path)) as writer:
      for record in records:
        writer.write(record)

  def read(self, folder):
    from dafx.training import data

    provider = data.ShardProvider(str(folder), 'train', 8000, 16, 2)
    for item in provider.items():
      for side in (item.input, item.target):
        sum(map(len, side.blocks()))


class Config(Reader):
  """Operative configs of runs."""

  def make(self, folder):
    self.content = b"""\
# Written by dafx 0.1.0.
import dafx.effects
import dafx.losses
import dafx.neural
import dafx.training.models
import tensorflow as tf

size = 4
# Parameters for effect_models.EffectModel:
effect_models.EffectModel.losses = [@losses.EsrLoss(), @x/losses.EsrLoss()]
x/losses.EsrLoss.weight = 2.0
gain/effects.LV2Plugin.ranges = {'amount': (0.0, 2.0, 'log'), 'b': (1, 2)}
gain/effects.LV2Plugin.trainable = \\
    ['amount', 'mode']
neural.Rnn.n_units = %size
"""
    (folder / 'operative_config-0.gin').write_bytes(self.content)

  def spoil(self, rng, folder):
    path = folder / 'operative_config-0.gin'
    path.write_bytes(spoil_text(rng, self.content))

  def read(self, folder):
    import gin

    from dafx.training import gin_files

    gin_files.check_operative_config(folder)
    gin.clear_config()
    gin_files.parse_operative_config(folder)
    gin.operative_config_str()


class Settings(Reader):
  """settings.json of matches: plugins and layers."""

  def make(self, folder):
    import tensorflow as tf

    from dafx import effects

    plugin = {
      'name': 'modal',
      'inputs': ['audio'],
      'uri': 'urn:dafx-test:modal',
      'plugin': 'Modal',
      'channels': 'stereo',
      'controls': {'amount': 1.0, 'mode': 1.0},
    }
    (folder.parent / 'taps.txt').write_text('0.5 0.25')
    keeper = {
      'name': 'keeper',
      'inputs': ['modal'],
      'uri': 'urn:dafx-test:keeper',
      'plugin': 'Keeper',
      'channels': 'mono',
      'controls': {'amount': 1.0},
      'parameters': {
        'urn:dafx-test:taps': str(folder.parent / 'taps.txt'),
        'urn:dafx-test:trim': 0.5,
      },
    }
    nodes = [plugin, keeper]
    for layer, controls in (
      (effects.Gain(name='gain'), {'gain_db': 3.0}),
      (effects.Waveshaper(name='bend'), {}),
    ):
      entry = {
        'name': layer.name,
        'inputs': [nodes[-1]['name']],
        'layer': tf.keras.layers.serialize(layer),
        'controls': controls,
      }
      nodes.append(entry)
    content = {'sample_rate': 8000, 'gain_db': 1.0, 'nodes': nodes}
    self.content = json.dumps(content).encode()
    (folder / 'a.settings.json').write_bytes(self.content)

  def spoil(self, rng, folder):
    path = folder / 'a.settings.json'
    path.write_bytes(spoil_json(rng, self.content))

  def read(self, folder):
    from dafx.audio import files
    from dafx.training.matching import settings

    found = settings.read(folder / 'a.settings.json')
    with files.named('a.settings.json'):
      settings.make_graph(found)


class Wav(Reader):
  """Audio files: mostly headers of WAV."""

  _FORMS = (
    ('WAV', 'PCM_16'),
    ('WAV', 'FLOAT'),
    ('WAV', 'IMA_ADPCM'),
    ('WAVEX', 'PCM_24'),
    ('RF64', 'PCM_16'),
    ('AIFF', 'PCM_16'),
    ('CAF', 'ALAC_16'),
    ('W64', 'PCM_16'),
    ('AU', 'ULAW'),
    ('FLAC', 'PCM_16'),
    ('OGG', 'VORBIS'),
    ('OGG', 'OPUS'),
    ('MP3', 'MPEG_LAYER_III'),
  )

  def make(self, folder):
    import numpy as np
    import soundfile

    audio = 0.3 * np.sin(np.arange(2400).reshape(1200, 2) / 9)
    self.contents = []
    for kind, subtype in self._FORMS:
      path = folder / f'a.{kind.lower()}'
      soundfile.write(path, audio, 48000, subtype, format=kind)
      self.contents.append((path.name, path.read_bytes()))
      path.unlink()

  def spoil(self, rng, folder):
    i = rng.randrange(len(self.contents))
    if rng.random() < 0.5:
      i = rng.randrange(5)  # WAV
    name, content = self.contents[i]
    for path in folder.iterdir():
      path.unlink()
    name = f'a.{rng.choice(("wav", name.split(".")[1]))}'
    (folder / name).write_bytes(spoil_bytes(rng, content))

  def read(self, folder):
    from dafx.audio import files, scans, sources

    (path,) = folder.iterdir()
    info = files.read_info(path)
    files.read(path)
    source = sources.from_file(path)
    sum(map(len, source.blocks()))
    scans.check([scans.of_file(path, info.samplerate)])


class Presets(Reader):
  """Preset bundles: all that lie on LV2_PATH at the start are read at once."""

  _URI = 'urn:dafx-test:modal'

  def make(self, folder):
    # In another process: lilv looks for bundles once in each.
    program = (
      f'from dafx import lv2; lv2.write_preset({str(folder)!r}, {self._URI!r},'
      " 'A', {'amount': 0.5, 'mode': 1})"
    )
    subprocess.run([sys.executable, '-c', program], check=True)
    (path,) = folder.iterdir()
    texts = {file.name: file.read_bytes() for file in path.iterdir()}
    shutil.rmtree(path)
    for index in range(self.count):
      rng = random.Random(f'preset {self.seed} {index}')
      bundle = folder / f'b{index}.lv2'
      bundle.mkdir()
      spoilt = rng.choice(('A.ttl', 'A.ttl', 'manifest.ttl'))
      for name, text in texts.items():
        is_spoilt = name == spoilt
        content = spoil_text(rng, text) if is_spoilt else text
        (bundle / name).write_bytes(content)
    self.index = -1

  def spoil(self, rng, folder):
    self.index += 1

  def read(self, folder):
    from dafx import lv2

    with contextlib.suppress(KeyError):  # no such preset
      path = folder / f'b{self.index}.lv2' / 'A.ttl'
      values = lv2.load_preset(self._URI, f'file://{path}')
      lv2.Renderer(self._URI, 44100, fixed=values)
    for preset in lv2.list_presets(self._URI):
      if f'/b{self.index}.lv2/' in f'{preset.uri} {preset.bundle_path}/':
        lv2.load_preset(self._URI, preset.uri)


READERS = {
  'nam': Nam,
  'manifest': Manifest,
  'tfrecord': Records,
  'config': Config,
  'settings': Settings,
  'wav': Wav,
  'preset': Presets,
}


# ------------------------------------------------------------------- All ----
def _tree(folder, inner):
  """Returns all paths below a folder, but for what lies in an inner one."""
  return sorted(
    str(path)
    for path in folder.rglob('*')
    if not path.is_relative_to(inner) or path == inner
  )


def _show(**entries):
  sys.stdout.write(json.dumps(entries) + '\n')
  sys.stdout.flush()


def run(name: str, count: int, seed: int, root: pathlib.Path):
  """Spoils and reads `count` times; see the head of this file."""
  reader = READERS[name]()
  reader.count, reader.seed = count, seed
  inner = root / '1/2/3/4/5/6'
  inner.mkdir(parents=True, exist_ok=True)
  for path in (root / 'x.flac', root / '1/2/3/4/x', root / '1/2/3/4/5/x.wav'):
    path.write_bytes(b'not to be touched')
  os.environ['LV2_PATH'] = f'{inner}{os.pathsep}{os.environ["LV2_PATH"]}'
  reader.make(inner)
  with contextlib.suppress(ValueError, OSError, StopIteration):
    reader.read(inner)  # loads all modules
  before = _tree(root, inner)
  with open('/proc/self/statm', encoding='ascii') as file:
    n_bytes = int(file.read().split()[0]) * resource.getpagesize()
  resource.setrlimit(resource.RLIMIT_AS, (n_bytes + _BYTES, -1))
  # The default action ends the process; the stack says where it hung.
  faulthandler.register(signal.SIGPROF, chain=True, file=sys.stderr)
  n_read = n_refused = 0
  for index in range(count):
    rng = random.Random(f'{name} {seed} {index}')
    reader.spoil(rng, inner)
    (root / 'index').write_text(str(index))
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
      reader.read(inner)
      n_read += 1
    except ValueError as error:
      n_refused += 1
      if not str(error).strip():
        _show(fault=index, what='no message', where=traceback.format_exc())
    except Exception as error:
      what = f'{type(error).__name__}: {str(error)[:300]}'
      _show(fault=index, what=what, where=traceback.format_exc()[-1500:])
    signal.setitimer(signal.ITIMER_PROF, 0)
    if index == 0:
      before = sorted({*before, str(root / 'index')})
    if index % 100 == 0 and _tree(root, inner) != before:
      break
  after = _tree(root, inner)
  for path in set(before) ^ set(after):
    _show(fault=index, what=f'a file outside came or went: {path}', where='')
  _show(end=count, read=n_read, refused=n_refused)


if __name__ == '__main__':
  logging.disable(logging.CRITICAL)
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
  _, _name, _count, _seed, _root = sys.argv
  run(_name, int(_count), int(_seed), pathlib.Path(_root))
