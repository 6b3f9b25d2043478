//! What `wxnotify top` shows, drawn into a buffer: given what was seen, without a terminal.
//!
//! Start at [`draw`].

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Sparkline, Table, Widget};

use crate::legible::legible;
use crate::operate::overview::{DOUBTS_MAX, Need, Overview, by_minute, is_sent, name_of};
use crate::operate::words::{Lang, age, count, in_readers_zone, seconds};
use crate::store::quotas::QuotaState;
use crate::store::status::{LiveWorker, Pause, TokenState};

/// Sentences about what needs somebody, at most.
const NEEDS_MAX: usize = 5;
/// A terminal smaller than this shows numbers alone.
const WIDE: u16 = 60;
const TALL: u16 = 16;
/// A worker whose last sign of life is older is shown as silent.
const SILENT_AFTER: TimeDelta = TimeDelta::seconds(15);
/// What the columns of the backlog take.
const BACKLOG_WIDTH: u16 = 51;

/// What is shown.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// What was seen last; `None`: nothing yet.
    pub seen: Option<&'a Overview>,
    /// Why nothing newer is seen.
    pub trouble: Option<&'a str>,
    /// Who reads.
    pub lang: Lang,
    /// How often it looks; zero: once.
    pub every: Duration,
    /// Whether it holds still.
    pub is_held: bool,
    /// Whether the keys are explained.
    pub shows_keys: bool,
    /// Lines of the tables that were scrolled past.
    pub scrolled: usize,
    /// Whether words are coloured too.
    pub is_coloured: bool,
    /// The time it is drawn at.
    pub now: DateTime<Utc>,
}

impl Page<'_> {
    fn tone(&self, color: Color) -> Style {
        if self.is_coloured {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }

    fn say<'a>(&self, en: &'a str, zh: &'a str) -> &'a str {
        self.lang.pick(en, zh)
    }
}

/// Draws the page.
pub fn draw(page: &Page<'_>, area: Rect, buffer: &mut Buffer) {
    let [head, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    head_line(page).render(head, buffer);
    match page.seen {
        Some(seen) => draw_seen(page, seen, body, buffer),
        None => Paragraph::new(page.say("Looking …", "正在查看……")).render(body, buffer),
    }
    Paragraph::new(page.say(
        "q quit   space hold still   r now   ↑↓ scroll   ? keys",
        "q 退出   空格 停住   r 刷新   ↑↓ 滚动   ? 按键",
    ))
    .style(Style::new().add_modifier(Modifier::DIM))
    .render(keys, buffer);
    if page.shows_keys {
        draw_keys(page, area, buffer);
    }
}

fn head_line(page: &Page<'_>) -> Line<'static> {
    let mut spans = vec![Span::styled(
        "wxnotify ",
        Style::new().add_modifier(Modifier::BOLD),
    )];
    if let Some(seen) = page.seen {
        let at = in_readers_zone(seen.at).format("%H:%M:%S %:z");
        spans.push(Span::raw(format!("{} {at}", page.say("as of", "截至"))));
    }
    if let Some(trouble) = page.trouble {
        let seen_at = page.seen.map(|seen| age(page.now - seen.at));
        let old = seen_at.map_or_else(String::new, |old| {
            page.lang.pick(
                format!(" (what stands here is {old} old)"),
                format!("（以下为 {old} 前的情况）"),
            )
        });
        spans.push(Span::styled(
            format!("  {}{old}", legible(trouble)),
            page.tone(Color::Red).add_modifier(Modifier::BOLD),
        ));
    } else if page.is_held {
        spans.push(Span::styled(
            page.say("  held still", "  已停住").to_owned(),
            page.tone(Color::Yellow),
        ));
    } else if !page.every.is_zero() {
        let every = page.every.as_secs();
        spans.push(Span::raw(
            page.lang
                .pick(format!("  every {every} s"), format!("  每 {every} 秒")),
        ));
    }
    Line::from(spans)
}

fn draw_seen(page: &Page<'_>, seen: &Overview, area: Rect, buffer: &mut Buffer) {
    let needs = seen.needs(page.lang);
    let needs_rows = u16::try_from(needs.len().clamp(1, NEEDS_MAX)).unwrap_or(1);
    let is_small = area.width < WIDE || area.height + 2 < TALL;
    let [needs_area, numbers, picture, tables] = Layout::vertical([
        Constraint::Length(if is_small { 1 } else { needs_rows }),
        Constraint::Length(if is_small { area.height } else { 2 }),
        Constraint::Length(if is_small { 0 } else { 3 }),
        Constraint::Min(0),
    ])
    .areas(area);
    Paragraph::new(need_lines(page, &needs, seen)).render(needs_area, buffer);
    Paragraph::new(number_lines(page, seen, is_small)).render(numbers, buffer);
    if is_small {
        return;
    }
    draw_picture(page, seen, picture, buffer);
    let [left, right] = Layout::horizontal([
        Constraint::Length(BACKLOG_WIDTH.min(tables.width / 3 * 2)),
        Constraint::Min(0),
    ])
    .areas(tables);
    draw_backlog(page, seen, left, buffer);
    draw_others(page, seen, right, buffer);
}

fn need_lines(page: &Page<'_>, needs: &[Need], seen: &Overview) -> Vec<Line<'static>> {
    if needs.is_empty() {
        let (apps, workers) = (seen.apps.len(), seen.workers.len());
        let words = page.lang.pick(
            format!("Nothing needs you. {apps} apps, {workers} workers were looked at."),
            format!("没有需要处理的事。已查看 {apps} 个小程序、{workers} 个 worker。"),
        );
        return vec![Line::styled(words, page.tone(Color::Green))];
    }
    let shown = if needs.len() > NEEDS_MAX {
        NEEDS_MAX - 1
    } else {
        needs.len()
    };
    let mut lines: Vec<Line<'static>> = needs
        .iter()
        .take(shown)
        .map(|need| {
            let tone = page.tone(if need.now { Color::Red } else { Color::Yellow });
            let since = need
                .since
                .map_or_else(String::new, |since| format!(" ({})", age(page.now - since)));
            Line::from(vec![
                Span::styled(if need.now { "! " } else { "· " }, tone),
                Span::styled(
                    format!("{}{since}", legible(&need.sentence)),
                    tone.add_modifier(Modifier::BOLD),
                ),
                Span::raw(format!("  {}", legible(&need.why))),
            ])
        })
        .collect();
    if needs.len() > shown {
        let more = needs.len() - shown;
        lines.push(Line::raw(page.lang.pick(
            format!("  and {more} more: `wxnotify status`"),
            format!("  另有 {more} 项：wxnotify status"),
        )));
    }
    lines
}

/// Each number with its words; on a small terminal a line each.
fn number_lines(page: &Page<'_>, seen: &Overview, is_small: bool) -> Vec<Line<'static>> {
    let dash = || "–".to_owned();
    let sent = seen
        .minutes
        .as_deref()
        .map(|minutes| by_minute(minutes, seen.at, is_sent));
    // The minute that is under way is not counted whole yet.
    let last = sent
        .as_ref()
        .and_then(|sent| sent.get(sent.len().wrapping_sub(2)))
        .map_or_else(dash, |rows| count(*rows as i64));
    let latency = |at: usize| {
        let sent = seen.latency.as_ref()?.sent.as_ref()?;
        sent.get(at).copied().map(seconds)
    };
    let oldest = seen.oldest_due().map_or_else(dash, |at| age(seen.at - at));
    let doubts = if seen.doubts.len() >= DOUBTS_MAX {
        format!("{DOUBTS_MAX}+")
    } else {
        seen.doubts.len().to_string()
    };
    let died: i64 = seen.dead.iter().map(|cause| cause.rows).sum();
    let numbers = [
        (page.say("due", "待发送"), count(seen.rows("due"))),
        (page.say("oldest", "最久"), oldest),
        (page.say("sent a minute", "每分钟发送"), last),
        (page.say("p95", "p95"), latency(1).unwrap_or_else(dash)),
        (page.say("p99", "p99"), latency(2).unwrap_or_else(dash)),
        (page.say("in doubt", "结果未知"), doubts),
        (page.say("retrying", "重试中"), count(seen.rows("retrying"))),
        (page.say("paused", "已暂停"), count(seen.rows("paused"))),
        (page.say("died in 24 h", "24 小时死信"), count(died)),
    ];
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let pair = |(word, value): &(&str, String)| {
        vec![
            Span::raw(format!("{word} ")),
            Span::styled(value.clone(), bold),
        ]
    };
    if is_small {
        return numbers
            .iter()
            .map(|number| Line::from(pair(number)))
            .collect();
    }
    let line = |numbers: &[(&str, String)]| {
        let spans = numbers.iter().flat_map(|number| {
            let mut spans = pair(number);
            spans.push(Span::raw("   "));
            spans
        });
        Line::from(spans.collect::<Vec<_>>())
    };
    vec![line(&numbers[..5]), line(&numbers[5..])]
}

fn draw_picture(page: &Page<'_>, seen: &Overview, area: Rect, buffer: &mut Buffer) {
    let block = Block::new()
        .borders(Borders::TOP)
        .title(page.say(" sent a minute, last hour ", " 最近一小时每分钟发送 "));
    let Some(minutes) = &seen.minutes else {
        Paragraph::new(page.say(
            "more ended than could be counted in time",
            "结束的消息过多，来不及统计",
        ))
        .block(block)
        .render(area, buffer);
        return;
    };
    let sent = by_minute(minutes, seen.at, is_sent);
    let values: Vec<u64> = sent.iter().map(|rows| *rows as u64).collect();
    Sparkline::default()
        .block(block)
        .data(values)
        .style(page.tone(Color::Green))
        .render(area, buffer);
}

fn draw_backlog(page: &Page<'_>, seen: &Overview, area: Rect, buffer: &mut Buffer) {
    let mut lanes: BTreeMap<(&str, i16), BTreeMap<&str, i64>> = BTreeMap::new();
    let mut oldest: BTreeMap<(&str, i16), DateTime<Utc>> = BTreeMap::new();
    for row in &seen.backlog {
        let lane = (row.appid.as_str(), row.lane);
        *lanes
            .entry(lane)
            .or_default()
            .entry(&row.status)
            .or_default() += row.rows;
        if let Some(at) = row.oldest_due.filter(|_| row.status == "due") {
            let first = oldest.entry(lane).or_insert(at);
            *first = at.min(*first);
        }
    }
    let rows = lanes.iter().skip(page.scrolled).map(|(lane, statuses)| {
        let rows = |status: &str| statuses.get(status).copied().unwrap_or_default();
        let since = oldest
            .get(lane)
            .map_or_else(|| "–".to_owned(), |at| age(seen.at - *at));
        Row::new([
            Cell::from(legible(name_of(&seen.apps, lane.0)).into_owned()),
            Cell::from(lane.1.to_string()),
            Cell::from(count(rows("due"))),
            Cell::from(since),
            Cell::from(count(rows("sending"))),
            Cell::from(count(rows("scheduled"))),
        ])
    });
    let widths = [
        Constraint::Min(8),
        Constraint::Length(4),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(9),
    ];
    let head = [
        page.say("app", "小程序"),
        page.say("lane", "通道"),
        page.say("due", "待发送"),
        page.say("oldest", "最久"),
        page.say("sending", "发送中"),
        page.say("scheduled", "已排期"),
    ];
    Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().add_modifier(Modifier::DIM)))
        .block(
            Block::new()
                .borders(Borders::TOP)
                .title(page.say(" backlog ", " 积压 ")),
        )
        .render(area, buffer);
}

/// Pauses, workers, quotas and tokens that have lapsed: a line each.
fn draw_others(page: &Page<'_>, seen: &Overview, area: Rect, buffer: &mut Buffer) {
    let pauses = seen
        .pauses
        .iter()
        .map(|pause| pause_line(page, seen, pause));
    let workers = seen.workers.iter().map(|worker| worker_line(page, worker));
    let quotas = seen.quotas.iter();
    let quotas = quotas.filter_map(|quota| quota_line(page, seen, quota));
    let lapsed = |token: &&TokenState| !token.valid && token.generation.is_some();
    let tokens = seen.tokens.iter().filter(lapsed).map(|token| {
        let name = legible(name_of(&seen.apps, &token.appid));
        let words = page.lang.pick(
            format!("{name}  its token has lapsed"),
            format!("{name}  access_token 已失效"),
        );
        Line::styled(words, page.tone(Color::Red))
    });
    let lines = pauses.chain(workers).chain(quotas).chain(tokens);
    let title = page.say(
        " pauses, workers, quotas, tokens ",
        " 暂停、worker、额度、token ",
    );
    Paragraph::new(lines.skip(page.scrolled).collect::<Vec<_>>())
        .block(
            Block::new()
                .borders(Borders::TOP | Borders::LEFT)
                .title(title),
        )
        .render(area, buffer);
}

fn pause_line(page: &Page<'_>, seen: &Overview, pause: &Pause) -> Line<'static> {
    let app = || name_of(&seen.apps, &pause.appid);
    let what = pause.template_id.as_deref().unwrap_or_else(app);
    let until = match pause.paused_until {
        Some(at) if !pause.needs_operator => in_readers_zone(at).format("%H:%M:%S").to_string(),
        _ => page.say("until resumed", "直到恢复").to_owned(),
    };
    let reason = pause.reason.as_deref().unwrap_or_default();
    let words = format!("‖ {} {until} {}", legible(what), legible(reason));
    Line::styled(words, page.tone(Color::Yellow))
}

fn worker_line(page: &Page<'_>, worker: &LiveWorker) -> Line<'static> {
    let silent = page.now - worker.heartbeat_at;
    let is_well = silent <= SILENT_AFTER;
    let (name, rows, ago) = (legible(&worker.name), worker.in_flight, age(silent));
    let words = page.lang.pick(
        format!("{name}  {rows} in flight, {ago} ago"),
        format!("{name}  {rows} 条发送中，{ago} 前有心跳"),
    );
    Line::styled(
        words,
        page.tone(if is_well { Color::Green } else { Color::Red }),
    )
}

/// `None`: WeChat was never asked.
fn quota_line(page: &Page<'_>, seen: &Overview, quota: &QuotaState) -> Option<Line<'static>> {
    let (used, limit) = (count(quota.used?), count(quota.daily_limit?));
    let rate = quota.rate_per_second;
    let rate = rate.map_or_else(String::new, |rate| format!(", {rate}/s"));
    let name = legible(name_of(&seen.apps, &quota.appid));
    let words = page.lang.pick(
        format!("{name}  {used} of {limit} today{rate}"),
        format!("{name}  今日 {used} / {limit}{rate}"),
    );
    let tone = if quota.used_up {
        page.tone(Color::Red)
    } else {
        Style::new()
    };
    Some(Line::styled(words, tone))
}

fn draw_keys(page: &Page<'_>, area: Rect, buffer: &mut Buffer) {
    let lines = match page.lang {
        Lang::En => [
            "q, Esc, Ctrl-C   quit",
            "space, p         hold still, go on",
            "r                look now",
            "↑ ↓ k j          scroll the tables",
            "?                these keys",
        ],
        Lang::Zh => [
            "q、Esc、Ctrl-C   退出",
            "空格、p          停住、继续",
            "r                立即刷新",
            "↑ ↓ k j          滚动表格",
            "?                本说明",
        ],
    };
    let size = Rect {
        x: area.x + area.width.saturating_sub(44) / 2,
        y: area.y + area.height.saturating_sub(7) / 2,
        width: area.width.min(44),
        height: area.height.min(7),
    };
    Clear.render(size, buffer);
    Paragraph::new(lines.map(Line::raw).to_vec())
        .block(Block::bordered().title(page.say(" keys ", " 按键 ")))
        .render(size, buffer);
}

/// The page as plain text, for scripts and paper: lines without their blank ends.
#[must_use]
pub fn to_text(page: &Page<'_>, width: u16, height: u16) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(page, area, &mut buffer);
    (0..height)
        .map(|y| {
            let mut line = String::new();
            let mut skipped = 0;
            for x in 0..width {
                if skipped > 0 {
                    skipped -= 1;
                    continue;
                }
                let symbol = buffer[(x, y)].symbol();
                skipped = ratatui::text::Span::raw(symbol).width().saturating_sub(1);
                line.push_str(symbol);
            }
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::store::console::{Latency, Minute};
    use crate::store::status::{App, Backlog};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn empty() -> Overview {
        Overview {
            at: at("2026-12-01T03:04:05Z"),
            apps: Vec::new(),
            backlog: Vec::new(),
            dead: Vec::new(),
            doubts: Vec::new(),
            pauses: Vec::new(),
            tokens: Vec::new(),
            quotas: Vec::new(),
            workers: Vec::new(),
            blockers: Vec::new(),
            minutes: Some(Vec::new()),
            latency: None,
        }
    }

    fn incident() -> Overview {
        let now = at("2026-12-01T03:04:05Z");
        let app = App {
            appid: "wx1".to_owned(),
            name: Some("课程\u{1b}[31m".to_owned()),
            rate_per_second: None,
            paused_until: None,
            paused: true,
            pause_reason: None,
            pause_errcode: None,
            probing: false,
            created_at: now,
            is_default: true,
        };
        let backlog = (0..40).map(|lane| Backlog {
            appid: format!("wx{lane}"),
            app: None,
            lane: 1,
            status: "due".to_owned(),
            rows: 1000 + i64::from(lane),
            oldest_due: Some(now - TimeDelta::minutes(3)),
            more: false,
        });
        let pauses = (0..9).map(|n| Pause {
            appid: "wx1".to_owned(),
            app: None,
            template_id: Some(format!("T{n}")),
            paused_until: None,
            needs_operator: true,
            reason: Some("removed\nhere".to_owned()),
            errcode: None,
            meaning: None,
            meaning_zh: None,
            resume_with: String::new(),
            reason_code: "template_paused".to_owned(),
        });
        Overview {
            apps: vec![app],
            backlog: backlog.collect(),
            pauses: pauses.collect(),
            workers: vec![LiveWorker {
                name: "one".to_owned(),
                epoch: 1,
                version: "1".to_owned(),
                appids: Vec::new(),
                started_at: now,
                heartbeat_at: now - TimeDelta::minutes(1),
                in_flight: 7,
            }],
            minutes: Some(vec![Minute {
                minute: at("2026-12-01T03:03:00Z"),
                status: "sent".to_owned(),
                rows: 812,
            }]),
            latency: Some(Latency {
                sent: Some(vec![0.1, 0.4, 2.5]),
                confirmed: None,
                unconfirmed: 0,
                expired: 0,
            }),
            ..empty()
        }
    }

    fn page(seen: Option<&Overview>, lang: Lang) -> Page<'_> {
        Page {
            seen,
            trouble: None,
            lang,
            every: Duration::from_secs(2),
            is_held: false,
            shows_keys: false,
            scrolled: 0,
            is_coloured: true,
            now: at("2026-12-01T03:04:05Z"),
        }
    }

    #[test]
    fn an_empty_queue_says_so_in_both_languages() {
        let seen = empty();
        let text = to_text(&page(Some(&seen), Lang::En), 80, 24).join("\n");
        assert!(text.contains("Nothing needs you."), "{text}");
        assert!(text.contains("due 0"), "{text}");
        let text = to_text(&page(Some(&seen), Lang::Zh), 80, 24).join("\n");
        assert!(
            text.contains("没有需要处理的事") && text.contains("积压"),
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_comes_first_and_all_fits_the_smallest_usual_terminal() {
        let seen = incident();
        let lines = to_text(&page(Some(&seen), Lang::En), 80, 24);
        assert_eq!(lines.len(), 24);
        assert!(
            lines[1].starts_with("· Template T0 of app 课程"),
            "{lines:?}"
        );
        let text = lines.join("\n");
        for words in [
            "and 5 more",
            "sent a minute 812",
            "p95 0.4 s",
            "oldest 3 min",
            "one  7 in flight, 1 min ago",
            "wx10",
            "q quit",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_tiny_terminal_shows_the_numbers_alone() {
        let seen = incident();
        for (width, height) in [(40, 10), (20, 5), (1, 1), (200, 3)] {
            let lines = to_text(&page(Some(&seen), Lang::En), width, height);
            assert_eq!(lines.len(), usize::from(height));
        }
        let text = to_text(&page(Some(&seen), Lang::En), 40, 10).join("\n");
        assert!(
            text.contains("due 40,780") && !text.contains("backlog"),
            "{text}"
        );
    }

    #[test]
    fn texts_of_others_move_no_cursor_and_begin_no_line() {
        let seen = incident();
        for line in to_text(&page(Some(&seen), Lang::En), 200, 50) {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn without_the_database_the_last_picture_stands_with_its_age() {
        let seen = incident();
        let lines = to_text(
            &Page {
                trouble: Some("the database does not answer"),
                now: at("2026-12-01T03:06:05Z"),
                ..page(Some(&seen), Lang::En)
            },
            120,
            24,
        );
        assert!(
            lines[0].contains("the database does not answer (what stands here is 2 min old)"),
            "{lines:?}"
        );
        let none = to_text(&page(None, Lang::En), 80, 24).join("\n");
        assert!(none.contains("Looking"), "{none}");
    }

    #[test]
    fn tables_are_scrolled_and_the_keys_are_explained() {
        let seen = incident();
        let mut scrolled = page(Some(&seen), Lang::En);
        scrolled.scrolled = 39;
        let text = to_text(&scrolled, 80, 24).join("\n");
        assert!(text.contains("wx9") && !text.contains("wx10 "), "{text}");
        scrolled.scrolled = 1000;
        scrolled.shows_keys = true;
        let text = to_text(&scrolled, 80, 24).join("\n");
        assert!(text.contains("hold still, go on"), "{text}");
    }
}
