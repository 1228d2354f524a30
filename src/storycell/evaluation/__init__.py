"""Losses with standard errors, and what a language model has to beat: n-grams and compressors."""
