"""An application for the release candidate of December 2023, without an SDK."""

from application import exports
from application.imports import outgoing_handler, poll
from application.imports.streams import StreamErrorClosed
from application.imports.types import (
    Fields,
    IncomingBody,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    ResponseOutparam,
    SchemeHttp,
)
from application.types import Err, Ok


def chunks(incoming):
    """The parts of a body, up to its end and its trailers, of which there are none."""
    body = incoming.consume()
    stream = body.stream()
    while True:
        try:
            yield stream.blocking_read(64 * 1024)
        except Err as error:
            assert isinstance(error.value, StreamErrorClosed), error
            break
    stream.drop()
    trailers = IncomingBody.finish(body)
    poll.poll([trailers.subscribe()])
    assert trailers.get() == Ok(Ok(None))


def own_route(path: str):
    """The reply of another route of this application."""
    request = OutgoingRequest(Fields.from_list([]))
    request.set_scheme(SchemeHttp())
    request.set_authority("self")
    request.set_path_with_query(path)
    options = RequestOptions()
    options.set_connect_timeout(2_000_000_000)
    reply = outgoing_handler.handle(request, options)
    poll.poll([reply.subscribe()])
    return reply.get().value.value


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        headers = dict(request.headers().entries())
        path = headers["spin-path-info"]
        parts = [b"hello"]
        if path == b"/other":
            parts = [b"it says: ", *chunks(own_route("/app/hello"))]
        elif path == b"/echo":
            parts = chunks(request)
        response = OutgoingResponse(Fields.from_list([("x-route", headers["spin-matched-route"])]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        stream = body.write()
        for part in parts:
            for start in range(0, len(part), 4096):
                stream.blocking_write_and_flush(part[start : start + 4096])
        stream.drop()
        OutgoingBody.finish(body, None)
