"""The OpenAI-compatible front: routes, bodies, streams, errors, and the edge around them."""
