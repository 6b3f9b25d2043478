-- Asks a check which of some refs still hold; null: what it answered is no list of refs.
select wxnotify_ask_check($1, $2)
