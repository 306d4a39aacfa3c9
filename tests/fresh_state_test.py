"""Each render starts from the same state, whatever was rendered before."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from dafx import lv2

RATE = 22050
TEST = 'urn:dafx-test:'
LIMITER = 'http://lsp-plug.in/plugins/lv2/limiter_mono'


def noise(*shape, seed=0, level=0.3):
  rng = np.random.default_rng(seed)
  return (level * rng.standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize(
  'name', ['onepole', 'delay', 'hidden', 'grows', 'shared', 'worker']
)
def test_each_item_starts_from_a_new_instance(name):
  # Wherever the plugin keeps its state, and whoever used the instance before.
  renderer = lv2.Renderer(TEST + name, RATE, ['amount'], n_threads=1)
  audio, loud = noise(1, 500, 1), noise(3, 700, 1, seed=1, level=3.0)
  controls = np.full((1, 1, 1), 0.9, np.float32)
  new = lv2.Renderer(TEST + name, RATE, ['amount']).render(audio, controls)
  for _ in range(4):
    renderer.render(loud)
    np.testing.assert_array_equal(renderer.render(audio, controls), new)


def test_a_plugin_with_costly_instances_starts_afresh_too():
  rng = np.random.default_rng(0)
  used = lv2.Renderer(LIMITER, RATE, ['th', 'alr'], {'boost': 1})
  for _ in range(4):  # each after the one before
    controls = rng.uniform([0.01, 0], 1, (6, 5, 2))
    audio = noise(6, 5000, 1, seed=int(rng.integers(99)), level=rng.random())
    new = lv2.Renderer(LIMITER, RATE, ['th', 'alr'], {'boost': 1}, n_threads=1)
    np.testing.assert_array_equal(
      used.render(audio, controls), new.render(audio, controls)
    )


def test_memory_that_a_plugin_never_wrote_is_zero():
  renderer = lv2.Renderer(TEST + 'uninitialised', RATE, n_threads=1)
  audio = noise(3, 1000, 1)
  for _ in range(3):  # it leaves ones in what it gives back
    np.testing.assert_array_equal(renderer.render(audio), audio)


def test_random_numbers_are_the_instances_own():
  libc = ctypes.CDLL(None)
  libc.srand(1)
  numbers = np.float32([libc.rand() for _ in range(50)])
  renderer = lv2.Renderer(TEST + 'random', RATE, n_threads=2)
  out = renderer.render(noise(4, 50, 1))
  np.testing.assert_array_equal(out[..., 0], np.tile(numbers, (4, 1)))


def test_plain_memory_on_request():
  code = f"""
import numpy as np
from dafx import lv2
renderer = lv2.Renderer('{TEST}random', {RATE}, n_threads=1)
audio = np.zeros((2, 50, 1), np.float32)
out = renderer.render(audio)
assert not np.array_equal(out[0], out[1])
"""
  environment = {**os.environ, 'DAFX_LV2_PLAIN_MEMORY': '1'}
  subprocess.run([sys.executable, '-c', code], env=environment, check=True)


# The C library's own memory, but by functions that lie elsewhere, as jemalloc's
# and tcmalloc's do.
OTHER_MALLOC = """
#include <stddef.h>
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
void* malloc(size_t size) { return __libc_malloc(size); }
void* calloc(size_t n, size_t size) { return __libc_calloc(n, size); }
void* realloc(void* data, size_t size) { return __libc_realloc(data, size); }
void* aligned_alloc(size_t to, size_t size) {
  return __libc_memalign(to, size);
}
void free(void* data) { __libc_free(data); }
"""


def test_another_allocator_is_left_alone_and_named(tmp_path):
  source, library = tmp_path / 'other.c', tmp_path / 'other.so'
  source.write_text(OTHER_MALLOC)
  command = ['gcc', '-shared', '-fPIC', '-o', str(library), str(source)]
  subprocess.run(command, check=True)
  code = f"""
import numpy as np
from dafx import lv2
for uri in ('{LIMITER}', '{TEST}delay', '{TEST}onepole'):
  used, new = (lv2.Renderer(uri, {RATE}, n_threads=1) for _ in '12')
  loud = np.random.default_rng(0).standard_normal((8, 4410, 1))
  quiet = np.zeros((1, 4410, 1))
  for x in loud:
    used.render(quiet)
    assert np.array_equal(used.render(x[None]), new.render(x[None])), uri
"""
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'LD_PRELOAD': str(library)},
    capture_output=True,
    text=True,
    check=True,
  )
  said = [line for line in done.stderr.splitlines() if 'C library' in line]
  assert len(said) == 1 and LIMITER in said[0]
