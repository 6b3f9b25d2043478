//! The body of a device message: one receiver a call, since a list gets one answer for all.

use serde::Deserialize;

use super::message::{MessageError, write_data, write_string};
use crate::notification::Notification;

pub(super) const SEND_PATH: &str = "/cgi-bin/message/device/subscribe/send";

/// What a device message has beside a plain one's columns.
#[derive(Deserialize)]
struct DeviceExtra {
    sn: String,
    #[serde(rename = "modelId")]
    model_id: String,
}

pub(super) fn body(notification: &Notification) -> Result<Vec<u8>, MessageError> {
    let extra = notification.extra.as_deref().unwrap_or_default();
    let device: DeviceExtra =
        serde_json::from_str(extra).map_err(|_| MessageError::BadExtra { kind: "device" })?;
    let mut body = Vec::with_capacity(notification.data.len() + 400);
    body.extend_from_slice(b"{\"to_openid_list\":[");
    write_string(&mut body, notification.openid.expose());
    body.extend_from_slice(b"],\"template_id\":");
    write_string(&mut body, &notification.template_id);
    body.extend_from_slice(b",\"sn\":");
    write_string(&mut body, &device.sn);
    body.extend_from_slice(b",\"modelId\":");
    write_string(&mut body, &device.model_id);
    if let Some(page) = &notification.page {
        body.extend_from_slice(b",\"page\":");
        write_string(&mut body, page);
    }
    body.extend_from_slice(b",\"miniprogram_state\":");
    write_string(&mut body, &notification.miniprogram_state);
    body.extend_from_slice(b",\"lang\":");
    write_string(&mut body, &notification.lang);
    body.extend_from_slice(b",\"data\":{");
    write_data(&mut body, &notification.data)?;
    body.extend_from_slice(b"}}");
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::{Kind, sample};

    fn body_with(extra: Option<&str>) -> Result<String, MessageError> {
        let mut notification = sample();
        notification.kind = Kind::Device;
        notification.extra = extra.map(Into::into);
        notification.data = r#"{"enum_string2": "客厅"}"#.into();
        body(&notification).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_fields_stand_as_wechat_documents_them() {
        assert_eq!(
            body_with(Some(r#"{"sn": "SN-0001_A", "modelId": "mdlExample0001"}"#)).unwrap(),
            r#"{"to_openid_list":["oUser0000000000000000000001"],"template_id":"TmplAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1","sn":"SN-0001_A","modelId":"mdlExample0001","page":"pages/order/detail?id=42","miniprogram_state":"formal","lang":"zh_CN","data":{"enum_string2":{"value":"客厅"}}}"#
        );
    }

    #[test]
    fn a_device_that_is_not_named_is_no_message() {
        for extra in [
            None,
            Some("{}"),
            Some(r#"{"sn": "SN"}"#),
            Some("[]"),
            Some(r#"{"sn": 1, "modelId": "m"}"#),
        ] {
            let error = body_with(extra).unwrap_err();
            assert_eq!(
                error,
                MessageError::BadExtra { kind: "device" },
                "{extra:?}"
            );
        }
    }
}
