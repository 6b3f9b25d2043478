//! The console: who may do what, what a search finds, what a batch changes, and what is written down of it.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use wxnotify::console;
use wxnotify::demo::incidents;
use wxnotify::store::Store;

use crate::harness;
use crate::kernel::{APP, Queue, run};
use crate::reminders::{insert_schedule, set_times};
use crate::security::Login;

const PASSWORD: &str = "correct horse battery";
const ROLES: &str = "wxnotify_console, wxnotify_operator, wxnotify_viewer";

/// A console on loopback, with a viewer, an operator and an admin called by their roles.
struct Console {
    queue: Queue,
    base: String,
    client: Client,
    _login: Login,
    _stop: DropGuard,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn location(&self) -> &str {
        let location = self.headers.get(LOCATION);
        location.map_or("", |location| location.to_str().unwrap())
    }
}

/// Somebody in a browser.
struct Person<'a> {
    console: &'a Console,
    cookie: String,
}

async fn start(store: Store) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(console::serve(listener, store, None, false, stop.clone()));
    (base, stop.drop_guard())
}

impl Console {
    async fn new() -> Self {
        let queue = Queue::new().await;
        let login = Login::of(ROLES, queue.database()).await;
        let store = Store::new(login.pool.clone());
        let hash = Argon2::default()
            .hash_password(PASSWORD.as_bytes())
            .unwrap()
            .to_string();
        for role in ["viewer", "operator", "admin"] {
            assert!(store.add_user(role, role, &hash).await.unwrap());
        }
        let (base, stop) = start(store).await;
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Self {
            queue,
            base,
            client,
            _login: login,
            _stop: stop,
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        form: &[(&str, &str)],
    ) -> Answer {
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.base))
            .headers(headers);
        if method == Method::POST {
            let body = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .finish();
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body);
        }
        let answer = request.send().await.unwrap();
        Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    async fn try_log_in(&self, name: &str, password: &str) -> Answer {
        self.ask(
            Method::POST,
            "/login",
            HeaderMap::new(),
            &[("name", name), ("password", password)],
        )
        .await
    }

    async fn log_in(&self, name: &str) -> Person<'_> {
        let answer = self.try_log_in(name, PASSWORD).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
            "{cookie}"
        );
        Person {
            console: self,
            cookie: cookie.split(';').next().unwrap().to_owned(),
        }
    }

    /// A schedule that workers have seen to, with one time in ten minutes and one in a day.
    async fn schedule(&self, columns: Value) -> i64 {
        let pool = self.queue.pool();
        let id = insert_schedule(pool, columns).await.unwrap();
        run(pool, "select wxnotify_apply_changes()").await;
        set_times(pool, id, &[600.0, 86_400.0]).await;
        id
    }

    /// Rows that were cancelled, so that they can be redriven.
    async fn cancelled(&self, count: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        for number in 0..count {
            let row = json!({ "appid": APP, "openid": format!("oSecretUser{number:017}"), "template_id": "TmplOrder",
                "data": { "thing1": "the secret text" }, "business_ref": format!("order-{number}") });
            ids.push(harness::insert_row(self.queue.pool(), &row).await.unwrap());
        }
        sqlx::query("select cancel_notifications($1)")
            .bind(&ids)
            .execute(self.queue.pool())
            .await
            .unwrap();
        ids
    }

    async fn actions(&self, action: &str) -> Vec<Value> {
        sqlx::query_scalar(
            "select to_jsonb(a) from operator_actions a where action = $1 order by id",
        )
        .bind(action)
        .fetch_all(self.queue.pool())
        .await
        .unwrap()
    }

    async fn until_batches_are_done(&self) {
        harness::eventually("the batches are done", async || {
            let running = self
                .count("count(*) from operator_batches where state = 'running'")
                .await;
            (running == 0).then_some(())
        })
        .await;
    }

    async fn count(&self, expression: &str) -> i64 {
        harness::value(self.queue.pool(), expression).await
    }
}

impl Person<'_> {
    fn headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&self.cookie).unwrap())])
    }

    async fn get(&self, path: &str) -> Answer {
        self.console
            .ask(Method::GET, path, self.headers(), &[])
            .await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.console
            .ask(Method::POST, path, self.headers(), form)
            .await
    }

    /// Previews a redrive of what was cancelled; where its page is.
    async fn preview(&self) -> String {
        let form = [
            ("verb", "redrive"),
            ("appid", APP),
            ("statuses", "cancelled"),
        ];
        let answer = self.post("/preview", &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.location().to_owned()
    }
}

/// Every page that is asked for, and the least role that sees it.
const PAGES: [(&str, &str); 15] = [
    ("/", "viewer"),
    ("/find", "viewer"),
    ("/find?status=moving", "viewer"),
    ("/failures", "viewer"),
    ("/dead", "viewer"),
    ("/doubts", "viewer"),
    ("/apps", "viewer"),
    ("/workers", "viewer"),
    ("/batches", "viewer"),
    ("/about", "viewer"),
    ("/forecast", "viewer"),
    ("/reminders", "operator"),
    ("/credits", "operator"),
    ("/actions", "operator"),
    ("/export?status=cancelled", "operator"),
];

/// Every form that changes something, and the least role that may send it.
fn forms(id: i64) -> Vec<(String, &'static str)> {
    let mut forms: Vec<(String, &str)> = [
        "redrive",
        "cancel",
        "reschedule",
        "confirm_sent",
        "confirm_not_sent",
        "retry_anyway",
        "reveal",
    ]
    .map(|verb| (format!("/n/{id}/{verb}"), "operator"))
    .into();
    forms.extend(["pause", "resume"].map(|verb| (format!("/apps/{APP}/{verb}"), "operator")));
    forms.extend(["start", "stop", "undo"].map(|verb| (format!("/batches/1/{verb}"), "operator")));
    let of_reminders = ["pause", "resume", "skip", "approve", "test"];
    forms.extend(of_reminders.map(|verb| (format!("/reminders/1/{verb}"), "operator")));
    forms.push(("/preview".to_owned(), "operator"));
    forms.push(("/sessions/end".to_owned(), "admin"));
    forms
}

fn rank(role: &str) -> usize {
    ["viewer", "operator", "admin"]
        .iter()
        .position(|one| *one == role)
        .unwrap()
}

#[tokio::test]
async fn each_role_sees_its_pages_and_no_others() {
    let console = Console::new().await;
    console.cancelled(1).await;
    for role in ["viewer", "operator", "admin"] {
        let person = console.log_in(role).await;
        for (path, least) in PAGES {
            let answer = person.get(path).await;
            let wanted = if rank(role) >= rank(least) {
                StatusCode::OK
            } else {
                StatusCode::FORBIDDEN
            };
            assert_eq!(answer.status, wanted, "{role} {path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_form_sent_by_a_lesser_role_changes_nothing() {
    let console = Console::new().await;
    let id = console.cancelled(1).await[0];
    let before = console.count("count(*) from operator_actions").await;
    for role in ["viewer", "operator"] {
        let person = console.log_in(role).await;
        for (path, least) in forms(id) {
            if rank(role) < rank(least) {
                let form = [
                    ("note", "why"),
                    ("name", "admin"),
                    ("verb", "redrive"),
                    ("appid", APP),
                ];
                assert_eq!(
                    person.post(&path, &form).await.status,
                    StatusCode::FORBIDDEN,
                    "{role} {path}"
                );
            }
        }
    }
    assert_eq!(
        console.count("count(*) from operator_actions").await,
        before
    );
    assert_eq!(console.count("count(*) from operator_batches").await, 0);
}

#[tokio::test]
async fn without_a_session_pages_lead_to_the_log_in_and_forms_change_nothing() {
    let console = Console::new().await;
    let id = console.cancelled(1).await[0];
    let before = console.count("count(*) from operator_actions").await;
    let none = HeaderMap::new;
    for (path, _) in PAGES {
        let answer = console.ask(Method::GET, path, none(), &[]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(
            answer.location().starts_with("/login?back=%2F"),
            "{path}: {}",
            answer.location()
        );
    }
    for (path, _) in forms(id) {
        let answer = console
            .ask(
                Method::POST,
                &path,
                none(),
                &[("note", "why"), ("name", "x"), ("verb", "redrive")],
            )
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    let forged = HeaderMap::from_iter([(
        COOKIE,
        HeaderValue::from_static("wxnotify=0000000000000000"),
    )]);
    assert_eq!(
        console.ask(Method::GET, "/", forged, &[]).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        console.count("count(*) from operator_actions").await,
        before
    );
}

#[tokio::test]
async fn an_ended_session_is_no_session() {
    let console = Console::new().await;
    let (viewer, admin) = (
        console.log_in("viewer").await,
        console.log_in("admin").await,
    );
    assert_eq!(viewer.get("/").await.status, StatusCode::OK);
    assert_eq!(
        admin
            .post("/sessions/end", &[("name", "viewer")])
            .await
            .status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(viewer.get("/").await.status, StatusCode::SEE_OTHER);
    sqlx::query("update console_sessions set ends_at = now()")
        .execute(console.queue.pool())
        .await
        .unwrap();
    assert_eq!(admin.get("/").await.status, StatusCode::SEE_OTHER);
    let again = console.log_in("admin").await;
    assert_eq!(
        again.post("/logout", &[]).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(again.get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_another_site_makes_a_browser_send_changes_nothing() {
    let console = Console::new().await;
    let id = console.cancelled(1).await[0];
    let operator = console.log_in("operator").await;
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
    ] {
        let mut headers = operator.headers();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        let answer = console
            .ask(
                Method::POST,
                &format!("/n/{id}/redrive"),
                headers,
                &[("note", "why")],
            )
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert_eq!(
        console.count("count(*) from notification_redrives").await,
        0
    );
}

#[tokio::test]
async fn wrong_passwords_shut_their_name_out_for_a_while_and_nobody_else() {
    let console = Console::new().await;
    let unknown = console.try_log_in("nobody", PASSWORD).await;
    for _ in 0..10 {
        let wrong = console.try_log_in("operator", "wrong").await;
        assert_eq!(wrong.status, StatusCode::FORBIDDEN);
        assert_eq!(
            wrong.body.replace("operator", "nobody"),
            unknown.body,
            "the answer tells a known name from an unknown one"
        );
    }
    assert_eq!(
        console.try_log_in("operator", PASSWORD).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        console.try_log_in("viewer", PASSWORD).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        console
            .count("count(*) from console_tries where name = 'operator'")
            .await,
        11
    );
}

#[tokio::test]
async fn a_key_finds_its_rows_and_an_unknown_one_nothing() {
    let console = Console::new().await;
    let ids = console.cancelled(3).await;
    let operator = console.log_in("operator").await;
    let found = operator.get("/find?q=order-1").await.body;
    assert!(
        found.contains(&format!("/n/{}", ids[1])) && !found.contains(&format!("/n/{}\"", ids[0])),
        "{found}"
    );
    assert!(
        operator
            .get(&format!("/find?q={}", ids[2]))
            .await
            .body
            .contains(&format!("/n/{}", ids[2]))
    );
    assert!(
        operator
            .get("/find?q=oSecretUser00000000000000000")
            .await
            .body
            .contains(&format!("/n/{}", ids[0]))
    );
    let long = "x".repeat(10_000);
    for unknown in [
        "order-",
        "%25",
        "order-1%27%20or%201=1",
        "99999999999999999999",
        "%00",
        "%E2%80%AE",
        &*long,
    ] {
        let answer = operator.get(&format!("/find?q={unknown}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{unknown}: {}", answer.body);
        assert!(
            answer.body.contains("Nothing found"),
            "{unknown}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_viewer_finds_no_row_by_its_receiver_and_sees_no_receiver_and_no_text() {
    let console = Console::new().await;
    let id = console.cancelled(1).await[0];
    let viewer = console.log_in("viewer").await;
    assert!(
        viewer
            .get("/find?q=oSecretUser00000000000000000")
            .await
            .body
            .contains("Nothing found")
    );
    for path in ["/", "/find", "/dead", &format!("/n/{id}"), "/doubts"] {
        let body = viewer.get(path).await.body;
        assert!(
            !body.contains("oSecretUser") && !body.contains("the secret text"),
            "{path}: {body}"
        );
    }
}

#[tokio::test]
async fn receiver_and_texts_are_shown_on_request_and_the_asking_is_recorded() {
    let console = Console::new().await;
    let id = console.cancelled(1).await[0];
    let operator = console.log_in("operator").await;
    let page = operator.get(&format!("/n/{id}")).await.body;
    assert!(!page.contains("oSecretUser") && !page.contains("the secret text"));
    let shown = operator
        .post(
            &format!("/n/{id}/reveal"),
            &[("note", "asked on the phone")],
        )
        .await
        .body;
    assert!(
        shown.contains("oSecretUser00000000000000000") && shown.contains("the secret text"),
        "{shown}"
    );
    let recorded = console.actions("reveal").await;
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0]["note"], "asked on the phone");
    assert!(
        recorded[0]["actor"]
            .as_str()
            .unwrap()
            .starts_with("operator (console, "),
        "{recorded:?}"
    );
}

#[tokio::test]
async fn a_batch_changes_what_was_previewed_and_says_what_became_of_each_row() {
    let console = Console::new().await;
    let ids = console.cancelled(3).await;
    let operator = console.log_in("operator").await;
    let batch = operator.preview().await;
    let page = operator.get(&batch).await.body;
    assert!(page.contains("3 rows = 3 credits"), "{page}");
    // These come after the preview, and are none of its business.
    console.cancelled(2).await;
    sqlx::query("select redrive_notifications($1)")
        .bind(&ids[..1])
        .execute(console.queue.pool())
        .await
        .unwrap();

    let start = format!("{batch}/start");
    assert!(
        operator
            .post(&start, &[("note", " "), ("pace", "")])
            .await
            .body
            .contains("needs a reason")
    );
    assert_eq!(
        operator
            .post(&start, &[("note", "mended"), ("pace", "")])
            .await
            .status,
        StatusCode::SEE_OTHER
    );
    harness::eventually("the batch is done", async || {
        (console
            .count("count(*) from operator_batches where state = 'done'")
            .await
            == 1)
            .then_some(())
    })
    .await;
    let results: Vec<(i64, String)> =
        sqlx::query_as("select id, result from operator_batch_rows order by id")
            .fetch_all(console.queue.pool())
            .await
            .unwrap();
    let wanted: Vec<(i64, String)> = ids
        .iter()
        .zip(["already redriven", "redriven", "redriven"])
        .map(|(id, result)| (*id, result.to_owned()))
        .collect();
    assert_eq!(results, wanted);
    assert_eq!(
        console.count("count(*) from notification_redrives").await,
        3
    );
    let started = console.actions("start_batch").await;
    assert!(
        started[0]["actor"]
            .as_str()
            .unwrap()
            .starts_with("operator (console, "),
        "{started:?}"
    );
}

#[tokio::test]
async fn a_batch_is_started_once_by_whoever_previewed_it_and_not_when_it_is_old() {
    let console = Console::new().await;
    console.cancelled(2).await;
    let (operator, admin) = (
        console.log_in("operator").await,
        console.log_in("admin").await,
    );
    let batch = operator.preview().await;
    let start = format!("{batch}/start");
    let form = [("note", "why"), ("pace", "")];
    assert!(
        admin
            .post(&start, &form)
            .await
            .body
            .contains("previewed by operator")
    );
    sqlx::query("update operator_batches set previewed_at = now() - interval '16 minutes'")
        .execute(console.queue.pool())
        .await
        .unwrap();
    assert!(operator.post(&start, &form).await.body.contains("too old"));
    assert_eq!(
        console.count("count(*) from notification_redrives").await,
        0
    );
}

#[tokio::test]
async fn what_a_batch_made_and_nobody_sent_can_be_undone_and_redriven_again() {
    let console = Console::new().await;
    let ids = console.cancelled(2).await;
    let operator = console.log_in("operator").await;
    let batch = operator.preview().await;
    for path in [
        batch.clone(),
        operator
            .post(&format!("{batch}/undo"), &[])
            .await
            .location()
            .to_owned(),
    ] {
        let answer = operator
            .post(&format!("{path}/start"), &[("note", "why"), ("pace", "")])
            .await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
    console.until_batches_are_done().await;
    // That undo was previewed before there was anything to undo.
    assert_eq!(
        console.count("count(*) from notification_redrives").await,
        2
    );
    let undo = operator
        .post(&format!("{batch}/undo"), &[])
        .await
        .location()
        .to_owned();
    operator
        .post(
            &format!("{undo}/start"),
            &[("note", "a mistake"), ("pace", "")],
        )
        .await;
    console.until_batches_are_done().await;
    assert_eq!(
        console.count("count(*) from notification_redrives").await,
        0
    );
    assert_eq!(
        console
            .count("count(*) from notifications where status = 'cancelled'")
            .await,
        4
    );
    let again = operator
        .post(
            &format!("/n/{}/redrive", ids[0]),
            &[("note", "not a mistake")],
        )
        .await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "{}", again.body);
    assert_eq!(
        console.count("count(*) from notification_redrives").await,
        1
    );
}

#[tokio::test]
async fn a_paced_batch_is_stopped_half_way_and_the_rest_stays_as_it_is() {
    let console = Console::new().await;
    console.cancelled(30).await;
    let operator = console.log_in("operator").await;
    let batch = operator.preview().await;
    operator
        .post(
            &format!("{batch}/start"),
            &[("note", "why"), ("pace", "200")],
        )
        .await;
    harness::eventually("some are done", async || {
        (console.count("count(*) from notification_redrives").await > 0).then_some(())
    })
    .await;
    assert_eq!(
        operator.post(&format!("{batch}/stop"), &[]).await.status,
        StatusCode::SEE_OTHER
    );
    let done = console.count("count(*) from notification_redrives").await;
    assert!(
        done < 30,
        "{done} rows were done at 200 a minute before the stop"
    );
    assert!(operator.get(&batch).await.body.contains("Stopped"));
    let waiting = console
        .count("count(*) from operator_batch_rows where result is null")
        .await;
    assert_eq!(done + waiting, 30);
}

#[tokio::test]
async fn a_condition_that_is_missing_or_unknown_chooses_nothing() {
    let console = Console::new().await;
    console.cancelled(1).await;
    let operator = console.log_in("operator").await;
    let answer = operator
        .post(
            "/preview",
            &[("verb", "redrive"), ("statuses", "cancelled")],
        )
        .await;
    assert!(
        answer.body.contains("a batch needs a condition"),
        "{}",
        answer.body
    );
    assert_eq!(
        operator
            .post("/preview", &[("verb", "drop"), ("appid", APP)])
            .await
            .status,
        StatusCode::BAD_REQUEST
    );
    let refused = sqlx::query("select preview_batch('redrive', '{\"apid\": \"x\"}')")
        .execute(console.queue.pool())
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("unknown condition apid"),
        "{refused}"
    );
    assert_eq!(console.count("count(*) from operator_batches").await, 0);
}

/// The button beside a cause means that cause: one without an errcode does not mean all of them.
#[tokio::test]
async fn a_cause_without_an_errcode_chooses_its_own_rows_alone() {
    let console = Console::new().await;
    let ids = console.cancelled(2).await;
    for (id, errcode) in ids.iter().zip(["47003", "null"]) {
        let died = format!(
            "update notification_history set status = 'dead', errcode = {errcode} where id = {id}"
        );
        harness::run(console.queue.pool(), &died).await;
    }
    let operator = console.log_in("operator").await;
    let page = operator.get("/dead").await.body;
    assert_eq!(
        page.matches("name=\"without_errcode\"").count(),
        1,
        "{page}"
    );
    let form = [
        ("verb", "redrive"),
        ("appid", APP),
        ("statuses", "dead"),
        ("errcode", ""),
        ("without_errcode", "true"),
    ];
    let batch = operator.post("/preview", &form).await.location().to_owned();
    let page = operator.get(&batch).await.body;
    assert!(page.contains("1 row = 1 credit"), "{page}");
    let chosen = console.count("id from operator_batch_rows").await;
    assert_eq!(chosen, ids[1]);
}

#[tokio::test]
async fn no_session_but_the_consoles_names_somebody_else_as_who_acts() {
    let console = Console::new().await;
    let support = Login::of("wxnotify_operator", console.queue.database()).await;
    support
        .run("select set_config('wxnotify.person', 'boss', false), wxnotify_actor()")
        .await;
    let actor = support
        .texts("select wxnotify_actor() from set_config('wxnotify.person', 'boss', false)")
        .await;
    assert_eq!(actor, [&*support.name]);
}

#[tokio::test]
async fn a_reminder_is_paused_and_resumed_by_name_of_who_did_it() {
    let console = Console::new().await;
    let id = console.schedule(json!({"name": "water-the-plants"})).await;
    let operator = console.log_in("operator").await;
    let list = operator.get("/reminders").await.body;
    assert!(list.contains("water-the-plants") && list.contains(&format!("/reminders/{id}\"")));
    let path = format!("/reminders/{id}");
    let pause = format!("{path}/pause");

    let without_reason = operator.post(&pause, &[("note", " ")]).await.body;
    assert!(without_reason.contains("A reason is required"));
    assert_eq!(console.actions("pause_schedule").await.len(), 0);

    let form = [("note", "the course is cancelled")];
    assert_eq!(operator.post(&pause, &form).await.location(), path);
    let paused = operator.get(&path).await.body;
    assert!(paused.contains("Resume…") && !paused.contains("Pause…"));
    assert!(
        operator
            .post(&pause, &form)
            .await
            .body
            .contains("paused already")
    );
    let resume = format!("{path}/resume");
    assert_eq!(operator.post(&resume, &form).await.location(), path);
    for action in ["pause_schedule", "resume_schedule"] {
        let recorded = console.actions(action).await;
        assert_eq!(recorded.len(), 1, "{recorded:?}");
        let actor = recorded[0]["actor"].as_str().unwrap();
        assert!(actor.starts_with("operator (console, "), "{actor}");
    }
}

#[tokio::test]
async fn the_next_time_of_a_reminder_is_named_before_it_is_left_out() {
    let console = Console::new().await;
    let id = console.schedule(json!({})).await;
    let operator = console.log_in("operator").await;
    let skip = format!("/reminders/{id}/skip");
    let asked = operator.get(&skip).await.body;
    assert!(asked.contains("It is ") && asked.contains("UTC"), "{asked}");
    let form = [("note", "a holiday")];
    assert_eq!(
        operator.post(&skip, &form).await.location(),
        format!("/reminders/{id}")
    );
    assert!(
        operator
            .get(&format!("/reminders/{id}"))
            .await
            .body
            .contains("will be skipped")
    );
}

#[tokio::test]
async fn a_reminder_is_tried_on_one_user_and_a_rule_it_breaks_is_told() {
    let console = Console::new().await;
    let list = json!({"audience": "list", "data": {"thing1": "{{what}}"}});
    let id = console.schedule(list).await;
    let operator = console.log_in("operator").await;
    let test = format!("/reminders/{id}/test");
    let asked = operator.post(&test, &[("openid", "")]).await.body;
    assert!(asked.contains("An openid is required"));
    run(
        console.queue.pool(),
        &format!(
            "insert into reminder_audience (schedule_id, openid, data)
             values ({id}, 'oShort', '{{\"what\": \"tea\"}}'), ({id}, 'oLong', '{{\"what\": \"a text of more than twenty characters\"}}')"
        ),
    )
    .await;
    let sent = operator.post(&test, &[("openid", "oShort")]).await;
    assert!(sent.location().starts_with("/n/"), "{}", sent.body);
    let refused = operator.post(&test, &[("openid", "oLong")]).await;
    assert!(refused.body.contains("thing1"), "{}", refused.body);
    assert_eq!(console.actions("test_fire").await.len(), 1);
}

#[tokio::test]
async fn a_reminder_to_many_is_approved_as_it_is_now() {
    let console = Console::new().await;
    let one = console.schedule(json!({"name": "one"})).await;
    let id = console.schedule(json!({"audience": "list"})).await;
    let operator = console.log_in("operator").await;
    let of_one = operator.get(&format!("/reminders/{one}")).await.body;
    assert!(!of_one.contains("Approve…"), "one user needs no approval");
    let path = format!("/reminders/{id}");
    assert!(operator.get(&path).await.body.contains("Approve…"));
    let (approve, form) = (format!("{path}/approve"), [("note", "looked at it")]);
    assert_eq!(operator.post(&approve, &form).await.location(), path);
    let approved = operator.get(&path).await.body;
    assert!(approved.contains("approved as it is now") && !approved.contains("Approve…"));
    let again = operator.post(&approve, &form).await.body;
    assert!(again.contains("approved already"), "{again}");
    assert_eq!(console.actions("approve_schedule").await.len(), 1);
    let edit =
        format!("update reminder_schedules set data = '{{\"thing1\": \"other\"}}' where id = {id}");
    run(console.queue.pool(), &edit).await;
    assert!(operator.get(&path).await.body.contains("Approve…"));
}

#[tokio::test]
async fn a_reminder_that_is_not_there_has_no_page_and_no_verb() {
    let console = Console::new().await;
    let operator = console.log_in("operator").await;
    for path in ["/reminders/77", "/reminders/77/pause", "/reminders/77/drop"] {
        assert_eq!(
            operator.get(path).await.status,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let form = [("note", "why")];
    let refused = operator.post("/reminders/77/pause", &form).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(console.actions("pause_schedule").await.len(), 0);
    assert!(
        operator
            .get("/reminders?name=nobody")
            .await
            .body
            .contains("No schedule is like that")
    );
}

#[tokio::test]
async fn the_forecast_says_who_will_lack_a_credit() {
    let console = Console::new().await;
    console
        .schedule(json!({"credit": "held", "template_id": "TmplLacking"}))
        .await;
    let viewer = console.log_in("viewer").await;
    let page = viewer.get("/forecast").await.body;
    assert!(
        page.contains("TmplLacking") && page.contains("will lack credits"),
        "{page}"
    );
    // One credit for two messages of the same user: the row that waits takes it, the fire lacks one.
    let credit = format!(
        "insert into pending_notifications (appid, openid, template_id, data, held) values ('{APP}', 'user-1', 'TmplLacking', '{{}}', true)"
    );
    run(console.queue.pool(), &credit).await;
    run(
        console.queue.pool(),
        "select wxnotify_fire_due(700, 10, '{}')",
    )
    .await;
    let lacking = "(select coalesce(sum(f.lacking), 0) from wechat_apps a, notification_forecast(a.appid) f)::bigint";
    assert_eq!(
        console
            .count("count(*) from pending_notifications where schedule_id is not null")
            .await,
        1
    );
    assert_eq!(console.count(lacking).await, 1, "two wants, one credit");

    let none = viewer.get("/forecast?appid=wxnone").await.body;
    assert!(none.contains("Nobody will lack a credit"), "{none}");
}

#[tokio::test]
async fn texts_of_others_are_shown_as_text() {
    let console = Console::new().await;
    let hostile = "<script>alert(1)</script>\"' onx=1";
    let row = json!({ "appid": APP, "openid": "oUser0000000000000000000001", "template_id": "TmplOrder", "data": { "thing1": "x" }, "business_ref": hostile });
    let id = harness::insert_row(console.queue.pool(), &row)
        .await
        .unwrap();
    // Such characters do not get into a row's own columns; what WeChat or a proxy answers may hold them.
    let answered = "update pending_notifications set waiting_for = 'retry', last_errmsg = E'\\x1b[31m\\u202e' where id = $1";
    sqlx::query(answered)
        .bind(id)
        .execute(console.queue.pool())
        .await
        .unwrap();
    console.schedule(json!({"name": hostile})).await;
    let operator = console.log_in("operator").await;
    for path in [
        "/reminders".to_owned(),
        format!("/n/{id}"),
        "/find?status=moving".to_owned(),
        "/find?q=%3Cscript%3E%1B%5B31m".to_owned(),
    ] {
        let body = operator.get(&path).await.body;
        for raw in ["<script>alert", "\u{1b}", "\u{202e}"] {
            assert!(!body.contains(raw), "{path} holds {raw:?}");
        }
    }
}

#[tokio::test]
async fn every_page_keeps_to_its_policy_in_both_languages() {
    let console = Console::new().await;
    console.cancelled(1).await;
    let admin = console.log_in("admin").await;
    for lang in ["en", "zh"] {
        for (path, _) in PAGES
            .iter()
            .filter(|(path, _)| !path.starts_with("/export"))
        {
            let separator = if path.contains('?') { '&' } else { '?' };
            let answer = admin.get(&format!("{path}{separator}lang={lang}")).await;
            let policy = answer.headers["content-security-policy"].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'")
                    && policy.contains("frame-ancestors 'none'")
                    && !policy.contains("unsafe")
            );
            assert!(
                answer.body.contains(if lang == "zh" {
                    "<html lang=\"zh-CN\">"
                } else {
                    "<html lang=\"en\">"
                }),
                "{path}"
            );
            for inline in [" style=", "<style", " onclick=", "javascript:"] {
                assert!(!answer.body.contains(inline), "{path} has {inline}");
            }
        }
    }
}

#[tokio::test]
async fn an_export_holds_no_receiver_and_is_recorded() {
    let console = Console::new().await;
    console.cancelled(2).await;
    let operator = console.log_in("operator").await;
    let csv = operator.get("/export?format=csv&status=cancelled").await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(csv.body.lines().count(), 3, "{}", csv.body);
    let ndjson = operator.get("/export?format=ndjson&status=cancelled").await;
    let first: Value = serde_json::from_str(ndjson.body.lines().next().unwrap()).unwrap();
    assert_eq!(first["status"], "cancelled");
    assert!(!csv.body.contains("oSecretUser") && !ndjson.body.contains("oSecretUser"));
    assert_eq!(console.actions("export").await.len(), 2);
    assert_eq!(
        operator.get("/export?format=xml").await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn when_the_database_is_away_a_page_says_so_and_comes_back() {
    let nowhere = format!("postgres://nobody@{}/nothing", harness::free_address());
    let pool = sqlx::postgres::PgPoolOptions::new()
        .connect_lazy(&nowhere)
        .unwrap();
    let (base, _stop) = start(Store::new(pool)).await;
    let answer = Client::new()
        .get(&base)
        .header(COOKIE, "wxnotify=x")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = answer.text().await.unwrap();
    assert!(
        body.contains("The database does not answer") && body.contains("data-again"),
        "{body}"
    );
}

/// What a reader sees of a page.
fn words_of(page: &str) -> String {
    let mut words = String::new();
    let mut is_inside = false;
    for letter in page.chars() {
        match letter {
            '<' => is_inside = true,
            '>' => is_inside = false,
            letter if !is_inside => words.push(letter),
            _ => {}
        }
    }
    for (escaped, letter) in [
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ] {
        words = words.replace(escaped, letter);
    }
    words
}

#[tokio::test]
async fn each_of_forty_incidents_is_found_by_the_box_and_explained_rightly_on_its_page() {
    let console = Console::new().await;
    run(console.queue.pool(), "delete from wechat_apps").await;
    incidents::load(&mut console.queue.session().await)
        .await
        .unwrap();
    let operator = console.log_in("operator").await;
    let mut wrong = Vec::new();
    for incident in incidents::list() {
        let found = operator
            .get(&format!("/find?q={}", incident.business_ref()))
            .await;
        let page = if found.status == StatusCode::OK {
            let link = found.body.split("href=\"/n/").nth(1).unwrap_or_default();
            let id: String = link.chars().take_while(char::is_ascii_digit).collect();
            operator.get(&format!("/n/{id}")).await
        } else {
            operator.get(found.location()).await
        };
        let words = words_of(&page.body);
        if !words.contains(&incident.business_ref()) || !words.contains(incident.answer) {
            wrong.push(format!("{incident:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
