"""/docs without a network: its page is FastAPI's, and its script and style come from a package. And
what the document says of keys, which that page asks for."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

from unmask.server.http.door import BY_PASSWORD, FREE

ASSETS = files("fastapi_swagger") / "resources"
SCRIPT, STYLE, ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
TYPES = {SCRIPT: "text/javascript", STYLE: "text/css", ICON: "image/png"}
# A package's files change with the package only, so a browser need not ask for them again soon.
CACHED = {"cache-control": "public, max-age=3600"}

SCHEMES = {
    "key": {"type": "http", "scheme": "bearer"},
    "password": {"type": "http", "scheme": "basic", "description": "any name; the key"},
}


def with_keys(
    make_document: Callable[[], dict[str, Any]], is_needed: Callable[[], bool]
) -> Callable[[], dict[str, Any]]:
    """Makes the document, which tells how a key is sent while any is needed."""

    def make() -> dict[str, Any]:
        document = make_document()
        if not is_needed():
            return document
        paths = {
            path: {method: _asking(path, operation) for method, operation in methods.items()}
            for path, methods in document["paths"].items()
        }
        components = {**document["components"], "securitySchemes": SCHEMES}
        return {**document, "paths": paths, "components": components, "security": [{"key": []}]}

    return make


def _asking(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """An operation, with how its key is sent where that is not as everywhere."""
    if FREE.fullmatch(path):
        return {**operation, "security": []}
    if BY_PASSWORD.fullmatch(path):
        return {**operation, "security": [{"key": []}, {"password": []}]}
    return operation


def make_docs_router(title: str) -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        """The document of all routes, to be read and tried."""
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=title,
            swagger_js_url=f"{root}/docs/{SCRIPT}",
            swagger_css_url=f"{root}/docs/{STYLE}",
            swagger_favicon_url=f"{root}/docs/{ICON}",
        )

    def add(name: str, media_type: str) -> None:
        content = ASSETS.joinpath(name).read_bytes()

        @router.get(f"/docs/{name}")
        async def asset() -> Response:
            return Response(content, media_type=media_type, headers=CACHED)

    for name, media_type in TYPES.items():
        add(name, media_type)
    return router
