"""Pixels to tokens and back."""
