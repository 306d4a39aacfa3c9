"""Writes how songs differ among themselves, for matches to a reference.

    .venv/bin/python scripts/measure_songs.py [FOLDER ...]

Without folders, of the music that comes with dafx. The statistics go to
dafx/training/matching/song_statistics.json.
"""

import pathlib
import sys

from dafx.audio import files
from dafx.training.matching import character

_MUSIC = (
  pathlib.Path(__file__).parents[1]
  / 'dafx/training/data_preparation/demo_audio'
)


def main():
  """Measures all songs of the folders."""
  folders = [pathlib.Path(word) for word in sys.argv[1:]] or [_MUSIC]
  found = []
  for folder in folders:
    for path in files.find_audio(folder):
      audio, rate = files.read(path)
      found.append(character.measure([audio[:, :2]], rate))
      print(path, flush=True)
  character.write_songs(character.compare_songs(found))


if __name__ == '__main__':
  main()
