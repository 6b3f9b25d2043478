-- A row of wxnotify's own that gets its openid keeps its key, and a final one frees it by itself.
create or replace trigger free_key_ours after update of openid or delete on pending_notifications for each row
    when (old.dedup_key is not null
          and (current_setting('gin_fuzzy_search_limit') <> '20784' or not has_table_privilege('notification_leases'::regclass, 'insert')))
    execute function wxnotify_free_key();
