"""Which plugins a trained model needs, before TensorFlow loads to build it."""

import pathlib
from collections.abc import Collection, Iterable

from absl import logging

from dafx import lv2
from dafx.lv2 import packages
from dafx.training import gin_files, trained_models

# Versions that were tried: (from, to), both of them included.
TESTED = {'lsp-plugins-lv2': ('1.1.29', '1.2.21')}


def plugin_uris(bound: gin_files.Bindings) -> list[str]:
  """Returns the URIs of the plugins that bindings name.

  >>> from dafx.training import needed_plugins
  >>> needed_plugins.plugin_uris({('gain/LV2Plugin', 'uri'): 'urn:me:gain'})
  ['urn:me:gain']

  Args:
    bound: What `gin_files.check_gin` returned.
  """
  uris = [value for (_, argument), value in bound.items() if argument == 'uri']
  return list(dict.fromkeys(uri for uri in uris if type(uri) is str))


def _runs(file, installed):
  """Returns whether a gin file names plugins, and all of them are there."""
  uris = plugin_uris(gin_files.check_gin([str(file)]))
  return bool(uris) and set(uris) <= set(installed)


def check_installed(
  bound: gin_files.Bindings,
  model: str,
  installed: Collection[str] | None = None,
  root: pathlib.Path = trained_models.ROOT,
):
  """Raises for a model whose plugins are not all installed.

  Args:
    bound: What its configuration binds.
    model: What the message calls it.
    installed: URIs of the plugins that there are; by default those of this
      machine.
    root: Where the models are that come trained.

  Raises:
    ValueError: Some are missing; the message names them, the Debian packages
      that have them, and what can run without them.
  """
  installed = lv2.list_uris() if installed is None else installed
  missing = [uri for uri in plugin_uris(bound) if uri not in installed]
  if not missing:
    return
  found = [packages.package_of(uri) for uri in missing]
  names = sorted({package for package in found if package})
  advice = lv2.advice_on_path()
  if names:
    line = ' '.join(names)
    advice = (
      f'Debian and Ubuntu have them: sudo apt-get install {line}. '
      f'{lv2.advice_on_path()}'
    )
  trained = [
    f'--model={name}'
    for name in trained_models.names(root)
    if _runs(
      gin_files.newest_operative_config(root / name).resolve(), installed
    )
  ]
  tasks = [
    path.name
    for root in gin_files.gin_roots()
    for path in sorted(root.glob('tasks/*.gin'))
    if _runs(path, installed)
  ]
  can_run = [
    *trained,
    *([f'training by {", ".join(tasks)}'] if tasks else []),
  ]
  raise ValueError(
    f'{model} needs LV2 plugins that are not installed: {", ".join(missing)}. '
    f'{advice} With the plugins that are installed, there can run: '
    f'{"; ".join(can_run) or "nothing that comes with dafx"}.'
  )


def _numbers(version):
  return tuple(int(part) for part in version.split('.'))


def describe_untested(package: str, version: str) -> str:
  """Says that a package is of a version that was not tried; '' if it was.

  >>> from dafx.training import needed_plugins
  >>> needed_plugins.describe_untested('lsp-plugins-lv2', '1.2.5')
  ''

  Args:
    package: Its name in Debian.
    version: Such as '1.2.5'.
  """
  if package not in TESTED:
    return ''
  first, last = TESTED[package]
  if _numbers(first) <= _numbers(version) <= _numbers(last):
    return ''
  return (
    f'{package} is of version {version}; models that come with dafx were tried '
    f'with {first} to {last}. What a control does may have changed in between: '
    'compare the loudness of output and input.'
  )


def warn_of_untested(uris: Iterable[str]):
  """Logs one warning for each package of a version that was not tried.

  Args:
    uris: Of a model's plugins, which are installed.
  """
  said = []
  for uri in uris:
    package = packages.package_of(uri)
    if package not in TESTED or package in said:
      continue
    said.append(package)
    bundle_path = lv2.get_plugin(uri).bundle_path
    version = packages.installed_version(package, bundle_path)
    if version and (text := describe_untested(package, version)):
      logging.warning('%s', text)
