//! The table and the picture: both are written by the command, so that the documents can be made anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::contender::Contender;
use crate::run::{Measured, Series};

type Medians = BTreeMap<(Series, Contender), Measured>;

/// Between these lines of PERFORMANCE.md stands what was measured last.
const MARKS: [&str; 2] = ["<!-- written by make bench -->", "<!-- end of what make bench wrote -->"];

/// The medians as `(contender, latency)`; those of the shortened runs of slow contenders included.
fn compared(medians: &Medians) -> BTreeMap<(Contender, u64), Measured> {
    let mut found = BTreeMap::new();
    for ((series, contender), measured) in medians {
        // The longest run at prefetch 100 with the usual body is the one that is compared.
        if series.prefetch == 100 && series.body == 0 && series.requests < 200_000 {
            found.insert((*contender, series.latency), *measured);
        }
    }
    found
}

fn table(medians: &Medians, skipped: &[(Contender, String)]) -> String {
    let mut out = String::new();
    let compared = compared(medians);
    let mut latencies: Vec<u64> = compared.keys().map(|(_, latency)| *latency).collect();
    latencies.sort_unstable();
    latencies.dedup();
    for latency in latencies {
        let go = compared.get(&(Contender::Go, latency));
        let _ = writeln!(out, "**{latency} ms**, prefetch 100:\n");
        out.push_str("| worker | made of | requests a second | of Go's | CPU a request | of Go's | peak memory |\n");
        out.push_str("|---|---|---:|---:|---:|---:|---:|\n");
        for contender in Contender::ALL {
            let Some(measured) = compared.get(&(contender, latency)) else { continue };
            let ratio = |ours: f64, theirs: fn(&Measured) -> f64| {
                go.map_or_else(|| "–".to_owned(), |go| format!("{:.2}", ours / theirs(go)))
            };
            let _ = writeln!(
                out,
                "| {} | {} | {:.0} | {} | {:.0} µs | {} | {:.0} MiB |",
                contender.name(),
                contender.made_of(),
                measured.rate,
                ratio(measured.rate, |go| go.rate),
                measured.cpu,
                ratio(measured.cpu, |go| go.cpu),
                measured.memory
            );
        }
        out.push('\n');
    }
    let others: Vec<_> = medians.iter().filter(|((_, contender), _)| *contender == Contender::Sharelink).collect();
    if others.len() > 3 {
        out.push_str("**sharelink alone**, by what waits, prefetch and size of the request:\n\n");
        out.push_str(
            "| latency | requests waiting | prefetch | request | requests a second | CPU a request | peak memory |\n",
        );
        out.push_str("|---:|---:|---:|---:|---:|---:|---:|\n");
        for ((series, _), measured) in others {
            let _ = writeln!(
                out,
                "| {} ms | {} | {} | {} | {:.0} | {:.0} µs | {:.0} MiB |",
                series.latency,
                series.requests,
                series.prefetch,
                size(series.body),
                measured.rate,
                measured.cpu,
                measured.memory
            );
        }
        out.push('\n');
    }
    if let Some(go) =
        medians.iter().find(|((series, contender), _)| *contender == Contender::Go && series.requests == 200_000)
    {
        let _ = writeln!(
            out,
            "Go with 200,000 waiting: {:.0} a second, {:.0} µs, {:.0} MiB.\n",
            go.1.rate, go.1.cpu, go.1.memory
        );
    }
    for (contender, why) in skipped {
        let _ = writeln!(out, "{} was skipped: {why}.\n", contender.name());
    }
    out.truncate(out.trim_end().len());
    out
}

/// How long a request is, about.
fn size(more: usize) -> String {
    match more {
        0 => "150 B".to_owned(),
        more if more < 10_000 => format!("{} KiB", more / 1024),
        more => format!("{} KiB", more / 1024),
    }
}

const STYLE: &str = "text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}.h{font-weight:600}\
.s{fill:#59636e}.o{fill:#0969da}.x{fill:#afb8c1}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.s{fill:#9198a1}.o{fill:#4493f8}.x{fill:#656c76}}";

/// What a panel shows of a run.
type Value = fn(&Measured) -> f64;

/// Bars side by side: processor time a request, and requests a second, at 50 ms.
fn picture(compared: &BTreeMap<(Contender, u64), Measured>) -> Option<String> {
    const LATENCY: u64 = 50;
    let rows: Vec<(Contender, Measured)> = Contender::ALL
        .into_iter()
        .filter_map(|contender| Some((contender, *compared.get(&(contender, LATENCY))?)))
        .collect();
    if rows.len() < 2 {
        return None;
    }
    let height = 62 + 26 * rows.len();
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" role="img" aria-label="Processor time a request and requests a second, this worker beside others"><style>{STYLE}</style>"#
    );
    let panels: [(&str, f64, Value); 2] = [
        ("CPU a request, µs (less is better)", 130.0, |one| one.cpu),
        ("requests a second (2,000 are possible)", 540.0, |one| one.rate),
    ];
    for (title, x, value) in panels {
        let _ = write!(out, r#"<text class="h" x="{x}" y="20">{title}</text>"#);
        let longest = rows.iter().map(|(_, measured)| value(measured)).fold(1.0, f64::max);
        for (row, (contender, measured)) in rows.iter().enumerate() {
            let y = 34 + 26 * row;
            let width = (250.0 * value(measured) / longest).max(1.0);
            let class = if *contender == Contender::Sharelink { "o" } else { "x" };
            let _ = write!(out, r#"<rect class="{class}" x="{x}" y="{y}" width="{width:.0}" height="18" rx="2"/>"#);
            let _ =
                write!(out, r#"<text x="{:.0}" y="{}">{}</text>"#, x + width + 6.0, y + 14, thousands(value(measured)));
        }
    }
    for (row, (contender, _)) in rows.iter().enumerate() {
        let class = if *contender == Contender::Sharelink { "h" } else { "" };
        let _ = write!(
            out,
            r#"<text class="{class}" x="122" y="{}" text-anchor="end">{}</text>"#,
            48 + 26 * row,
            contender.name()
        );
    }
    let _ = writeln!(
        out,
        r#"<text class="s" x="130" y="{}">RabbitMQ, provider and worker on one machine; 50 ms a call, 100 in flight; made by make bench</text></svg>"#,
        height - 10
    );
    Some(out)
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (head, tail) = digits.split_at(digits.len().saturating_sub(3));
    if head.is_empty() { tail.to_owned() } else { format!("{head},{tail}") }
}

/// What was measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let release = read("/proc/sys/kernel/osrelease");
    // The version, without what a distribution or a host adds to it.
    let version: Vec<&str> = release.trim().splitn(3, '.').take(2).collect();
    format!("{cores} cores ({model}), Linux {}", version.join("."))
}

/// Prints the table; writes it and the picture into the repository where that is wanted.
pub fn write(medians: &Medians, skipped: &[(Contender, String)], keep: bool) {
    let table = format!(
        "Measured on {}; broker, provider and worker share it. Medians.\n\n{}",
        machine(),
        table(medians, skipped)
    );
    println!("\n{table}");
    if !keep {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(picture) = picture(&compared(medians)) {
        std::fs::create_dir_all(root.join("benches/images")).expect("the folder of the pictures");
        std::fs::write(root.join("benches/images/whole.svg"), picture).expect("the picture can be written");
    }
    let path = root.join("PERFORMANCE.md");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let [begin, end] = MARKS;
    if let (Some((before, _)), Some((_, after))) = (text.split_once(begin), text.split_once(end)) {
        std::fs::write(&path, format!("{before}{begin}\n\n{table}\n\n{end}{after}"))
            .expect("PERFORMANCE.md can be written");
    }
}
