"""Shared types and seams: numpy and the standard library only; imports nothing above it."""
