"""The commands: flags in, one call, words out."""
