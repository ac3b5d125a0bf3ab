"""``GET /metrics`` of the web process: for a scraper on the same machine, and nobody else."""

from __future__ import annotations

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tasks_app.authentication import is_from_here
from tasks_app.metrics.exposition import registry

REFUSAL = "Only for this machine, and not through a proxy. Elsewhere scrape A2A_WEB_METRICS_PORT.\n"


def page(request: Request) -> Response:
    """The metrics of this process, and of those that share its port; 403 for anyone but a scraper on this machine."""
    peer = request.client.host if request.client else None
    if not is_from_here(request.headers, peer):
        return PlainTextResponse(REFUSAL, 403)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry()), media_type=content_type)
