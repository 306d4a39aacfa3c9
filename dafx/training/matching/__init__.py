"""Controls of a graph fitted to one recording, without a network.

from dafx.training import matching
found = matching.match(plugins, mix, 44100, target=master)
print(found.controls, found.verdict())
"""

from dafx.training.matching.files import match_files, process_files
from dafx.training.matching.matcher import match
from dafx.training.matching.problem import Step
from dafx.training.matching.result import Match, describe_controls, table

__all__ = [
  'Match',
  'Step',
  'describe_controls',
  'match',
  'match_files',
  'process_files',
  'table',
]
