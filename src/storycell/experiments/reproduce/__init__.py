"""The models of "Language Modeling, Part 4: LSTMs", trained on equal terms, measured, and held against what it claims.

`plan` says what is trained, `training` trains it (a run that is there is resumed or left alone), `measure` writes what
each run comes to beside its other files, and `table`, `claims` and `report` only read those files.
"""
