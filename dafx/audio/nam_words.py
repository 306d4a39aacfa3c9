"""What .nam files may say: kinds of gear, and versions of the format.

They stand here, where nothing loads TensorFlow, for `neural.nam` and for the
flags of commands alike.
"""

GEAR_TYPES = (
  'amp',
  'pedal',
  'pedal_amp',
  'amp_cab',
  'amp_pedal_cab',
  'preamp',
  'studio',
)
TONE_TYPES = ('clean', 'overdrive', 'crunch', 'hi_gain', 'fuzz')
# What players of before read, as far as it goes; and what those of today do.
OLD_VERSION, NEW_VERSION = '0.5.4', '0.7.0'
VERSIONS = (OLD_VERSION, NEW_VERSION)
