"""What `make docs` shows besides docs/: README.md, and the API reference.

MkDocs calls the functions that begin with `on_` (`hooks` in mkdocs.yml). Pages
keep the paths that they have in the checkout, so that links are the same there
and here.
"""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What is shown as it stands in the checkout, besides docs/.
_PAGES = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'gin/README.md')
# Modules that are public as a whole: their packages export no names.
_MODULES = ('dafx.audio.files', 'dafx.audio.sources', 'dafx.synths')
# Names in prose that become links.
_CODE = re.compile(r'<code>([A-Za-z_][\w.]*)(?:\(\))?</code>')
_LINKED = re.compile(
  r'<(h\d|a|pre|autoref)\b.*?</\1>|<code>[^<]*</code>', re.DOTALL
)


def exports() -> dict[str, dict[str, pathlib.Path]]:
  """Returns the public API: by package, the file that defines each name."""
  found = {}
  for path in sorted((ROOT / 'dafx').rglob('__init__.py')):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    sources = {
      alias.asname or alias.name: _file_of(node.module, alias.name)
      for node in tree.body
      if isinstance(node, ast.ImportFrom) and node.module
      for alias in node.names
    }
    for node in tree.body:
      if isinstance(node, ast.Assign) and node.targets[0].id == '__all__':
        package = '.'.join(path.parent.relative_to(ROOT).parts)
        names = ast.literal_eval(node.value)
        found[package] = {name: sources[name] for name in names}
  return found


def _file_of(module: str, name: str) -> pathlib.Path:
  """Returns the file in which `from module import name` finds the name."""
  path = ROOT.joinpath(*module.split('.'))
  for candidate in (path / f'{name}.py', path / name / '__init__.py'):
    if candidate.exists():
      return candidate
  return path.with_suffix('.py') if not path.is_dir() else path / '__init__.py'


def reference() -> dict[str, str]:
  """Returns the pages of the API reference, by path."""
  pages = {}
  for package, names in exports().items():
    lines = [f'# {package}', '', f'::: {package}', *_options(members=False)]
    for name in names:
      lines += [f'::: {package}.{name}', *_options()]
    pages[f'reference/{package}.md'] = '\n'.join(lines)
  for module in _MODULES:
    lines = [f'# {module}', '', f'::: {module}', *_options(heading=False)]
    pages[f'reference/{module}.md'] = '\n'.join(lines)
  overview = ['# Reference', '', 'The names that each package exports.', '']
  for path in sorted(pages):
    module = pathlib.PurePath(path).name.removesuffix('.md')
    names = ', '.join(
      f'[`{n}`][{module}.{n}]' for n in exports().get(module, ())
    )
    overview.append(f'- [{module}]({module}.md)' + f': {names}' * bool(names))
  pages['reference/index.md'] = '\n'.join(overview)
  return pages


def _options(members: bool = True, heading: bool | None = None) -> list[str]:
  """Returns lines that say how mkdocstrings shows an object."""
  lines = []
  if not members:
    lines.append('      members: []')
  if not members or heading is False:
    lines.append('      show_root_heading: false')
  return ['    options:', *lines, ''] if lines else ['']


def _links_of(path: pathlib.Path) -> set[pathlib.Path]:
  """Returns the files of the checkout that a page links to."""
  targets = re.findall(r'\]\(([^)\s#:]+)', path.read_text(encoding='utf-8'))
  return {(path.parent / target).resolve() for target in targets}


def on_files(files, config):
  """Puts all pages in, at their paths in the checkout."""
  from mkdocs.structure.files import File, Files

  shown = {ROOT / name for name in _PAGES}
  shown |= {pathlib.Path(f.abs_src_path) for f in files.documentation_pages()}
  shown |= {p for path in list(shown) for p in _links_of(path) if p.is_file()}
  found = [
    f for f in files if not f.abs_src_path.startswith(str(ROOT / 'docs'))
  ]
  for path in sorted(shown):
    uri = path.relative_to(ROOT).as_posix()
    found.append(File.generated(config, uri, abs_src_path=str(path)))
  for uri, text in reference().items():
    found.append(File.generated(config, uri, content=text))
  return Files(found)


def on_page_markdown(markdown, page, config, files):
  """Turns formulas ($...$ and $$...$$) of pages that have some to MathML."""
  del page, config, files
  if '$$' not in markdown:
    return markdown
  from latex2mathml import converter

  def block(match):
    indent, formula = match[1], match[2]
    return indent + converter.convert(formula, display='block')

  markdown = re.sub(r'^( *)\$\$(.+?)\$\$', block, markdown, flags=re.M | re.S)
  return re.sub(
    r'\$(.+?)\$', lambda m: converter.convert(m[1]), markdown, flags=re.S
  )


def on_page_content(html, page, config, files):
  """Links names of the API where prose mentions them."""
  del config, files
  targets = _targets()
  here = page.file.src_uri.removeprefix('reference/').removesuffix('.md')

  def link(match):
    whole = match[0]
    code = _CODE.fullmatch(whole)
    if not code:
      return whole
    name = code[1]
    target = targets.get(f'{here}.{name}') or targets.get(name)
    if not target:
      return whole
    return f'<autoref identifier="{target}">{whole}</autoref>'

  return _LINKED.sub(link, html)


def _targets() -> dict[str, str]:
  """Returns the full name by every way to write it that is unique."""
  ways = {}
  for package, names in exports().items():
    for name in names:
      parts = f'{package}.{name}'.split('.')
      for start in range(len(parts)):
        ways.setdefault('.'.join(parts[start:]), set()).add('.'.join(parts))
  return {way: full.pop() for way, full in ways.items() if len(full) == 1}
