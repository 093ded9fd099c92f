//! Every query asked of a real Prometheus that scrapes two busy workers and their broker, and of VictoriaMetrics as well.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::lint::{panels, variable_query};
use crate::query::readable;
use crate::requester::until;
use crate::rules;
use crate::scene::Scene;
use crate::servers::{Server, fetch};
use crate::{committed, folder};

/// How long the scene may play until everything has been seen.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks at what is still missing.
const LOOK: Duration = Duration::from_secs(2);

/// One question of a panel or a variable.
struct Question {
    place: String,
    expr: String,
    /// For a value at the end of the time shown; else for a line over it.
    instant: bool,
}

/// What Grafana makes of the variables when everything is chosen.
fn filled(expr: &str) -> String {
    let expr = readable(expr);
    ["$job", "$instance", "$provider"].into_iter().fold(expr, |expr, variable| expr.replace(variable, ".+"))
}

fn questions() -> Vec<Question> {
    let mut all = Vec::new();
    for dashboard in committed() {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let letter = target["refId"].as_str().unwrap();
                all.push(Question {
                    place: format!("{}: {} {letter}", dashboard["title"], panel["title"]),
                    expr: filled(target["expr"].as_str().unwrap()),
                    instant: target["instant"] == true,
                });
            }
        }
    }
    all
}

/// How many panels ask something.
fn asking_panels() -> usize {
    committed().iter().flat_map(panels).filter(|panel| panel["type"] != "row").count()
}

fn now() -> f64 {
    #[allow(clippy::disallowed_methods, reason = "Prometheus is asked by the time of day")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs_f64()
}

/// Whether there is a number in an answer.
fn has_number(answer: &Value) -> bool {
    let number =
        |pair: &Value| pair[1].as_str().and_then(|value| value.parse().ok()).is_some_and(|value: f64| !value.is_nan());
    answer["result"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|series| number(&series["value"]) || series["values"].as_array().into_iter().flatten().any(number))
}

/// # Errors
/// Where the server cannot make anything of the question.
async fn answers(server: &Server, question: &Question) -> Result<bool, String> {
    let (end, start) = (now().to_string(), (now() - 120.0).to_string());
    let answer = if question.instant {
        server.ask("/api/v1/query", &[("query", &question.expr), ("time", &end)]).await?
    } else {
        let parameters = [("query", question.expr.as_str()), ("start", &start), ("end", &end), ("step", "5")];
        server.ask("/api/v1/query_range", &parameters).await?
    };
    Ok(has_number(&answer))
}

/// Asks until every question has had data; returns how many have, of how many, and which have not.
async fn ask_all(server: &Server) -> (usize, usize, Vec<String>) {
    let all = questions();
    let mut open: Vec<&Question> = all.iter().collect();
    let deadline = Instant::now() + PATIENCE;
    while !open.is_empty() && Instant::now() < deadline {
        let mut still = Vec::new();
        for question in open {
            let answered = answers(server, question).await;
            if !answered
                .unwrap_or_else(|error| panic!("{}, {}: {error}: {}", server.name, question.place, question.expr))
            {
                still.push(question);
            }
        }
        open = still;
        if !open.is_empty() {
            sleep(LOOK).await;
        }
    }
    let missing = open.iter().map(|question| format!("{}: {}", question.place, question.expr)).collect();
    (all.len() - open.len(), all.len(), missing)
}

/// The values that a variable offers.
async fn offered(server: &Server, variable: &Value) -> Vec<String> {
    let (_, argument) = variable_query(variable);
    let (metric, label) = argument.rsplit_once(", ").unwrap();
    let (start, metric) = ((now() - 120.0).to_string(), filled(metric));
    let path = format!("/api/v1/label/{label}/values");
    let answer = server.ask(&path, &[("match[]", metric.as_str()), ("start", &start)]).await;
    let answer = answer.unwrap_or_else(|error| panic!("{}, {metric}: {error}", server.name));
    answer.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

async fn variables(server: &Server) -> usize {
    let mut asked = 0;
    for dashboard in committed() {
        let list = dashboard["templating"]["list"].as_array().unwrap();
        for variable in list.iter().filter(|variable| variable["type"] == "query") {
            let offered: BTreeSet<String> = offered(server, variable).await.into_iter().collect();
            let expected: &[&str] = match variable["name"].as_str().unwrap() {
                "provider" => &["contoso", "personal", "content"],
                "job" => &["sharelink"],
                _ => &[],
            };
            assert!(!offered.is_empty() && expected.iter().all(|name| offered.contains(*name)), "{offered:?}");
            asked += 1;
        }
    }
    asked
}

async fn annotations(server: &Server) {
    for dashboard in committed() {
        for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
            let question = Question {
                place: format!("annotation {}", annotation["name"]),
                expr: filled(annotation["expr"].as_str().unwrap()),
                instant: false,
            };
            let seen = answers(server, &question).await.unwrap_or_else(|error| panic!("{}: {error}", question.place));
            // Breakers open when they like; workers have just started.
            assert!(seen || annotation["name"] != "Worker started");
        }
    }
}

/// What the server says of its rules: all are there, none has an error, and what is recorded has data.
async fn loaded_rules(server: &Server) -> (usize, usize) {
    let data = server.ask("/api/v1/rules", &[]).await.unwrap();
    let loaded: Vec<&Value> =
        data["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    for rule in &loaded {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let (alerts, recorded): (Vec<&Value>, Vec<&Value>) = loaded.iter().partition(|rule| rule["type"] == "alerting");
    assert_eq!(alerts.len(), rules::alerts().len());
    for rule in &recorded {
        let question = Question {
            place: rule["name"].to_string(),
            expr: rule["name"].as_str().unwrap().to_owned(),
            instant: true,
        };
        // A rule is healthy once it was evaluated; it has data once what it is made of has.
        let what = format!("a record of {}", rule["name"]);
        until(&what, async || answers(server, &question).await.is_ok_and(|has| has)).await;
    }
    (alerts.len(), recorded.len())
}

/// The console page, with what a person looks for.
async fn console(server: &Server) {
    let page = async || fetch(server.address, "/consoles/sharelink.html").await.unwrap();
    // Two bars of a quarter of a minute in each of the four charts.
    until("charts on the console page", async || page().await.1.matches("<rect ").count() >= 8).await;
    let (status, page) = page().await;
    assert_eq!(status, 200, "{page}");
    for provider in ["contoso", "personal", "content"] {
        assert!(page.contains(&format!("<th scope=\"row\">{provider}</th>")), "{page}");
    }
    for tile in [
        "Answered a second",
        "Links created",
        "Reused",
        "Failing through us",
        "Oldest in hand",
        "Waiting",
        "Throttled now",
    ] {
        let (_, after) = page.split_once(&format!("<dt>{tile}")).unwrap_or_else(|| panic!("no {tile}:\n{page}"));
        let value = after.split_once("<dd>").and_then(|(_, value)| value.split_once("</dd>")).unwrap().0;
        assert!(value.starts_with(|c: char| c.is_ascii_digit()), "{tile}: {value}");
    }
    assert!(page.contains("<dd class=\"good\">up</dd>"), "{page}");
    for error in ["error executing", "NaN", "%!"] {
        assert!(!page.contains(error), "{error} in\n{page}");
    }
    println!("{}: the console page has {} bars in its charts", server.name, page.matches("<rect ").count());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_data_while_two_workers_are_busy() {
    let scene = Scene::busy().await;
    let workers = [scene.workers[0].address(), scene.workers[1].address()];
    let prometheus = Server::prometheus(&workers, scene.broker_metrics).await;
    let victoria = Server::victoria(&workers, scene.broker_metrics).await;

    let (with_data, all, missing) = ask_all(&prometheus).await;
    println!("Prometheus: {with_data} of {all} queries of {} panels returned data", asking_panels());
    assert!(missing.is_empty(), "no data for\n{}", missing.join("\n"));
    let asked = variables(&prometheus).await;
    println!("Prometheus: {asked} of {asked} variables offer values");
    annotations(&prometheus).await;
    let (alerts, recorded) = loaded_rules(&prometheus).await;
    println!(
        "Prometheus: {alerts} alerts are evaluated without an error, {recorded} of {recorded} recorded series have data"
    );
    console(&prometheus).await;

    match victoria {
        Some(victoria) => {
            let (with_data, all, missing) = ask_all(&victoria).await;
            println!("VictoriaMetrics: {with_data} of {all} queries of panels returned data");
            assert!(missing.is_empty(), "no data for\n{}", missing.join("\n"));
            let asked = variables(&victoria).await;
            println!("VictoriaMetrics: {asked} of {asked} variables offer values");
            for (name, expr) in rules::expressions() {
                let question = Question { place: name, expr, instant: true };
                answers(&victoria, &question).await.unwrap_or_else(|error| panic!("{}: {error}", question.place));
            }
        }
        None => println!("VictoriaMetrics is not installed on this machine; no second engine was asked"),
    }

    let mut slowest = Duration::ZERO;
    let mut size = 0;
    for _ in 0..20 {
        let began = Instant::now();
        size = scene.workers[0].metrics().await.0.len();
        slowest = slowest.max(began.elapsed());
    }
    println!(
        "a scrape of {size} bytes took {slowest:?} at most, of 20 with three accounts, on this machine as busy as it is"
    );
}

/// Not a test but a camera, for `make pictures`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes dashboards/images/console.png; needs Chromium"]
async fn pictures_of_the_console_page() {
    let scene = Scene::busy().await;
    let workers = [scene.workers[0].address(), scene.workers[1].address()];
    let prometheus = Server::prometheus(&workers, scene.broker_metrics).await;
    // Long enough for the charts to have a shape.
    let (_, _, missing) = ask_all(&prometheus).await;
    assert!(missing.is_empty(), "{missing:?}");
    sleep(Duration::from_secs(300)).await;
    console(&prometheus).await;
    let images = folder().join("images");
    std::fs::create_dir_all(&images).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,1420",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", images.join("console.png").display()))
        .arg(format!("http://{}/consoles/sharelink.html", prometheus.address))
        .kill_on_drop(true);
    let status = tokio::time::timeout(Duration::from_secs(120), command.status()).await.expect("Chromium ends");
    assert!(status.expect("Chromium (Debian: the package chromium)").success());
}
