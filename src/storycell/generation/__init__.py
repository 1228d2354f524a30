"""Sampling, and streams of text."""
