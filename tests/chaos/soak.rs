//! Steady load with faults for a long time: nothing may grow, and every row is compared at the end.
//!
//! | variable | default | |
//! |---|---|---|
//! | `WXNOTIFY_SOAK_SECS` | 3600 | how long |
//! | `WXNOTIFY_SOAK_RATE` | 150 | rows a second |
//! | `WXNOTIFY_SOAK_FOLDER` | `docs/reliability` | where `soak.csv` and the figures go |

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt;
use wxnotify::simulate::{Action, Rule};

use crate::checker;
use crate::run::{Outcome, pass, plan, setting};
use crate::stage::{Mix, Stage};

/// How often everything is measured, and how often something breaks.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const FAULT_EVERY: Duration = Duration::from_secs(30);

/// What is measured, with its unit; the order of the CSV's columns.
const COLUMNS: [&str; 10] = [
    "worker memory (KiB)",
    "worker file descriptors",
    "worker threads",
    "database connections",
    "pending rows",
    "pending_notifications (KiB)",
    "its indexes (KiB)",
    "notification_leases with indexes (KiB)",
    "notification_keys with indexes (KiB)",
    "sends accepted",
];

const SIZES: &str = "
select (select count(*) from pg_stat_activity where application_name like 'wxnotify%'),
       (select count(*) from pending_notifications),
       pg_table_size('pending_notifications') / 1024, pg_indexes_size('pending_notifications') / 1024,
       pg_total_relation_size('notification_leases') / 1024, pg_total_relation_size('notification_keys') / 1024";

/// One line of a process's `status`.
fn status_of(pid: u32, name: &str) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

async fn sample(stage: &mut Stage) -> Option<[i64; COLUMNS.len()]> {
    // The first worker is never harmed: what grows would grow there.
    let pid = stage.worker(0).pid();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    let mut connection = stage.connect().await;
    let sizes: (i64, i64, i64, i64, i64, i64) = sqlx::query_as(SIZES)
        .fetch_one(&mut connection)
        .await
        .ok()?;
    Some([
        status_of(pid, "VmRSS:"),
        i64::try_from(descriptors).ok()?,
        status_of(pid, "Threads:"),
        sizes.0,
        sizes.1,
        sizes.2,
        sizes.3,
        sizes.4,
        sizes.5,
        i64::try_from(stage.wechat.counts().sends_accepted).ok()?,
    ])
}

async fn break_something(stage: &mut Stage) {
    match stage.dice.random_range(0..5) {
        0 => stage.kill(1).await,
        1 => {
            stage.worker(1).signal(Signal::SIGSTOP);
            pass(8_000).await;
            stage.worker(1).signal(Signal::SIGCONT);
        }
        2 => {
            let all = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'wxnotify%'";
            stage.sql(all).await;
        }
        3 => {
            let lost = Rule::send(Action::reset_after_credit()).probability(0.02);
            stage.wechat.script(lost.times(20));
        }
        _ => {
            stage.database.freeze();
            pass(1_500).await;
            stage.database.thaw();
        }
    }
    stage.revive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour: make soak"]
async fn soak() {
    let length = Duration::from_secs(setting("WXNOTIFY_SOAK_SECS", 3600));
    let rate = setting("WXNOTIFY_SOAK_RATE", 150);
    let mut stage = Stage::new(plan().set("WXNOTIFY_STATEMENT_TIMEOUT_SECS", "2")).await;
    stage.spawn_all();
    let began = Instant::now();
    let (mut inserted, mut faults) = (0, 0);
    let (mut sampled_at, mut broken_at) = (began, began);
    let mut samples = Vec::new();
    while began.elapsed() < length {
        let wanted = u64::try_from(began.elapsed().as_millis()).unwrap_or(0) * rate / 1000;
        if wanted > inserted {
            let rows = (wanted - inserted).min(rate);
            stage.insert(rows, Mix::Everything).await;
            inserted += rows;
        }
        if sampled_at.elapsed() >= SAMPLE_EVERY {
            sampled_at = Instant::now();
            if let Some(sample) = sample(&mut stage).await {
                samples.push((began.elapsed().as_secs(), sample));
            }
        }
        if broken_at.elapsed() >= FAULT_EVERY {
            broken_at = Instant::now();
            faults += 1;
            break_something(&mut stage).await;
            stage.resolve().await;
        }
        pass(100).await;
    }
    stage.drain(Duration::from_secs(180)).await;
    write_samples(&samples);
    let verdict = checker::compare(&stage.history().await);
    let outcome = Outcome {
        logs: stage.logs(),
        verdict,
        faults,
        recovery: Duration::ZERO,
        kept: f64::NAN,
    };
    if outcome.verdict.violations.is_empty() {
        stage.finish();
    }
    outcome.report("soak");
}

fn write_samples(samples: &[(u64, [i64; COLUMNS.len()])]) {
    let folder = std::env::var_os("WXNOTIFY_SOAK_FOLDER");
    let folder = folder.map_or_else(|| PathBuf::from("docs/reliability"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let mut csv = format!("seconds,{}\n", COLUMNS.join(","));
    for (seconds, values) in samples {
        let values: Vec<String> = values.iter().map(i64::to_string).collect();
        let _ = writeln!(csv, "{seconds},{}", values.join(","));
    }
    std::fs::write(folder.join("soak.csv"), csv).unwrap();
    draw(
        &folder.join("soak-worker.svg"),
        "A worker that lives through all of it",
        &[0, 1, 2],
        samples,
    );
    draw(
        &folder.join("soak-database.svg"),
        "The database",
        &[3, 5, 6, 7, 8],
        samples,
    );
}

/// Small panels, one a column, each from zero to its highest value.
fn draw(path: &Path, title: &str, columns: &[usize], samples: &[(u64, [i64; COLUMNS.len()])]) {
    const WIDTH: f64 = 860.0;
    const PANEL: f64 = 110.0;
    let (left, right, head) = (20.0, 140.0, 40.0);
    let height = head + PANEL * f64::from(u32::try_from(columns.len()).unwrap());
    let longest = samples.last().map_or(1, |sample| sample.0).max(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" fill=\"#3c424a\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"26\" font-size=\"19\">{title}, {} minutes</text>\n",
        longest / 60
    );
    for (panel, column) in (0_u32..).zip(columns) {
        let top = head + PANEL * f64::from(panel);
        let highest = samples
            .iter()
            .map(|sample| sample.1[*column])
            .max()
            .unwrap_or(1)
            .max(1);
        let points: Vec<String> = samples
            .iter()
            .map(|(seconds, values)| {
                let x = left + (WIDTH - left - right) * (*seconds as f64) / (longest as f64);
                let y = top + PANEL
                    - 14.0
                    - (PANEL - 44.0) * (values[*column] as f64) / (highest as f64);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let (base, end) = (top + PANEL - 14.0, WIDTH - right);
        let last = samples.last().map_or(0, |sample| sample.1[*column]);
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{:.1}\" font-size=\"13\">{}</text>\n\
             <line x1=\"{left}\" y1=\"{base}\" x2=\"{end}\" y2=\"{base}\" stroke=\"#bec4cc\"/>\n\
             <polyline fill=\"none\" stroke=\"#07a05e\" stroke-width=\"1.6\" points=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"13\">most {highest}</text>\n\
             <text x=\"{:.1}\" y=\"{base}\" font-size=\"13\">at the end {last}</text>",
            top + 16.0,
            COLUMNS[*column],
            points.join(" "),
            end + 8.0,
            top + 34.0,
            end + 8.0,
        );
    }
    svg.push_str("</svg>\n");
    std::fs::write(path, svg).unwrap();
}
