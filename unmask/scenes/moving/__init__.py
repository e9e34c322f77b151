"""Scenes that move: their truth, captions and frames."""
