"""The sections of the report of `inspect`: `NAME.py` with a `build`, and `NAME.html` beside it; `order` says where."""
