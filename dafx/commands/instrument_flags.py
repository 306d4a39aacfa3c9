"""Flags of dafx_run for models that play an instrument."""

from absl import flags

# Options of such a model, and the modes that take them.
NAMES = ('transpose', 'octave', 'autotune')
MODES = ('process',)

flags.DEFINE_float(
  'transpose',
  None,
  'process: semitones by which an instrument plays what it hears higher; '
  '--transpose=12.',
)
flags.DEFINE_integer(
  'octave',
  None,
  'process: octaves by which it does so, beside; if neither this nor '
  '--transpose is given, those that bring it nearest to the recordings that '
  'were learned from; --octave=0.',
)
flags.DEFINE_float(
  'autotune',
  None,
  'process: how far pitch goes to the nearest notes of the scale that fits '
  'best, from 0 to 1; --autotune=0.5.',
  lower_bound=0.0,
  upper_bound=1.0,
)
