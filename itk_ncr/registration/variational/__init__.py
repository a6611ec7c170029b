"""Variational registration by operator splitting, and the methods built on it."""
