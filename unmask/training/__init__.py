"""Trainers of the bundled models, and the data that they see."""
