//! The calls that the fake answers: their paths, the quotas they have unless told otherwise, what is read of each and who judges it.

use std::borrow::Cow;

use super::login::LoginQuery;
use super::quota::Limits;
use super::reply::{Refusal, Reply};
use super::send::{Inquiry, Request, TokenBody, read_json};
use super::server::query_value;
use super::state::State;

/// The API paths, each with a meter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Api {
    Token,
    StableToken,
    Send,
    DeviceSend,
    SetUserNotify,
    SetUserNotifyExt,
    GetUserNotify,
    Login,
    QuotaGet,
    RidGet,
    ClearQuota,
    ClearQuotaV2,
    GetTemplate,
    AddTemplate,
    DeleteTemplate,
}

impl Api {
    const ALL: [Api; 15] = [
        Api::Token,
        Api::StableToken,
        Api::Send,
        Api::DeviceSend,
        Api::SetUserNotify,
        Api::SetUserNotifyExt,
        Api::GetUserNotify,
        Api::Login,
        Api::QuotaGet,
        Api::RidGet,
        Api::ClearQuota,
        Api::ClearQuotaV2,
        Api::GetTemplate,
        Api::AddTemplate,
        Api::DeleteTemplate,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Api::Token => super::TOKEN_PATH,
            Api::StableToken => super::STABLE_TOKEN_PATH,
            Api::Send => super::SEND_PATH,
            Api::DeviceSend => super::DEVICE_SEND_PATH,
            Api::SetUserNotify => super::SET_CARD_PATH,
            Api::SetUserNotifyExt => super::SET_CARD_EXT_PATH,
            Api::GetUserNotify => super::GET_CARD_PATH,
            Api::Login => super::LOGIN_PATH,
            Api::QuotaGet => super::QUOTA_GET_PATH,
            Api::RidGet => "/cgi-bin/openapi/rid/get",
            Api::ClearQuota => "/cgi-bin/clear_quota",
            Api::ClearQuotaV2 => "/cgi-bin/clear_quota/v2",
            Api::GetTemplate => super::GET_TEMPLATE_PATH,
            Api::AddTemplate => "/wxaapi/newtmpl/addtemplate",
            Api::DeleteTemplate => "/wxaapi/newtmpl/deltemplate",
        }
    }

    pub fn from_path(path: &str) -> Option<Self> {
        if path == super::SEND_PATH {
            return Some(Api::Send);
        }
        Api::ALL.into_iter().find(|api| api.path() == path)
    }

    /// Whether a call is a message to a user: those are counted, held and played faults on as sends.
    pub fn is_message(self) -> bool {
        matches!(
            self,
            Api::Send | Api::DeviceSend | Api::SetUserNotify | Api::SetUserNotifyExt
        )
    }

    /// The quota of an app that was given none of its own.
    pub fn usual_limits(self) -> Limits {
        let (daily, per_minute) = match self {
            Api::Token => (Some(2_000), None),
            Api::StableToken => (Some(500_000), Some(10_000)),
            Api::Send | Api::DeviceSend => (Some(10_000_000), None),
            Api::SetUserNotify | Api::SetUserNotifyExt | Api::GetUserNotify | Api::Login => {
                (None, None)
            }
            // WeChat publishes no number for these.
            Api::GetTemplate | Api::AddTemplate | Api::DeleteTemplate => (Some(10_000), None),
            Api::QuotaGet | Api::RidGet | Api::ClearQuota | Api::ClearQuotaV2 => (None, None),
        };
        Limits { daily, per_minute }
    }

    /// What the call's judge cares about.
    pub fn read<'a>(self, query: &'a str, body: &'a [u8]) -> Request<'a> {
        let from_query = |name| query_value(query, name).unwrap_or_default();
        match self {
            Api::Send => Request::Send(read_json(body)),
            Api::DeviceSend => Request::Device(read_json(body)),
            Api::SetUserNotify | Api::SetUserNotifyExt | Api::GetUserNotify => {
                Request::Card(read_json(body))
            }
            Api::Login => Request::Login(LoginQuery {
                appid: from_query("appid"),
                secret: from_query("secret"),
                code: from_query("js_code"),
                grant_type: from_query("grant_type"),
            }),
            Api::StableToken => Request::Token(read_json(body)),
            Api::Token => Request::Token(Ok(TokenBody {
                grant_type: from_query("grant_type"),
                appid: from_query("appid"),
                secret: from_query("secret"),
                force_refresh: false,
            })),
            Api::ClearQuotaV2 => Request::Token(Ok(TokenBody {
                grant_type: Cow::Borrowed("client_credential"),
                appid: from_query("appid"),
                secret: from_query("appsecret"),
                force_refresh: false,
            })),
            Api::QuotaGet | Api::RidGet | Api::ClearQuota => Request::Other,
            Api::GetTemplate | Api::AddTemplate | Api::DeleteTemplate => Request::Other,
        }
    }

    /// Judges a call as WeChat would. `concurrent`: another send to the same user is under way.
    pub fn judge(
        self,
        state: &mut State,
        inquiry: &Inquiry<'_>,
        concurrent: bool,
    ) -> Result<Reply, Refusal> {
        match self {
            Api::Send => state.judge_send(inquiry, concurrent),
            Api::DeviceSend => state.judge_device_send(inquiry, concurrent),
            Api::SetUserNotify => state.judge_set_card(inquiry, concurrent),
            Api::SetUserNotifyExt => state.judge_set_card_ext(inquiry, concurrent),
            Api::GetUserNotify => state.judge_get_card(inquiry),
            Api::Login => state.judge_login(inquiry),
            Api::Token => state.judge_plain_token(inquiry),
            Api::StableToken => state.judge_stable_token(inquiry),
            Api::QuotaGet => state.judge_quota_get(inquiry),
            Api::RidGet => state.judge_rid_get(inquiry),
            Api::ClearQuota | Api::ClearQuotaV2 => state.judge_clear_quota(inquiry),
            Api::GetTemplate => state.judge_get_template(inquiry),
            Api::AddTemplate => state.judge_add_template(inquiry),
            Api::DeleteTemplate => state.judge_delete_template(inquiry),
        }
    }
}
