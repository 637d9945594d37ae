"""An application for Spin's Python SDK 4: WASI 0.3, and asynchronous calls."""

from spin_sdk import http, key_value, variables
from spin_sdk.http import Request, Response


class HttpHandler(http.Handler):
    async def handle_request(self, request: Request) -> Response:
        path = request.headers["spin-path-info"]
        if path == "/stored":
            store = await key_value.open_default()
            if request.method == "POST":
                await store.set("note", request.body)
            return Response(200, {}, await store.get("note"))
        if path == "/variable":
            return Response(200, {}, (await variables.get("greeting")).encode())
        if path == "/other":
            reply = await http.send(Request("GET", "http://self/app/hello", {}, None))
            return Response(reply.status, {}, b"it says: " + reply.body)
        return Response(200, {"x-route": request.headers["spin-matched-route"]}, b"hello")
