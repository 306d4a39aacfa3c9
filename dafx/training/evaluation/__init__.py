"""Measuring, tables, the report, the demonstration.

The functions that gin knows are registered on import.
"""

from dafx.training.evaluation import conclusion, evaluate

__all__ = ['conclusion', 'evaluate']
