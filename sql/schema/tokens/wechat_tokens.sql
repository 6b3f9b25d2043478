create or replace view wechat_tokens as
select t.appid, a.name as app, t.generation, t.expires_at, greatest(t.expires_at - statement_timestamp(), interval '0') as valid_for,
       t.fetched_at, t.refreshed_by, case when t.claimed_until > statement_timestamp() then t.claimed_by end as fetching, t.foreign_refreshes, t.last_foreign_at
from wechat_access_tokens t left join wechat_apps a on a.appid = t.appid;

comment on view wechat_tokens is 'State of each app''s access token, without the token.';
comment on column wechat_tokens.appid is 'The mini-program.';
comment on column wechat_tokens.app is 'Its name.';
comment on column wechat_tokens.generation is 'Grows with each replacement.';
comment on column wechat_tokens.expires_at is 'When it lapses; null: there is none.';
comment on column wechat_tokens.valid_for is 'Time left.';
comment on column wechat_tokens.fetched_at is 'When it was fetched.';
comment on column wechat_tokens.refreshed_by is 'The worker that fetched it.';
comment on column wechat_tokens.fetching is 'The worker that is fetching one now.';
comment on column wechat_tokens.foreign_refreshes is 'How often the token died early without us: another program refreshes it by force.';
comment on column wechat_tokens.last_foreign_at is 'When that was noticed last.';

grant select on wechat_tokens to wxnotify_worker;
grant select on wechat_tokens to wxnotify_operator;
grant select on wechat_tokens to wxnotify_viewer;
