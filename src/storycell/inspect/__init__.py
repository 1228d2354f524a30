"""What gates, cells and gradients do: arrays and numbers about a trained model, no pictures.

Layers and units count from 0.
"""
