"""Fuzzing: targets, a seed corpus, a mutation loop that needs nothing, harnesses for Atheris."""
