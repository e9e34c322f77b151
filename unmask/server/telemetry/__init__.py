"""What the server tells its operator: figures, a log, traces. Never prompts, keys or pictures."""
