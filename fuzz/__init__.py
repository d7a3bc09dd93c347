"""Fuzzing: targets, a seed corpus, a mutation loop that needs nothing, a harness for Atheris."""
