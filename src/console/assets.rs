//! What pages load: one style sheet and one script, in the program, named by what is in them so that browsers keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

const CSS: &str = include_str!("assets/console.css");
const JS: &str = include_str!("assets/console.js");

static CSS_NAME: LazyLock<String> = LazyLock::new(|| name_of(CSS, "css"));
static JS_NAME: LazyLock<String> = LazyLock::new(|| name_of(JS, "js"));

fn name_of(text: &str, ending: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let short: String = hash
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("console-{short}.{ending}")
}

/// Where the style sheet is.
pub(super) fn css_path() -> String {
    format!("/assets/{}", *CSS_NAME)
}

/// Where the script is.
pub(super) fn js_path() -> String {
    format!("/assets/{}", *JS_NAME)
}

pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let (text, kind) = if name == *CSS_NAME {
        (CSS, "text/css; charset=utf-8")
    } else if name == *JS_NAME {
        (JS, "text/javascript; charset=utf-8")
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, text).into_response()
}
