"""The sound of a page: versions of one length, equally loud, as MP3."""

import io
from collections.abc import Mapping

import numpy as np
import soundfile

from dafx import metrics
from dafx.training import plotting

# Of MPEG-1, 2 and 2.5.
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# LAME turns what it encodes at less than 320 kbit/s down by this, so below a
# rate in Hz.
_LAME_SCALE, _FULL_BIT_RATE_HZ = 0.95, 32000
# Room for what the encoder adds to peaks.
_PEAK_DBTP = -1.0


def nearest_rate(sample_rate: int) -> int:
  """Returns the rate itself if MP3 has it, else the next one above, or 48 kHz.

  Args:
    sample_rate: In Hz.
  """
  return min((r for r in _MP3_RATES if r >= sample_rate), default=48000)


def even(
  audio: Mapping[str, np.ndarray], sample_rate: int, name: str
) -> dict[str, np.ndarray]:
  """Checks the versions of a clip, and makes them all as long as the longest.

  Args:
    audio: dict of version to samples, [n_samples] or [n_samples, n_channels].
    sample_rate: Of all the audio, Hz.
    name: What to call the clip in an error.

  Returns:
    dict of version to float64 [n_samples, n_channels]; shorter ones end in
    silence.

  Raises:
    ValueError: No audio, samples that are not finite or of another shape, or
      what MP3 cannot hold: more than two channels, or another rate.
  """
  if not audio:
    raise ValueError(f'{name} has no audio; give at least one version.')
  checked = {}
  for version, samples in audio.items():
    samples = plotting.as_channels(samples, f"'{version}' of {name}")
    n_channels = samples.shape[1]
    if n_channels > 2 or sample_rate not in _MP3_RATES:
      raise ValueError(
        f"MP3 cannot hold '{version}' of {name}: {n_channels} channels at "
        f'{sample_rate} Hz; allowed are one or two channels, and the rates '
        f'{_MP3_RATES} Hz. Mix it down, or resample it.'
      )
    checked[version] = samples
  longest = max(len(samples) for samples in checked.values())
  return {
    version: np.pad(samples, [(0, longest - len(samples)), (0, 0)])
    for version, samples in checked.items()
  }


def equal_loudness(
  audio: Mapping[str, np.ndarray], sample_rate: int
) -> tuple[float | None, dict[str, float]]:
  """Finds the gains that make all versions of a clip equally loud.

  Args:
    audio: dict of version to samples, [n_samples, n_channels].
    sample_rate: Of all the audio, Hz.

  Returns:
    (common loudness in LUFS, {version: gain in dB}). The loudness is that of
    the loudest version, or the highest at which no version peaks above -1 dBTP
    if that is less. A version that is silent, as BS.1770 has it, has no gain;
    where all are, the loudness is None.

  Raises:
    ValueError: As `metrics.loudness_lufs` does.
  """
  loudness = {
    k: metrics.loudness_lufs(v, sample_rate) for k, v in audio.items()
  }
  heard = {k: v for k, v in loudness.items() if v > metrics.SILENCE_LUFS}
  if not heard:
    return None, {}
  headroom = {
    k: _PEAK_DBTP - metrics.true_peak_dbtp(audio[k], sample_rate) for k in heard
  }
  common = min(max(heard.values()), *(heard[k] + headroom[k] for k in heard))
  return common, {k: common - lufs for k, lufs in heard.items()}


def encode_mp3(audio: np.ndarray, sample_rate: int) -> bytes:
  """Encodes audio as MP3 at 320 kbit/s, or the most that its rate allows.

  MP3, as every browser plays it. libsndfile writes into it how many samples the
  encoder put before and after the audio, and decoders take them out again.

  Args:
    audio: [n_samples, n_channels], of one or two channels.
    sample_rate: Hz, one of MP3's.

  Returns:
    The file's content.
  """
  scale = 1.0 if sample_rate >= _FULL_BIT_RATE_HZ else _LAME_SCALE
  buffer = io.BytesIO()
  soundfile.write(
    buffer,
    audio / scale,
    int(sample_rate),
    format='MP3',
    subtype='MPEG_LAYER_III',
    bitrate_mode='CONSTANT',
    compression_level=0.0,
  )
  return buffer.getvalue()
