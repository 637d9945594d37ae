// A server that Spotter is compared with: the same network in onnxruntime-web (WebAssembly with SIMD) on Node.
//
// Run by the benchmark: PORT=… MODEL=… LABELS=… node node_onnxruntime_web.mjs

import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import { serve } from "./node_server.mjs";

await serve(async () => {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(readFileSync(process.env.MODEL));
  return async (pixels) => {
    const outputs = await session.run({ image: new ort.Tensor("uint8", pixels, [1, 300, 300, 3]) });
    return { boxes: outputs.boxes.data, scores: outputs.scores.data };
  };
});
