"""Clips and their files: frames with a rate, written for players and read from untrusted bytes.

This package imports nothing by itself: the process that decodes starts without numpy and torch.
"""
