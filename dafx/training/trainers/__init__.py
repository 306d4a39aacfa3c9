"""Training: the trainer, and the loop around it."""

from dafx.training.trainers.loop import train
from dafx.training.trainers.monitor import Monitor
from dafx.training.trainers.run import DivergedError, Run
from dafx.training.trainers.trainer import Trainer

__all__ = [
  'DivergedError',
  'Monitor',
  'Run',
  'Trainer',
  'train',
]
