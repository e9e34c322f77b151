"""Backbones, their parts, and the conditions that they read."""
