"""The models of Connor Davis's "Language Modeling, Part 4: LSTMs", trained on equal terms and judged.

`plan` says what is trained, `train` trains it (a run that is there is resumed or left alone), `measure` writes what
each run comes to beside its other files, `claims` judges it and `report` tabulates it.
"""
