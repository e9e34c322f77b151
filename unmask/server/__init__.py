"""The HTTP service: an OpenAI-compatible front (app, routes) before an engine (worker)."""
