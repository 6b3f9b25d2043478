//! `wxnotify simulate`: the fake as a program.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::control::list;
use super::{
    AppSpec, CallbackFormat, CallbackMode, CallbackSpec, FakeWechat, LedgerDetail, Registration,
    SEND_PATH, STABLE_TOKEN_PATH, SimulateOptions,
};
use crate::signals::StopSignals;

/// A fake WeChat: tokens, credits, templates, quotas, errcodes and faults, with a ledger of what
/// really happened.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = list())]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8730")]
    pub listen: SocketAddr,

    /// An app whose secret is checked (with --secret); other apps get in with any secret unless --strict.
    #[arg(long, requires = "secret")]
    pub appid: Option<String>,

    /// The secret of --appid.
    #[arg(long, requires = "appid")]
    pub secret: Option<String>,

    /// Accept only apps, openids and templates that were added, and only granted credits.
    #[arg(long)]
    pub strict: bool,

    /// Credits of each user and template nobody granted any [default: unlimited; 0 if --strict].
    #[arg(long, value_name = "N")]
    pub credits: Option<u64>,

    /// How long every call takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub latency_ms: u64,

    /// Sends a day for --appid, reset at 00:00 UTC+8 [default: 10 million].
    #[arg(long, value_name = "N", requires = "appid")]
    pub daily_quota: Option<u64>,

    /// Sends a minute for --appid [default: no limit].
    #[arg(long, value_name = "N", requires = "appid")]
    pub minute_quota: Option<u64>,

    /// A word that gets a message refused with 45168; may be repeated.
    #[arg(long, value_name = "WORD")]
    pub sensitive_word: Vec<String>,

    /// Push events (sent, pop-up, change) to this URL; {appid} in it is replaced.
    #[arg(long, value_name = "URL", requires = "callback_token")]
    pub callback_url: Option<String>,

    /// The token that signs callbacks.
    #[arg(long, value_name = "TOKEN", requires = "callback_url")]
    pub callback_token: Option<String>,

    /// The EncodingAESKey of callbacks: 43 letters and digits.
    #[arg(long, value_name = "KEY", requires = "callback_url")]
    pub callback_aeskey: Option<String>,

    /// How callbacks are encrypted [default: safe with --callback-aeskey, else plaintext].
    #[arg(long, value_enum, value_name = "MODE", requires = "callback_url")]
    pub callback_mode: Option<CallbackMode>,

    /// The format of callbacks.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = CallbackFormat::Json)]
    pub callback_format: CallbackFormat,

    /// Seed for tokens, rids and the probabilities of rules [default: random].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// What the ledger keeps: every call, or only totals and what was granted (for long runs).
    #[arg(long, value_enum, default_value_t = LedgerDetail::Full)]
    pub ledger: LedgerDetail,

    /// Serve on this many threads of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
}

impl Args {
    fn options(&self) -> SimulateOptions {
        let (registration, credits_default) = if self.strict {
            (Registration::Strict, Some(self.credits.unwrap_or(0)))
        } else {
            (Registration::Open, self.credits)
        };
        let app = self.appid.as_ref().zip(self.secret.as_ref());
        SimulateOptions {
            listen: self.listen,
            registration,
            credits_default,
            ledger: self.ledger,
            seed: self.seed,
            apps: app
                .map(|(appid, secret)| AppSpec::new(appid, secret))
                .into_iter()
                .collect(),
            sensitive_words: self.sensitive_word.clone(),
            callback: self.callback(),
        }
    }

    fn callback(&self) -> Option<CallbackSpec> {
        let (url, token) = self.callback_url.clone().zip(self.callback_token.clone())?;
        Some(CallbackSpec {
            aeskey: self.callback_aeskey.clone(),
            mode: self.callback_mode,
            format: self.callback_format,
            ..CallbackSpec::new(url, token)
        })
    }
}

/// Serves until interrupted.
///
/// # Errors
///
/// The address cannot be bound.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // A runtime of its own, so that a benchmark can hold the fake to one thread.
    let serving = tokio::task::spawn_blocking(move || {
        let runtime = if args.threads == 1 {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        } else {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(usize::from(args.threads))
                .enable_all()
                .build()
        };
        runtime
            .context("no runtime for the fake WeChat")?
            .block_on(serve(args))
    });
    serving.await.context("the fake WeChat panicked")??;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: Args) -> anyhow::Result<()> {
    if let Some(callback) = args.callback() {
        let checked = callback.check().map_err(anyhow::Error::msg);
        checked.context("--callback-… cannot be used")?;
    }
    let fake = FakeWechat::start(args.options()).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another address with --listen",
            args.listen
        )
    })?;
    let control = fake.control();
    control.set_latency(Duration::from_millis(args.latency_ms));
    if let Some(appid) = &args.appid
        && (args.daily_quota.is_some() || args.minute_quota.is_some())
    {
        control.set_quota(
            appid,
            args.daily_quota.or(Some(10_000_000)),
            args.minute_quota,
        );
    }
    let introduction = introduction(&fake.base_url(), &args);
    writeln!(std::io::stdout(), "{introduction}")?;
    StopSignals::listen()
        .context("cannot listen for signals")?
        .next()
        .await;
    fake.stop().await;
    Ok(())
}

/// How to reach it, by hand and from the SDKs most in use; each was read in the SDK's source.
fn introduction(base_url: &str, args: &Args) -> String {
    let secret = args.appid.as_ref().map_or("any", |_| "SECRET");
    let appid = args.appid.as_deref().unwrap_or("wx1111222233334444");
    let callbacks = match &args.callback_url {
        Some(url) => format!("Events are pushed to {url}; also by hand:"),
        None => "No events are pushed. To have them, for instance for a worker beside it:\n  \
                 --callback-url 'http://127.0.0.1:9464/wechat/callback/{appid}' --callback-token TOKEN --callback-aeskey KEY\n\
                 Some come by hand only:"
            .to_owned(),
    };
    format!(
        r#"The fake WeChat listens on {base_url}

By hand:
  TOKEN=$(curl -s {base_url}{STABLE_TOKEN_PATH} \
      -d '{{"grant_type":"client_credential","appid":"{appid}","secret":"{secret}"}}' | sed 's/.*"access_token":"\([^"]*\).*/\1/')
  curl -s "{base_url}{SEND_PATH}?access_token=$TOKEN" \
      -d '{{"touser":"oUser1","template_id":"T1","data":{{"thing1":{{"value":"hello"}}}}}}'
  curl -s {base_url}/_control/ledger

From a program, in place of https://api.weixin.qq.com:
  wxnotify       WXNOTIFY_API_BASE={base_url}
  Java           WxJava: config.setApiHostUrl("{base_url}")
  Node.js        co-wechat-api: api.prefix = '{base_url}/cgi-bin/'
  Python         wechatpy: WeChatClient.API_BASE_URL = '{base_url}/cgi-bin/', with access_token=TOKEN, since its token URL is fixed
  Go             silenceper/wechat: util.SetURIModifier(func(uri string) string {{
                     return strings.Replace(uri, "https://api.weixin.qq.com", "{base_url}", 1) }})
  PHP            EasyWeChat: 'http' => ['base_uri' => '{base_url}/']
  anything else  its setting for WeChat's host; plain HTTP will do

{callbacks}
  curl -s {base_url}/_control/popup \
      -d '{{"appid":"{appid}","openid":"oUser1","entries":[{{"template_id":"T1","status":"accept"}}]}}'

{}"#,
        list()
    )
}
