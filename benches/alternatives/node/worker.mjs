// The worker that somebody would write for Node with amqplib and undici: decode, createLink, reply with a confirm, ack.
import amqp from "amqplib";
import { Pool } from "undici";

const { AMQP_URL, BASE_URL, REQUEST_QUEUE, REPLY_QUEUE } = process.env;
const prefetch = Number(process.env.PREFETCH);
const base = new URL(BASE_URL);
const pool = new Pool(base.origin, { connections: prefetch });

async function share(request) {
  const began = Date.now();
  const { driveId, itemId } = request.item;
  const path = `${base.pathname}/drives/${encodeURIComponent(driveId)}/items/${encodeURIComponent(itemId)}/createLink`;
  const headers = { authorization: "Bearer bench", "content-type": "application/json" };
  for (let attempts = 1; ; attempts++) {
    const answer = await pool.request({ method: "POST", path, headers, body: JSON.stringify(request.link) });
    if (answer.statusCode === 429) {
      await answer.body.dump();
      const seconds = Number(answer.headers["retry-after"] ?? 1);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      continue;
    }
    const granted = await answer.body.json();
    const made = { 201: "created", 200: "reused" }[answer.statusCode];
    return {
      id: request.id,
      provider: request.provider,
      status: made ?? "failed",
      item: request.item,
      link: made
        ? {
            id: granted.id,
            url: granted.link.webUrl,
            html: null,
            granted: { type: granted.link.type, scope: granted.link.scope },
          }
        : null,
      warnings: [],
      error: made ? null : { kind: "badResponse", httpStatus: answer.statusCode },
      attempts,
      elapsedMs: Date.now() - began,
      completedAt: new Date().toISOString(),
    };
  }
}

const consuming = await amqp.connect(AMQP_URL, { noDelay: true });
const publishing = await amqp.connect(AMQP_URL, { noDelay: true });
const input = await consuming.createChannel();
const output = await publishing.createConfirmChannel();
await input.prefetch(prefetch);
await input.consume(REQUEST_QUEUE, async (message) => {
  const reply = await share(JSON.parse(message.content));
  const properties = {
    contentType: "application/json",
    deliveryMode: 2,
    mandatory: true,
    correlationId: message.properties.correlationId,
  };
  await new Promise((resolve, reject) =>
    output.sendToQueue(REPLY_QUEUE, Buffer.from(JSON.stringify(reply)), properties, (error) =>
      error ? reject(error) : resolve(),
    ),
  );
  input.ack(message);
});
