"""Files that play elsewhere: a page (`.html`), a C program (`.c`), a graph (`.onnx`)."""
