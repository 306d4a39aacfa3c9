"""A chain of plugins as a project of a DAW: for Ardour, and for Reaper.

NumPy only; nothing here knows of TensorFlow or gin.

    from dafx import sessions
    compressor = sessions.Plugin(uri, {'ratio': 4.0})
    session = sessions.Session('song', [compressor], source)
    sessions.write(session, 'song_session')
"""

from dafx.sessions.notes import find_host_dependence
from dafx.sessions.session import Automation, Plugin, Session
from dafx.sessions.writing import describe, write

__all__ = [
  'Automation',
  'Plugin',
  'Session',
  'describe',
  'find_host_dependence',
  'write',
]
