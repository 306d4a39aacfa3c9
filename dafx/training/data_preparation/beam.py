"""Work on Apache Beam, on as many machines as its runner has."""

import builtins
import contextlib
import dataclasses
import json
import pathlib
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dafx.audio import disk
from dafx.training.data_preparation import side_by_side

try:
  import apache_beam
  from apache_beam.options import pipeline_options
except ImportError as error:
  raise ImportError(
    "--runner needs Apache Beam: pip install 'dafx[beam]'. Or do without it: "
    '--workers=4 for processes of this machine.'
  ) from error

# What a preparation says in one line; all else is a fault of dafx, whose
# traceback Beam prints.
_SAID = (ValueError, KeyError, OSError, RuntimeError)
_PREFIX, _STOP = '.beam_', 'stop'
# Seconds between looks for results.
_PAUSE_S = 0.2


@dataclasses.dataclass(frozen=True)
class Beam(side_by_side.Workers):
  """A runner of Apache Beam.

  Its workers have dafx and its plugins, and see `folder`, and what goes into
  the jobs, at the same paths. What a job returns comes back through a hidden
  folder there, so that this process goes on while others are at work, notes
  what is done, and can be interrupted.

  Args:
    folder: Where what is prepared goes.
    runner: As Beam names it, such as 'DirectRunner' or 'FlinkRunner'.
    options: Of the runner, each 'name=value'.

  Raises:
    ValueError: Options that the runner does not have.
  """

  folder: pathlib.Path
  runner: str = 'DirectRunner'
  options: Sequence[str] = ()

  def run_all(
    self, function: Callable, jobs: Sequence[Sequence]
  ) -> Iterator[Any]:
    """Calls a function for each job; see `side_by_side.Workers`."""
    if not jobs:
      return
    self.folder.mkdir(parents=True, exist_ok=True)
    for stale in self.folder.glob(f'{_PREFIX}*'):  # of one that was killed
      shutil.rmtree(stale, ignore_errors=True)
    with (
      tempfile.TemporaryDirectory(dir=self.folder, prefix=_PREFIX) as name,
      _running(self._pipeline(function, jobs, name)) as thread,
    ):
      folder = pathlib.Path(name)
      try:
        for number in range(len(jobs)):
          yield thread.wait_for(folder / f'{number}.json')
      finally:
        (folder / _STOP).touch()

  def _pipeline(self, function, jobs, folder):
    """Returns what runs the jobs."""
    options = pipeline_options.PipelineOptions(
      [f'--{option}' for option in self.options], runner=self.runner
    )
    # Bytes: Beam looks into nothing else that it is given.
    packed = [
      pickle.dumps((number, function, tuple(job)))
      for number, job in enumerate(jobs)
    ]

    def run():
      with apache_beam.Pipeline(options=options) as pipeline:
        _ = (
          pipeline
          | apache_beam.Create(packed)
          | apache_beam.Reshuffle()  # else one worker may get all of them
          | apache_beam.ParDo(_DoJob(folder))
        )

    return run


class _DoJob(apache_beam.DoFn):
  """Does a job, and writes what came of it."""

  def __init__(self, folder: str):
    super().__init__()
    self._folder = folder

  def process(self, packed):
    """Yields nothing."""
    folder = pathlib.Path(self._folder)
    if not folder.exists() or (folder / _STOP).exists():
      return
    number, function, arguments = pickle.loads(packed)
    try:
      said = {'result': function(*arguments)}
    except _SAID as error:
      text = str(error.args[0] if isinstance(error, KeyError) else error)
      kinds = [t.__name__ for t in type(error).__mro__]
      said = {'error': text, 'kinds': kinds}
    with disk.replacing(folder / f'{number}.json') as path:
      path.write_text(json.dumps(said), encoding='utf-8')
    yield from ()


class _Running:
  """A pipeline that runs in a thread, and what it ended of."""

  def __init__(self, run: Callable[[], None]):
    self._run = run
    self._error: BaseException | None = None
    self.thread = threading.Thread(target=self._work, daemon=True)
    self.thread.start()

  def _work(self):
    try:
      self._run()
    except BaseException as error:  # noqa: BLE001  raised by `wait_for`
      self._error = error

  def wait_for(self, path: pathlib.Path) -> Any:
    """Returns what a job has returned, or raises what it has raised."""
    while not path.exists():
      if not self.thread.is_alive() and not path.exists():
        raise RuntimeError(
          f'The runner has ended before its work: {self._error}'
        ) from self._error
      time.sleep(_PAUSE_S)
    said = json.loads(path.read_text(encoding='utf-8'))
    if 'error' in said:
      raise _error(said['kinds'], said['error'])
    return said['result']


def _error(kinds: Sequence[str], text: str) -> Exception:
  """Returns an error of the first of its kinds that Python itself has."""
  for kind in kinds:
    found = vars(builtins).get(kind)
    if isinstance(found, type) and issubclass(found, _SAID):
      return found(text)
  return RuntimeError(text)


@contextlib.contextmanager
def _running(run: Callable[[], None]) -> Iterator[_Running]:
  """Yields a pipeline that runs; waits for its end."""
  running = _Running(run)
  try:
    yield running
  finally:
    running.thread.join()
