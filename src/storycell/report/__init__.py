"""Offline pages and figures. Nothing is fetched: style, script, figures and numbers are inside."""
