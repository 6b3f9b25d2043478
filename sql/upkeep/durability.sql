-- Standbys that are connected now, whether any commit waits for one of them, and what a commit waits for at all. Who may not look
-- into pg_stat_replication sees its rows, though not what is in them.
select (select count(*) from pg_stat_replication) as standbys,
       current_setting('synchronous_standby_names') as synchronous_standby_names,
       current_setting('synchronous_commit') as synchronous_commit
