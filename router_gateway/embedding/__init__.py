"""Texts to vectors, each in a named space."""
