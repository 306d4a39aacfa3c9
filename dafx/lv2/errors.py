"""What can go wrong with a plugin."""


class PluginError(RuntimeError):
  """A plugin refused, failed or did what no plugin may do."""
