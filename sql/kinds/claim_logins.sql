-- Login codes to exchange. The claim is committed with this statement, before any call: a code works once.
select id, appid, code, claim from wxnotify_claim_logins($1, $2, $3)
