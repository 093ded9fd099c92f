//! The status page in a real Chromium: live while a worker makes links, without scripts, on a phone, with a keyboard, for
//! weak eyes. And the pictures of it (`make pictures`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/rabbit.rs"]
mod rabbit;
#[path = "../support/requester.rs"]
mod requester;

mod pictures;

use browser::{Browser, Window};
use process::{Setup, Worker};
use rabbit::Rabbit;
use requester::{Requester, until};
use serde_json::{Value, json};
use sharelink::simulate::{self, Simulator};
use tokio::net::TcpListener;

/// Everything one test needs but the browser.
struct World {
    _simulator: Simulator,
    setup: Setup,
    worker: Worker,
    requester: Requester,
}

impl World {
    /// A worker that consumes from queues of its own at this node.
    async fn new(node: &Rabbit, options: simulate::Options, change: impl FnOnce(&mut Setup)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let simulator = simulate::serve(listener, options).await;
        let mut setup = Setup::new(&node.url(), simulator.address);
        change(&mut setup);
        let worker = setup.ready().await;
        let requester = Requester::new(&node.url()).await;
        Self { _simulator: simulator, setup, worker, requester }
    }

    async fn shared() -> Self {
        // Starting a node takes seconds, in which the runtime has to go on.
        Self::new(tokio::task::block_in_place(Rabbit::shared), simulate::Options::default(), |_| {}).await
    }

    fn url(&self) -> String {
        format!("http://{}/", self.worker.address())
    }

    /// Asks for a link to this item of the account and waits for the answer.
    async fn ask(&self, provider: &str, item: &str) -> String {
        self.requester.ask(&self.setup.names.requests, &request(provider, item)).await.outcome()
    }
}

fn request(provider: &str, item: &str) -> Value {
    match provider {
        "content" => {
            json!({ "provider": provider, "item": { "folderId": item }, "link": { "assignedUsers": "@serviceinstance" } })
        }
        "personal" => json!({ "provider": provider, "item": { "itemId": item }, "link": { "type": "view" } }),
        _ => {
            json!({ "provider": provider, "item": { "itemId": item }, "link": { "type": "view", "scope": "organization" } })
        }
    }
}

/// The number on a tile; nothing while the page is being loaded.
async fn tile(window: &Window<'_>, name: &str) -> String {
    let find = format!(
        "[...document.querySelectorAll('#tiles dt')].find(dt => dt.textContent === {})?.nextElementSibling?.querySelector('b')?.textContent ?? ''",
        json!(name)
    );
    window.value(&find).await.as_str().unwrap_or_default().to_owned()
}

/// No complaint of the browser, and no address but the worker's own.
fn assert_clean(window: &Window<'_>, url: &str) {
    assert_eq!(window.complaints(), Vec::<String>::new());
    let foreign: Vec<_> = window
        .requests()
        .into_iter()
        .filter(|asked| !asked.starts_with(url) && !asked.starts_with("data:") && asked != "about:blank")
        .collect();
    assert_eq!(foreign, Vec::<String>::new(), "asked of others");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_rise_while_a_worker_makes_links_and_the_page_is_loaded_once() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::shared().await;
    let window = browser.window(1280, 900).await;
    window.open(&world.url()).await;
    window.until("document.getElementById('live').textContent === 'Live.'").await;
    let loads = window.loads();
    assert_eq!(tile(&window, "Created").await, "0");
    for (item, outcome) in [("01A", "created"), ("01B", "created"), ("01A", "reused"), ("missing-1", "failed/notFound")]
    {
        assert_eq!(world.ask("contoso", item).await, outcome);
    }
    let shown = async || {
        let mut shown = Vec::new();
        for name in ["Created", "Reused", "Failed"] {
            shown.push(tile(&window, name).await);
        }
        shown
    };
    until("the tiles follow", async || shown().await == ["2", "1", "25\u{a0}%"]).await;
    assert!(window.text("#failures").await.contains("notFound"));
    assert!(window.text("#providers").await.contains("contoso"));
    assert!(!window.text("body").await.contains("missing-1"), "an item's id");
    assert!(
        !window.value("document.querySelector('#chart .created').getAttribute('d')").await.as_str().unwrap().is_empty()
    );
    let title = window.value("document.title").await;
    assert_eq!(title, "✓ working · sharelink");

    // A pause is told in the first line as soon as it begins.
    world.requester.send(&world.setup.names.requests, &request("contoso", "throttled-40")).await;
    window.until("document.querySelector('#verdict .first').innerText.includes('contoso is paused for another')").await;
    assert_eq!(window.text("#said").await, "Attention: contoso is paused.");
    assert!(window.text("#providers").await.contains("▲ paused"));
    assert_eq!(window.loads(), loads, "the page was loaded again");
    assert_clean(&window, &world.url());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_worker_is_gone_says_so_and_comes_back_with_it() {
    let Some(browser) = Browser::start().await else { return };
    let mut world = World::shared().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    world.setup.set("SERVER__LISTEN", &free.to_string());
    let worker = world.setup.ready().await;
    let window = browser.window(1280, 900).await;
    let url = format!("http://{free}/");
    window.open(&url).await;
    window.until("document.getElementById('live').textContent === 'Live.'").await;
    worker.terminate().await;
    let began = tokio::time::Instant::now();
    let (status, _) = worker.ended().await;
    assert!(status.success(), "{status}");
    assert!(began.elapsed().as_secs() < 20, "an open page held up the stop: {:?}", began.elapsed());
    window.until("!document.getElementById('stale').hidden").await;
    assert!(window.text("#stale").await.contains("No connection to this worker."));
    let _again = world.setup.ready().await;
    window
        .until("document.getElementById('stale').hidden && document.getElementById('live').textContent === 'Live.'")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_the_page_is_a_table_that_reloads_itself() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::shared().await;
    let window = browser.window(1280, 900).await;
    window.without_scripts().await;
    window.open(&world.url()).await;
    assert!(window.text("header").await.contains("Reloads every 5 s."));
    assert!(window.text("#providers").await.contains("contoso"));
    assert_eq!(world.ask("contoso", "01A").await, "created");
    until("the page has reloaded itself", async || tile(&window, "Created").await == "1").await;
    assert!(!window.requests().iter().any(|asked| asked.ends_with("/events")), "a script ran");
    assert_clean(&window, &world.url());
}

/// Every text that is seen, with the ratio of its colour to what is behind it; those below 4.5 to 1.
const PALE: &str = r#"(() => {
  const parse = text => { const c = text.match(/[\d.]+/g).map(Number); return { rgb: c.slice(0, 3), alpha: c.length > 3 ? c[3] : 1 }; };
  const light = rgb => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const behind = at => { for (; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor); if (c.alpha === 1) return c.rgb; if (c.alpha > 0) throw Error('half transparent'); } throw Error('no background'); };
  const pale = []; let seen = 0;
  const look = (at, style, words, least = 4.5) => {
    const value = ratio(parse(style.color).rgb, behind(at)); seen++;
    if (style.opacity !== '1' || value < least) pale.push(`${words.trim().slice(0, 40)}: ${value.toFixed(2)}`);
  };
  for (const at of document.body.querySelectorAll('*')) {
    if (['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(at.tagName) || at.closest('svg') || !at.checkVisibility()) continue;
    const words = [...at.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent).join('').trim();
    if (words) look(at, getComputedStyle(at), words);
    const before = getComputedStyle(at, '::before');
    if (before.content !== 'none' && before.content !== 'normal') look(at, before, before.content);
  }
  for (const shape of ['created', 'failed', 'stripes-ink']) {
    const value = ratio(parse(getComputedStyle(document.querySelector('path.' + shape)).fill).rgb, behind(document.body));
    if (value < (shape === 'stripes-ink' ? 2 : 3)) pale.push(`${shape}: ${value.toFixed(2)}`);
  }
  return { pale, seen };
})()"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_text_stands_out_in_the_light_and_in_the_dark() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::shared().await;
    for item in ["01A", "01A", "missing-1", "missing-2", "throttled-40"] {
        world.requester.send(&world.setup.names.requests, &request("contoso", item)).await;
    }
    for width in [1280, 360] {
        let window = browser.window(width, 800).await;
        window.open(&world.url()).await;
        window.until("document.querySelector('#failures').innerText.includes('notFound')").await;
        window.until("document.querySelector('#verdict').innerText.includes('paused')").await;
        window.value("document.querySelector('details').open = true; document.getElementById('stale').hidden = false; document.getElementById('stale').textContent = 'Not live.'").await;
        for scheme in ["light", "dark"] {
            window.prefers("prefers-color-scheme", scheme).await;
            let found = window.value(PALE).await;
            assert_eq!(found["pale"], json!([]), "{scheme}, {width} px wide");
            assert!(found["seen"].as_u64().unwrap() > 60, "{found}");
        }
        let [light, dark] =
            ["light", "dark"].map(|scheme| (scheme, "getComputedStyle(document.documentElement).backgroundColor"));
        window.prefers("prefers-color-scheme", light.0).await;
        let paper = window.value(light.1).await;
        window.prefers("prefers-color-scheme", dark.0).await;
        assert_ne!(window.value(dark.1).await, paper, "the dark is dark");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_phone_nothing_is_wider_than_the_screen() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::shared().await;
    for item in ["01A", "missing-1", "throttled-40"] {
        world.requester.send(&world.setup.names.requests, &request("contoso", item)).await;
    }
    let window = browser.window(360, 740).await;
    window.open(&world.url()).await;
    window.until("document.querySelector('#failures').innerText.includes('notFound')").await;
    window.value("document.querySelector('details').open = true").await;
    for width in [320, 360, 600, 740, 960, 1280, 2560] {
        window.size(width, 740).await;
        // A phone zooms out where something is too wide, and calls that its width; so the width is told.
        let wide = format!(
            "[...document.body.querySelectorAll('*')].filter(at => !at.closest('.aloud, .skip, thead') && \
             at.getBoundingClientRect().right > {width} + 1).map(at => at.outerHTML.slice(0, 80))"
        );
        assert_eq!(window.value(&wide).await, json!([]), "{width} px");
        assert_eq!(window.value("document.documentElement.scrollWidth").await, json!(width), "{width} px");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_reaches_everything_and_updates_do_not_take_its_place_away() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::shared().await;
    let window = browser.window(1280, 900).await;
    window.open(&world.url()).await;
    window.until("document.getElementById('live').textContent === 'Live.'").await;
    let here = "document.activeElement.innerText.trim() || document.activeElement.tagName";
    let mut reached = Vec::new();
    for _ in 0..5 {
        window.press("Tab").await;
        let shows = window.value("getComputedStyle(document.activeElement).outlineStyle").await;
        assert_eq!(shows, "solid", "the focus is not seen at {reached:?}");
        reached.push(window.value(here).await.as_str().unwrap().to_owned());
    }
    assert_eq!(reached, ["Skip to the numbers", "The same as a table", "metrics", "readiness", "liveness"]);
    let all = "document.querySelectorAll('a[href], summary, button, input, select, [tabindex=\"0\"]').length";
    assert_eq!(window.value(all).await, json!(reached.len()));

    window.value("document.querySelector('summary').focus()").await;
    window.press("Enter").await;
    window.until("document.querySelector('details').open").await;
    assert_eq!(world.ask("contoso", "01A").await, "created");
    until("an update", async || tile(&window, "Created").await == "1").await;
    assert_eq!(window.value(here).await, "The same as a table");
    assert_eq!(window.value("document.querySelector('details').open").await, Value::Bool(true));

    window.value("document.querySelector('.skip').focus()").await;
    window.press("Enter").await;
    window.until("document.activeElement.id === 'main'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_finds_names_landmarks_and_tables() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::shared().await;
    for width in [1280, 360] {
        let window = browser.window(width, 800).await;
        window.open(&world.url()).await;
        let tree = window.accessibility().await;
        let of = |role: &str| -> Vec<String> {
            tree.iter().filter(|(found, _)| found == role).map(|(_, name)| name.clone()).collect()
        };
        for landmark in ["main", "banner", "contentinfo"] {
            assert_eq!(of(landmark).len(), 1, "{landmark}, {width} px: {tree:?}");
        }
        assert_eq!(of("status").len(), 1);
        let regions = ["Numbers", "Requests a second", "Providers", "Failures by kind", "Recent failures", "Broker"];
        assert_eq!(of("region"), regions, "{width} px");
        assert!(of("image").iter().any(|name| name.contains("No request was answered")), "{tree:?}");
        // Cards are still tables.
        assert_eq!(of("table").len(), 3, "{width} px: {tree:?}");
        assert!(of("rowheader").iter().any(|name| name == "contoso"), "{width} px: {tree:?}");
        assert_eq!(of("columnheader").len(), 10 + 5 + 5, "{width} px: {tree:?}");
        assert!(tree.iter().all(|(role, name)| role != "link" || !name.is_empty()));
    }
}
