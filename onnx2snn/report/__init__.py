"""The report: one self-contained page about a conversion, and pictures of layers."""
