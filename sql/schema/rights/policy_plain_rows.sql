-- In depth: a producer has no right to these columns, and the trigger checks the others. Should either fail one day, a row that is
-- impossible, or claims a history it has not, is refused here. Operators and types are those of this schema's maker, not the
-- caller's. The owner and a superuser pass: a restore brings such rows along.
create policy plain_rows on pending_notifications as restrictive for insert with check (
    attempts = 0 and rescues = 0 and in_doubt_since is null and last_lease is null and last_errcode is null and last_errmsg is null
    and last_attempt_at is null and (waiting_for is null or waiting_for = 'login') and login_claims = 0 and login_unclear = 0
    and created_at >= '2000-01-01+00' and created_at < now() + interval '11 minutes' and (send_at is null or send_at >= '2000-01-01+00' and send_at < '2200-01-01+00')
    and (expire_at is null or expire_at >= '2000-01-01+00' and expire_at < '2200-01-01+00')
    and pg_column_size(data) <= 16384 and (extra is null or pg_column_size(extra) <= 16384));

comment on policy plain_rows on pending_notifications is 'What is inserted has no history yet, finite times and a bounded size.';
