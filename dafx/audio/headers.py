"""What headers of audio files say, and whether the files keep to it."""

import os
import pathlib
import struct

# Sizes that a program writes where it does not know how much will come.
_UNKNOWN_SIZES = (0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_SLACK_BYTES = 128  # some programs count the header too
_OGG_PAGE_BYTES = 65307  # of the longest page
_OGG_LAST = 4  # the flag of a stream's last page


def is_estimate(path: str | os.PathLike, info) -> bool:
  """Returns whether this is MP3 whose first frame does not tell its length.

  Args:
    path: The file.
    info: What soundfile says of it.
  """
  if info.format != 'MP3':
    return False
  with open(path, 'rb') as file:
    head = file.read(10)
    start = 0
    if head[:3] == b'ID3':  # a tag, whose size has seven bits in each byte
      start = 10 + sum(byte << (21 - 7 * i) for i, byte in enumerate(head[6:]))
    file.seek(start)
    first = file.read(256)
  return not any(word in first for word in (b'Xing', b'Info', b'VBRI'))


def is_cut(path: pathlib.Path, info) -> bool:
  """Returns whether a file ends early; libsndfile takes it for a shorter one.

  WAV (RIFF and RF64) and AIFF say how long their samples are. The last page of
  Ogg has a flag, and says how many samples come to its end.

  Args:
    path: The file.
    info: What soundfile says of it.
  """
  n_bytes = path.stat().st_size
  with open(path, 'rb') as file:
    kind, _, form = struct.unpack('4sI4s', file.read(12).ljust(12, b'\0'))
    if kind in (b'RIFF', b'RIFX', b'RF64', b'FORM'):
      if form not in (b'WAVE', b'AIFF', b'AIFC'):
        return False
      number = '>I' if kind in (b'RIFX', b'FORM') else '<I'
      size_of_64 = 0
      while len(header := file.read(8)) == 8:
        name, size = header[:4], struct.unpack(number, header[4:])[0]
        if name in (b'data', b'SSND'):
          size = size_of_64 if kind == b'RF64' else size
          missing = file.tell() + size - n_bytes
          return size not in _UNKNOWN_SIZES and missing > _SLACK_BYTES
        start = file.tell()
        if name == b'ds64':
          size_of_64 = struct.unpack('<QQ', file.read(16).ljust(16, b'\0'))[1]
        file.seek(start + size + size % 2)
      return True
    if kind == b'OggS':
      first = file.read(64)
      file.seek(max(0, n_bytes - 2 * _OGG_PAGE_BYTES))
      end = file.read()
  return kind == b'OggS' and _is_ogg_cut(end, b'vorbis' in first, info.frames)


def _is_ogg_cut(end: bytes, is_vorbis: bool, n_samples: int) -> bool:
  """Returns whether the last bytes of an Ogg file are not those of a whole."""
  start = end.rfind(b'OggS')
  header = end[start : start + 27].ljust(27, b'\0')
  flags, n_before, n_segments = header[5], header[6:14], header[26]
  segments = end[start + 27 : start + 27 + n_segments]
  if len(segments) < n_segments or not flags & _OGG_LAST:
    return True
  if len(end) < start + 27 + n_segments + sum(segments):
    return True
  # Where pages between are damaged, fewer samples come out.
  return is_vorbis and struct.unpack('<q', n_before)[0] > n_samples
