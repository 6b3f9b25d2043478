-- Stores WeChat's list of templates; what changed, by template id. Null: the claim is no longer the latest.
select wxnotify_store_templates($1, $2, $3, $4)
