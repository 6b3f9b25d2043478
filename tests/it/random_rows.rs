//! Random rows near the borders of WeChat's rules: the INSERT validation against the fake WeChat's own.
//!
//! The two were written apart, from the same facts; neither calls the other. What the INSERT takes, the fake must take.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::StreamExt;
use proptest::prelude::{Strategy, any, prop};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use wxnotify::simulate::{FakeWechat, SEND_PATH, SimulateOptions};
use wxnotify::wechat::message::write_data;

use crate::kernel::{APP, Queue};

const ROWS: usize = 10_000;

/// Characters that a careless rule takes for what they are not.
const ODD: &str = "\u{1}\t\n\r\u{7f}\u{85}\u{a0}\u{ad}²½ªéßŁЖλع　、〇々㐀䶿一鿿ꀀ豈𠀀𲎯カ한２Ａｶ！，￥★①Ⅷ❶🎉👩‍🔬\u{200b}\u{2028}\u{2029}\u{feff}\u{fe0f}\u{e000}\u{301}·…—“”\"'\\/.-_ ~:+()*#元¥€₩฿09aZ中挂学年月日";

/// The rule that is drawn near: what a value is made of, and its limit in characters.
const MADE_OF: &[(&str, &str, usize)] = &[
    ("thing", "手冲咖啡两杯 SO-42 ★🎉é", 20),
    ("short_thing", "十个字以内 42", 10),
    ("site", "深圳湾体育中心3号", 20),
    ("const", "审核通过", 20),
    ("enum", "待付款", 20),
    ("enum_string", "设备离线", 20),
    ("number", "0123456789", 32),
    ("letter", "abcXYZ", 32),
    ("symbol", "★!?#¥€～", 5),
    ("character_string", "SO-20260042/#a", 32),
    ("phone_number", "+86-0755 ()138", 17),
    ("car_number", "粤B12345AZ", 8),
    ("name", "王小明·", 10),
    ("name", "Maria da Silva-é.", 20),
    ("phrase", "待取餐", 5),
];

/// A seeded source of rows.
struct Draw(StdRng);

impl Draw {
    fn chance(&mut self, share: f64) -> bool {
        self.0.random_bool(share)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.0).unwrap()
    }

    fn character(&mut self, of: &str) -> char {
        let characters: Vec<char> = of.chars().collect();
        *characters.choose(&mut self.0).unwrap()
    }

    /// Mostly odd ones, and any at all.
    fn odd(&mut self) -> char {
        if self.chance(0.8) {
            self.character(ODD)
        } else {
            let any = char::from_u32(self.0.random_range(1..0x11_0000));
            any.unwrap_or('\u{fffd}')
        }
    }

    fn number(&mut self, upto: u32) -> String {
        let number = self.0.random_range(0..=upto);
        if self.chance(0.7) {
            format!("{number:02}")
        } else {
            number.to_string()
        }
    }

    fn date(&mut self) -> String {
        let year = self.one(&["2026", "2024", "2100", "2000", "26", "0000"]);
        let month = self.number(13);
        let day = self.number(32);
        match self.0.random_range(0..6) {
            0 => format!("{year}年{month}月{day}日"),
            1 => format!("{year}年{month}月"),
            2 => format!("{month}月{day}日"),
            3 => {
                let joints = [self.one(&["-", "/", "."]), self.one(&["-", "/", "."])];
                let second = if self.chance(0.8) {
                    joints[0]
                } else {
                    joints[1]
                };
                format!("{year}{}{month}{second}{day}", joints[0])
            }
            4 => format!("{year}-{month}"),
            _ => format!("{month}-{day}"),
        }
    }

    fn clock(&mut self) -> String {
        let (hour, minute) = (self.number(24), self.number(60));
        match self.0.random_range(0..8) {
            0 => hour,
            1 | 2 => format!("{hour}:{minute}:{}", self.number(60)),
            _ => format!("{hour}:{minute}"),
        }
    }

    fn moment(&mut self) -> String {
        match self.0.random_range(0..5) {
            0 => self.clock(),
            1 | 2 => self.date(),
            _ => {
                let joint = self.one(&[" ", " ", " ", "", "  ", "T"]);
                format!("{}{joint}{}", self.date(), self.clock())
            }
        }
    }

    fn span(&mut self) -> String {
        if self.chance(0.6) {
            return self.moment();
        }
        let joint = self.one(&["~", "~", "~", " ~ ", "~ ", "-", "～", "~~"]);
        format!("{}{joint}{}", self.moment(), self.moment())
    }

    fn amount(&mut self) -> String {
        let digits = self.0.random_range(1..=11);
        let whole: String = (0..digits).map(|_| self.character("0123456789")).collect();
        let sign = self.one(&[
            "", "", "¥", "￥", "$", "€", "£", "₩", "฿", "₽", "-", "¥¥", "RMB",
        ]);
        let part = self.one(&["", "", ".0", ".50", ".", ".5.0", ",5", ".12345678901"]);
        let end = self.one(&["", "", "元", "元元", " 元", "块"]);
        format!("{sign}{whole}{part}{end}")
    }

    /// A type and a value of it, often right, often one step beyond.
    fn field(&mut self) -> (&'static str, String) {
        let (kind, mut value) = match self.0.random_range(0..10) {
            0 | 1 => ("time", self.span()),
            2 | 3 => ("date", self.span()),
            4 => ("amount", self.amount()),
            _ => {
                let (kind, of, limit) = *MADE_OF.choose(&mut self.0).unwrap();
                let length = match self.0.random_range(0..8) {
                    0 => limit + 1,
                    1 | 2 => limit,
                    3 => 0,
                    _ => self.0.random_range(1..=limit),
                };
                (kind, (0..length).map(|_| self.character(of)).collect())
            }
        };
        if self.chance(0.3) {
            let mut characters: Vec<char> = value.chars().collect();
            let at = self.0.random_range(0..=characters.len());
            if at < characters.len() && self.chance(0.5) {
                characters[at] = self.odd();
            } else {
                characters.insert(at, self.odd());
            }
            value = characters.into_iter().collect();
        }
        (kind, value)
    }

    fn data(&mut self) -> (Vec<&'static str>, Value) {
        let mut kinds = Vec::new();
        let mut data = serde_json::Map::new();
        for _ in 0..self.0.random_range(1..=2) {
            let (kind, value) = self.field();
            let number = self.one(&["1", "2", "10", "07", "123456"]);
            let value = match self.0.random_range(0..10) {
                0..5 => json!(value),
                5..9 => json!({"value": value}),
                _ => json!({"value": value, "color": "#173177"}),
            };
            let value = match (kind, self.0.random_range(0..3)) {
                ("number", 0) => json!(self.0.random_range(-9..1000)),
                ("number", 1) => json!(f64::from(self.0.random_range(0..1000)) / 8.0),
                _ => value,
            };
            kinds.push(kind);
            data.insert(format!("{kind}{number}"), value);
        }
        (kinds, Value::Object(data))
    }
}

/// Inserts a row for each of `datas`; returns the error's words for each that was refused. An error that is no
/// `check_violation` fails the test.
async fn insert_all(queue: &Queue, datas: &[String]) -> Vec<Option<String>> {
    let mut session = queue.pool().acquire().await.unwrap();
    sqlx::query(
        "create function pg_temp.refusal(p_appid text, p_data jsonb) returns text language plpgsql as $$
         begin
             insert into pending_notifications (appid, openid, template_id, data) values (p_appid, 'oUser', 'TmplRandom', p_data);
             return null;
         exception when check_violation then
             return sqlerrm;
         end $$",
    )
    .execute(&mut *session)
    .await
    .unwrap();
    sqlx::query_scalar(
        "select pg_temp.refusal($1, d::jsonb) from unnest($2::text[]) with ordinality r (d, n) order by n",
    )
    .bind(APP)
    .bind(datas)
    .fetch_all(&mut *session)
    .await
    .unwrap()
}

/// Each of `datas` as Postgres gives it to the worker.
async fn as_jsonb(queue: &Queue, datas: &[String]) -> Vec<String> {
    sqlx::query_scalar(
        "select d::jsonb::text from unnest($1::text[]) with ordinality r (d, n) order by n",
    )
    .bind(datas)
    .fetch_all(queue.pool())
    .await
    .unwrap()
}

/// The errcode that the fake answers to each of `datas`, written out as the worker writes it.
async fn send_all(datas: impl Iterator<Item = &str>) -> Vec<i64> {
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let http = reqwest::Client::new();
    let token: Value = {
        let request = json!({"grant_type": "client_credential", "appid": APP, "secret": "any"});
        let url = format!("{}/cgi-bin/stable_token", fake.base_url());
        let reply = http
            .post(url)
            .body(request.to_string())
            .send()
            .await
            .unwrap();
        serde_json::from_str(&reply.text().await.unwrap()).unwrap()
    };
    let token = token["access_token"].as_str().unwrap();
    let url = format!("{}{SEND_PATH}?access_token={token}", fake.base_url());
    let sends = datas.enumerate().map(|(index, data)| {
        let mut body = format!(r#"{{"touser":"oUser{index}","template_id":"TmplRandom","data":{{"#)
            .into_bytes();
        write_data(&mut body, data).unwrap();
        body.extend_from_slice(b"}}");
        let request = http.post(&url).body(body);
        async move {
            let reply = request.send().await.unwrap().text().await.unwrap();
            let reply: Value = serde_json::from_str(&reply).unwrap();
            reply["errcode"].as_i64().unwrap()
        }
    });
    futures::stream::iter(sends.collect::<Vec<_>>())
        .buffered(16)
        .collect()
        .await
}

/// 47003 costs an attempt and a dead letter that the INSERT could have prevented; a refusal that WeChat would not have
/// spoken costs the business its transaction.
#[tokio::test]
async fn what_the_insert_takes_the_fake_wechat_takes() {
    let queue = Queue::new().await;
    let mut draw = Draw(StdRng::seed_from_u64(20_261_122));
    let (kinds, datas): (Vec<_>, Vec<_>) = (0..ROWS)
        .map(|_| draw.data())
        .map(|(kinds, data)| (kinds, data.to_string()))
        .unzip();

    let began = Instant::now();
    let refusals = insert_all(&queue, &datas).await;
    let took = began.elapsed();
    let datas = as_jsonb(&queue, &datas).await;
    let errcodes = send_all(datas.iter().map(String::as_str)).await;

    let (mut both_refuse, mut both_take) = (0, 0);
    let (mut let_through, mut too_strict) = (Vec::new(), Vec::new());
    let mut strict_by_kind = BTreeMap::new();
    for (((data, refusal), errcode), kinds) in
        datas.iter().zip(&refusals).zip(&errcodes).zip(&kinds)
    {
        assert!(matches!(errcode, 0 | 47003), "{errcode}: {data}");
        match (refusal, errcode) {
            (None, 0) => both_take += 1,
            (Some(_), 47003) => both_refuse += 1,
            (None, _) => let_through.push(data),
            (Some(refusal), _) => {
                too_strict.push(format!("{data}: {refusal}"));
                let kind = kinds
                    .iter()
                    .find(|kind| refusal.contains(&format!(": {kind}")));
                *strict_by_kind
                    .entry(kind.copied().unwrap_or("?"))
                    .or_insert(0) += 1;
            }
        }
    }
    let refused_by_fake = both_refuse + let_through.len();
    let refused_by_insert = both_refuse + too_strict.len();
    println!("{ROWS} rows, both take {both_take}, both refuse {both_refuse}; INSERT in {took:.1?}");
    println!(
        "let through: {} of {refused_by_fake} that the fake refuses",
        let_through.len()
    );
    println!(
        "too strict: {} of {refused_by_insert} that INSERT refuses: {strict_by_kind:?}",
        too_strict.len()
    );
    for example in too_strict.iter().take(20) {
        println!("  {example}");
    }

    assert_eq!(
        let_through,
        Vec::<&String>::new(),
        "47003 to what INSERT took"
    );
    assert!(
        both_take > ROWS / 4 && both_refuse > ROWS / 4,
        "one-sided rows prove little"
    );
    let strict_share = too_strict.len() as f64 / refused_by_insert as f64;
    assert!(
        strict_share < 0.05,
        "INSERT refuses what the fake takes: {strict_share:.3}"
    );
}

/// JSON of any shape and size that Postgres itself takes as jsonb.
fn any_json() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec![
        "0",
        "-1",
        "12.5",
        "1e100000",
        "-1e-9000",
        "123456789012345678901234567890",
    ]);
    let key = any_key();
    let text = "[^\u{0}]{0,24}".prop_map(|text| json!(text).to_string());
    let leaf = proptest::prop_oneof![
        prop::sample::select(vec![
            "null".to_owned(),
            "true".into(),
            "\"\"".into(),
            "{}".into(),
            "[]".into()
        ]),
        number.prop_map(str::to_owned),
        text,
        any::<i64>().prop_map(|number| number.to_string()),
        (1_usize..9_000).prop_map(|length| json!("长".repeat(length)).to_string()),
        (1_usize..2_000).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
        (1_usize..50).prop_map(|count| format!("[{}0]", "1e100000,".repeat(count))),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        proptest::prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            6 => prop::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
                let members = members.iter().map(|(key, value)| format!("{}:{value}", json!(key)));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> + Clone {
    let kinds: Vec<String> = MADE_OF
        .iter()
        .map(|(kind, ..)| format!("{kind}1"))
        .collect();
    proptest::prop_oneof![
        4 => prop::sample::select(kinds),
        2 => prop::sample::select(vec!["time1".to_owned(), "date2".into(), "amount3".into(), "value".into()]),
        1 => "[^\u{0}]{0,80}",
    ]
}

#[tokio::test]
async fn whatever_stands_in_data_is_stored_or_refused_by_a_rule() {
    let queue = Queue::new().await;
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(proptest::test_runner::Config::default(), seed);
    let strategy = any_json();
    let mut datas: Vec<String> = (0..1_000)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    // A gigabyte if it were written out.
    datas.push(format!("{{\"thing1\": [{}0]}}", "1e131071,".repeat(9_000)));

    let refusals = insert_all(&queue, &datas).await;

    let refused = refusals.iter().flatten().count();
    println!("{refused} of {} refused", datas.len());
    assert!(
        refused > 0 && refused < datas.len(),
        "one-sided rows prove little"
    );
}
