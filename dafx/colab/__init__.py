"""Helpers to listen and look inside notebooks (Jupyter and Colab)."""
