//! `dashboards/sharelink-rabbitmq.json`: the broker's side, from RabbitMQ's own metrics (plugin rabbitmq_prometheus),
//! joined with the workers' by the names of their queues.

use crate::model::{Dashboard, Item, Panel, Variable, lines, stacked, stat};

/// Metrics that tell of either side.
const ANY: &str = "{__name__=~\"sharelink_build_info|rabbitmq_identity_info|rabbitmq_detailed_queue_messages_ready\"}";
const ANY_OF_JOB: &str =
    "{__name__=~\"sharelink_build_info|rabbitmq_identity_info|rabbitmq_detailed_queue_messages_ready\",job=~\"$job\"}";

pub fn dashboard() -> Dashboard {
    let mut items: Vec<Item> = tiles().into_iter().map(Item::Panel).collect();
    items.push(Item::Row("The workers' queues, as the broker sees them"));
    items.extend(queues().into_iter().map(Item::Panel));
    items.push(Item::Row("Messages"));
    items.extend(messages().into_iter().map(Item::Panel));
    items.push(Item::Row("Nodes"));
    items.extend(nodes().into_iter().map(Item::Panel));
    Dashboard {
        uid: "sharelink-rabbitmq",
        title: "sharelink: RabbitMQ",
        description: "The broker under the workers: their queues in its own numbers, and whether the nodes are well.",
        variables: vec![
            Variable { name: "job", label: "Job", metric: ANY },
            Variable { name: "instance", label: "Instance", metric: ANY_OF_JOB },
        ],
        annotations: Vec::new(),
        items,
    }
}

/// A number of each queue of the workers', with what the queue is for. Each node tells of a queue it hosts; the sum counts.
fn of_queues(metric: &str) -> String {
    format!(
        "sum by (queue) ({metric}{{S}}) * on (queue) group_left (role) max by (queue, role) (sharelink_queue_info{{S}})"
    )
}

fn tiles() -> Vec<Panel> {
    vec![
        stat("Nodes", "short", "count(count by (rabbitmq_node) (rabbitmq_identity_info{S}))",
            "RabbitMQ nodes whose metrics come in. Fewer than usual: a node is down.").plain().size(4, 4),
        stat("Waiting", "short", "sum(rabbitmq_detailed_queue_messages_ready{S} * on (queue) group_left (role) max by (queue, role) (sharelink_queue_info{S,role=\"request\"}))",
            "Requests that no worker has taken, counted by the broker.").plain().size(4, 4),
        stat("In the workers' hands", "short", "sum(rabbitmq_detailed_queue_messages_unacked{S} * on (queue) group_left (role) max by (queue, role) (sharelink_queue_info{S,role=\"request\"}))",
            "Requests that were delivered and not acknowledged. At the prefetch times the number of workers for long: the workers are full or hang.").plain().size(4, 4),
        stat("Workers listening", "short", "sum(rabbitmq_detailed_queue_consumers{S} * on (queue) group_left (role) max by (queue, role) (sharelink_queue_info{S,role=\"request\"}))",
            "Consumers on the request queue, one a worker. Fewer than workers: one of them is away; its status page says why.").plain().size(4, 4),
        stat("Parked", "short", "sum(rabbitmq_detailed_queue_messages_ready{S,queue=~\".+[.]delay[.][^.]+\"})",
            "Requests in delay queues: they wait for a provider's Retry-After and come back by themselves.").plain().size(4, 4),
        stat("Alarms", "short", "sum(rabbitmq_alarms_memory_used_watermark{S}) + sum(rabbitmq_alarms_free_disk_space_watermark{S})",
            "Nodes that are short of memory or disk. They take no message from anybody until it is over: replies wait and requests stay unacknowledged. Free the disk or add memory.")
            .steps(&[(1.0, "red")]).size(4, 4),
    ]
}

fn queues() -> Vec<Panel> {
    vec![
        lines("Ready", "short", "Messages in the workers' queues that nobody has taken. Compare with the workers' own count on the other dashboard; they differ by seconds at most.")
            .line(&of_queues("rabbitmq_detailed_queue_messages_ready"), "{{role}} ({{queue}})"),
        lines("Delivered, not acknowledged", "short", "What is in somebody's hands. For the request queue that is the workers.")
            .line(&of_queues("rabbitmq_detailed_queue_messages_unacked"), "{{role}} ({{queue}})"),
        lines("Consumers", "short", "Who listens to each queue. None on the reply queue is fine where requesters have reply queues of their own; none on the request queue is not.")
            .line(&of_queues("rabbitmq_detailed_queue_consumers"), "{{role}} ({{queue}})"),
        stacked("Parked, by delay queue", "short", "Requests that wait outside the workers, by the length of the wait. A tall 1h band is a provider that is closed for long.")
            .line("sum by (queue) (rabbitmq_detailed_queue_messages_ready{S,queue=~\".+[.]delay[.][^.]+\"})", "{{queue}}").size(12, 8),
        lines("Memory of the queues", "bytes", "What each of the workers' queues takes on its node.")
            .line(&of_queues("rabbitmq_detailed_queue_process_memory_bytes"), "{{role}} ({{queue}})").size(12, 8),
    ]
}

fn messages() -> Vec<Panel> {
    vec![
        lines("Published and answered", "ops", "Messages that the broker took from anybody, beside the answers of the workers. On a broker of their own each request is one message in, and its answer another.")
            .line("sum(rate(rabbitmq_global_messages_received_total{S}[R]))", "received by the broker")
            .line("sum(rate(rabbitmq_global_messages_confirmed_total{S}[R]))", "confirmed")
            .line("sum(rate(sharelink_replies_total{S}[R]))", "answers of the workers"),
        lines("Acknowledged and handed out again", "ops", "Redelivered messages come from workers or connections that went away. A steady rate is a worker that crashes or a network that breaks.")
            .line("sum(rate(rabbitmq_global_messages_acknowledged_total{S}[R]))", "acknowledged")
            .line("sum(rate(rabbitmq_global_messages_redelivered_total{S}[R]))", "handed out again"),
        lines("Not routed", "ops", "Messages for a queue that is not there. Returned: the sender was told (the worker then uses its own reply queue); dropped: the sender did not ask to be told, and the message is lost.")
            .line("sum(rate(rabbitmq_global_messages_unroutable_returned_total{S}[R]))", "returned")
            .line("sum(rate(rabbitmq_global_messages_unroutable_dropped_total{S}[R]))", "dropped"),
    ]
}

fn nodes() -> Vec<Panel> {
    vec![
        lines("Memory and its limit", "bytes", "At the limit the node blocks publishers: answers then wait. Fewer messages in queues, or more memory.")
            .line("max by (instance) (rabbitmq_process_resident_memory_bytes{S})", "{{instance}}")
            .line("max by (instance) (rabbitmq_resident_memory_limit_bytes{S})", "{{instance}} limit").size(6, 8),
        lines("Free disk and its limit", "bytes", "Below the limit the node blocks publishers. Quorum queues keep their log on disk.")
            .line("max by (instance) (rabbitmq_disk_space_available_bytes{S})", "{{instance}}")
            .line("max by (instance) (rabbitmq_disk_space_available_limit_bytes{S})", "{{instance}} limit").size(6, 8),
        lines("Connections", "short", "Open connections. Each worker has two; a number that rises without end is a client that does not close its own.")
            .line("sum by (instance) (rabbitmq_connections{S})", "{{instance}}").size(6, 8),
        lines("Connections opened", "ops", "Many a second is a client that connects for each message: slow for the broker, and for that client.")
            .line("sum by (instance) (rate(rabbitmq_connections_opened_total{S}[R]))", "{{instance}}").size(6, 8),
    ]
}
