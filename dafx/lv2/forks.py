"""What a fork must not find held: locks of those that keep a state."""

import os
import weakref
from typing import Protocol


class _Locked(Protocol):
  def free_lock(self) -> None:
    """Lets go of a lock that another thread held."""


_locked: weakref.WeakSet[_Locked] = weakref.WeakSet()


def _free_locks():
  for each in list(_locked):
    each.free_lock()


os.register_at_fork(after_in_child=_free_locks)


def free_lock_of(owner: _Locked):
  """Has `owner.free_lock` called in each fork, as long as it is there."""
  _locked.add(owner)
