"""Offline judgement of policies on tables of outcomes."""
