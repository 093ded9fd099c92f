//! The pictures in `dashboards/images`, taken of a real worker. `make pictures` runs this.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use lapin::BasicProperties;
use serde_json::Value;
use sharelink::simulate::Options;
use tokio::time::{Instant, sleep, sleep_until};

use super::browser::Browser;
use super::rabbit::Rabbit;
use super::requester::{asking, until};
use super::{World, request};

fn file(name: &str) -> PathBuf {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/images");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    folder.join(format!("status-{name}.png"))
}

/// Writes a picture that is small enough for the repository.
fn write(name: &str, shot: &[u8]) {
    let bytes = small(shot);
    assert!(bytes.len() < 150_000, "{name} has {} bytes", bytes.len());
    std::fs::write(file(name), bytes).expect("the picture can be written");
}

/// As many colours as a palette holds.
const COLOURS: usize = 256;

/// The same picture with a palette: a page has few colours, and its letters' edges do not miss the finest shades.
fn small(shot: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(shot)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("a whole picture");
    let each = info.color_type.samples();
    let colours = || pixels[..info.buffer_size()].chunks_exact(each).map(|pixel| [pixel[0], pixel[1], pixel[2]]);
    let mut counted: HashMap<[u8; 3], u64> = HashMap::new();
    colours().for_each(|colour| *counted.entry(colour).or_default() += 1);
    let mut palette: Vec<[u8; 3]> = counted.keys().copied().collect();
    palette.sort_by_key(|colour| (std::cmp::Reverse(counted[colour]), *colour));
    palette.truncate(COLOURS);
    let away = |a: [u8; 3], b: [u8; 3]| (0..3).map(|part| u32::from(a[part].abs_diff(b[part])).pow(2)).sum::<u32>();
    let nearest = |colour| (0..palette.len()).min_by_key(|place| away(palette[*place], colour)).expect("a colour");
    let places: HashMap<[u8; 3], usize> = counted.keys().map(|colour| (*colour, nearest(*colour))).collect();
    let rounded: Vec<u8> = colours().map(|colour| u8::try_from(places[&colour]).unwrap()).collect();
    let listed = palette.concat();
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, info.width, info.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(listed);
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&rounded)).expect("the picture is written");
    out
}

/// What people ask for, the same in every run: mostly new links, some again, some that fail.
fn asked(number: u64) -> Value {
    let account = ["contoso", "contoso", "content", "contoso", "personal"][usize::try_from(number % 5).unwrap()];
    let item = match number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56 {
        0..150 => format!("01-{number}"),
        150..245 => format!("01-{}", number % 60),
        245..253 => format!("missing-{number}"),
        _ => format!("forbidden-{number}"),
    };
    request(account, &item)
}

/// Requests a second at this time: a calm day with two busier quarters of an hour, in fast motion.
fn wanted(second: f64) -> f64 {
    9.0 + 5.0 * (second / 47.0).sin() + 3.0 * (second / 13.0).sin()
}

/// Sends requests for so long; each carries the time at which it was sent.
async fn traffic(world: &World, number: &mut u64, time: Duration) {
    let began = Instant::now();
    let mut due = 0.0;
    while began.elapsed() < time {
        let properties: BasicProperties = asking(&world.requester.queue, &format!("{number}"));
        let properties = properties.with_timestamp(u64::try_from(jiff_now()).unwrap_or_default());
        let body = asked(*number).to_string();
        world.requester.publish("", &world.setup.names.requests, body.as_bytes(), properties).await;
        *number += 1;
        due += 1.0 / wanted(began.elapsed().as_secs_f64());
        sleep_until(began + Duration::from_secs_f64(due)).await;
    }
}

fn jiff_now() -> i64 {
    sharelink::pipeline::clock::system_clock()().as_second()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes: `make pictures`"]
async fn pictures_of_the_status_page() {
    let browser = Browser::start().await.expect("pictures need a Chromium");
    let minutes =
        std::env::var("SHARELINK_PICTURES_MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(10.0);
    let node = tokio::task::block_in_place(Rabbit::new);
    let slow = Options { latency: Duration::from_millis(40), jitter: Duration::from_millis(120), ..Options::default() };
    let world = World::new(&node, slow, |setup| {
        setup.set("PROVIDERS__PERSONAL__LIMITS__REQUESTS_PER_MINUTE", "600");
        for (key, name) in [("REQUEST", "requests"), ("REPLY", "replies"), ("DEAD_LETTER", "dead")] {
            setup.set(&format!("BROKER__{key}_QUEUE"), &format!("sharelink.{name}"));
        }
        setup.names.requests = "sharelink.requests".to_owned();
        setup.set("BROKER__HEARTBEAT", "5s");
    })
    .await;
    let window = browser.window(1280, 900).await;
    window.open(&world.url()).await;
    let mut number = 0;
    let mut shots = Vec::new();
    traffic(&world, &mut number, Duration::from_secs_f64(60.0 * minutes)).await;
    shots.push(("wide", window.picture(true).await));
    window.prefers("prefers-color-scheme", "dark").await;
    shots.push(("dark", window.picture(true).await));
    window.prefers("prefers-color-scheme", "light").await;
    window.size(360, 800).await;
    shots.push(("narrow", window.picture(true).await));
    window.size(1280, 1000).await;

    // A provider asks for a long pause while the others go on.
    world.requester.send(&world.setup.names.requests, &request("contoso", "throttled-90")).await;
    traffic(&world, &mut number, Duration::from_secs(25)).await;
    window.until("document.querySelector('#verdict .first').innerText.includes('contoso is paused for another')").await;
    shots.push(("provider-closed", window.picture(false).await));

    tokio::task::block_in_place(|| node.kill());
    window.until("document.querySelector('#verdict .first').innerText.includes('Not connected')").await;
    sleep(Duration::from_secs(8)).await;
    shots.push(("broker-away", window.picture(false).await));
    until("the page is still served", async || world.worker.get("/").await.0 == 200).await;
    for (name, shot) in shots {
        write(name, &shot);
    }
}
