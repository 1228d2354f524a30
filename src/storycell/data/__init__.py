"""Text -> stories -> ids -> token files -> `[B T]`, and the embedded grammar.

Streams of blocks that fit in memory however large the text: `corpus` names and reads texts, `vocab` maps characters to
ids, `prepare` writes token files (`tokens` reads them, `splits` decides what is held out), `batches` cuts chunks.
"""
