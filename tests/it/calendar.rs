//! When a calendar fires: compared with another program's answers, at the days on which clocks change, and refused texts.

use std::collections::HashSet;
use std::io::Read;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike, Utc};
use flate2::read::GzDecoder;
use proptest::prelude::*;
use wxnotify::reminder::calendar::{BadCalendar, Calendar, FireTime};
use wxnotify::reminder::pattern::Pattern;
use wxnotify::reminder::zone::{ZONE_DATA, find_zone, first_change, local_at, sample_offsets};

fn utc(text: &str) -> DateTime<Utc> {
    wall(text).and_utc()
}

fn wall(text: &str) -> NaiveDateTime {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M"))
        .unwrap()
}

fn cron(text: &str, zone: &str) -> Calendar {
    Calendar::parse_cron(text, zone).unwrap_or_else(|bad| panic!("{text} in {zone}: {bad}"))
}

/// The fires in a window, each as its wall time, its fold if it has one, and its instant.
fn fires(calendar: &Calendar, after: &str, until: &str) -> Vec<String> {
    let until = utc(until);
    calendar
        .fires_after(utc(after))
        .take_while(|fire| fire.fire_at <= until)
        .map(|fire| {
            let second = if fire.fold == 1 { " again" } else { "" };
            format!(
                "{}{second} = {}Z",
                fire.local_at.format("%d %H:%M"),
                fire.fire_at.format("%d %H:%M")
            )
        })
        .collect()
}

/// One schedule of the fixture.
struct Year {
    cron: String,
    zone: String,
    instants: Vec<i64>,
}

fn fixture() -> (DateTime<Utc>, DateTime<Utc>, Vec<Year>) {
    let packed = include_bytes!("fixtures/reminders/fires.txt.gz");
    let mut text = String::new();
    GzDecoder::new(&packed[..])
        .read_to_string(&mut text)
        .unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(
        head[3], ZONE_DATA,
        "make the fixture anew with the zone data of the program"
    );
    let instant = |secs: &str| DateTime::from_timestamp(secs.parse().unwrap(), 0).unwrap();
    (
        instant(head[1]),
        instant(head[2]),
        lines.map(read_year).collect(),
    )
}

fn read_year(line: &str) -> Year {
    let [cron, zone, count, runs] = line.split(" | ").collect::<Vec<_>>()[..] else {
        panic!("not a line of the fixture: {line}");
    };
    let mut instants = Vec::new();
    for run in runs.split_ascii_whitespace() {
        let (difference, times) = run.split_once('*').unwrap_or((run, "1"));
        for _ in 0..times.parse().unwrap() {
            let before: i64 = instants.last().copied().unwrap_or(0);
            instants.push(before + difference.parse::<i64>().unwrap());
        }
    }
    assert_eq!(instants.len().to_string(), count, "{line}");
    Year {
        cron: cron.to_owned(),
        zone: zone.to_owned(),
        instants,
    }
}

#[test]
fn a_year_of_fires_of_random_schedules_equals_what_another_program_computes() {
    let (from, until, years) = fixture();
    assert!(years.len() >= 300, "{}", years.len());
    assert!(
        years
            .iter()
            .map(|year| &year.zone)
            .collect::<HashSet<_>>()
            .len()
            >= 15
    );
    let mut fires = 0;
    for year in &years {
        let computed: Vec<i64> = cron(&year.cron, &year.zone)
            .fires_after(from)
            .map(|fire| fire.fire_at)
            .take_while(|fire_at| *fire_at <= until)
            .map(|fire_at| fire_at.timestamp())
            .collect();
        if computed != year.instants {
            let (ours, theirs) = difference(&computed, &year.instants);
            panic!(
                "{} in {}: only here {ours:?}, only there {theirs:?}",
                year.cron, year.zone
            );
        }
        fires += computed.len();
    }
    assert!(fires > 500_000, "{fires}");
}

/// The first few instants that one of two lists has and the other has not.
fn difference(ours: &[i64], theirs: &[i64]) -> (Vec<DateTime<Utc>>, Vec<DateTime<Utc>>) {
    let only = |these: &[i64], those: &[i64]| {
        let those: HashSet<&i64> = those.iter().collect();
        let missing = these.iter().filter(|secs| !those.contains(secs));
        missing
            .take(5)
            .map(|secs| DateTime::from_timestamp(*secs, 0).unwrap())
            .collect()
    };
    (only(ours, theirs), only(theirs, ours))
}

#[test]
fn fixed_times_in_a_gap_fire_once_at_the_first_instant_after_it() {
    // On 29 March 2026 the clocks of Berlin leap from 2:00 to 3:00, at 1:00 UTC.
    let day = ("2026-03-28 23:00", "2026-03-29 22:00");
    let cases = [
        ("30 2 * * *", vec!["29 02:30 = 29 01:00Z"]),
        ("15,45 2 * * *", vec!["29 02:15 = 29 01:00Z"]),
        (
            "15 1,2,3 * * 0",
            vec![
                "29 01:15 = 29 00:15Z",
                "29 02:15 = 29 01:00Z",
                "29 03:15 = 29 01:15Z",
            ],
        ),
        // 2:00 and 3:00 are one instant, and fire once.
        (
            "0 1-4 * * *",
            vec![
                "29 01:00 = 29 00:00Z",
                "29 02:00 = 29 01:00Z",
                "29 04:00 = 29 02:00Z",
            ],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            fires(&cron(text, "Europe/Berlin"), day.0, day.1),
            expected,
            "{text}"
        );
    }
}

#[test]
fn fixed_times_in_an_overlap_fire_at_the_first_of_the_two() {
    // On 25 October 2026 the clocks of Berlin go from 3:00 back to 2:00, at 1:00 UTC.
    let day = ("2026-10-24 22:00", "2026-10-25 22:00");
    let berlin = |text| fires(&cron(text, "Europe/Berlin"), day.0, day.1);
    assert_eq!(berlin("30 2 * * *"), ["25 02:30 = 25 00:30Z"]);
    assert_eq!(
        berlin("0 2,3 * * *"),
        ["25 02:00 = 25 00:00Z", "25 03:00 = 25 02:00Z"]
    );
    // Asked between the two: the second is not made up for.
    let late = fires(
        &cron("30 2 * * *", "Europe/Berlin"),
        "2026-10-25 01:10",
        "2026-10-26 12:00",
    );
    assert_eq!(late, ["26 02:30 = 26 01:30Z"]);
}

#[test]
fn patterns_with_a_star_in_minute_or_hour_follow_real_time() {
    let spring = ("2026-03-29 00:29", "2026-03-29 01:45");
    let autumn = ("2026-10-25 00:29", "2026-10-25 02:05");
    let berlin = |text, day: (&str, &str)| fires(&cron(text, "Europe/Berlin"), day.0, day.1);
    assert_eq!(
        berlin("*/30 * * * *", spring),
        [
            "29 01:30 = 29 00:30Z",
            "29 03:00 = 29 01:00Z",
            "29 03:30 = 29 01:30Z"
        ]
    );
    assert_eq!(berlin("*/30 2 * * *", spring), Vec::<String>::new());
    assert_eq!(
        berlin("*/30 2 * * *", autumn),
        [
            "25 02:30 = 25 00:30Z",
            "25 02:00 again = 25 01:00Z",
            "25 02:30 again = 25 01:30Z"
        ]
    );
    // A star within a list is one, too.
    assert_eq!(berlin("7,*/30 2 * * *", spring), Vec::<String>::new());
}

#[test]
fn a_day_whose_midnight_does_not_exist_is_a_day() {
    // On 6 September 2026 the clocks of Santiago leap from 0:00 to 1:00, at 4:00 UTC.
    let window = ("2026-09-05 05:00", "2026-09-07 04:00");
    let expected = ["06 00:00 = 06 04:00Z", "07 00:00 = 07 03:00Z"];
    let daily = cron("0 0 * * *", "America/Santiago");
    assert_eq!(fires(&daily, window.0, window.1), expected);
    let every = Calendar::parse_every(1, wall("2026-09-01 00:00"), "America/Santiago").unwrap();
    assert_eq!(fires(&every, window.0, window.1), expected);
    // A whole day that Samoa left out in 2011 fires with the first instant of the next.
    let samoa = cron("0 9 30 12 *", "Pacific/Apia");
    assert_eq!(
        fires(&samoa, "2011-12-01 00:00", "2012-01-31 00:00"),
        ["30 09:00 = 30 10:00Z"]
    );
}

#[test]
fn a_change_by_half_an_hour_moves_half_an_hour() {
    // On 4 October 2026 the clocks of Lord Howe leap from 2:00 to 2:30, at 15:30 UTC of the day before.
    let window = ("2026-10-03 14:59", "2026-10-03 17:00");
    let lord_howe = |text| fires(&cron(text, "Australia/Lord_Howe"), window.0, window.1);
    assert_eq!(lord_howe("15 2 * * *"), ["04 02:15 = 03 15:30Z"]);
    assert_eq!(
        lord_howe("*/15 2 * * *"),
        ["04 02:30 = 03 15:30Z", "04 02:45 = 03 15:45Z"]
    );
    assert_eq!(
        lord_howe("0 3 * * *"),
        ["04 03:00 = 03 16:00Z"],
        "the hour after is whole"
    );
}

#[test]
fn day_and_weekday_both_given_fire_when_either_matches() {
    let calendar = cron("0 9 1,15 * 1", "Asia/Shanghai");
    let days: Vec<String> = calendar
        .fires_after(utc("2026-11-30 12:00"))
        .take(6)
        .map(|fire| fire.local_at.format("%a %d").to_string())
        .collect();
    assert_eq!(
        days,
        ["Tue 01", "Mon 07", "Mon 14", "Tue 15", "Mon 21", "Mon 28"]
    );
}

#[test]
fn last_days_numbered_weekdays_and_names_are_understood() {
    let next = |text: &str| {
        let fire = cron(text, "Asia/Shanghai")
            .find_fire(utc("2026-12-01 00:00"))
            .unwrap();
        fire.local_at.format("%Y-%m-%d %H:%M:%S").to_string()
    };
    assert_eq!(next("0 9 L * *"), "2026-12-31 09:00:00");
    assert_eq!(next("0 9 L feb *"), "2027-02-28 09:00:00");
    assert_eq!(next("0 9 * * 5L"), "2026-12-25 09:00:00");
    assert_eq!(next("0 9 * * FriL"), "2026-12-25 09:00:00");
    assert_eq!(next("0 9 * * mon#2"), "2026-12-14 09:00:00");
    assert_eq!(next("0 9 * * FRI-SUN"), "2026-12-04 09:00:00");
    assert_eq!(next("  30  0   9 * MAR-may  7 "), "2027-03-07 09:00:30");
    assert_eq!(next("0 9 29 2 *"), "2028-02-29 09:00:00");
}

#[test]
fn an_interval_counts_from_its_anchor_also_before_it() {
    let every =
        |days| Calendar::parse_every(days, wall("2026-12-03 18:30"), "Europe/Berlin").unwrap();
    let first = |days, after: &str| every(days).find_fire(utc(after)).unwrap().local_at;
    assert_eq!(first(3, "2026-11-01 00:00"), wall("2026-12-03 18:30"));
    assert_eq!(first(3, "2026-12-03 17:29:59"), wall("2026-12-03 18:30"));
    assert_eq!(first(3, "2026-12-03 17:30"), wall("2026-12-06 18:30"));
    assert_eq!(first(14, "2027-03-20 00:00"), wall("2027-03-25 18:30"));
    // The wall time stays what it is when summer begins in between.
    let spring: Vec<u32> = every(14)
        .fires_after(utc("2027-03-20 00:00"))
        .take(2)
        .map(|fire| fire.fire_at.hour())
        .collect();
    assert_eq!(spring, [17, 16]);
    for days in [0, -1, 3661, i32::MIN] {
        let refusal = Calendar::parse_every(days, wall("2026-12-03 18:30"), "UTC").unwrap_err();
        assert!(
            refusal.to_string().contains("1 day to 3660 days"),
            "{refusal}"
        );
    }
}

#[test]
fn what_is_refused_says_what_to_write_instead() {
    let cases = [
        ("", "0 fields; write five"),
        ("0 9 * *", "4 fields; write five"),
        (
            "0 0 9 * * 1 2027",
            "7 fields; write five (minute hour day month weekday) or six (second first); there is no field for years",
        ),
        ("@daily", "write \"0 0 * * *\""),
        ("@reboot", "write five fields"),
        ("60 9 * * *", "minute \"60\": a minute is 0 to 59"),
        ("0 24 * * *", "hour \"24\": an hour is 0 to 23"),
        ("0 9 0 * *", "day \"0\": a day is 1 to 31, or L"),
        (
            "0 9 * 13 *",
            "month \"13\": a month is 1 to 12, or JAN to DEC",
        ),
        ("0 9 * * 8", "weekday \"8\": a weekday is 0 to 7"),
        (
            "0 9 * * L",
            "write 6 for Saturdays, or 6L for the last Saturday",
        ),
        ("0 9 * * 1#6", "after # comes 1 to 5"),
        ("0 9 15W * *", "W is not known"),
        ("0 9 ? * 1", "write *"),
        ("0,30, 9 * * *", "a comma with nothing beside it; remove it"),
        ("*,5 9 * * *", "write * alone"),
        ("*/60 9 * * *", "a step is 1 to 59"),
        ("*/0 9 * * *", "a step is 1 to 59"),
        ("0 */24 * * *", "a step is 1 to 23"),
        ("0 22-2 * * *", "write 22-23,0-2"),
        ("0 9 * * 6-1", "write 6-6,0-1"),
        ("0 9 */2 * 1", "either may match, and crons disagree"),
        ("0 9 1 * */2", "either may match, and crons disagree"),
        ("0 0 30 2 *", "no such month has that day; write L"),
        ("0 0 31 4,6,9,11 *", "no such month has that day; write L"),
        ("0 0 1--100000000 * *", "a day is 1 to 31"),
        ("0 0 1-100000000 * *", "a day is 1 to 31"),
        ("0 9 * * +1", "a weekday is 0 to 7"),
        ("５ 9 * * *", "a minute is 0 to 59"),
        ("0 9 * * 5MON", "a weekday is 0 to 7"),
    ];
    for (text, words) in cases {
        let refusal = Calendar::parse_cron(text, "Asia/Shanghai")
            .unwrap_err()
            .to_string();
        assert!(refusal.starts_with("cron: "), "{refusal}");
        assert!(refusal.contains(words), "{text}: {refusal}");
    }
}

#[test]
fn what_is_advised_is_taken() {
    for text in [
        "0 22-23,0-2 * * *",
        "0 9 * * 6-6,0-1",
        "0 9 * * 6L",
        "0 0 L 2 *",
    ] {
        Pattern::parse(text).unwrap();
    }
}

#[test]
fn a_text_of_ten_kilobytes_and_a_day_that_hardly_comes_cost_next_to_nothing() {
    let began = Instant::now();
    let long = "1,".repeat(5_000) + "1 * * * *";
    let refusal = Calendar::parse_cron(&long, "Asia/Shanghai")
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("10009 characters; a cron text has at most 100"),
        "{refusal}"
    );
    assert!(refusal.len() < 200, "the text is not repeated");
    // A fifth Monday of February comes in 2044; in a running pattern it is looked for from one change of the clocks to the next.
    for text in ["0 0 * 2 1#5", "*/5 * * 2 1#5", "* * * * 2 1#5"] {
        let fire = cron(text, "Europe/Berlin")
            .find_fire(utc("2026-12-01 00:00"))
            .unwrap();
        assert_eq!(fire.local_at, wall("2044-02-29 00:00"), "{text}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "a thousand times what it takes"
    );
}

#[test]
fn an_unknown_zone_is_refused_with_the_name_that_was_meant() {
    for (name, words) in [
        ("Asia/Shangai", "write \"Asia/Shanghai\""),
        ("berlin", "write \"Europe/Berlin\""),
        ("Beijing", "write one such as \"Asia/Shanghai\""),
        ("", "write one such as"),
        ("+08:00", "write one such as"),
    ] {
        let refusal = find_zone(name).unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal}");
    }
    let refusal = find_zone(&"x".repeat(10_000)).unwrap_err().to_string();
    assert!(refusal.len() < 200, "{refusal}");
}

#[test]
fn zones_are_compared_at_each_day_and_around_each_change() {
    let berlin = find_zone("Europe/Berlin").unwrap();
    let samples = sample_offsets(berlin, utc("2026-12-01 00:00"), 400);
    assert_eq!(samples.len(), 400 + 2 * 2);
    assert!(samples.is_sorted());
    for sample in [
        ("2027-03-28 00:59:59", 3600),
        ("2027-03-28 01:00:00", 7200),
        ("2027-10-31 01:00:00", 3600),
    ] {
        assert!(samples.contains(&(utc(sample.0), sample.1)), "{sample:?}");
    }
}

/// Texts that are taken, in zones that change their clocks in every way.
fn calendars() -> impl Strategy<Value = (String, &'static str)> {
    let minute = prop_oneof![
        "[0-9]",
        "[1-5][0-9],[0-9]",
        Just("*/15".to_owned()),
        Just("*".to_owned()),
        Just("0-59/7".to_owned())
    ];
    let hour = prop_oneof![
        "[0-9]",
        "[0-3],[0-3]",
        Just("*/2".to_owned()),
        Just("*".to_owned()),
        Just("0-23".to_owned())
    ];
    let days = prop::sample::select(vec![
        "* * *",
        "* * 0",
        "L * *",
        "1,15 * 1",
        "* 3,10 *",
        "25-31 * *",
        "* * 7L",
        "* * 0#2",
    ]);
    let zone = prop::sample::select(vec![
        "Asia/Shanghai",
        "Europe/Berlin",
        "America/Santiago",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
        "Africa/Casablanca",
        "Pacific/Apia",
        "America/Havana",
        "Pacific/Chatham",
    ]);
    (minute, hour, days, zone)
        .prop_map(|(minute, hour, days, zone)| (format!("{minute} {hour} {days}"), zone))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn fires_rise_and_no_wall_time_fires_twice((text, zone) in calendars(), start_secs in 1_262_304_000_i64..1_900_000_000) {
        let calendar = cron(&text, zone);
        let after = DateTime::from_timestamp(start_secs, 0).unwrap();
        let fires: Vec<FireTime> = calendar.fires_after(after).take(300).collect();
        prop_assert!(fires.iter().all(|fire| fire.fire_at > after));
        prop_assert!(fires.windows(2).all(|pair| pair[0].fire_at < pair[1].fire_at));
        let identities: HashSet<_> = fires.iter().map(|fire| (fire.local_at, fire.fold)).collect();
        prop_assert_eq!(identities.len(), fires.len());
    }

    #[test]
    fn it_does_not_matter_from_where_one_looks((text, zone) in calendars(), start_secs in 1_262_304_000_i64..1_900_000_000, later_secs in 1_i64..400_000) {
        let calendar = cron(&text, zone);
        let after = DateTime::from_timestamp(start_secs, 0).unwrap();
        let later = after + TimeDelta::seconds(later_secs);
        let from_afar = calendar.fires_after(after).find(|fire| fire.fire_at > later);
        prop_assert_eq!(from_afar, calendar.find_fire(later));
    }

    #[test]
    fn the_clock_shows_the_wall_time_or_has_just_leapt_over_it((text, zone) in calendars(), start_secs in 1_262_304_000_i64..1_900_000_000) {
        let calendar = cron(&text, zone);
        let zone = calendar.zone();
        let fixed = Pattern::parse(&text).unwrap().is_fixed();
        for fire in calendar.fires_after(DateTime::from_timestamp(start_secs, 0).unwrap()).take(50) {
            let shown = local_at(zone, fire.fire_at);
            let before = fire.fire_at - TimeDelta::seconds(1);
            let leapt = fixed && shown > fire.local_at && first_change(zone, before, fire.fire_at) == Some(fire.fire_at)
                && local_at(zone, before) < fire.local_at;
            prop_assert!(shown == fire.local_at || leapt, "{:?} shown as {}", fire, shown);
        }
    }

    #[test]
    fn any_text_is_taken_or_refused_within_a_bound(text in "\\PC{0,120}") {
        let _ = Calendar::parse_cron(&text, "Europe/Berlin").map(|calendar| calendar.find_fire(utc("2026-12-01 00:00")));
    }

    #[test]
    fn any_text_of_crons_letters_is_taken_or_refused_in_words(text in "[0-9*/,#L?-]{1,8}( [0-9*/,#LWA-Z-]{1,8}){4}") {
        match Calendar::parse_cron(&text, "Europe/Berlin") {
            Ok(calendar) => prop_assert!(calendar.find_fire(utc("2026-12-01 00:00")).is_some(), "{} never comes", text),
            Err(BadCalendar::Pattern(bad)) => prop_assert!(!matches!(bad, wxnotify::reminder::pattern::BadPattern::Library(..)), "{}", bad),
            Err(bad) => prop_assert!(false, "{}", bad),
        }
    }
}
