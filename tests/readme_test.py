"""What the documents show works: snippets, commands, gin and links."""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import gin
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_DOCUMENTS = [
  _ROOT / 'README.md',
  _ROOT / 'CONTRIBUTING.md',
  *sorted((_ROOT / 'docs').rglob('*.md')),
  *sorted((_ROOT / 'gin').rglob('*.md')),
]
_PROGRAMS = {
  'dafx_run': 'dafx.commands.dafx_run',
  'dafx_prepare': 'dafx.commands.dafx_prepare',
}
# For processes that run elsewhere than here.
_PYTHONPATH = os.pathsep.join(
  [str(_ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
)
_SHELL = ('bash', 'sh', 'shell', 'console')
_TARGETS = set(
  re.findall(r'^([a-z-]+):', (_ROOT / 'Makefile').read_text(), re.MULTILINE)
)

# Parses command lines by a program's own flags; each program in a process of
# its own, because two may define one flag.
_PARSE = """
import importlib, json, sys
from absl import flags
module = importlib.import_module(sys.argv[1])
if hasattr(module, '_define_flags'):
  module._define_flags()
answers = []
for words in json.load(sys.stdin):
  flags.FLAGS.unparse_flags()
  try:
    rest = flags.FLAGS(words)[1:]
    tasks = getattr(module, 'TASKS', ())
    fits = len(rest) == 1 and rest[0] in tasks if tasks else not rest
    fault = '' if fits else f'{rest} instead of one of {tasks}'
  except flags.Error as error:
    fault = str(error)
  values = flags.FLAGS.flag_values_dict() if not fault else {}
  answers.append({
    'fault': fault,
    'gin_file': values.get('gin_file', []),
    'gin_param': values.get('gin_param', []),
    'gin_search_path': values.get('gin_search_path', []),
  })
json.dump(answers, sys.stdout)
"""


@dataclasses.dataclass(frozen=True)
class Block:
  """A block of code of a document.

  Attributes:
    place: File and line, for messages.
    language: What the fence says, or '' for an indented block.
    text: The code.
    is_run: Whether no comment `<!-- not run: reason -->` stands before it.
  """

  place: str
  language: str
  text: str
  is_run: bool


# -------------------------------------------------- Reading documents ----
def _blocks(text: str, name: str) -> list[Block]:
  found, lines, note = [], text.splitlines(), ''
  number = 0
  while number < len(lines):
    line = lines[number]
    fence = re.match(r'( *)(```+|~~~+) *([\w-]*)', line)
    start = number
    if fence:
      indent, mark, language = fence.groups()
      number += 1
      while number < len(lines) and lines[number].strip() != mark:
        number += 1
      body = [row.removeprefix(indent) for row in lines[start + 1 : number]]
      assert number < len(lines), f'{name}:{start + 1}: the fence has no end'
    elif line.startswith('    ') and not (start and lines[start - 1].strip()):
      language = ''
      while number < len(lines) and (
        lines[number].startswith('    ') or not lines[number].strip()
      ):
        number += 1
      body = [row.removeprefix('    ') for row in lines[start:number]]
      number -= 1
    else:
      note = line if line.strip() else note
      number += 1
      continue
    is_run = not re.match(r'<!-- not run: .+ -->$', note.strip())
    code = '\n'.join(body) + '\n'
    found.append(Block(f'{name}:{start + 1}', language, code, is_run))
    note = ''
    number += 1
  return found


def _prose(text: str) -> str:
  """Returns a document without its fenced blocks and inline code."""
  text = re.sub(r'^( *)(```+|~~~+).*?^\1\2 *$', '', text, flags=re.M | re.S)
  return re.sub(r'`[^`]*`', '', text)


def _links(text: str) -> list[str]:
  """Returns the targets of links and images that are files."""
  prose = _prose(text)
  targets = re.findall(r'\]\(\s*<?([^)\s>]+)', prose)
  targets += re.findall(r'^\[[^\]]+\]:\s*<?([^\s>]+)', prose, re.MULTILINE)
  targets += re.findall(r'(?:src|href)="([^"]+)"', prose)
  return [t for t in targets if not re.match(r'[a-z][a-z+.-]*:|#|//', t)]


def _commands(text: str) -> list[list[str]]:
  """Returns the commands of shell text as words, without assignments."""
  found = []
  for line in text.replace('\\\n', ' ').splitlines():
    line = line.strip().removeprefix('$ ')
    lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|')
    lexer.whitespace_split = True
    words = []
    for word in [*lexer, ';']:
      if set(word) <= set(';&|'):
        found += [words] if words else []
        words = []
      elif words or not re.match(r'\w+=', word):
        words.append(word)
  return found


def _name(path: pathlib.Path) -> str:
  return path.relative_to(_ROOT).as_posix()


_ALL = [
  block
  for path in _DOCUMENTS
  for block in _blocks(path.read_text(), _name(path))
]


def _shell_commands(program: str) -> list[tuple[str, list[str]]]:
  """Returns (place, words) of the documents' calls of a program."""
  found = []
  for block in _ALL:
    # An indented block may be any text: only its plain calls are read.
    lines = block.text if block.language in _SHELL else ''
    if not block.language:
      lines = '\n'.join(
        line
        for line in block.text.replace('\\\n', ' ').splitlines()
        if line.startswith((program + ' ', '$ ' + program + ' '))
      )
    if block.is_run:
      found += [(block.place, w) for w in _commands(lines) if w[0] == program]
  return found


def _places(blocks):
  return [pytest.param(block, id=block.place) for block in blocks]


# ------------------------------------------------------ The reading ----
_SAMPLE = """\
Text with [a file](docs/a.md#part), [a site](https://x.y), [a part](#b),
![a picture](<img/a.png> "title"), <img src="img/b.png"> and `[no](link)`.

```python
x = 1
```

<!-- not run: needs a friend -->

```python
y = 2
```

* item

  ```bash
  $ A=1 make demo B='2 3' && dafx_run --mode=eval \\
      --gin_file='a b.gin'  # why
  ```

Indented:

    make setup

    and more

[name]: docs/c.md
"""


def test_blocks_are_found():
  blocks = _blocks(_SAMPLE, 'sample')
  assert [(b.language, b.is_run) for b in blocks] == [
    ('python', True),
    ('python', False),
    ('bash', True),
    ('', True),
  ]
  assert blocks[0] == Block('sample:4', 'python', 'x = 1\n', True)
  assert blocks[3].text == 'make setup\n\nand more\n\n'


def test_commands_are_found():
  assert _commands(_blocks(_SAMPLE, 'sample')[2].text) == [
    ['make', 'demo', 'B=2 3'],
    ['dafx_run', '--mode=eval', '--gin_file=a b.gin'],
  ]
  assert _commands('# nothing\n\necho a | tee b; make') == [
    ['echo', 'a'],
    ['tee', 'b'],
    ['make'],
  ]


def test_links_are_found():
  assert sorted(_links(_SAMPLE)) == [
    'docs/a.md#part',
    'docs/c.md',
    'img/a.png',
    'img/b.png',
  ]


# ------------------------------------------------------ The documents ----
@pytest.fixture
def clean_gin():
  # What dafx_run knows before it parses, and what .gin files import.
  import dafx.effects
  import dafx.losses
  import dafx.training.data
  import dafx.training.evaluation.evaluate
  import dafx.training.models
  import dafx.training.models.encoders
  import dafx.training.trainers  # noqa: F401
  from dafx.training import gin_files

  gin.clear_config()
  gin_files.add_gin_search_paths()
  yield gin_files
  gin.clear_config()


@pytest.fixture
def example_files(tmp_path, monkeypatch):
  """A working folder with the files that gin blocks stand for.

  Such a block's first line names the file: `# my_gin/tasks/mine.gin`.
  """
  for block in _ALL:
    name = re.match(r'# ([\w/]+\.gin)\n', block.text)
    if block.language == 'gin' and name:
      path = tmp_path / name[1]
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(block.text)
  monkeypatch.chdir(tmp_path)
  return tmp_path


_SNIPPETS = [b for b in _ALL if b.language == 'python' and b.is_run]


def test_readme_has_a_snippet_that_runs():
  assert [b for b in _SNIPPETS if b.place.startswith('README.md:')]


@pytest.mark.parametrize('block', _places(_SNIPPETS))
def test_snippet_runs(block, clean_gin, tmp_path, monkeypatch):
  monkeypatch.setenv('MPLBACKEND', 'agg')
  monkeypatch.chdir(tmp_path)
  exec(compile(block.text, block.place, 'exec'), {'__name__': '__main__'})


@pytest.mark.parametrize('program', _PROGRAMS)
def test_command_lines_fit_the_program(program, clean_gin, example_files):
  places, commands = zip(*_shell_commands(program) or [('', [program])])
  result = subprocess.run(
    [sys.executable, '-c', _PARSE, _PROGRAMS[program]],
    input=json.dumps(commands),
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': _PYTHONPATH},
  )
  assert result.returncode == 0, result.stderr
  faults = []
  for place, answer in zip(places, json.loads(result.stdout)):
    if place and answer['fault']:
      faults.append(f'{place}: {answer["fault"]}')
    gin.clear_config()
    try:
      clean_gin.add_gin_search_paths(answer['gin_search_path'])
      clean_gin.parse_gin(answer['gin_file'], answer['gin_param'])
    except (OSError, ValueError) as error:
      faults.append(f'{place}: {error}')
  assert not faults


def test_wrong_command_lines_are_noticed():
  wrong = [
    ['dafx_run', '--mode=play'],
    ['dafx_run', '--modus=train'],
    ['dafx_run', 'mastering.gin'],
    ['dafx_run', '--gin_file=a.gin', '--gin_param=b = 1'],
  ]
  result = subprocess.run(
    [sys.executable, '-c', _PARSE, _PROGRAMS['dafx_run']],
    input=json.dumps(wrong),
    capture_output=True,
    text=True,
    env={**os.environ, 'PYTHONPATH': _PYTHONPATH},
  )
  answers = json.loads(result.stdout)
  assert [bool(a['fault']) for a in answers] == [True, True, True, False]
  assert answers[3]['gin_file'] == ['a.gin']
  assert answers[3]['gin_param'] == ['b = 1']


def test_make_targets_exist():
  faults = []
  for place, words in _shell_commands('make'):
    targets = [w for w in words[1:] if not re.match(r'-|\w+=', w)]
    faults += [f'{place}: make {t}' for t in targets if t not in _TARGETS]
  assert not faults
  assert {'setup', 'test'} <= _TARGETS


@pytest.mark.parametrize('path', _DOCUMENTS, ids=_name)
def test_linked_files_exist(path):
  links = _links(path.read_text())
  missing = [
    link for link in links if not (path.parent / link.split('#')[0]).exists()
  ]
  assert not missing


@pytest.mark.parametrize(
  'block', _places([b for b in _ALL if b.language == 'gin' and b.is_run])
)
def test_gin_block_parses_strictly(block, clean_gin, example_files):
  folders = [path for path in example_files.iterdir() if path.is_dir()]
  clean_gin.add_gin_search_paths(folders)
  gin.parse_config(block.text, skip_unknown=False)
