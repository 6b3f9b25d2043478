-- Claims the questions to WeChat that are due for these mini-programs. Safe to repeat: a claim ends by itself.
select appid, lookup, claim from wxnotify_claim_lookups($1, $2, $3)
