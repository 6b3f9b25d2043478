-- Spends the oldest held credit of the user and template. Null: the user has none left, so there is nothing to send.
-- $1 appid, $2 openid, $3 template id, $4 the message, $5 the page its card opens, $6 not later than
select arm(p_appid => $1, p_openid => $2, p_template_id => $3, p_data => $4::jsonb, p_page => $5, p_expire_at => $6)
