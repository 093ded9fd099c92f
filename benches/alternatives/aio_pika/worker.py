"""The worker that somebody would write with aio-pika and aiohttp: decode, createLink, reply with a confirm, ack."""

import asyncio
import json
import os
import time
from datetime import datetime, timezone
from urllib.parse import quote

import aio_pika
import aiohttp

PREFETCH = int(os.environ["PREFETCH"])
BASE = os.environ["BASE_URL"]
HEADERS = {"Authorization": "Bearer bench"}


async def share(session, request):
    began = time.monotonic()
    item = request["item"]
    url = f"{BASE}/drives/{quote(item['driveId'], safe='')}/items/{quote(item['itemId'], safe='')}/createLink"
    attempts = 0
    while True:
        attempts += 1
        async with session.post(url, json=request["link"], headers=HEADERS) as answer:
            if answer.status == 429:
                await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))
                continue
            granted, status = await answer.json(), answer.status
        made = {201: "created", 200: "reused"}.get(status)
        return {
            "id": request["id"],
            "provider": request["provider"],
            "status": made or "failed",
            "item": item,
            "link": {
                "id": granted["id"],
                "url": granted["link"]["webUrl"],
                "html": None,
                "granted": {"type": granted["link"]["type"], "scope": granted["link"].get("scope")},
            }
            if made
            else None,
            "warnings": [],
            "error": None if made else {"kind": "badResponse", "httpStatus": status},
            "attempts": attempts,
            "elapsedMs": int((time.monotonic() - began) * 1000),
            "completedAt": datetime.now(timezone.utc).isoformat(),
        }


async def main():
    consuming = await aio_pika.connect(os.environ["AMQP_URL"])
    publishing = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await consuming.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    out = await publishing.channel(publisher_confirms=True, on_return_raises=True)
    queue = await channel.get_queue(os.environ["REQUEST_QUEUE"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=PREFETCH)) as session:

        async def handle(message):
            reply = await share(session, json.loads(message.body))
            body = aio_pika.Message(
                json.dumps(reply).encode(),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                correlation_id=message.correlation_id,
            )
            await out.default_exchange.publish(body, os.environ["REPLY_QUEUE"], mandatory=True)
            await message.ack()

        await queue.consume(handle)
        await asyncio.Future()


asyncio.run(main())
