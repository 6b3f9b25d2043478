-- Taken in a statement after arming: once every transaction older than this has ended, no INSERT can have missed the bell. A number of our
-- own and no snapshot's xmax: that is one more than the last that has ended, which a transaction that is still running may have, if it began
-- between the arming's own number and its effect. It costs a number an arming, and waits for no disk, since nothing is written.
select pg_current_xact_id()::text::bigint
