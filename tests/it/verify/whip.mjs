// Publishes a fake camera and microphone over WHIP from Chromium, with what a browser has: fetch and
// RTCPeerConnection. Arguments: the folder of the npm packages, the endpoint, the stream key, the tracks ("video" or
// "audio,video") and, where the browser is not to offer all it has, the one codec of its pictures ("VP8"). Says
// "connected" when media can flow; ends the session with a DELETE when its standard input is closed, and says what
// that was answered.

import { existsSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, endpoint, key, tracks, codec] = process.argv.slice(2);
// Where the system has no Chromium, the one that was fetched beside the packages.
process.env.PLAYWRIGHT_BROWSERS_PATH ??= join(modules, "..", "browsers");
const { chromium } = createRequire(join(modules, "package.json"))("playwright-core");

// A page may use the camera only if it comes from this machine or over TLS.
const site = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<title>camera</title>"));
await new Promise((listening) => site.listen(0, "127.0.0.1", listening));

const browser = await chromium.launch({
  executablePath: process.env.CREST_CHROMIUM ?? ["/usr/bin/chromium"].find(existsSync),
  args: [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
  ],
});

async function publish({ endpoint, key, tracks, codec }) {
  const wanted = { audio: tracks.includes("audio"), video: tracks.includes("video") && { width: 640, height: 360 } };
  const camera = await navigator.mediaDevices.getUserMedia(wanted);
  const peer = new RTCPeerConnection();
  for (const track of camera.getTracks()) {
    const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [camera] });
    if (codec && track.kind === "video") {
      const all = RTCRtpSender.getCapabilities("video").codecs;
      transceiver.setCodecPreferences(all.filter(({ mimeType }) => mimeType === `video/${codec}`));
    }
  }
  await peer.setLocalDescription();
  const headers = { "Content-Type": "application/sdp", Authorization: `Bearer ${key}` };
  const answer = await fetch(endpoint, { method: "POST", headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
  globalThis.session = new URL(answer.headers.get("Location"), endpoint).href;
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  await new Promise((connected, failed) => {
    const look = () => {
      if (peer.connectionState === "connected") connected();
      if (peer.connectionState === "failed") failed(new Error("no connection"));
    };
    peer.onconnectionstatechange = look;
    look();
  });
  globalThis.peer = peer;
}

async function end(key) {
  const answer = await fetch(globalThis.session, { method: "DELETE", headers: { Authorization: `Bearer ${key}` } });
  return answer.status;
}

try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.evaluate(publish, { endpoint, key, tracks, codec });
  console.log("connected");
  for await (const _ of process.stdin);
  console.log(await page.evaluate(end, key));
} finally {
  await browser.close();
  site.close();
}
