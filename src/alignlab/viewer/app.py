"""Serve the viewer: addresses to pages, for browsers on this machine alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from starlette.responses import Response as Reply
from starlette.routing import Route

from alignlab.errors import BadInput
from alignlab.report import export, labels, page
from alignlab.report.policy import styles_to_classes
from alignlab.runs import slug
from alignlab.viewer import pages, rating, run_list, security
from alignlab.viewer.library import Library, RunState, damage_named
from alignlab.viewer.security import Handler

LARGEST = 1_000_000
"""Maximum number of bytes of a request's body."""
EXPORTS = {"csv": "csv", "markdown": "md", "latex": "tex"}
"""Form of an export -> ending of its file."""
_ROOT = Path(__file__).parent


class RequestParameters(NamedTuple):
    """Query and path parameters of a request."""

    query: dict[str, str]
    path: Mapping[str, Any]


Gather = Callable[[RunState, RequestParameters], Any]
"""Function that returns what a page of a run shows; None if there is no such record."""


def application(library: Library, port: int, *, served: bool = True) -> Starlette:
    """Build the web application of a library of runs.

    Args:
        port: port that the guard accepts in the name of the host.
        served: False leaves out of the pages what needs a server, for a static copy.
    """
    site = _Site(library, served)
    run_pages: dict[str, tuple[str, str, Gather]] = {
        "": ("overview", "overview", lambda run, ask: pages.overview(library, run)),
        "answers": ("answers", "answers", lambda run, ask: pages.held_out(library, run, ask.query)),
        "answers/{seed:int}/{prompt:path}": (
            "answer",
            "answers",
            lambda run, ask: pages.answer(
                library, run, ask.path["seed"], ask.path["prompt"], ask.query
            ),
        ),
        "judgements": (
            "judgements",
            "judgements",
            lambda run, ask: pages.judged(library, run, ask.query),
        ),
        "judgements/{fid:int}": (
            "judgement",
            "judgements",
            lambda run, ask: pages.judgement(library, run, ask.path["fid"]),
        ),
        "data": ("data", "data", lambda run, ask: pages.data(library, run, ask.query)),
        "training": (
            "training",
            "training",
            lambda run, ask: pages.training(library, run, ask.query),
        ),
        "files": ("files", "files", lambda run, ask: {**pages.files(run), "exports": EXPORTS}),
    }
    routes = [
        Route("/", site.runs),
        Route("/compare", site.compare),
        Route("/static/{name}", site.static),
        *(Route(f"/run/{{key}}/{path}", site.shows(*shown)) for path, shown in run_pages.items()),
        Route("/run/{key}/state", site.state),
        Route("/run/{key}/file/{path:path}", site.file),
        Route("/run/{key}/export/{form}", site.exported),
        Route("/run/{key}/people", site.people, methods=["GET", "POST"]),
        Route("/run/{key}/rate/{task}", site.rate),
        Route("/run/{key}/rate/{task}/items", site.items),
        Route("/run/{key}/rate/{task}/save", site.save, methods=["POST"]),
    ]
    guard = Middleware(BaseHTTPMiddleware, dispatch=security.guard(port))
    return Starlette(routes=routes, middleware=[guard])


@cache
def environment() -> Environment:
    """Return the template environment, which escapes everything inserted."""
    made = Environment(
        loader=FileSystemLoader([_ROOT / "templates", page.TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.tests.update(page.environment().tests)
    made.globals.update(number=labels.number, duration=labels.duration)
    made.filters["interval"] = _interval
    made.filters["thousands"] = lambda n: f"{n:,}"
    made.filters["zip_self"] = lambda values: [(v, v) for v in values]
    made.filters["counted"] = lambda pairs: [(v, f"{v} ({n:,})") for v, n in pairs]
    made.filters["part_options"] = lambda pairs: [
        (name, f"{labels.group(name)} ({n:,})") for name, n in pairs
    ]
    made.filters["sample"] = lambda v: "unread" if v is None else f"{v:g}"
    return made


def render(template: str, **context: Any) -> str:
    """Render a page; style attributes become classes of its style element."""
    return styles_to_classes(environment().get_template(template).render(**context))


def html(template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page with the policy that allows its styles."""
    text = render(template, **context)
    return HTMLResponse(text, status, {"Content-Security-Policy": security.policy(text)})


def _interval(found: Any, metric: str = "") -> str:
    """Format a figure with its interval and n."""
    if found is None or found.value is None:
        return "–"
    value = labels.number(found.value, metric)
    if found.low is None or found.high is None:
        return f"{value} (n {found.n:,})"
    low, high = (
        labels.number(bound, metric).removesuffix("%").removesuffix(" pp")
        for bound in (found.low, found.high)
    )
    return f"{value} [{low}, {high}], n {found.n:,}"


class _Site:
    """Handlers of all addresses."""

    def __init__(self, library: Library, served: bool) -> None:
        self.library = library
        self.shown = {"served": served, "compares": served or len(library.paths()) > 1}

    def _html(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        return html(template, status, **self.shown, **context)

    async def _page(
        self, request: Request, template: str, gather: Callable[[RunState], Any], here: str
    ) -> Reply:
        """Render a page of one run; 404 without the run or its record, 400 for a bad address."""

        def work() -> Reply:
            try:
                run = self.library.run(request.path_params["key"])
            except KeyError:
                return self._html("error.html.j2", 404, message="no such run")
            except BadInput as error:
                return self._html("error.html.j2", 400, message=str(error))
            try:
                with damage_named(run.path):
                    found = gather(run)
            except BadInput as error:
                return self._html("error.html.j2", 400, message=str(error))
            if found is None:
                return self._html("error.html.j2", 404, message="no such record")
            return self._html(template, run=run, here=here, base=f"/run/{quote(run.key)}/", **found)

        return await run_in_threadpool(work)

    async def runs(self, request: Request) -> Reply:
        query = dict(request.query_params)
        found = await run_in_threadpool(run_list.runs, self.library, query)
        return self._html("runs.html.j2", folder=str(self.library.folder), here="runs", **found)

    async def compare(self, request: Request) -> Reply:
        try:
            found = await run_in_threadpool(pages.compare, self.library, dict(request.query_params))
        except BadInput as error:
            return self._html("error.html.j2", 400, message=str(error))
        return self._html("compare_runs.html.j2", here="compare", **found)

    def shows(self, page_name: str, here: str, gather: Gather) -> Handler:
        """Return the handler of a page that a run and its address decide.

        Args:
            page_name: name of the template, without its endings.
            here: page that the navigation marks.
            gather: returns what the template shows.
        """

        async def handle(request: Request) -> Reply:
            asked = RequestParameters(dict(request.query_params), request.path_params)
            template = f"{page_name}.html.j2"
            return await self._page(request, template, lambda run: gather(run, asked), here)

        return handle

    async def state(self, request: Request) -> Reply:
        def work() -> Reply:
            try:
                key = request.path_params["key"]
                version = self.library.index(key).version
                run = self.library.run(key)
            except KeyError:
                return JSONResponse({}, 404)
            return JSONResponse(
                {"version": f"{version}-{run.done}-{run.state}", "state": run.state}
            )

        return await run_in_threadpool(work)

    async def file(self, request: Request) -> Reply:
        """Serve a file of a run as text that no browser executes."""

        def work() -> Reply:
            try:
                root = self.library.run(request.path_params["key"]).path.resolve()
            except KeyError:
                return PlainTextResponse("no such run", 404)
            path = (root / request.path_params["path"]).resolve()
            if not path.is_relative_to(root) or not path.is_file():
                return PlainTextResponse("no such file", 404)
            if path == root / "report.html":  # may come from elsewhere with its run
                content = path.read_text(encoding="utf-8")
                return HTMLResponse(content, headers={"Content-Security-Policy": security.REPORT})
            return FileResponse(path, media_type="text/plain")

        return await run_in_threadpool(work)

    async def exported(self, request: Request) -> Reply:
        """Serve every figure of a run as a table, to be saved."""

        def work() -> Reply:
            form = request.path_params["form"]
            try:
                run = self.library.run(request.path_params["key"])
            except KeyError:
                return PlainTextResponse("no such run", 404)
            if form not in EXPORTS:
                return PlainTextResponse("no such form", 404)
            try:
                text = export(run.path, form)
            except BadInput as error:
                return PlainTextResponse(str(error), 400)
            name = f"{slug(run.name)}.{EXPORTS[form]}"
            saved = {"Content-Disposition": f'attachment; filename="{name}"'}
            return PlainTextResponse(text, headers=saved)

        return await run_in_threadpool(work)

    async def people(self, request: Request) -> Reply:
        if request.method == "POST":
            return await self._new_task(request)
        query = dict(request.query_params)
        return await self._page(
            request,
            "people.html.j2",
            lambda run: rating.overview(self.library, run, query),
            "people",
        )

    async def _new_task(self, request: Request) -> Reply:
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": "expected a JSON object"}, 400)

        def work(run: RunState) -> Any:
            made = rating.create(self.library, run, body)
            return {"task": made.name, "items": len(made.items)}

        return await self._json(request, work)

    async def _json(self, request: Request, work: Callable[[RunState], Any]) -> Reply:
        """Return what work on a run gives, or the reason why it cannot be done."""

        def answer() -> Reply:
            try:
                return JSONResponse(work(self.library.run(request.path_params["key"])))
            except KeyError:
                return JSONResponse({"error": "no such run or task"}, 404)
            except BadInput as error:
                return JSONResponse({"error": str(error)}, 400)
            except OSError as error:
                return JSONResponse({"error": f"the rating cannot be written ({error})"}, 500)

        return await run_in_threadpool(answer)

    async def rate(self, request: Request) -> Reply:
        name = request.path_params["task"]
        return await self._page(
            request, "rate.html.j2", lambda run: rating.page(run, name), "people"
        )

    async def items(self, request: Request) -> Reply:
        task, query = request.path_params["task"], request.query_params

        def work(run: RunState) -> Any:
            annotator, order = query.get("annotator", ""), query.get("next", "")
            return rating.items(self.library, run, task, annotator, order)

        return await self._json(request, work)

    async def save(self, request: Request) -> Reply:
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": "expected a JSON object"}, 400)
        task = request.path_params["task"]
        return await self._json(request, lambda run: rating.save(self.library, run, task, body))

    async def static(self, request: Request) -> Reply:
        name = request.path_params["name"]
        if name == "viewer.css":
            style = environment().get_template("style.css").render()
            own = (_ROOT / "static" / "viewer.css").read_text(encoding="utf-8")
            return Reply(f"{style}\n{own}", media_type="text/css")
        if name in ("viewer.js", "rate.js"):
            return Reply((_ROOT / "static" / name).read_text("utf-8"), media_type="text/javascript")
        return PlainTextResponse("no such file", 404)


async def _body(request: Request) -> dict[str, Any] | None:
    """Return the JSON object of a request; None if it is none, or too large."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return None
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            return None
        parts.append(part)
    try:
        found = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
