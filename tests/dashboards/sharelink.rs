//! `dashboards/sharelink.json`: whether sharing works, and if not, why not.

use crate::model::{Annotation, Dashboard, Item, Panel, Variable, heatmap, lines, stacked, stat, states, table};

/// Failures that are no fault of whoever asked, `ErrorKind::is_ours`: something of ours, of the account's sign-in or of the
/// provider's.
pub const OUR_FAULT: &str =
    "badResponse|deadlineExceeded|internal|rateLimited|timedOut|unauthenticated|unavailable|widerThanAsked";

pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "sharelink",
        title: "sharelink",
        description: "Whether share requests are answered, in five seconds; why not, in a minute.",
        variables: vec![
            Variable { name: "job", label: "Job", metric: "sharelink_build_info" },
            Variable { name: "instance", label: "Instance", metric: "sharelink_build_info{job=~\"$job\"}" },
            Variable { name: "provider", label: "Provider", metric: "sharelink_links_total{job=~\"$job\"}" },
        ],
        annotations: vec![
            Annotation {
                name: "Worker started",
                color: "blue",
                expr: "time() - sharelink_start_time_seconds{S} < 60",
                title: "Worker started",
                text: "{{instance}}",
            },
            Annotation {
                name: "Breaker opened",
                color: "red",
                expr: "increase(sharelink_provider_pauses_total{P,cause=\"breaker\"}[2m]) > 0",
                title: "Breaker opened",
                text: "{{provider}} at {{instance}}",
            },
        ],
        items: items(),
    }
}

fn items() -> Vec<Item> {
    let mut items = Vec::new();
    let mut section = |title: Option<&'static str>, panels: Vec<Panel>| {
        items.extend(title.map(Item::Row));
        items.extend(panels.into_iter().map(Item::Panel));
    };
    section(None, tiles());
    section(Some("Requests"), requests());
    section(Some("Created and reused"), links());
    section(Some("Providers"), providers());
    section(Some("Queue and broker"), queue());
    section(Some("Progress of a batch"), batch());
    section(Some("Workers"), workers());
    items
}

/// How many messages wait in the queue of a role. Every worker tells the same number, so the highest counts.
fn ready(role: &str) -> String {
    format!(
        "max(sharelink_queue_messages_ready{{S}} and on (job, instance, queue) sharelink_queue_info{{S,role=\"{role}\"}})"
    )
}

fn tiles() -> Vec<Panel> {
    let failed = format!(
        "sum(increase(sharelink_failures_total{{P,kind=~\"{OUR_FAULT}\"}}[$__range])) / \
         (sum(increase(sharelink_replies_total{{P}}[$__range])) > 0)"
    );
    vec![
        stat("Answered a second", "reqps", "sum(rate(sharelink_replies_total{P}[R]))",
            "Replies that the broker confirmed. 0 while requests wait means that sharing does not work: look at Broker, then at Throttled now.").plain(),
        stat("Links created", "short", "sum(increase(sharelink_links_total{P,outcome=\"created\"}[$__range]))",
            "Links that were made in the time shown; reused ones are not counted. An estimate from the scrapes, so not always whole.").plain(),
        stat("Reused", "percentunit",
            "sum(increase(sharelink_links_total{P,outcome=\"reused\"}[$__range])) / (sum(increase(sharelink_links_total{P}[$__range])) > 0)",
            "Of all links handed out in the time shown, the share that was there before. A sudden fall means that links are made anew which exist already: look whether requesters changed what they ask for.").plain().otherwise("no link"),
        stat("Failing through us", "percentunit", &failed,
            "Answers in the time shown that failed through no fault of the requester: sign-in, provider down or refusing, broken answers, time used up. The objective is below 0.5 %. Failures by kind says which; RUNBOOK.md what to do.")
            .steps(&[(0.005, "orange"), (0.05, "red")]).otherwise("no answer"),
        stat("Oldest in hand", "s", "max(clamp_min(time() - sharelink_oldest_request_timestamp_seconds{S}, 0))",
            "Since when a worker has held its oldest request. Some seconds are usual; above 15 minutes something hangs: look at the provider's latency and at the worker's log.")
            .steps(&[(300.0, "orange"), (1200.0, "red")]),
        stat("Waiting", "short", &ready("request"),
            "Requests in the request queue that no worker has taken. Rising while Answered a second is flat: more workers, or a provider's limit is reached.").plain(),
        stat("Throttled now", "short", "count(max by (provider) (sharelink_provider_paused{P}) > 0) or vector(0)",
            "Accounts to which no call is made now, because the provider asked for a pause or the breaker is open. Paused accounts, below, says which and since when.")
            .steps(&[(1.0, "orange")]),
        stat("Broker", "none", "min(sharelink_broker_connected{S})",
            "Whether every worker has both its connections to RabbitMQ. Away: nothing is consumed or answered; requests wait safely in the queue. Look at RabbitMQ first, then at the worker's log.")
            .means(&[("0", "away", "red"), ("1", "up", "green")]),
    ]
}

fn requests() -> Vec<Panel> {
    vec![
        stacked("Answers by status", "reqps", "What was answered. Created and reused are links; failed says why in the next panel.")
            .line("sum by (status) (rate(sharelink_replies_total{P}[R]))", "{{status}}"),
        stacked("Failures by kind", "reqps", "Why requests got no link. invalidRequest, notFound, forbidden, policyRefused are the requester's to mend; unauthenticated, rateLimited, unavailable, timedOut, badResponse and internal are yours.")
            .line("sum by (kind) (rate(sharelink_failures_total{P}[R])) > 0", "{{kind}}"),
        lines("Objectives, bad share", "percentunit", "What eats the two error budgets: answers that failed through us (objective: under 0.5 %) and links that took longer than 15 s in the worker (objective: under 5 %). Both at once points at the provider, late alone at a full worker or a limit.")
            .line(&format!("sum(rate(sharelink_failures_total{{P,kind=~\"{OUR_FAULT}\"}}[R])) / (sum(rate(sharelink_replies_total{{P}}[R])) > 0)"), "failed through us")
            .line("1 - sum(rate(sharelink_request_duration_seconds_bucket{P,status=~\"created|reused\",le=~\"15(\\\\.0)?\"}[R])) / (sum(rate(sharelink_request_duration_seconds_count{P,status=~\"created|reused\"}[R])) > 0)", "later than 15 s"),
        heatmap("Duration of requests", "s", "sum by (le) (rate(sharelink_request_duration_seconds_bucket{P}[R]))",
            "From delivery to acknowledgement, waits in delay queues left out. A second band at the top is requests that wait for a retry or for their turn at the provider.").size(12, 8),
        lines("Duration of requests, quantiles", "s", "Half, 95 and 99 of a hundred requests are answered within this time of their delivery. Compare with Latency of calls: what is not the provider's is waiting, here or for a retry.")
            .line("histogram_quantile(0.5, sum by (le) (rate(sharelink_request_duration_seconds_bucket{P}[R])))", "50 %")
            .line("histogram_quantile(0.95, sum by (le) (rate(sharelink_request_duration_seconds_bucket{P}[R])))", "95 %")
            .line("histogram_quantile(0.99, sum by (le) (rate(sharelink_request_duration_seconds_bucket{P}[R])))", "99 %").size(12, 8),
    ]
}

fn links() -> Vec<Panel> {
    vec![
        stacked("Links created and reused, by provider", "ops", "Links handed out a second. The first run of a batch creates, the second reuses; creating again and again for the same items is a fault worth a look at the requests.")
            .line("sum by (provider, outcome) (rate(sharelink_links_total{P}[R]))", "{{provider}} {{outcome}}").size(12, 8),
        lines("Share of reused links, by provider", "percentunit", "Of the links handed out, those that were there before. 100 % means that a batch is asked for again, 0 % that everything is new.")
            .line("sum by (provider) (rate(sharelink_links_total{P,outcome=\"reused\"}[R])) / (sum by (provider) (rate(sharelink_links_total{P}[R])) > 0)", "{{provider}}").most(1.0).size(6, 8),
        lines("Links taken back", "ops", "Links that were wider than asked and were revoked at once. Above zero, the provider's defaults give more than requests allow: correct the tenant's sharing settings.")
            .line("sum by (provider) (rate(sharelink_links_revoked_total{P}[R]))", "{{provider}}").size(6, 8),
    ]
}

fn providers() -> Vec<Panel> {
    vec![
        stacked("Calls by HTTP status", "reqps", "Calls to providers. 429 is a provider that refuses, 5xx one that is ill, connect and timeout one that is not reached; 401 is sign-in.")
            .line("sum by (provider, code) (rate(sharelink_provider_calls_total{P}[R])) > 0", "{{provider}} {{code}}"),
        lines("Latency of calls, 95 %", "s", "95 of a hundred calls take at most this long. Graph's create_link is known to take minutes at worst; when all operations rise together, look at the network.")
            .line("histogram_quantile(0.95, sum by (le, provider, operation) (rate(sharelink_provider_call_duration_seconds_bucket{P}[R])))", "{{provider}} {{operation}}"),
        lines("Calls refused or failed", "percentunit", "The share of an account's calls answered 429, 5xx, or not at all. A steady share of 429 means the limit is set or learned too high: lower limits.requests_per_minute.")
            .line("sum by (provider) (rate(sharelink_provider_calls_total{P,code=~\"429|5..|timeout|connect|reset\"}[R])) / (sum by (provider) (rate(sharelink_provider_calls_total{P}[R])) > 0)", "{{provider}}").most(1.0),
        lines("Limit and use, calls a second", "reqps", "The rate now allowed, told or learned, beside the one used; all chosen workers together. Use at the limit while requests wait: the provider's quota is what bounds the batch. An account without a limit has no limit line.")
            .line("sum by (provider) (sharelink_throttle_limit{P} < +Inf)", "{{provider}} limit")
            .line("sum by (provider) (rate(sharelink_provider_calls_total{P}[R]))", "{{provider}} used"),
        lines("Calls under way and their limit", "short", "Calls at this moment, and how many there may be. At the limit with low latency: raise limits.max_in_flight; at the limit with high latency: the provider is slow.")
            .line("sum by (provider) (sharelink_in_flight{P})", "{{provider}} under way")
            .line("sum by (provider) (sharelink_in_flight_limit{P})", "{{provider}} limit"),
        states("Paused accounts", "none", "max by (provider) (sharelink_provider_paused{P})", "{{provider}}", ["open", "paused"])
            .describe("When no call was made to an account, because the provider asked for a pause or the breaker was open. Its requests wait in delay queues meanwhile; nothing is lost."),
        lines("Pauses begun", "ops", "retry_after: the provider asked for a pause, usually a quota; breaker: calls failed so often that we stopped asking. For breaker look at Calls by HTTP status.")
            .line("sum by (provider, cause) (rate(sharelink_provider_pauses_total{P}[R]))", "{{provider}} {{cause}}"),
        lines("Further attempts", "ops", "Attempts after a failure that may pass, by its kind. Many with few failures is retry doing its work; a rise before failures is the early sign.")
            .line("sum by (provider, reason) (rate(sharelink_retries_total{P}[R])) > 0", "{{provider}} {{reason}}"),
        lines("Waiting for a turn", "short", "How many requests on average wait in the process for their turn at the provider: seconds waited in each second. It rises with a pause or when the limit is reached.")
            .line("sum by (provider) (rate(sharelink_throttle_wait_seconds_total{P}[R]))", "{{provider}}"),
        lines("Access tokens asked for", "ops", "Sign-ins by result. Failed ones without ok ones: the secret has expired or consent is gone; sharelink check says what the sign-in service answers.")
            .line("sum by (provider, result) (rate(sharelink_token_refreshes_total{P}[R]))", "{{provider}} {{result}}"),
    ]
}

fn queue() -> Vec<Panel> {
    vec![
        lines("Messages waiting", "short", "What lies in the request, reply and dead-letter queue, as the broker told the workers. Replies rising: nobody takes them. Dead letters rising: sharelink dead list says why.")
            .line("max by (role, queue) (sharelink_queue_messages_ready{S} * on (job, instance, queue) group_left (role) sharelink_queue_info{S})", "{{role}} ({{queue}})"),
        lines("Wait in the request queue", "s", "From the request's own timestamp to its first delivery; requests without a timestamp are not counted. Rising: more work comes than is done.")
            .line("histogram_quantile(0.5, sum by (le) (rate(sharelink_queue_wait_seconds_bucket{S}[R])))", "50 %")
            .line("histogram_quantile(0.95, sum by (le) (rate(sharelink_queue_wait_seconds_bucket{S}[R])))", "95 %"),
        stacked("How deliveries end", "ops", "ack answered is the good end. delay: parked in a delay queue. requeue and stale: the broker or a worker went away and the request comes again. dead_letter: it could not be answered.")
            .line("sum by (settlement, cause) (rate(sharelink_settlements_total{S}[R])) > 0", "{{settlement}} {{cause}}"),
        lines("Dead letters", "short", "Messages in the dead-letter queue. Nobody takes them out but a person: sharelink dead list, then redrive or purge.")
            .line(&ready("dead_letter"), "dead letters").size(6, 8),
        lines("Oldest request in hand", "s", "Since when each worker has held its oldest request. A line that rises steadily is one request that hangs; the broker takes it away after its consumer timeout (30 minutes).")
            .line("clamp_min(time() - sharelink_oldest_request_timestamp_seconds{S}, 0)", "{{instance}}").size(6, 8),
        states("Connections to the broker", "none", "1 - min by (instance, role) (sharelink_broker_connected{S})", "{{instance}} {{role}}", ["up", "away"])
            .describe("Each worker's consuming and publishing connection. One worker away: look at that machine; all away: look at RabbitMQ.").size(6, 8),
        lines("Connections rebuilt", "short", "How often, in the last five minutes, a worker gave up its connections and built new ones. Now and then is the network; a steady rate is a broker that ends them: its log says why.")
            .line("sum by (instance) (increase(sharelink_broker_reconnects_total{S}[5m]))", "{{instance}}").size(6, 8),
    ]
}

fn batch() -> Vec<Panel> {
    let left = ready("request");
    vec![
        stat("Left", "short", &left, "Requests of the batch that no worker has taken yet.").plain().size(4, 8),
        stat("Done in the last hour", "short", "sum(increase(sharelink_replies_total{P}[1h]))", "Answers of the last hour, failures among them. An estimate from the scrapes.").plain().size(4, 8),
        stat("Time left", "s", &format!("{left} / (sum(rate(sharelink_replies_total{{S}}[R])) > 0)"),
            "What waits, divided by the answers a second now. Parked requests and a provider's pause are not in it.").plain().otherwise("nothing is answered").size(4, 8),
        lines("Left over time", "short", "The request queue. A straight line down ends where the batch does; a flat one with pauses is a provider's quota.")
            .line(&left, "left").size(6, 8),
        lines("Time left over time", "s", "What the tile says, over time. Level or rising: the rate falls as fast as the batch shrinks; look at Limit and use.")
            .line(&format!("{left} / (sum(rate(sharelink_replies_total{{S}}[R])) > 0)"), "time left").size(6, 8),
    ]
}

fn workers() -> Vec<Panel> {
    vec![
        lines("CPU", "percentunit", "Of one core, a line for each worker. A worker waits most of the time; near 100 % for long is worth a second one.")
            .line("sum by (instance) (rate(process_cpu_seconds_total{S}[R]))", "{{instance}}").size(6, 8),
        lines("Memory", "bytes", "Resident memory. It follows the requests in hand (broker.prefetch); a steady rise over days is a leak: restart and report it.")
            .line("max by (instance) (process_resident_memory_bytes{S})", "{{instance}}").size(6, 8),
        lines("Open files", "short", "File descriptors, sockets among them, against the limit of the process. Near the limit calls fail with connect: raise LimitNOFILE.")
            .line("max by (instance) (process_open_fds{S})", "{{instance}}")
            .line("max by (instance) (process_max_fds{S})", "{{instance}} limit").size(6, 8),
        lines("Up since", "s", "How long each worker has been running. A saw is a worker that is restarted again and again: its log's last lines say why.")
            .line("time() - max by (instance) (sharelink_start_time_seconds{S})", "{{instance}}").size(6, 8),
        table("Versions", "none", "max by (instance, version, revision) (sharelink_build_info{S})", &["Time", "Value"],
            "What runs where. More than one version outside of a roll-out: finish it.").size(24, 6),
    ]
}
