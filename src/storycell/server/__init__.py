"""HTTP around a model: the API that OpenAI's clients speak, and a page to generate with.

Needs the extra `storycell[serve]`; nothing else of the package imports it.
"""
