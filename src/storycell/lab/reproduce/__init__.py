"""The models of Connor Davis, "Language Modeling, Part 4: LSTMs" ("the article"), trained on equal terms and judged.

`plan` says what is trained, `train` trains it (a finished run is left alone, an interrupted one resumed), `measure`
writes a run's results beside its other files, `claims` judges them and `report` tabulates them.
"""
