"""The page on which people decide: plain forms over HTTP. Any browser will do, and nothing is fetched elsewhere.

Every address asks for the token that `semihv review` prints: on a machine of many users the images are nobody else's
business, and no other page can send decisions.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from semihv_hf.data.messages import message_text
from semihv_hf.errors import SemiHVError
from semihv_hf.templates import strict_templates

from .decisions import REASONS, Decision, Decisions
from .items import PAIR, Item, RecordFolders

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_COOKIE, _NAME = "semihv_review", "semihv_reviewer"
_MOST_BYTES = 1 << 20  # of a form: texts of one conversation
_KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def review_app(folders: RecordFolders, items: Sequence[Item], decisions: Decisions, token: str) -> Starlette:
    """Makes the application.

    Args:
        folders ([`RecordFolders`]): where the records are read from.
        items (`Sequence[Item]`): what there is to decide about, in the order in which it is shown.
        decisions ([`Decisions`]): where decisions go.
        token (`str`): what a visitor must know.

    Returns:
        `starlette.applications.Starlette`: an ASGI application.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    pages = _Pages(folders, list(items), decisions, token)
    return Starlette(
        routes=[
            Route("/", pages.front),
            Route("/name", pages.name, methods=["POST"]),
            Route("/item/{number:int}", pages.item),
            Route("/item/{number:int}", pages.decide, methods=["POST"]),
            Route("/image/{number:int}/{side:int}/{index:int}", pages.image),
        ]
    )


class _Pages:
    def __init__(self, folders: RecordFolders, items: list[Item], decisions: Decisions, token: str):
        self.folders = folders
        self.items = items
        self.decisions = decisions
        self.token = token
        self._templates = _templates()

    def front(self, request: Request) -> Response:
        """Lets a visitor in who knows the token, and goes on with the first item that this person has not decided."""
        from starlette.responses import RedirectResponse

        given = request.query_params.get("token")
        if given is not None and self._is_token(given):
            answer = RedirectResponse("/", 303)  # so that the token does not stay in the address bar
            answer.set_cookie(_COOKIE, given, httponly=True, samesite="strict")
            return answer
        if (refused := self._refused(request)) is not None:
            return refused
        reviewer = self._reviewer(request)
        if not reviewer:
            return self._html("name.html.jinja", total=len(self.items), problem="")
        number = self._next(reviewer, 0)
        if number is None:
            return self._html("done.html.jinja", reviewer=reviewer, counts=self.decisions.counts(reviewer))
        return RedirectResponse(f"/item/{number}", 303)

    async def name(self, request: Request) -> Response:
        """Takes a visitor's name."""
        from starlette.responses import RedirectResponse

        if (refused := self._refused(request)) is not None:
            return refused
        reviewer = (await _form(request)).get("reviewer", "").strip()[:80]
        if not reviewer:
            return self._html("name.html.jinja", 400, total=len(self.items), problem="Please give a name or initials.")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(_NAME, urlencode({"name": reviewer}), httponly=True, samesite="strict")
        return answer

    def item(self, request: Request) -> Response:
        """Shows an item."""
        if (refused := self._refused(request)) is not None:
            return refused
        return self._show(request, request.path_params["number"])

    async def decide(self, request: Request) -> Response:
        """Writes a decision down and shows the next item."""
        from starlette.responses import RedirectResponse

        if (refused := self._refused(request)) is not None:
            return refused
        number, reviewer = request.path_params["number"], self._reviewer(request)
        if not 0 <= number < len(self.items) or not reviewer:
            return RedirectResponse("/", 303)
        form, item = await _form(request), self.items[number]
        if form.get("verdict") != "skip":
            try:
                self.decisions.add(self._decision(item, reviewer, form))
            except SemiHVError as error:
                return self._show(request, number, 400, error.what, form)
        following = self._next(reviewer, number + 1)
        if form.get("verdict") == "skip" and following is None:
            following = (number + 1) % len(self.items)
        return RedirectResponse("/" if following is None else f"/item/{following}", 303)

    def image(self, request: Request) -> Response:
        """An image of a record, as it is stored."""
        from starlette.responses import PlainTextResponse, Response

        if (refused := self._refused(request)) is not None:
            return refused
        number, side, index = (request.path_params[name] for name in ("number", "side", "index"))
        try:
            data = self.folders.read(self.items[number].places[side])["images"][index]["bytes"]
        except IndexError:
            return PlainTextResponse("there is no such image", 404)
        kind = next((kind for begin, kind in _KINDS.items() if data.startswith(begin)), "application/octet-stream")
        return Response(data, media_type=kind, headers={"cache-control": "private, no-store"})

    def _decision(self, item: Item, reviewer: str, form: dict[str, str]) -> Decision:
        verdict, texts = form.get("verdict", ""), {}
        if item.kind != PAIR and verdict in ("accept", "edit"):
            messages = self.folders.read(item.places[0])["messages"]
            for index, message in enumerate(messages):
                # Browsers send line breaks as CR LF.
                new = form.get(f"text-{index}", message_text(message)).replace("\r\n", "\n")
                if new != message_text(message):
                    texts[str(index)] = new
            # Whoever changes a text and presses "accept" means the changed text.
            verdict = "edit" if texts else "accept"
        return Decision(
            item.id,
            item.kind,
            reviewer,
            verdict,
            item.records,
            form.get("reason", "") if verdict in ("reject", "neither") else "",
            form.get("note", "").strip()[:2000],
            texts,
        )

    def _show(
        self, request: Request, number: int, status: int = 200, problem: str = "", form: dict[str, str] | None = None
    ) -> Response:
        from starlette.responses import PlainTextResponse, RedirectResponse

        reviewer = self._reviewer(request)
        if not reviewer:
            return RedirectResponse("/", 303)
        if not 0 <= number < len(self.items):
            return PlainTextResponse("there is no such item", 404)
        item = self.items[number]
        rows = [self.folders.read(place) for place in item.places]
        before = self.decisions.of(item.id, reviewer)
        done = sum(self.decisions.of(one.id, reviewer) is not None for one in self.items)
        return self._html(
            "pair.html.jinja" if item.kind == PAIR else "record.html.jinja",
            status,
            item=item,
            number=number,
            total=len(self.items),
            done=done,
            rows=rows,
            before=before,
            form=form or {},
            problem=problem,
            reasons=REASONS,
            reviewer=reviewer,
            text_of=message_text,
        )

    def _next(self, reviewer: str, start: int) -> int | None:
        """The first item from a number on, and then from the beginning, that a person has not decided."""
        order = [*range(start, len(self.items)), *range(min(start, len(self.items)))]
        return next((n for n in order if self.decisions.of(self.items[n].id, reviewer) is None), None)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _refused(self, request: Request) -> Response | None:
        from starlette.responses import PlainTextResponse

        if self._is_token(request.cookies.get(_COOKIE, "")):
            return None
        return PlainTextResponse("Open the address that `semihv review` has printed; it holds the token.", 403)

    def _reviewer(self, request: Request) -> str:
        return parse_qs(request.cookies.get(_NAME, "").strip('"')).get("name", [""])[0]

    def _html(self, template: str, status: int = 200, **values: Any) -> Response:
        from starlette.responses import HTMLResponse

        nonce = secrets.token_urlsafe(12)
        policy = f"default-src 'none'; img-src 'self' data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
        headers = {
            "content-security-policy": f"{policy}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
        }
        return HTMLResponse(self._templates.get_template(template).render(nonce=nonce, **values), status, headers)


async def _form(request: Request) -> dict[str, str]:
    from starlette.exceptions import HTTPException

    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "The form is too long.")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}


def _templates():
    return strict_templates(Path(__file__).parent / "templates", html=True)
