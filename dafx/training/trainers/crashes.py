"""Items of a batch at which plugins crash: a step goes on without them."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf
from absl import logging

from dafx import core, lv2, processors
from dafx.training import models

# How often a plugin may crash with one file: the next time ends the training.
_MOST_WITH_A_FILE = 2

Result = TypeVar('Result')


class Left:
  """What is left of a batch when the items that plugins crash at are not in it.

  Args:
    batch: Features, each [batch, ...].
    name_item: Names an item by its place in the batch.
    note: Counts and reports an item, from (error, name), or raises.

  Attributes:
    batch: Features of the items that are left.
  """

  def __init__(
    self,
    batch: Mapping[str, tf.Tensor],
    name_item: Callable[[int], str],
    note: Callable[[lv2.CrashError, str], None],
  ):
    self.batch = self._whole = dict(batch)
    self._name_item = name_item
    self._note = note
    self._places = np.arange(next(iter(batch.values())).shape[0])

  @property
  def n_items(self) -> int:
    """Number of items that are left."""
    return len(self._places)

  def leave_out(self, error: lv2.CrashError, counts: bool = True):
    """Leaves out the item that a plugin has crashed at.

    Args:
      error: Of a call with `batch`; it names the item.
      counts: Whether the item is counted and reported.

    Raises:
      lv2.CrashError: A plugin crashed with a file for the third time, or at
        what is of no file.
    """
    if error.item is None:
      raise error
    if counts:
      self._note(error, self._name_item(int(self._places[error.item])))
    self._places = np.delete(self._places, error.item)
    self.batch = {
      key: tf.gather(value, self._places) for key, value in self._whole.items()
    }


class Crashes:
  """What is done about plugins that crash or hang in processes of their own.

  Such an item counts for nothing: all is computed anew without it, so its
  weight is 0 in every loss and gradient. A plugin that crashes with the same
  file for the third time ends the training.

  Args:
    model: What is trained. Unless one of its plugins has processes of its own,
      nothing is done.

  Attributes:
    counts: Number of items that were left out, by (URI, name of the item).
  """

  def __init__(self, model: models.Model):
    self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
    self._news: list[tuple[str, str]] = []
    self._is_isolated = any(
      member.is_isolated
      for node in processors.nodes(model.processor_group).values()
      for member in node.members
    )

  def leave_out(
    self,
    function: Callable[[Mapping[str, tf.Tensor]], Result],
    batch: Mapping[str, tf.Tensor],
    name_item: Callable[[int], str],
    counts: bool = True,
  ) -> tuple[Mapping[str, tf.Tensor], Result] | None:
    """Calls a function of a batch, without the items that plugins crash at.

    Args:
      function: What is computed. Where it fails, it has changed nothing.
      batch: Features, each [batch, ...].
      name_item: Names an item by its place in the batch; '' where it has no
        name.
      counts: Whether items are counted and reported; otherwise they were.

    Returns:
      (What was left of the batch, what the function returned for it); None if
      no item was left.

    Raises:
      lv2.CrashError: A plugin crashed with a file for the third time, or at
        what is of no file.
    """
    if not self._is_isolated:
      return batch, function(batch)
    left = self.begin(batch, name_item)
    while left.n_items:
      try:
        with core.raising_faults():
          return left.batch, function(left.batch)
      except lv2.CrashError as error:
        left.leave_out(error, counts)
    return None

  def begin(
    self, batch: Mapping[str, tf.Tensor], name_item: Callable[[int], str]
  ) -> 'Left':
    """Returns what is left of a batch: all of it.

    Args:
      batch: Features, each [batch, ...].
      name_item: As of `leave_out`.
    """
    return Left(batch, name_item, self._note)

  def _note(self, error, name):
    """Counts and reports an item, or raises what ends the training."""
    key = (error.uri, name)
    shown = name or 'An item without a name'
    self.counts[key] += 1
    self._news.append(key)
    if self.counts[key] > _MOST_WITH_A_FILE:
      raise lv2.CrashError(
        f'{shown}: {error} It is the third time with this plugin and file, '
        'which ends the training. Leave the file out, or keep the controls '
        'where the plugin lives: `ranges` of LV2Plugin.',
        error.uri,
      ) from error
    logging.warning('%s is left out, its weight is 0: %s', shown, error)

  def take_news(self) -> list[tuple[str, str]]:
    """Returns what was counted since the last time, for other workers."""
    news, self._news = self._news, []
    return news

  def add_news(self, news: Iterable[Sequence[str]]):
    """Counts what other workers have left out.

    Args:
      news: (URI, name of the item) of each, as they tell it.
    """
    self.counts.update((uri, name) for uri, name in news)

  def report(self):
    """Logs what was left out of the whole training, if anything was."""
    for (uri, name), count in self.counts.items():
      logging.warning(
        '%s was left out %d times: %s crashed or hung.', name, count, uri
      )
