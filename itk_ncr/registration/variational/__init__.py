"""Variational registration by operator splitting, and what is built on it."""
