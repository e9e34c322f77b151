"""/docs without a network: its page is FastAPI's, and its script and style come from a package."""

from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response

ASSETS = files("fastapi_swagger") / "resources"
SCRIPT, STYLE, ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
TYPES = {SCRIPT: "text/javascript", STYLE: "text/css", ICON: "image/png"}
# A package's files change with the package only, so a browser need not ask for them again soon.
CACHED = {"cache-control": "public, max-age=3600"}


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
