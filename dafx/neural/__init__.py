"""Black-box networks as processors."""
