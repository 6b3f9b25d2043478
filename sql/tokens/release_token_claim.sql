-- Gives a claim back. Safe to repeat and to forget: claims end by themselves.
select wxnotify_release_token_claim($1, $2)
