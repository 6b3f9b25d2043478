//! The calls that manage an app's templates: `gettemplate`, `addtemplate`, `deltemplate`.

use std::collections::BTreeMap;

use rand::RngExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::account::TemplateSpec;
use super::reply::{Refusal, Reply};
use super::send::{Inquiry, read_json};
use super::state::State;

/// Private templates an app may have.
const TEMPLATES_MAX: usize = 50;
/// Characters of `sceneDesc`.
const SCENE_CHARS_MAX: usize = 15;

/// A template anybody may add: what `addtemplate` calls a `tid`.
struct PublicTemplate {
    tid: &'static str,
    title: &'static str,
    long_term: bool,
    /// The keywords by their number (`kid`), counted from 1: label and type.
    keywords: &'static [(&'static str, &'static str)],
}

const LIBRARY: [PublicTemplate; 3] = [
    PublicTemplate {
        tid: "401",
        title: "取餐提醒",
        long_term: false,
        keywords: &[
            ("订单号", "character_string"),
            ("商品", "thing"),
            ("金额", "amount"),
            ("取餐时间", "time"),
            ("状态", "phrase"),
            ("备注", "thing"),
        ],
    },
    PublicTemplate {
        tid: "402",
        title: "课程开始提醒",
        long_term: false,
        keywords: &[
            ("课程", "thing"),
            ("开始时间", "time"),
            ("老师", "name"),
            ("地点", "thing"),
        ],
    },
    PublicTemplate {
        tid: "1501",
        title: "就诊提醒",
        long_term: true,
        keywords: &[("就诊人", "name"), ("科室", "thing"), ("时间", "date")],
    },
];

#[derive(Deserialize)]
struct Addition {
    tid: TextOrNumber,
    #[serde(rename = "kidList", default)]
    kids: Vec<usize>,
    #[serde(rename = "sceneDesc", default)]
    scene: String,
}

/// SDKs send the tid either way.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(u64),
}

#[derive(Deserialize)]
struct Deletion {
    #[serde(rename = "priTmplId", default)]
    template_id: String,
}

impl State {
    /// Lists the app's templates, the way WeChat writes their content.
    pub fn judge_get_template(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        let appid = self.admit(inquiry)?;
        let app = self.app(&appid);
        let mut templates: Vec<&TemplateSpec> = app.templates.values().collect();
        templates.sort_by(|a, b| a.template_id.cmp(&b.template_id));
        let listed: Vec<Value> = templates.into_iter().map(describe).collect();
        let reply = json!({ "errcode": 0, "errmsg": "ok", "data": listed });
        Ok(Reply::ok(reply.to_string()))
    }

    /// Adds a template of the library under a new id.
    pub fn judge_add_template(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        let appid = self.admit(inquiry)?;
        let addition: Addition = read_json(inquiry.body).map_err(Refusal::new)?;
        let tid = match &addition.tid {
            TextOrNumber::Text(tid) => tid.clone(),
            TextOrNumber::Number(tid) => tid.to_string(),
        };
        let public = LIBRARY
            .iter()
            .find(|public| public.tid == tid)
            .ok_or_else(|| Refusal::new(200_014))?;
        let spec = self.compose(public, &addition)?;
        let app = self.app(&appid);
        let same = |other: &TemplateSpec| other.title == spec.title && other.fields == spec.fields;
        if app.templates.values().any(same) {
            return Err(Refusal::new(200_022));
        }
        if app.templates.len() >= TEMPLATES_MAX {
            return Err(Refusal::new(200_012));
        }
        let reply = json!({ "errcode": 0, "errmsg": "ok", "priTmplId": spec.template_id });
        app.add_template(spec);
        Ok(Reply::ok(reply.to_string()))
    }

    /// Removes a template; from then on its sends get 40037.
    pub fn judge_delete_template(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        let appid = self.admit(inquiry)?;
        let deletion: Deletion = read_json(inquiry.body).map_err(Refusal::new)?;
        if !self.app(&appid).remove_template(&deletion.template_id) {
            return Err(Refusal::new(20_002));
        }
        Ok(Reply::ok(r#"{"errcode":0,"errmsg":"ok"}"#.to_owned()))
    }

    /// Method, token and the path's own quota.
    fn admit(&mut self, inquiry: &Inquiry<'_>) -> Result<String, Refusal> {
        inquiry.check_method()?;
        let appid = self.authorize(inquiry)?;
        self.meter(&appid, inquiry.api)?;
        Ok(appid)
    }

    fn compose(
        &mut self,
        public: &PublicTemplate,
        addition: &Addition,
    ) -> Result<TemplateSpec, Refusal> {
        let key = |kid: &usize| {
            let (_, kind) = public.keywords.get(kid.checked_sub(1)?)?;
            Some(format!("{kind}{kid}"))
        };
        let keys: Option<Vec<String>> = addition.kids.iter().map(key).collect();
        let fields = keys
            .filter(|keys| (2..=5).contains(&keys.len()))
            .ok_or_else(|| Refusal::new(200_020))?;
        if addition.scene.chars().count() > SCENE_CHARS_MAX {
            return Err(Refusal::new(200_021));
        }
        let number: u128 = self.rng.random();
        Ok(TemplateSpec {
            title: public.title.to_owned(),
            long_term: public.long_term,
            ..TemplateSpec::new(format!("Tmpl{number:039}"), fields)
        })
    }
}

/// An entry of `gettemplate`.
fn describe(spec: &TemplateSpec) -> Value {
    let label = |key: &str| {
        let (kind, kid) = key.split_at(key.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        LIBRARY
            .iter()
            .filter(|public| public.title == spec.title)
            .find_map(|public| {
                let (label, rule) = public
                    .keywords
                    .get(kid.parse::<usize>().ok()?.checked_sub(1)?)?;
                (*rule == kind).then_some(*label)
            })
            .map_or_else(|| key.to_owned(), str::to_owned)
    };
    let line = |key: &String| format!("{}:{{{{{key}.DATA}}}}\n", label(key));
    let title = if spec.title.is_empty() {
        &spec.template_id
    } else {
        &spec.title
    };
    let mut entry = json!({
        "priTmplId": spec.template_id,
        "title": title,
        "content": spec.fields.iter().map(line).collect::<String>(),
        "example": spec.fields.iter().map(|key| format!("{}:…\n", label(key))).collect::<String>(),
        "type": if spec.long_term || spec.device { 3 } else { 2 },
    });
    let enums: &BTreeMap<String, Vec<String>> = &spec.enums;
    if !enums.is_empty() {
        let lists: Vec<Value> = enums
            .iter()
            .map(|(key, values)| json!({"keywordCode": format!("{key}.DATA"), "enumValueList": values}))
            .collect();
        entry["keywordEnumValueList"] = lists.into();
    }
    entry
}
