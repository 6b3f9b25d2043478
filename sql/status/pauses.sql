select appid, app, template_id, paused_until, needs_operator, reason, errcode, meaning, meaning_zh, resume_with, reason_code from notification_pauses
where $1::text is null or appid = $1
order by appid, template_id nulls first
