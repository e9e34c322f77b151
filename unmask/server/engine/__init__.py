"""Continuous batching: a queue, models, and a worker a device. Nothing in here knows of HTTP."""
