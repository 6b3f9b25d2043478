//! The work: a subscription message of about 600 bytes, the same for every contender.

use serde_json::{Value, json};

/// The mini-program of every row unless a scenario has more: the first of [`appid`].
pub const APPID: &str = "wxbench0001";
/// The template of every row.
pub const TEMPLATE_ID: &str = "bEnchT3mplate_zun-LzcQyW-edafCVvzPkK4de2Rllr";

/// The template of urgent rows, which tells them from the bulk of the same users.
pub const URGENT_TEMPLATE_ID: &str = "bEnchUrgentT_zun-LzcQyW-edafCVvzPkK4de2Rllr";

/// The receiver of row `number`: every row has one of its own.
pub fn openid(number: u64) -> String {
    format!("oB3nch{number:022}")
}

/// The page the card of row `number` opens.
pub fn page(number: u64) -> String {
    format!("pages/order/detail/index?order={number:012}&from=subscription")
}

/// The fields of row `number`.
pub fn data(number: u64) -> Value {
    json!({
        "thing1": {"value": "您预约的青少年周末篮球训练课程即将开始"},
        "thing2": {"value": "请提前十五分钟到达体育馆二层前台签到"},
        "time3": {"value": "2026年11月22日 15:01"},
        "character_string4": {"value": format!("ORDER-2026-11-22-{number:012}")},
        "phrase5": {"value": "已确认"},
    })
}

/// Three fields of row `number`.
pub fn data_of_three(number: u64) -> Value {
    let mut data = data(number);
    if let Some(fields) = data.as_object_mut() {
        fields.retain(|name, _| ["thing1", "time3", "character_string4"].contains(&name.as_str()));
    }
    data
}

/// The body of the request for row `number`, as WeChat wants it.
pub fn body(number: u64) -> Value {
    json!({
        "touser": openid(number),
        "template_id": TEMPLATE_ID,
        "page": page(number),
        "miniprogram_state": "formal",
        "lang": "zh_CN",
        "data": data(number),
    })
}

/// The same, urgent or not.
pub fn body_of(number: u64, urgent: bool) -> Value {
    let mut body = body(number);
    if urgent {
        body["template_id"] = URGENT_TEMPLATE_ID.into();
    }
    body
}

/// Mini-program `number`, from 1 to 9999.
pub fn appid(number: u64) -> String {
    format!("wxbench{number:04}")
}

/// The body of the request for row `n` as an SQL expression of type json.
pub fn body_in_sql() -> String {
    format!("({})::json", numbered(&body(0).to_string()))
}

/// The SQL expressions of wxnotify's row `n`, of one of `apps` mini-programs: appid, openid, template_id, page, data.
pub fn columns_in_sql(apps: u64) -> String {
    format!(
        "'wxbench' || lpad((n % {apps} + 1)::text, 4, '0'), {}, '{TEMPLATE_ID}', {}, ({})::jsonb",
        numbered(&openid(0)),
        numbered(&page(0)),
        numbered(&data(0).to_string())
    )
}

/// A text about row 0 as the SQL expression of the same text about row `n`.
fn numbered(text: &str) -> String {
    let mut sql = format!("'{}'", text.replace('\'', "''"));
    for digits in [22, 12] {
        sql = sql.replace(
            &"0".repeat(digits),
            &format!("' || lpad(n::text, {digits}, '0') || '"),
        );
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_about_600_bytes() {
        let bytes = body(1).to_string().len();
        assert!((560..=640).contains(&bytes), "{bytes}");
    }
}
