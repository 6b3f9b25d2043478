-- Stores what quota/get says of sends. False: the claim is no longer the latest.
select wxnotify_store_quota($1, $2, $3, $4, $5, $6)
