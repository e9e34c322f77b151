"""How well models draw: a judge, its figures, reports and searches."""
