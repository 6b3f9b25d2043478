-- Partitions past retention, quoted names ready for ALTER TABLE; pending: a detach of it was begun and must be finished first.
select o.parent, o.partition, i.inhdetachpending as pending
from wxnotify_old_partitions($1) o join pg_inherits i on i.inhrelid = o.partition::regclass
