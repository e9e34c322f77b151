"""The steps from one schema to the next, each in a file of its own that is never changed again."""
