//! The calls that the fake answers: their paths, and the quotas they have unless told otherwise.

use super::quota::Limits;

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
}
