"""The simplest mastering job: one setting for all songs undoes what was done.

The mix is the master 12 dB down, through two bands of x42's equaliser that are
the same in every song; the master is the song, lightly compressed by Calf's
compressor. So nothing has to be heard, and what a training falls short of is
the training's fault. The songs are those that come with dafx.
"""

import pathlib

from dafx.audio import files as audio_files
from dafx.training import reading
from dafx.training.data_preparation import files, mastering

SAMPLE_RATE = 22050
N_CHANNELS = 1
_COMPRESSOR = 'http://calf.sourceforge.net/plugins/Compressor'
# From -24 dB.
_LIGHT = {'threshold': 0.0631, 'ratio': 1.5, 'attack': 20.0, 'release': 150.0}
_SONG_LUFS = -14.0
_DOWN_DB = -12.0
_BANDS_DB = (0.0, -6.0, 0.0, 0.0, 6.0, 0.0)  # of `mastering.SECTION_HZ`


def prepare_demo(output_dir: pathlib.Path):
  """Writes train, valid and test, one pair per song; what is there stays.

  Args:
    output_dir: Gets the pairs, mono at 22.05 kHz.
  """
  bands = mastering.equaliser_settings(_BANDS_DB)
  for path in audio_files.find_audio(mastering.DEMO_AUDIO):
    stems = [
      output_dir / path.parent.name / side / path.stem
      for side in ('input', 'target')
    ]
    if all(files.is_there(stem, SAMPLE_RATE, N_CHANNELS) for stem in stems):
      continue
    song, rate = audio_files.read(path)
    song = mastering.to_loudness(song, rate, _SONG_LUFS)
    master = files.render(_COMPRESSOR, song, rate, _LIGHT)
    mix = files.render(mastering.EQUALISER, master, rate, bands)
    for stem, audio in zip(
      stems, (mix * 10 ** (_DOWN_DB / 20), master), strict=True
    ):
      audio = reading.conform(audio, rate, SAMPLE_RATE, N_CHANNELS)
      files.write_audio(stem, audio, SAMPLE_RATE)
