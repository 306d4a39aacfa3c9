"""Batches that the C part of the host renders, on threads of its own."""

import atexit
from typing import NamedTuple

import numpy as np

from dafx.lv2 import _host, instances, items, supply

_ffi = _host.ffi
_lib = _host.lib

# Python sees to signals as often.
_SLICE_S = 0.02

# A plugin that runs while the process is taken down would crash it.
atexit.register(_lib.dafx_end_threads)


class Job(NamedTuple):
  """What is rendered, each item from a fresh state.

  Attributes:
    audio: Shape [n_audio, n_samples, n_channels], float32, strides as they may
      be; channels as of `instances.Instance.run`.
    rows: Which of `audio` each item takes, [n_items], int64; None for one each.
    controls: In port units, shape [n_items, n_frames, n_controls], float32,
      contiguous.
    hop_size: Samples per frame.
    out: Where to write, shape [n_items, n_outputs, n_samples], float32, rows
      contiguous.
    n_skip: As of `instances.Instance.run`.
    warm_up: As of `instances.Instance.run`.
  """

  audio: np.ndarray
  rows: np.ndarray | None
  controls: np.ndarray
  hop_size: int
  out: np.ndarray
  n_skip: int
  warm_up: int


def _address(array: np.ndarray):
  return _ffi.cast('float*', array.__array_interface__['data'][0])


def _fill(job: Job, lent, conditions, results):
  """Returns the `DafxJob` of a job, and what it points to and must outlive."""
  audio, controls, out = job.audio, job.controls, job.out
  filled = {
    'n_items': len(controls),
    'in': _address(audio),
    'in_item_step': audio.strides[0] // 4,
    'in_step': audio.strides[1] // 4,
    'in_channel_step': audio.strides[2] // 4 if audio.shape[2] > 1 else 0,
    'in_items': _ffi.NULL,
    'out': _address(out),
    'out_item_step': out.strides[0] // 4,
    'out_channel_step': out.strides[1] // 4,
    'n_samples': audio.shape[1],
    'n_skip': job.n_skip,
    'controls': _address(controls),
    'controls_item_step': controls[0].size,
    'n_frames': controls.shape[1] if controls.shape[2] else 0,
    'hop_size': job.hop_size,
    'n_warm_up': job.warm_up,
    'n_instances': len(lent),
    'instances': _ffi.new('DafxInstance*[]', [each.handle for each in lent]),
    'conditions': _ffi.from_buffer('uint8_t[]', conditions),
    'results': _ffi.from_buffer('int64_t[]', results),
  }
  if job.rows is not None:
    filled['in_items'] = _ffi.from_buffer('int64_t[]', job.rows)
  return _ffi.new('DafxJob*', filled), filled


def _note(kind, error, traceback):
  """Keeps what a handler raised while the C part asked whether to go on."""
  del kind
  if traceback is not None:
    _ffi.from_handle(traceback.tb_frame.f_locals['who']).note(error)


# The C part asks while it holds on to memory; so nothing is raised beyond it.
@_ffi.def_extern(error=False, onerror=_note)
def dafx_goes_on(who):
  """Lets handlers of signals run; returns whether a batch goes on."""
  return _ffi.from_handle(who).error is None


def _error(job: Job, item: int, result: int, instance) -> Exception:
  """Returns why an item was not rendered."""
  if result != _lib.DAFX_NONFINITE:
    return instance.renewal_error(result == _lib.DAFX_BUSY)
  audio = job.audio[item if job.rows is None else job.rows[item]]
  return instances.nonfinite_error('audio', audio, instance.uri)


def render_all(
  job: Job, source: supply.Supply, n_threads: int, stop: items.Stop
) -> np.ndarray:
  """Renders a batch, on threads that Python has no part in.

  After an error no item begins, and it ends when those that have begun do.

  Args:
    job: What is to be rendered.
    source: Where instances come from.
    n_threads: As many run side by side.
    stop: What keeps the first error, and raises it.

  Returns:
    Numbers of samples that were not finite, and are zero, [n_items]; of use
    only where there was no error.
  """
  n_items = len(job.controls)
  lent = source.lend(n_items, min(n_threads, n_items))
  conditions = np.array([each.is_used for each in lent], np.uint8)
  results = np.empty(n_items, np.int64)
  if n_items == 1 or n_threads == 1:
    n_threads = 0  # besides this one
  filled, held = _fill(job, lent, conditions, results)
  who = _ffi.new_handle(stop)
  if not _lib.dafx_batch_run(
    filled, n_threads, _SLICE_S, _lib.dafx_goes_on, who
  ):
    raise MemoryError('No memory is left for a batch of renders.')
  del held
  source.note_renewals(filled.n_renewed, filled.renewal_s)
  for instance, condition in zip(lent, conditions, strict=True):
    instance.is_used = condition != _lib.DAFX_FRESH
    if condition != _lib.DAFX_FAILED:
      source.give_back(instance)
  if filled.failed_item >= 0:
    item, instance = filled.failed_item, lent[filled.failed_instance]
    stop.note(_error(job, item, results[item], instance))
  elif filled.was_stopped and stop.error is None:
    stop.note(InterruptedError('Two signals at a time ended a batch.'))
  return results
