"""An application for Spin's Python SDK 3: WASI 0.2, and blocking calls."""

from spin_sdk import http, key_value, variables
from spin_sdk.http import Request, Response


class IncomingHandler(http.IncomingHandler):
    def handle_request(self, request: Request) -> Response:
        path = request.headers["spin-path-info"]
        if path == "/stored":
            with key_value.open_default() as store:
                if request.method == "POST":
                    store.set("note", request.body)
                return Response(200, {}, store.get("note"))
        if path == "/variable":
            return Response(200, {}, variables.get("greeting").encode())
        if path == "/other":
            reply = http.send(Request("GET", "http://self/app/hello", {}, None))
            return Response(reply.status, {}, b"it says: " + reply.body)
        return Response(200, {"x-route": request.headers["spin-matched-route"]}, b"hello")
