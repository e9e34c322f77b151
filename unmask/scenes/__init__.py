"""Rendered scenes whose truth is known: what the bundled models draw and the judge reads."""
