-- One round of asking for a token. Safe to repeat: a claim by the same worker replaces its own earlier one.
select verdict, access_token, generation, life_secs, claim, unchanged from wxnotify_claim_token($1, $2, $3, $4, $5)
