"""The worker that somebody would write with Celery (gevent): a task a request, acknowledged late, the reply published
with a confirm."""

import os
import time
from datetime import datetime, timezone
from urllib.parse import quote

import requests
from celery import Celery
from kombu import Connection, Queue
from kombu.pools import producers

QUEUE, REPLIES, PREFETCH = os.environ["REQUEST_QUEUE"], os.environ["REPLY_QUEUE"], int(os.environ["PREFETCH"])
BASE = os.environ["BASE_URL"]

app = Celery("share", broker=os.environ["AMQP_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_detect_quorum_queues=True,
    # Declared by the worker that is measured beside this one, with arguments of its own.
    task_queues=[Queue(QUEUE, no_declare=True, queue_arguments={"x-queue-type": "quorum"})],
    task_default_queue=QUEUE,
    task_create_missing_queues=False,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=PREFETCH))
out = Connection(os.environ["AMQP_URL"], transport_options={"confirm_publish": True})


@app.task(name="share", bind=True)
def share(self, request):
    began = time.monotonic()
    item = request["item"]
    url = f"{BASE}/drives/{quote(item['driveId'], safe='')}/items/{quote(item['itemId'], safe='')}/createLink"
    attempts = 0
    while True:
        attempts += 1
        answer = session.post(url, json=request["link"], headers={"Authorization": "Bearer bench"}, timeout=60)
        if answer.status_code != 429:
            break
        time.sleep(float(answer.headers.get("Retry-After", 1)))
    granted = answer.json()
    made = {201: "created", 200: "reused"}.get(answer.status_code)
    reply = {
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
        "error": None if made else {"kind": "badResponse", "httpStatus": answer.status_code},
        "attempts": attempts,
        "elapsedMs": int((time.monotonic() - began) * 1000),
        "completedAt": datetime.now(timezone.utc).isoformat(),
    }
    with producers[out].acquire(block=True) as producer:
        producer.publish(
            reply, exchange="", routing_key=REPLIES, delivery_mode=2, mandatory=True, correlation_id=self.request.id
        )
