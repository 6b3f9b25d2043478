//! A fake WeChat: tokens, credits, templates, quotas, errcodes and faults on loopback, with a
//! ledger of what really happened.
//!
//! Point any WeChat SDK's base URL at it. It answers `/cgi-bin/token`, `/cgi-bin/stable_token`,
//! `/cgi-bin/message/subscribe/send`, `/cgi-bin/message/device/subscribe/send`, `/wxa/set_user_notify`,
//! `/wxa/set_user_notifyext`, `/wxa/get_user_notify`, `/sns/jscode2session`, `/cgi-bin/openapi/quota/get`,
//! `/cgi-bin/openapi/rid/get`, `/cgi-bin/clear_quota` (also `/v2`) and `/wxaapi/newtmpl/gettemplate`,
//! `addtemplate`, `deltemplate` as WeChat does: business errors are HTTP 200 with an errcode,
//! checked in the order token, quota, openid, template, concurrency for one user, subscription,
//! data, page, content.
//!
//! A test holds a [`FakeWechat`] and scripts it through its [`Control`]; other programs use the
//! same operations over HTTP: `GET /_control/` lists them, and so does [`OPERATIONS`].
//! `GET /_control/ledger` answers the [`Ledger`], `GET /_control/counts` its [`Counts`] alone; `GET /_control/wait?arrived=N&answered=N&timeout_ms=N`
//! answers when as many sends arrived and were answered, and 408 after the time-out (30 s).
//!
//! Start at [`FakeWechat::start`]; what a send goes through is in `simulate/send.rs`.

mod account;
mod api;
mod callback;
mod calls;
mod card;
mod command;
mod control;
mod device;
pub mod field;
mod ledger;
mod login;
mod quota;
mod reply;
mod script;
pub mod sealing;
mod send;
mod server;
mod state;
mod tap;
mod template;
mod token;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::account::{AppSpec, TemplateSpec};
pub use self::callback::{CallbackFormat, CallbackMode, CallbackSpec, CallbackTiming, ListShape};
pub use self::card::{CardCodeSpec, CardStateSpec, CardTypeSpec, CardView};
pub use self::command::{Args, run};
pub use self::control::{Control, OPERATIONS, OperationLine, WaitTimedOut};
pub use self::ledger::{Call, Counts, Ledger, PairSum, TokenFamily, TokenRecord};
pub use self::script::{Action, Capacity, Rule};
pub use self::tap::{Answer, Tap, TapAnswer, Why43101};

/// Where sends go.
pub const SEND_PATH: &str = "/cgi-bin/message/subscribe/send";
/// Where device messages go.
pub const DEVICE_SEND_PATH: &str = "/cgi-bin/message/device/subscribe/send";
/// Where service cards get a state.
pub const SET_CARD_PATH: &str = "/wxa/set_user_notify";
/// Where service cards get their ext fields.
pub const SET_CARD_EXT_PATH: &str = "/wxa/set_user_notifyext";
/// Where the state of a service card is read.
pub const GET_CARD_PATH: &str = "/wxa/get_user_notify";
/// Where login codes are exchanged.
pub const LOGIN_PATH: &str = "/sns/jscode2session";
/// Where an app's templates are listed.
pub const GET_TEMPLATE_PATH: &str = "/wxaapi/newtmpl/gettemplate";
/// Where quotas are read.
pub const QUOTA_GET_PATH: &str = "/cgi-bin/openapi/quota/get";
/// Where plain tokens come from.
pub const TOKEN_PATH: &str = "/cgi-bin/token";
/// Where stable tokens come from.
pub const STABLE_TOKEN_PATH: &str = "/cgi-bin/stable_token";

/// How the fake behaves at the start; [`Default`] is open, unlimited, with a full ledger, on a free
/// loopback port.
#[derive(Debug, Clone)]
pub struct SimulateOptions {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who and what is accepted unregistered.
    pub registration: Registration,
    /// Credits of a pair nobody granted anything: unlimited (`None`) or a number.
    pub credits_default: Option<u64>,
    /// What the ledger keeps.
    pub ledger: LedgerDetail,
    /// Seeds tokens, rids and the rules' probabilities; absent: different every time.
    pub seed: Option<u64>,
    /// Apps known from the start.
    pub apps: Vec<AppSpec>,
    /// A message with one of these in a value gets 45168.
    pub sensitive_words: Vec<String>,
    /// Where the events of every app go that has no callback of its own.
    pub callback: Option<CallbackSpec>,
}

/// Who and what is accepted unregistered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Any appid with any secret (unless the app was added), any openid of ASCII letters, digits,
    /// `-` and `_`, any template, its fields inferred from the keys sent.
    Open,
    /// Only apps, openids and templates that were added; else 40013, 40003, 40037. A grant makes
    /// its openid known.
    Strict,
}

/// What the ledger keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LedgerDetail {
    /// Every call, with its data; grows with the number of calls.
    Full,
    /// Totals, and sums of the pairs that were granted something or refuse; no requests for `rid/get`. Does not grow with
    /// the number of calls.
    Counts,
}

impl Default for SimulateOptions {
    fn default() -> Self {
        SimulateOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            registration: Registration::Open,
            credits_default: None,
            ledger: LedgerDetail::Full,
            seed: None,
            apps: Vec::new(),
            sensitive_words: Vec::new(),
            callback: None,
        }
    }
}

impl SimulateOptions {
    /// Knows only these apps, and only openids, templates and credits given to it.
    pub fn strict(apps: impl IntoIterator<Item = AppSpec>) -> Self {
        SimulateOptions {
            registration: Registration::Strict,
            credits_default: Some(0),
            apps: apps.into_iter().collect(),
            ..SimulateOptions::default()
        }
    }
}

/// A running fake. Dropping it stops it; connections are closed as they stand.
#[derive(Debug)]
pub struct FakeWechat {
    address: SocketAddr,
    control: Control,
    stop: CancellationToken,
    accepting: Option<JoinHandle<()>>,
}

impl FakeWechat {
    /// Binds and serves on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The address cannot be bound.
    pub async fn start(options: SimulateOptions) -> std::io::Result<FakeWechat> {
        let listener = tokio::net::TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let (pushes, pushed) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(state::Shared::new(options, pushes));
        let stop = CancellationToken::new();
        tokio::spawn(callback::deliver(shared.clone(), pushed, stop.clone()));
        let accepting = tokio::spawn(server::serve(listener, shared.clone(), stop.clone()));
        Ok(FakeWechat {
            address,
            control: Control::new(shared),
            stop,
            accepting: Some(accepting),
        })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle for scripting and reading the ledger; it stays readable after the fake stopped.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Stops listening and closes every connection; calls in flight stay unanswered.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(accepting) = self.accepting.take() {
            // A panic of the accept loop has been reported already; there is nothing left to stop.
            let _ = accepting.await;
        }
    }
}

impl Drop for FakeWechat {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
