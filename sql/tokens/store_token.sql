-- Stores a fetched token; changes nothing when the claim is no longer the latest.
select stored, generation, foreign_refresh from wxnotify_store_token($1, $2, $3, $4, $5, $6)
