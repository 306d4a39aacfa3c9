"""What can go wrong with a plugin."""


class PluginError(RuntimeError):
  """A plugin refused, failed or did what no plugin may do.

  Examples:
    >>> import numpy as np
    >>> from dafx import lv2
    >>> uri = 'http://calf.sourceforge.net/plugins/Compressor'
    >>> renderer = lv2.Renderer(uri, sample_rate=44100, isolation='process')
    >>> try:
    ...   audio = renderer.render(np.zeros([1, 1000, 2]))
    ... except (
    ...   lv2.PluginError
    ... ) as error:  # it crashed, and only its worker ended
    ...   print(error)
  """
