"""Sound on disk and in chunks: files, sources, rates. NumPy only."""
