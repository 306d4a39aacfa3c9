"""Data, encoders, models, the train loop, evaluation, plots and reports."""
