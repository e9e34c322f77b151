"""How well models draw clips: what was asked of each, and what becomes of it frame after frame."""
