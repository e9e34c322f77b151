"""The service: HTTP (``http``) before an engine that draws (``engine``)."""
