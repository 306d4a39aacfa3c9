"""Measuring, tables, the report, the demonstration.

The functions that gin knows are registered on import.
"""

from dafx.training.evaluation import evaluate, evaluate_effects

__all__ = ['evaluate', 'evaluate_effects']
