"""What a model's network says of a whole piece of audio, heard in chunks."""

import numpy as np
import tensorflow as tf

from dafx.audio import sources
from dafx.training.models import control, encoders

# Frames that a network hears at a time, to bound its memory.
_FRAMES_AT_ONCE = 256


def listen(
  model: control.ControlModel, source: sources.Source
) -> dict[str, np.ndarray]:
  """Returns the controls that a model's network gives for audio.

  Args:
    model: The model.
    source: Audio of any rate and channels; the network hears a mono mix at its
      own rate.

  Returns:
    Controls in [0, 1], {input of the DAG: [n_frames, n_controls]}, with one
    frame for an encoder that gives one setting for all.
  """
  encoder = model.encoder
  if isinstance(encoder, encoders.Constant):  # hears nothing
    return _rows([model.predict_controls(tf.zeros([1, 1]))])
  heard = sources.resampled(sources.mixed(source), model.sample_rate)
  if getattr(encoder, 'is_static', False):
    embedding = _mean_embedding(encoder, heard)
    return _rows([model.controls_of(embedding)])
  if getattr(encoder, 'margin', 0):
    return _listen_with_margins(model, heard)
  if hasattr(encoder, 'context'):
    return _listen_in_context(model, heard)
  audio = np.concatenate(list(heard.blocks()))[:, 0]
  return _rows([model.predict_controls(audio[np.newaxis])])


def _rows(parts):
  """Joins outputs of `predict_controls` in time; [n_frames, n_controls]."""
  return {
    key: np.concatenate([part[key][0] for part in parts]) for key in parts[0]
  }


def _listen_in_context(model, heard):
  """Hears audio frame by frame."""
  encoder = model.encoder
  embeddings = _in_context(encoder, encoder.hop_size, encoder.context, heard)
  return _rows([model.controls_of(embedding) for embedding in embeddings])


def _in_context(embed, hop_size, context, heard):
  """Yields embeddings of stretches of audio, each heard in its context."""
  size = _FRAMES_AT_ONCE * hop_size
  # All pieces end at the same place in a hop, as the audio does: where an
  # encoder pools frames depends on it.
  after = context + heard.n_samples % hop_size
  for piece, n_before in sources.windows(heard.blocks(), size, context, after):
    first = n_before // hop_size
    embedding = embed(tf.constant(piece[np.newaxis, :, 0]))
    yield embedding[:, first : first + _FRAMES_AT_ONCE]


def _listen_with_margins(model, heard):
  """Hears audio as crops that have their margins; silence at the ends."""
  hop_size, margin = model.encoder.hop_size, model.encoder.margin
  size = _FRAMES_AT_ONCE * hop_size
  parts, start = [], 0
  for piece, n_before in sources.windows(heard.blocks(), size, margin, margin):
    n_samples = min(size, heard.n_samples - start)
    n_after = len(piece) - n_before - n_samples
    fill = -n_samples % hop_size  # whole frames
    silence = (margin - n_before, margin + fill - n_after)
    crop = np.pad(piece[:, 0], silence)[np.newaxis]
    parts.append(model.predict_controls(crop, has_margins=True))
    start += size
  return _rows(parts)


def _mean_embedding(encoder, heard):
  """Returns the mean of the embeddings of all frames, or of all contexts."""
  if hasattr(encoder, 'context'):
    total, n_frames = 0.0, 0
    for frames in _in_context(
      encoder.embed_frames, encoder.frame_size, encoder.context, heard
    ):
      total += tf.reduce_sum(frames, axis=1, keepdims=True)
      n_frames += frames.shape[1]
    return total / n_frames
  size = _FRAMES_AT_ONCE * encoder.context_step
  after = encoder.context_size - encoder.context_step
  total, n_contexts = 0.0, 0
  for piece, _ in sources.windows(heard.blocks(), size, 0, after):
    count = encoder.n_contexts(len(piece))
    if n_contexts and not count:
      break  # what is left fills no context
    embedding = encoder(piece[np.newaxis, :, 0])
    total += max(count, 1) * embedding
    n_contexts += max(count, 1)
  return total / n_contexts
