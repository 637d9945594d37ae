"""An application for the release candidate of November 2023, without an SDK."""

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


def read(incoming) -> bytes:
    """The whole body of a request or a reply."""
    body = incoming.consume()
    stream = body.stream()
    content = b""
    try:
        while True:
            content += stream.blocking_read(64 * 1024)
    except Err as error:
        assert isinstance(error.value, StreamErrorClosed), error
    stream.drop()
    trailers = IncomingBody.finish(body)
    poll.poll([trailers.subscribe()])
    assert trailers.get() == trailers.get() == Ok(None)
    return content


def write(body, content: bytes):
    stream = body.write()
    for start in range(0, len(content), 4096):
        stream.blocking_write_and_flush(content[start : start + 4096])
    stream.drop()
    OutgoingBody.finish(body, None)


def fetch(path: str) -> bytes:
    request = OutgoingRequest(Fields.from_list([("accept", b"text/plain")]))
    request.set_scheme(SchemeHttp())
    request.set_authority("self")
    request.set_path_with_query(path)
    options = RequestOptions()
    options.set_first_byte_timeout_ms(2000)
    assert options.first_byte_timeout_ms() == 2000
    reply = outgoing_handler.handle(request, options)
    poll.poll([reply.subscribe()])
    return read(reply.get().value.value)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        headers = dict(request.headers().entries())
        path = headers["spin-path-info"]
        if path == b"/other":
            content = b"it says: " + fetch("/app/hello")
        elif path == b"/echo":
            content = read(request)
        else:
            content = b"hello"
        route = headers["spin-matched-route"]
        response = OutgoingResponse(Fields.from_list([("x-route", route)]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        write(body, content)
