"""Modules of `media/build`, which builds boot media and network boot files."""
