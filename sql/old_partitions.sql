-- Partitions past retention, quoted names ready for ALTER TABLE.
select parent, partition from wxnotify_old_partitions($1)
