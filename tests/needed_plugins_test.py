"""Plugins that a trained model needs: missing ones, and untried versions."""

import pytest

from dafx import lv2
from dafx.lv2 import packages, world
from dafx.training import gin_files, needed_plugins

LSP = 'http://lsp-plug.in/plugins/lv2/'
CALF = 'http://calf.sourceforge.net/plugins/'
CONFIG = f"""
equalizer/LV2Plugin.uri = \\
    '{LSP}para_equalizer_x16_stereo'
limiter/LV2Plugin.uri = '{LSP}limiter_stereo'
gate/LV2Plugin.uri = %gate_uri
gate/LV2Plugin.fixed = {{'at': 1}}
"""


@pytest.fixture
def bound(tmp_path):
  """What the configuration of a model with two plugins binds."""
  gin_files.add_gin_search_paths()
  (tmp_path / 'operative_config-0.gin').write_text(CONFIG)
  return gin_files.check_gin([str(tmp_path / 'operative_config-0.gin')])


@pytest.fixture
def trained(tmp_path):
  """A folder with two trained models: of LSP's plugins and of Calf's."""
  for name, text in (
    ('mastering', CONFIG),
    ('speech', f"gate/LV2Plugin.uri = '{CALF}MultibandGate'\n"),
  ):
    (tmp_path / 'trained' / name).mkdir(parents=True)
    (tmp_path / 'trained' / name / 'checkpoint').touch()
    config = tmp_path / 'trained' / name / 'operative_config-0.gin'
    config.write_text(text)
  return tmp_path / 'trained'


def test_plugins_are_read_from_all_scopes(bound):
  assert needed_plugins.plugin_uris(bound) == [
    LSP + 'para_equalizer_x16_stereo',
    LSP + 'limiter_stereo',
  ]


def test_missing_plugins_are_named_with_their_package(bound, trained):
  there = [CALF + name for name in ('MultibandGate', 'MultibandCompressor')]
  there.append(LSP + 'limiter_stereo')
  with pytest.raises(ValueError) as caught:
    needed_plugins.check_installed(bound, 'the model', there, trained)
  text = str(caught.value)
  assert f'not installed: {LSP}para_equalizer_x16_stereo. ' in text
  assert 'sudo apt-get install lsp-plugins-lv2.' in text
  assert '--model=speech' in text and '--model=mastering' not in text
  assert 'nonspeech.gin' in text and 'mastering.gin' not in text


def test_nothing_can_run_without_plugins(bound, trained):
  with pytest.raises(ValueError, match='can run: nothing that comes'):
    needed_plugins.check_installed(bound, 'the model', [], trained)
  other = {('a/LV2Plugin', 'uri'): 'urn:somebody:else'}
  with pytest.raises(ValueError, match='LV2_PATH is .*: unset it'):
    needed_plugins.check_installed(other, 'the model', [], trained)
  needed_plugins.check_installed(other, 'it', ['urn:somebody:else'], trained)


def test_a_maker_none_of_whose_plugins_is_installed(monkeypatch):
  monkeypatch.setattr(world, 'list_uris', lambda: [CALF + 'Compressor'])
  with pytest.raises(ValueError, match='apt-get install zam-plugins.*LV2_PATH'):
    lv2.get_plugin('urn:zamaudio:NoSuch')


@pytest.mark.parametrize(
  'version, is_tested',
  [
    ('1.1.28', False),
    ('1.1.29', True),
    ('1.1.31', True),
    ('1.2.5', True),
    ('1.2.21', True),
    ('1.2.22', False),
    ('1.10', False),
  ],
)
def test_versions_that_were_tried(version, is_tested):
  text = needed_plugins.describe_untested('lsp-plugins-lv2', version)
  assert (text == '') == is_tested
  assert is_tested or f'of version {version};' in text
  assert needed_plugins.describe_untested('calf-plugins', version) == ''


def test_one_warning_for_all_plugins_of_a_package(bound, monkeypatch, caplog):
  monkeypatch.setattr(packages, 'installed_version', lambda *_: '1.3.0')
  with caplog.at_level('WARNING', logger='absl'):
    needed_plugins.warn_of_untested(needed_plugins.plugin_uris(bound))
  assert len(caplog.messages) == 1 and '1.3.0' in caplog.messages[0]


def test_version_of_a_package(tmp_path, monkeypatch):
  """From the name of a library, else from dpkg."""
  monkeypatch.setenv('PATH', str(tmp_path))
  installed_version = packages.installed_version.__wrapped__  # not cached
  bundle = tmp_path / 'a.lv2'
  bundle.mkdir()
  (bundle / 'a.so').touch()
  assert installed_version('a', bundle) is None
  dpkg = tmp_path / 'dpkg-query'
  dpkg.write_text(
    '#!/bin/sh\n'
    f'[ "$2" = "{bundle}/manifest.ttl" ] && echo "a:amd64: $2" && exit\n'
    '[ "$1" = --show ] && printf 1:2.3.4-1ubuntu2 && exit\n'
    'exit 1\n'
  )
  dpkg.chmod(0o755)
  assert installed_version('a', bundle) == '2.3.4'
  assert installed_version('b', bundle) is None
  assert installed_version('a', tmp_path / 'b.lv2') is None
  (bundle / 'a-ui-1.2.21.so').touch()
  assert installed_version('a', bundle) == '1.2.21'
