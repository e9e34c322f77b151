"""Several processes, on one machine or many: replicas of one app by Ray Serve (``unmask[ray]``)."""
