-- Claims one question at once; an answer under an older claim then changes nothing.
select wxnotify_claim_lookup($1, $2, $3, $4)
