// What the servers on Node have in common: two workers of one thread each, `POST /detect`, pictures that are decoded by
// sharp, which is native, and suppression within each class.

import cluster from "node:cluster";
import { readFileSync } from "node:fs";
import http from "node:http";
import sharp from "sharp";

const SIDE = 300;
const [SCORE_THRESHOLD, IOU_THRESHOLD] = [0.4, 0.5];

// `load` returns the network: a function from 300x300 RGB pixels to `{ boxes, scores }`. Boxes are x and y of two
// corners, in fractions of the picture.
export async function serve(load) {
  if (cluster.isPrimary) {
    for (let worker = 0; worker < 2; worker++) cluster.fork();
    return;
  }
  sharp.concurrency(1);
  const network = await load();
  const labels = readFileSync(process.env.LABELS, "utf8").split("\n");
  const server = http.createServer((request, reply) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", async () => {
      try {
        const detections = await detect(network, labels, Buffer.concat(parts));
        reply.setHeader("Content-Type", "application/json").end(JSON.stringify({ detections }));
      } catch (error) {
        reply.writeHead(400).end(String(error));
      }
    });
  });
  server.listen(Number(process.env.PORT), "127.0.0.1");
}

async function detect(network, labels, body) {
  const picture = sharp(body);
  const { width, height } = await picture.metadata();
  const resized = picture.resize(SIDE, SIDE, { fit: "fill", kernel: "linear" }).removeAlpha();
  const { boxes, scores } = await network(new Uint8Array(await resized.raw().toBuffer()));
  const scale = [width, height, width, height];
  return select(boxes, scores, labels.length).map(({ column, box, score }) => ({
    label: labels[column],
    confidence: score,
    box: box.map((edge, index) => edge * scale[index]),
  }));
}

function select(boxes, scores, columns) {
  const candidates = [];
  const width = scores.length / (boxes.length / 4);
  for (let index = 0; index < scores.length; index++) {
    if (scores[index] >= SCORE_THRESHOLD) {
      const anchor = Math.floor(index / width);
      const box = Array.from(boxes.subarray(anchor * 4, anchor * 4 + 4));
      candidates.push({ column: index % width, box, score: scores[index] });
    }
  }
  candidates.sort((a, b) => b.score - a.score);
  const kept = [];
  for (const candidate of candidates) {
    const overlaps = (other) => other.column === candidate.column && iou(other.box, candidate.box) > IOU_THRESHOLD;
    if (candidate.column < columns && !kept.some(overlaps)) kept.push(candidate);
  }
  return kept;
}

function iou(a, b) {
  const width = Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0);
  const height = Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}
