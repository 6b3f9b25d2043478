-- Whoever may ask this may also write schedules whose audience is holders: these spend credits that others recorded.
create or replace function reminder_holders(p_appid text, p_template_id text) returns bigint
language sql stable security definer set search_path from current as $$
    select count(distinct p.openid) from pending_notifications p where p.appid = p_appid and p.template_id = p_template_id and p.held
$$;

comment on function reminder_holders is 'How many users hold an unspent credit of a template. A producer with the right to execute it may write schedules whose audience is holders: GRANT EXECUTE ON FUNCTION reminder_holders TO a_login.';

grant execute on function reminder_holders to wxnotify_operator;
