// An application for Spin's JavaScript SDK: WASI 0.2, the web's own interfaces, and Spin's.

import { Store } from "fermyon:spin/key-value@2.0.0";
import * as variables from "fermyon:spin/variables@2.0.0";

/** A body whose parts come one after the other. */
function parts() {
  const encoder = new TextEncoder();
  let count = 0;
  return new ReadableStream({
    async pull(controller) {
      if (count === 3) return controller.close();
      controller.enqueue(encoder.encode(`part ${count++}\n`));
      await new Promise((done) => setTimeout(done, 50));
    },
  });
}

async function handle(request) {
  switch (request.headers.get("spin-path-info")) {
    case "/echo":
      return new Response(request.body);
    case "/stream":
      return new Response(parts());
    case "/other": {
      const reply = await fetch("http://self/app/hello");
      return new Response("it says: " + (await reply.text()));
    }
    case "/stored": {
      const store = Store.open("default");
      if (request.method === "POST") store.set("note", new Uint8Array(await request.arrayBuffer()));
      return new Response(store.get("note"));
    }
    case "/variable":
      return new Response(variables.get("greeting"));
    default:
      return new Response("hello", { headers: { "x-route": request.headers.get("spin-matched-route") } });
  }
}

addEventListener("fetch", (event) => event.respondWith(handle(event.request)));
