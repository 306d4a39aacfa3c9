"""Makes training data: from the embedded music, or from the user's files."""
