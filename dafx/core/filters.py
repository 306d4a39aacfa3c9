"""Recursive filters that are exact, keep state, and have gradients.

A cascade of second-order sections is one linear state-space system. Within a
chunk of audio its output is a matrix product with the impulse response plus
what the state at the chunk's start still gives; the states at all chunks'
starts come from a scan of logarithmic depth. So the filter is exact, whatever
its poles, at the cost of a few matrix products.

Everything small (coefficients, powers of the state matrix, states) is in double
precision: a low filter has poles so close to 1 that single precision would be
heard. Only the audio is single precision.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from dafx.core import given

FILTER_TYPES = (
  'low_pass',
  'high_pass',
  'band_pass',
  'notch',
  'all_pass',
  'peak',
  'low_shelf',
  'high_shelf',
)
# Types that have a gain; for the others it is ignored.
FILTERS_WITH_GAIN = ('peak', 'low_shelf', 'high_shelf')

# Highest frequency of a design, relative to the sample rate.
_MAX_F0 = 0.49
# Samples per chunk: one filter for all of the audio, or one for each frame,
# where each has a matrix of its own.
_STATIC_CHUNK, _FRAME_CHUNK = 128, 16


def design_biquads(
  types: Sequence[str],
  f0_hz: tf.Tensor,
  q: tf.Tensor,
  gain_db: tf.Tensor,
  sample_rate: float,
) -> tf.Tensor:
  """Designs second-order sections, differentiably.

  From R. Bristow-Johnson's "Cookbook formulae for audio EQ biquad filter
  coefficients". A band pass has a gain of 0 dB at its centre. At q = sqrt(1/2),
  low and high pass are Butterworth filters and shelves are as steep as they
  can be without a bump.

  Args:
    types: Type of each section, of `FILTER_TYPES`.
    f0_hz: Cut-off, centre or middle of the slope in Hz, [..., n_sections];
      clipped to below half of the sample rate.
    q: Quality factor, above 0, shape [..., n_sections].
    gain_db: Gain in dB, shape [..., n_sections]; for `FILTERS_WITH_GAIN`.
    sample_rate: In Hz.

  Returns:
    Sections (b0, b1, b2, 1, a1, a2), shape [..., n_sections, 6], float64.

  Raises:
    ValueError: An unknown type, or a number of sections that is not the types'.

  Examples:
    >>> from dafx import core
    >>> sorted(set(core.FILTER_TYPES) - set(core.FILTERS_WITH_GAIN))
    ['all_pass', 'band_pass', 'high_pass', 'low_pass', 'notch']
    >>> types = ['peak', 'high_shelf']
    >>> f0_hz, q, gain_db = [1000.0, 8000.0], [1.0, 0.7], [6.0, -3.0]
    >>> core.design_biquads(types, f0_hz, q, gain_db, sample_rate=44100).shape
    TensorShape([2, 6])
  """
  f0_hz, q, gain_db = (tf.cast(x, tf.float64) for x in (f0_hz, q, gain_db))
  for type_ in types:
    if type_ not in FILTER_TYPES:
      raise ValueError(f'Filter type {type_!r} must be one of {FILTER_TYPES}.')
  for name, value in (('f0_hz', f0_hz), ('q', q), ('gain_db', gain_db)):
    if value.shape.rank == 0 or value.shape[-1] != len(types):
      raise ValueError(
        f'{name} has shape {value.shape}; its last dimension must be '
        f'{len(types)}, the number of types ({", ".join(types)}).'
      )
  f0_hz = tf.clip_by_value(f0_hz, 1e-3, _MAX_F0 * sample_rate)
  w0 = 2.0 * math.pi * f0_hz / sample_rate
  cos, alpha = tf.cos(w0), tf.sin(w0) / (2.0 * q)
  # Sections of one type together: few ops, whatever their number.
  groups = {t: [i for i, x in enumerate(types) if x == t] for t in types}
  designs = []
  for type_, members in groups.items():
    own = [
      x if len(groups) == 1 else tf.gather(x, members, axis=-1)
      for x in (cos, alpha, gain_db)
    ]
    designs.append(tf.stack(_design(type_, *own), axis=-1))
  sections = designs[0]
  if len(groups) > 1:
    order = np.argsort(np.concatenate(list(groups.values())))
    sections = tf.gather(tf.concat(designs, axis=-2), order, axis=-2)
  return sections / sections[..., 3:4]


def _design(type_, cos, alpha, gain_db):
  """Returns (b0, b1, b2, a0, a1, a2)."""
  a = 10.0 ** (gain_db / 40.0)  # the square root of the gain
  if type_ in ('low_shelf', 'high_shelf'):
    # A high shelf is a low shelf with the frequency axis turned round.
    c = cos if type_ == 'low_shelf' else -cos
    sign = 1.0 if type_ == 'low_shelf' else -1.0
    slope = 2.0 * tf.sqrt(a) * alpha
    return (
      a * ((a + 1) - (a - 1) * c + slope),
      sign * 2.0 * a * ((a - 1) - (a + 1) * c),
      a * ((a + 1) - (a - 1) * c - slope),
      (a + 1) + (a - 1) * c + slope,
      sign * -2.0 * ((a - 1) + (a + 1) * c),
      (a + 1) + (a - 1) * c - slope,
    )
  if type_ == 'peak':
    up, down = alpha * a, alpha / a
    return 1 + up, -2 * cos, 1 - up, 1 + down, -2 * cos, 1 - down
  zero = tf.zeros_like(cos)
  numerators = {
    'low_pass': lambda: ((1 - cos) / 2, 1 - cos, (1 - cos) / 2),
    'high_pass': lambda: ((1 + cos) / 2, -1 - cos, (1 + cos) / 2),
    'band_pass': lambda: (alpha, zero, -alpha),
    'notch': lambda: (zero + 1, -2 * cos, zero + 1),
    'all_pass': lambda: (1 - alpha, -2 * cos, 1 + alpha),
  }
  return (*numerators[type_](), 1 + alpha, -2 * cos, 1 - alpha)


def sosfilt(
  audio: tf.Tensor, sos: tf.Tensor, state: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
  """Filters audio through a cascade of second-order sections.

  Each section is the transposed direct form II, as in `scipy.signal.sosfilt`,
  whose `zi` is the state here. Coefficients may change from frame to frame; the
  state goes on across them unchanged, as in the recursion run sample by sample.
  In this form what is stored are outputs already weighted by the coefficients
  of their time, so that a change is heard less than in the direct form II.

  Args:
    audio: Shape [batch, n_samples].
    sos: Sections (b0, b1, b2, 1, a1, a2), shape [batch, n_frames, n_sections,
      6], or with 1 for batch. Frame t holds from sample t * hop on, hop being
      n_samples / n_frames rounded up.
    state: Two values per section, shape [batch, n_sections, 2]; zeros without.

  Returns:
    (Audio of the same shape, float32, state after it, float64).

  Raises:
    ValueError: Shapes that do not fit.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> sos = core.design_biquads(['low_pass'], [100.0], [0.7], [0.0], 16000)
    >>> audio = tf.ones([1, 8000])
    >>> filtered, state = core.sosfilt(audio, sos[tf.newaxis, tf.newaxis])
    >>> round(float(filtered[0, -1]), 3)  # a low pass leaves a constant
    1.0
  """
  audio = given.audio_tensor('audio', audio)
  sos = tf.cast(sos, tf.float64)
  if audio.shape.rank != 2 or audio.shape[1] is None:
    raise ValueError(
      f'audio has shape {audio.shape}; it must be [batch, n_samples], the '
      'samples known. Fold channels into the batch.'
    )
  n_samples = audio.shape[1]
  n_items = batch_size(audio)
  if sos.shape.rank != 4 or sos.shape[-1] != 6:
    raise ValueError(
      f'sos has shape {sos.shape}; it must be [batch, n_frames, n_sections, 6].'
    )
  n_frames, n_sections = sos.shape[1:3]
  if state is None:
    state = tf.zeros([n_items, n_sections, 2], tf.float64)
  state = tf.reshape(tf.cast(state, tf.float64), [n_items, 2 * n_sections])
  hop = frame_hop(n_samples, n_frames)
  n_whole = n_samples // hop
  if n_whole == 0:
    return audio, tf.reshape(state, [n_items, n_sections, 2])
  parts = [(audio[:, : n_whole * hop], sos[:, :n_whole], hop)]
  if n_samples % hop:
    rest = audio[:, n_whole * hop :]
    parts.append((rest, sos[:, n_whole : n_whole + 1], n_samples % hop))
  outputs = []
  for part, part_sos, part_hop in parts:
    output, state = _filter_frames(part, part_sos, state, part_hop)
    outputs.append(output)
  audio = outputs[0] if len(outputs) == 1 else tf.concat(outputs, axis=1)
  return audio, tf.reshape(state, [n_items, n_sections, 2])


def batch_size(values: tf.Tensor) -> int | tf.Tensor:
  """Returns the first dimension: a number, or a tensor where it is unknown.

  Examples:
    >>> import tensorflow as tf
    >>> from dafx import core
    >>> core.batch_size(tf.zeros([4, 100]))
    4
  """
  known = values.shape[0]
  return tf.shape(values)[0] if known is None else known


def frame_hop(n_samples: int, n_frames: int) -> int:
  """Returns the samples per frame of controls: rounded up, at least 1.

  Examples:
    >>> from dafx import core
    >>> core.frame_hop(n_samples=1000, n_frames=3)
    334
  """
  return max(1, -(-n_samples // n_frames))


def _state_space(sos):
  """Joins sections to one system.

  With input x and state s: y = c s + d x, and the next state is A s + b x.

  Args:
    sos: Shape [..., n_sections, 6].

  Returns:
    A [..., n, n], b [..., n], c [..., n], d [...], n being 2 * n_sections.
  """
  n_sections = sos.shape[-2]
  n_states = 2 * n_sections
  own, first, before = _wiring(n_sections)
  numerators, denominators = sos[..., 1:3], sos[..., 4:]
  through = sos[..., :1]  # b0 of each section: [..., n_sections, 1].
  # A section's states (s1, s2), with input u: y = s1 + b0 u, s1' = s2 - a1 s1 +
  # (b1 - a1 b0) u, s2' = -a2 s1 + (b2 - a2 b0) u.
  lead = [batch_size(sos), *sos.shape[1:-2]]
  gains = tf.reshape(numerators - denominators * through, [*lead, n_states, 1])
  decays = tf.reshape(denominators, [*lead, n_states, 1])
  # Inputs of the sections: u = before (first s + b0 u) + x in the first one.
  # Solved for u, they are inputs @ (before first s, x).
  identity = np.eye(n_sections)
  inputs = tf.linalg.triangular_solve(
    identity - before * tf.linalg.matrix_transpose(through),
    tf.broadcast_to(identity, [*lead, n_sections, n_sections]),
  )
  from_states = inputs @ (before @ first)  # [..., n_sections, n].
  into = gains * own  # [..., n, n_sections].
  shift = np.kron(identity, [[0.0, 1.0], [0.0, 0.0]])
  A = shift - decays * (own @ first) + into @ from_states
  b = (into @ inputs[..., :1])[..., 0]
  c = first[-1] + through[..., -1, :] * from_states[..., -1, :]
  d = through[..., -1, 0] * inputs[..., -1, 0]
  return A, b, c, d


def _wiring(n_sections):
  """Returns constant matrices of a cascade.

  Returns:
    Section of each state [n, n_sections]; first state of each section
    [n_sections, n]; section before each section [n_sections, n_sections].
  """
  identity = np.eye(n_sections)
  own = np.kron(identity, [[1.0], [1.0]])
  first = np.kron(identity, [[1.0, 0.0]])
  return own, first, np.eye(n_sections, k=-1)


def _power(doublings, exponent):
  """Returns A ** exponent, >= 1, from [A, A ** 2, A ** 4, ...]."""
  result = None
  for i, square in enumerate(doublings):
    if exponent >> i & 1:
      result = square if result is None else result @ square
  return result


def _doublings(A, largest):
  """Returns [A, A ** 2, A ** 4, ...], enough for exponents up to `largest`."""
  powers = [A]
  while 2 ** len(powers) <= largest:
    powers.append(powers[-1] @ powers[-1])
  return powers


def _rows_times_powers(row, doublings, count):
  """Returns row, row A, row A ** 2, ...: [..., count, n]."""
  rows = row[..., tf.newaxis, :]
  for square in doublings:
    if rows.shape[-2] >= count:
      break
    rows = tf.concat([rows, rows @ square], axis=-2)
  return rows[..., :count, :]


def _toeplitz(h):
  """Returns T [..., n, n] with x T the causal convolution of x and h [..., n].

  Row j is h shifted to the right by j. Rows of h and as many zeros, read with
  a stride of one less than their length, are shifted so by themselves.
  """
  n = h.shape[-1]
  lead = [batch_size(h), *h.shape[1:-1]]
  padded = tf.concat([h, tf.zeros_like(h)], axis=-1)
  tiled = tf.tile(padded, [1] * len(lead) + [n])
  skewed = tf.reshape(tiled[..., : n * (2 * n - 1)], [*lead, n, 2 * n - 1])
  return skewed[..., :n]


def _filter_frames(audio, sos, state, hop):
  """Filters whole frames of `hop` samples; see `sosfilt`.

  Shapes: batch B (coefficients: B or 1), frames F, chunks of a frame J, samples
  of a chunk C, states n.
  """
  n_items, n_frames = batch_size(audio), audio.shape[1] // hop
  chunk = min(hop, _STATIC_CHUNK if sos.shape[1] == 1 else _FRAME_CHUNK)
  n_chunks = -(-hop // chunk)
  n_last = hop - (n_chunks - 1) * chunk  # samples in a frame's last chunk
  A, b, c, d = _state_space(sos)
  powers = _doublings(A, hop)
  outof = _rows_times_powers(c, powers, chunk)  # c A^i: [B, F, C, n].
  into = _rows_times_powers(  # A^i b: [B, F, C, n].
    b, [tf.linalg.matrix_transpose(p) for p in powers], chunk
  )
  response = tf.concat(
    [
      d[..., tf.newaxis],
      tf.linalg.matvec(outof[..., : chunk - 1, :], b),
    ],
    axis=-1,
  )
  frames = tf.reshape(audio, [n_items, n_frames, hop])
  frames = tf.pad(frames, [[0, 0], [0, 0], [0, n_chunks * chunk - hop]])
  chunks = tf.reshape(frames, [n_items, n_frames, n_chunks, chunk])

  # What each chunk adds to the state at its end.
  reach = tf.reverse(into, axis=[-2])
  wide = tf.cast(chunks, tf.float64)
  last = wide[:, :, -1, :n_last]  # [B, F, n_last].
  added_last = tf.linalg.matvec(
    reach[..., chunk - n_last :, :], last, transpose_a=True
  )
  step = _power(powers, chunk)
  step_last = _power(powers, n_last)
  start_free = _scan_chunks(wide[:, :, :-1] @ reach, step)
  end_free = added_last + tf.linalg.matvec(step_last, start_free[:, :, -1])
  # States at the starts of frames, then of chunks.
  frame_step = _power(powers, hop)
  frame_starts, state = _scan_frames(frame_step, end_free, state)
  starts = start_free + _free_states(frame_starts, step, n_chunks)

  # In single precision: the bulk of the work.
  within = tf.cast(_toeplitz(response), tf.float32)
  # TensorFlow 2.21's float32 product (oneDNN) of [4, 1, J, C] with [1, 1, C, C]
  # is wrong from the third item on, or reads beyond its memory.
  within = tf.broadcast_to(within, [n_items, *within.shape[1:]])
  output = chunks @ within
  output += tf.cast(tf.matmul(starts, outof, transpose_b=True), tf.float32)
  output = tf.reshape(output, [n_items, n_frames, n_chunks * chunk])
  return tf.reshape(output[:, :, :hop], [n_items, n_frames * hop]), state


def _scan_chunks(added, step):
  """Returns states at chunks' starts, from zero at the frame's start.

  Args:
    added: What each chunk but the last adds, [B, F, J - 1, n].
    step: State matrix over a chunk, [B, F, n, n].

  Returns:
    States [B, F, J, n].
  """
  states = tf.pad(added, [[0, 0], [0, 0], [1, 0], [0, 0]])
  distance, n_chunks = 1, states.shape[2]
  step = tf.linalg.matrix_transpose(step)
  while distance < n_chunks:
    earlier = states[:, :, :-distance] @ step
    states += tf.pad(earlier, [[0, 0], [0, 0], [distance, 0], [0, 0]])
    distance *= 2
    if distance < n_chunks:
      step = step @ step
  return states


def _free_states(starts, step, count):
  """Returns s, M s, M ** 2 s, ...: [B, F, count, n] for starts [B, F, n]."""
  states = starts[:, :, tf.newaxis]
  step = tf.linalg.matrix_transpose(step)
  while states.shape[2] < count:
    states = tf.concat([states, states @ step], axis=2)
    if states.shape[2] < count:
      step = step @ step
  return states[:, :, :count]


def _scan_frames(steps, added, state):
  """Returns (states at frames' starts [B, F, n], state at the end [B, n]).

  Args:
    steps: State matrix over each frame, [B or 1, F, n, n].
    added: What each frame adds, [B, F, n].
    state: State at the first start, [B, n].
  """
  if added.shape[1] == 1:
    end = added[:, 0] + tf.linalg.matvec(steps[:, 0], state)
    return state[:, tf.newaxis], end
  steps = tf.broadcast_to(steps, [batch_size(added), *steps.shape[1:]])

  def join(first, second):
    return (
      second[0] @ first[0],
      second[1] + tf.linalg.matvec(second[0], first[1]),
    )

  over, gained = tfp.math.scan_associative(join, (steps, added), axis=1)
  ends = gained + tf.linalg.matvec(over, state[:, tf.newaxis])
  starts = tf.concat([state[:, tf.newaxis], ends[:, :-1]], axis=1)
  return starts, ends[:, -1]
