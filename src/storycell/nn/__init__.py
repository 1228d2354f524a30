"""The networks in torch: cells, `CharLM`, the drop-in `LSTM`, the backends that compute them, the optimisers."""
