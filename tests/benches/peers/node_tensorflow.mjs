// A server that Spotter is compared with: the same network, as it was published, in TensorFlow.js on Node, with the
// backend for WebAssembly (XNNPACK with SIMD).
//
// Run by the benchmark: PORT=… MODEL=… LABELS=… node node_tensorflow.mjs

import { readFileSync } from "node:fs";
import path from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import { loadGraphModel } from "@tensorflow/tfjs-converter";
import { setThreadsCount } from "@tensorflow/tfjs-backend-wasm";
import { serve } from "./node_server.mjs";

// The graph resizes pictures in a loop, which ends here.
const PIXELS = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3";
const [BOXES, SCORES] = ["Postprocessor/ExpandDims_1", "Postprocessor/Slice"];

await serve(async () => {
  setThreadsCount(1);
  await tf.setBackend("wasm");
  const model = await loadGraphModel({ load: async () => artifacts(process.env.MODEL) });
  return async (pixels) => {
    const image = tf.tensor4d(Float32Array.from(pixels), [1, 300, 300, 3]);
    const outputs = model.execute({ [PIXELS]: image }, [BOXES, SCORES]);
    const [boxes, scores] = await Promise.all(outputs.map((output) => output.data()));
    tf.dispose([image, ...outputs]);
    return { boxes: withXFirst(boxes), scores };
  };
});

function artifacts(folder) {
  const { modelTopology, weightsManifest } = JSON.parse(readFileSync(path.join(folder, "model.json"), "utf8"));
  const parts = weightsManifest.flatMap((group) => group.paths);
  const weights = Buffer.concat(parts.map((part) => readFileSync(path.join(folder, part))));
  const weightData = weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length);
  return { modelTopology, weightSpecs: weightsManifest.flatMap((group) => group.weights), weightData };
}

// The network puts y before x.
function withXFirst(boxes) {
  for (let at = 0; at < boxes.length; at += 2) [boxes[at], boxes[at + 1]] = [boxes[at + 1], boxes[at]];
  return boxes;
}
